//! One file of source, cut into what is code, what is comment and what is text in quotes.

/// A piece of code with its line: a name, or one sign (`::` counts as one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub line: usize,
    pub text: String,
}

impl Token {
    pub fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

pub struct Source {
    /// Its path, from the repository's root.
    pub name: String,
    pub text: String,
    pub tokens: Vec<Token>,
    /// Each comment's line and text.
    comments: Vec<(usize, String)>,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        let mut cut = Cut {
            text,
            at: 0,
            line: 1,
            tokens: Vec::new(),
            comments: Vec::new(),
        };
        cut.all();
        Self {
            name: name.into(),
            text: text.into(),
            tokens: cut.tokens,
            comments: cut.comments,
        }
    }

    pub fn lines(&self) -> usize {
        self.text.lines().count()
    }

    pub fn identifiers(&self) -> impl Iterator<Item = (usize, &str)> {
        let names = self.tokens.iter().filter(|token| token.is_name());
        names.map(|token| (token.line, token.text.as_str()))
    }

    /// The words of code and of comments.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        let not_a_word = |c: char| !c.is_alphanumeric() && c != '_';
        let comments = self
            .comments
            .iter()
            .flat_map(move |(line, text)| text.split(not_a_word).map(|word| (*line, word)));
        self.identifiers().chain(comments)
    }

    /// Names of macros that are called.
    pub fn macros(&self) -> impl Iterator<Item = (usize, &str)> {
        let called = |three: &&[Token]| {
            three[0].is_name() && three[1].text == "!" && ["(", "[", "{"].contains(&three[2].text.as_str())
        };
        self.tokens
            .windows(3)
            .filter(called)
            .map(|three| (three[0].line, three[0].text.as_str()))
    }
}

struct Cut<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<(usize, String)>,
}

impl Cut<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip(&mut self, bytes: usize) {
        let end = (self.at + bytes).min(self.text.len());
        self.line += self.text[self.at..end].matches('\n').count();
        self.at = end;
    }

    fn all(&mut self) {
        while let Some(first) = self.rest().chars().next() {
            let rest = self.rest();
            if rest.starts_with("//") {
                let length = rest.find('\n').unwrap_or(rest.len());
                self.comment(length);
            } else if rest.starts_with("/*") {
                self.comment(block_comment(rest));
            } else if let Some(length) = raw_text(rest).or_else(|| quoted_text(rest)) {
                self.skip(length);
            } else if first == '\'' {
                self.skip(character_or_lifetime(rest));
            } else if first.is_alphanumeric() || first == '_' {
                let part = |c: char| c.is_alphanumeric() || c == '_';
                let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
                self.token(length);
            } else if rest.starts_with("::") {
                self.token(2);
            } else if first.is_whitespace() {
                self.skip(first.len_utf8());
            } else {
                self.token(first.len_utf8());
            }
        }
    }

    fn token(&mut self, length: usize) {
        let text = self.rest()[..length].to_owned();
        self.tokens.push(Token {
            line: self.line,
            text,
        });
        self.skip(length);
    }

    fn comment(&mut self, length: usize) {
        let text = self.rest()[..length].to_owned();
        for (offset, line) in text.lines().enumerate() {
            self.comments.push((self.line + offset, line.to_owned()));
        }
        self.skip(length);
    }
}

/// The length of a comment that may hold others.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`
fn raw_text(rest: &str) -> Option<usize> {
    let start = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = start.bytes().take_while(|byte| *byte == b'#').count();
    let inner = start[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inner.find(&end)? + end.len();
    Some(rest.len() - inner.len() + length)
}

/// `"…"`, `b"…"`
fn quoted_text(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    Some(rest.len() - inner.len() + end.map_or(inner.len(), |end| end + 1))
}

/// `'x'`, `'\n'` and `'\u{7f}'` whole; of `'static` the quote alone.
fn character_or_lifetime(rest: &str) -> usize {
    let inner = &rest[1..];
    if let Some(escape) = inner.strip_prefix('\\') {
        let first = escape.chars().next().map_or(0, char::len_utf8);
        let end = escape[first..]
            .find('\'')
            .map_or(escape.len(), |end| first + end + 1);
        return 2 + end;
    }
    let first = inner.chars().next().map_or(0, char::len_utf8);
    match inner[first..].starts_with('\'') {
        true => 1 + first + 1,
        false => 1,
    }
}

#[test]
fn comments_and_quotes_are_no_code() {
    let text = r###"
// one lapin::x
/* two /* three */ four */
fn f<'a>(x: &'a str) -> char { "five \" six"; r#"seven " eight"#; b"nine"; '"'; '\''; '\u{7f}'; 'x' }
mod last;
"###;
    let source = Source::new("src/x.rs", text);
    let names: Vec<_> = source.identifiers().collect();
    let line_4 = ["fn", "f", "a", "x", "a", "str", "char"].map(|name| (4, name));
    assert_eq!(names, [&line_4[..], &[(5, "mod"), (5, "last")]].concat());
    assert!(source.words().any(|word| word == (3, "three")));
    assert_eq!(
        Source::new("x.rs", "todo!(a != b)").macros().collect::<Vec<_>>(),
        [(1, "todo")]
    );
}
