//! The paths that a file names, in `use` and elsewhere, from the crate's root where they are ours.

use super::source::{Source, Token};

/// `crate::broker::amqp` or `lapin::Channel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPath {
    pub line: usize,
    pub text: String,
    /// It stands in a `use`, whose first name can't be a local one that was imported.
    pub imported: bool,
    /// A macro is called by it.
    pub called: bool,
}

/// Every path of two names or more, and every `use`.
pub fn of(source: &Source) -> Vec<NamedPath> {
    let mut walk = Walk {
        tokens: &source.tokens,
        at: 0,
        module: module_of(&source.name),
        inner: Vec::new(),
        depth: 0,
        children: children(&source.tokens),
        found: Vec::new(),
    };
    walk.all();
    walk.found
}

/// `src/broker/amqp.rs` is `broker::amqp`.
fn module_of(name: &str) -> Vec<String> {
    let path = name.strip_prefix("src/").unwrap_or(name).trim_end_matches(".rs");
    match path {
        "lib" | "main" => Vec::new(),
        path => path.split('/').map(String::from).collect(),
    }
}

/// Modules that the file declares: a path that begins with one is ours.
fn children(tokens: &[Token]) -> Vec<String> {
    let declares = |three: &&[Token]| three[0].text == "mod" && [";", "{"].contains(&three[2].text.as_str());
    tokens
        .windows(3)
        .filter(declares)
        .map(|three| three[1].text.clone())
        .collect()
}

struct Walk<'a> {
    tokens: &'a [Token],
    at: usize,
    module: Vec<String>,
    /// Modules in the file that are open, with the depth of their braces.
    inner: Vec<(String, usize)>,
    depth: usize,
    children: Vec<String>,
    found: Vec<NamedPath>,
}

impl Walk<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn all(&mut self) {
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                "use" => {
                    self.at += 1;
                    self.tree(&[]);
                }
                "mod" if self.text(self.at + 2) == "{" => {
                    self.inner.push((self.text(self.at + 1).to_owned(), self.depth));
                    self.at += 2;
                }
                "{" => {
                    self.depth += 1;
                    self.at += 1;
                }
                "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inner.last().is_some_and(|(_, depth)| *depth == self.depth) {
                        self.inner.pop();
                    }
                    self.at += 1;
                }
                _ if self.tokens[self.at].is_name() && self.text(self.at + 1) == "::" => self.inline(),
                _ => self.at += 1,
            }
        }
    }

    fn inline(&mut self) {
        let line = self.tokens[self.at].line;
        let mut names = vec![self.text(self.at).to_owned()];
        self.at += 1;
        while self.text(self.at) == "::" && self.tokens.get(self.at + 1).is_some_and(Token::is_name) {
            names.push(self.text(self.at + 1).to_owned());
            self.at += 2;
        }
        let called = self.text(self.at) == "!";
        self.add(line, &names, false, called);
        // `::` before `<` or `{` belongs to no name.
        if self.text(self.at) == "::" {
            self.at += 1;
        }
    }

    /// One branch of a `use`, up to the comma, brace or semicolon behind it.
    fn tree(&mut self, before: &[String]) {
        let mut names = before.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                "{" => {
                    self.at += 1;
                    while !["}", ""].contains(&self.text(self.at)) {
                        self.tree(&names);
                        if self.text(self.at) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "," | "}" | ";" => break,
                "as" => self.at += 2,
                "::" => self.at += 1,
                // `self` at the end of a branch is what stands before it.
                "self" if !names.is_empty() => self.at += 1,
                name => {
                    names.push(name.to_owned());
                    self.at += 1;
                }
            }
        }
        self.add(line, &names, true, false);
    }

    fn add(&mut self, line: usize, names: &[String], imported: bool, called: bool) {
        let text = self.rooted(names).join("::");
        self.found.push(NamedPath {
            line,
            text,
            imported,
            called,
        });
    }

    fn rooted(&self, names: &[String]) -> Vec<String> {
        let inner = self.inner.iter().map(|(name, _)| name.clone());
        let mut here: Vec<String> = self.module.iter().cloned().chain(inner).collect();
        let mut rest = names;
        match names.first().map(String::as_str) {
            Some("crate" | "usher") => return [&["crate".to_owned()], &names[1..]].concat(),
            Some("self") => rest = &names[1..],
            Some("super") => {
                while let Some(("super", more)) = rest.split_first().map(|(name, more)| (name.as_str(), more))
                {
                    here.pop();
                    rest = more;
                }
            }
            Some(first) if self.inner.is_empty() && self.children.iter().any(|child| child == first) => {}
            _ => return names.to_vec(),
        }
        [&["crate".to_owned()], &here[..], rest].concat()
    }
}

#[test]
fn paths_are_read_from_the_root() {
    let text = "
        mod config;
        use config::Config;
        use std::{fmt, io::{self, Read as _}};
        use super::super::token::{Source, *};
        use crate::broker;
        fn f() { lapin::uri::parse::<u8>(); metrics::counter!(); super::g(); }
        mod tests { use super::*; mod deep { use super::super::x; } }
        use self::config::Late;
    ";
    let found: Vec<_> = of(&Source::new("src/provider/http/wire.rs", text))
        .into_iter()
        .map(|path| (path.line, path.text, path.called))
        .collect();
    let expected = [
        (3, "crate::provider::http::wire::config::Config", false),
        (4, "std::fmt", false),
        (4, "std::io", false),
        (4, "std::io::Read", false),
        (5, "crate::provider::token::Source", false),
        (5, "crate::provider::token::*", false),
        (6, "crate::broker", false),
        (7, "lapin::uri::parse", false),
        (7, "metrics::counter", true),
        (7, "crate::provider::http::g", false),
        (8, "crate::provider::http::wire::*", false),
        (8, "crate::provider::http::wire::x", false),
        (9, "crate::provider::http::wire::config::Late", false),
    ];
    assert_eq!(
        found,
        expected.map(|(line, text, called)| (line, text.to_owned(), called))
    );
}
