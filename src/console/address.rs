//! The addresses of the console's pages: a screen, and a filter in the query. No value of a command is ever part of one.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::contract::Reason;
use crate::operations::dead_letters::Filter;

/// What is encoded in a part of a path or a query.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'+')
    .add(b'/')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    // Browsers take it for a slash.
    .add(b'\\')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// The longest value of a query that is read.
const VALUE_BYTES_MAX: usize = 1024;

pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Screen {
    Overview,
    Failures,
    Failure(String),
    Operations,
    Operation(uuid::Uuid),
    Batches,
    Batch(String),
    Why,
    Fleet,
}

impl Screen {
    /// `path`: decoded, with its slashes.
    pub fn parse(path: &str) -> Option<Self> {
        let path = path.trim_matches('/');
        Some(match path.split_once('/') {
            None => match path {
                "" => Self::Overview,
                "failures" => Self::Failures,
                "operations" => Self::Operations,
                "batches" => Self::Batches,
                "why" => Self::Why,
                "fleet" => Self::Fleet,
                _ => return None,
            },
            Some(("failures", id)) => Self::Failure(decoded(id)?),
            Some(("operations", id)) => Self::Operation(id.parse().ok()?),
            Some(("batches", id)) => Self::Batch(decoded(id)?),
            Some(_) => return None,
        })
    }

    pub fn path(&self) -> String {
        match self {
            Self::Failure(id) => format!("/failures/{}", encoded(id)),
            Self::Operation(id) => format!("/operations/{id}"),
            Self::Batch(id) => format!("/batches/{}", encoded(id)),
            screen => format!("/{}", screen.place()),
        }
    }

    /// The entry of the navigation that it belongs to.
    pub fn place(&self) -> &'static str {
        match self {
            Self::Overview => "",
            Self::Failures | Self::Failure(_) => "failures",
            Self::Operations | Self::Operation(_) => "operations",
            Self::Batches | Self::Batch(_) => "batches",
            Self::Why => "why",
            Self::Fleet => "fleet",
        }
    }

    pub fn title(&self) -> String {
        match self {
            Self::Overview => "Overview".to_owned(),
            Self::Failures => "Failures".to_owned(),
            Self::Failure(id) => format!("Failure of {id}"),
            Self::Operations => "Operations".to_owned(),
            Self::Operation(id) => format!("Operation {id}"),
            Self::Batches => "Batches".to_owned(),
            Self::Batch(id) => format!("Batch {id}"),
            Self::Why => "Why".to_owned(),
            Self::Fleet => "Fleet".to_owned(),
        }
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    (!text.is_empty() && text.len() <= VALUE_BYTES_MAX).then(|| text.into_owned())
}

/// The pairs of a query, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = decoded(&value.replace('+', " "))?;
            Some((decoded(name)?, value.trim().to_owned()))
        });
        // A form sends its empty fields, too.
        Self(pairs.filter(|(_, value)| !value.is_empty()).take(64).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn all(&self, name: &str) -> Vec<String> {
        let all = self.0.iter().filter(|(known, _)| known == name);
        all.map(|(_, value)| value.clone()).collect()
    }

    /// The same with one more pair, in place of those of its name.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut query = self.without(name);
        query.0.push((name.to_owned(), value.to_owned()));
        query
    }

    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let pairs = self.0.iter().filter(|(known, _)| known != name);
        Self(pairs.cloned().collect())
    }

    /// With its question mark, if there is something.
    pub fn text(&self) -> String {
        let pairs = self.0.iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        match pairs.is_empty() {
            true => String::new(),
            false => format!("?{}", pairs.join("&")),
        }
    }

    /// Which dead letters are chosen, and what is wrong with it.
    pub fn filter(&self) -> Result<Filter, String> {
        for reason in self.all("reason") {
            if Reason::parse(&reason).is_none() {
                return Err(format!("there is no reason {reason}"));
            }
        }
        let time = |name: &str| {
            let text = self.get(name);
            text.map(|text| {
                text.parse()
                    .map_err(|_| format!("{name}: write a time such as 2026-11-21T10:00:00Z"))
            })
            .transpose()
        };
        Ok(Filter {
            reasons: self.all("reason"),
            providers: self.all("provider"),
            batches: self.all("batch"),
            users: self.all("user"),
            codes: self.all("code"),
            pointers: self.all("pointer"),
            ids: self.all("command"),
            since: time("since")?,
            until: time("until")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written_whatever_a_stranger_named_things() {
        for screen in [
            Screen::Overview,
            Screen::Failure("a/b\\c?d#\"<script>&ü".into()),
            Screen::Batch("m<script>-1".into()),
            Screen::Fleet,
        ] {
            let path = screen.path();
            assert!(!path.contains(['<', '"', '?', '#', ' ', '\\']), "{path}");
            assert_eq!(Screen::parse(&path), Some(screen));
        }
        for path in ["/other", "/failures/a/../../b/%FF", "/operations/x"] {
            assert_eq!(Screen::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_query_is_a_filter_and_empty_fields_choose_nothing() {
        let query = Query::parse("reason=conflict&user=a%26b+c&code=&page=2");
        let filter = query.filter().unwrap();
        assert_eq!((filter.users, filter.codes), (vec!["a&b c".to_owned()], vec![]));
        assert_eq!(query.without("page").text(), "?reason=conflict&user=a%26b%20c");
        assert_eq!(Query::parse(&query.text()[1..]), query);
        assert!(Query::parse("reason=x").filter().is_err());
        assert!(Query::parse("since=soon").filter().is_err());
    }
}
