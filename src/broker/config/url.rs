//! The broker's addresses: at least one. Their passwords are never shown.

use std::fmt;
use std::str::FromStr;

use lapin::uri::{AMQPScheme, AMQPUri};
use schemars::JsonSchema;
use serde::Deserialize;

/// The addresses of a broker's nodes, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "OneOrMore")]
#[schemars(with = "OneOrMore", extend("x-sensitive" = true))]
pub struct BrokerUrls(Vec<BrokerUrl>);

/// One address, several separated by commas, or a list. They may hold passwords.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMore {
    Text(String),
    List(#[schemars(length(min = 1))] Vec<String>),
}

impl BrokerUrls {
    pub fn iter(&self) -> impl Iterator<Item = &BrokerUrl> {
        self.0.iter()
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Starts again with the first one after the last.
    pub fn nth(&self, n: usize) -> &BrokerUrl {
        &self.0[n % self.0.len()]
    }

    fn read<'t>(texts: impl ExactSizeIterator<Item = &'t str>) -> Result<Self, InvalidUrls> {
        let count = texts.len();
        let read = |(index, text): (usize, &str)| {
            BrokerUrl::read(text.trim()).ok_or(InvalidUrls {
                place: index + 1,
                count,
            })
        };
        let urls: Vec<_> = texts.enumerate().map(read).collect::<Result<_, _>>()?;
        match urls.is_empty() {
            true => Err(InvalidUrls { place: 0, count }),
            false => Ok(Self(urls)),
        }
    }
}

impl Default for BrokerUrls {
    /// A broker on this machine with its default user.
    fn default() -> Self {
        let mut uri = AMQPUri::default();
        uri.authority.host = "127.0.0.1".to_owned();
        let text = "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned();
        Self(vec![BrokerUrl { text, uri }])
    }
}

impl TryFrom<OneOrMore> for BrokerUrls {
    type Error = InvalidUrls;

    fn try_from(written: OneOrMore) -> Result<Self, InvalidUrls> {
        match written {
            OneOrMore::Text(text) => text.parse(),
            OneOrMore::List(texts) => Self::read(texts.iter().map(String::as_str)),
        }
    }
}

impl FromStr for BrokerUrls {
    type Err = InvalidUrls;

    /// Every comma separates; a comma within an address is written %2C.
    fn from_str(text: &str) -> Result<Self, InvalidUrls> {
        let texts: Vec<_> = text.split(',').collect();
        Self::read(texts.into_iter())
    }
}

impl fmt::Display for BrokerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, url) in self.0.iter().enumerate() {
            write!(f, "{}{url}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for BrokerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrls({self})")
    }
}

/// Quotes no address, since it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct InvalidUrls {
    /// Counted from 1. 0 where there is no address.
    place: usize,
    count: usize,
}

impl fmt::Display for InvalidUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, count } = self;
        if *place == 0 {
            return f.write_str("no address, expected at least one");
        }
        f.write_str(
            "not a broker's address, expected amqp://user:password@host:port/vhost (amqps:// for TLS; %2f for \
             the vhost /, %2C for a comma; a name or an IPv4 address for the host)",
        )?;
        match count {
            1 => Ok(()),
            _ => write!(f, " as address {place} of {count}"),
        }
    }
}

/// A broker's address. It holds a password, which neither `Debug` nor `Display` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    text: String,
    uri: AMQPUri,
}

impl BrokerUrl {
    /// The address including its password.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    pub(crate) fn uri(&self) -> AMQPUri {
        self.uri.clone()
    }

    fn read(text: &str) -> Option<Self> {
        // The parser reads an IPv6 host as localhost.
        if text.contains("//[") || text.contains("@[") {
            return None;
        }
        let uri = text.parse().ok()?;
        let text = text.to_owned();
        Some(Self { text, uri })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let at = &self.uri.authority;
        let vhost = self.uri.vhost.replace('/', "%2f");
        write!(
            f,
            "{scheme}://{}@{}:{}/{vhost}",
            at.userinfo.username, at.host, at.port
        )
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_json(json: &str) -> Result<BrokerUrls, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_and_a_text_with_commas_are_the_same() {
        let list = from_json(r#"["amqp://a:s3cret@h1/%2f", "amqps://b:s3cret@10.0.0.2:5999/id"]"#).unwrap();
        let text: BrokerUrls = "amqp://a:s3cret@h1/%2f, amqps://b:s3cret@10.0.0.2:5999/id"
            .parse()
            .unwrap();
        assert_eq!(list, text);
        assert_eq!(
            list.to_string(),
            "amqp://a@h1:5672/%2f, amqps://b@10.0.0.2:5999/id"
        );
        let order: Vec<_> = (0..4).map(|n| list.nth(n).uri.authority.port).collect();
        assert_eq!(order, [5672, 5999, 5672, 5999]);
    }

    #[test]
    fn the_default_is_what_its_text_says() {
        let default = BrokerUrls::default();
        assert_eq!(default.nth(0).reveal().parse::<BrokerUrls>().unwrap(), default);
    }

    #[test]
    fn a_comma_within_an_address_is_escaped() {
        let one: BrokerUrls = "amqp://a:b%2Cc@h/v".parse().unwrap();
        assert_eq!(one.count(), 1);
        assert_eq!(one.nth(0).uri().authority.userinfo.password, "b,c");
    }

    #[test]
    fn a_wrong_address_is_named_by_its_position_and_not_quoted() {
        for (json, expected) in [
            (r#""amq://usher:s3cret@x""#, "%2f for the vhost /"),
            (
                r#""amqp://usher:s3cret@x,amq://usher:s3cret@y""#,
                "as address 2 of 2",
            ),
            (
                r#"["amqp://usher:s3cret@x", "", "amqp://usher:s3cret@y"]"#,
                "as address 2 of 3",
            ),
            (r#""amqp://usher:s3cret@[::1]:5672/v""#, "IPv4"),
            ("[]", "at least one"),
        ] {
            let refused = from_json(json).unwrap_err();
            assert!(
                refused.contains(expected) && !refused.contains("s3cret"),
                "{json}: {refused}"
            );
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let urls: BrokerUrls = "amqps://usher:s3cret@broker.example:5671/%2fid".parse().unwrap();
        assert_eq!(urls.to_string(), "amqps://usher@broker.example:5671/%2fid");
        for shown in [format!("{urls:?}"), format!("{:?}", urls.nth(0))] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
