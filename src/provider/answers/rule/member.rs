//! The members of a rule in the configuration.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::wildcard;
use crate::provider::answer::Answer;

/// The memory limit of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Method {
    Get,
    Patch,
    Put,
    Post,
}

impl Method {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }
}

/// Empty: any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Statuses(pub(super) Vec<RangeInclusive<u16>>);

impl Statuses {
    pub(super) fn contain(&self, status: u16) -> bool {
        self.0.is_empty() || self.0.iter().any(|range| range.contains(&status))
    }
}

fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let valid = |number: &str| number.parse().ok().filter(|status| (100..=999).contains(status));
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=9).contains(class))?;
        return Some(class * 100..=class * 100 + 99);
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (valid(from)?, valid(to)?);
    (from <= to).then_some(from..=to)
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_more(
            deserializer,
            "a status such as 403, \"4xx\" or \"500-504\", or a list of them",
            statuses,
        )
        .map(Self)
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let number = json_schema!({ "type": "integer", "minimum": 100, "maximum": 999 });
        let text =
            json_schema!({ "type": "string", "pattern": "^([1-9]xx|[1-9][0-9]{2}(-[1-9][0-9]{2})?)$" });
        let items = json_schema!({ "oneOf": [number, text] });
        json_schema!({
            "oneOf": [number, text, { "type": "array", "items": items, "minItems": 1 }],
            "examples": [403, "4xx", [403, "500-504"]]
        })
    }
}

/// A header by its name, and by its value if one is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderIs {
    name: String,
    value: Option<String>,
}

impl HeaderIs {
    fn parse(text: &str) -> Option<Self> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value.trim().to_ascii_lowercase())),
            None => (text, None),
        };
        let name = reqwest::header::HeaderName::try_from(name.trim()).ok()?;
        Some(Self {
            name: name.as_str().into(),
            value,
        })
    }

    pub(super) fn is_in(&self, answer: &Answer) -> bool {
        answer.headers.get_all(&self.name).iter().any(|value| {
            self.value.as_deref().is_none_or(|asked| {
                let said = value.to_str().unwrap_or_default();
                wildcard(asked, &said.trim().to_ascii_lowercase())
            })
        })
    }
}

#[derive(Default)]
pub(super) struct Headers(pub(super) Vec<HeaderIs>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_more(
            deserializer,
            "a header such as \"retry-after\" or \"x-ratelimit-remaining: 0\", or a list of them",
            HeaderIs::parse,
        )
        .map(Self)
    }
}

/// The form in the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the schema is made of it")]
pub(super) enum HeadersWritten {
    One(String),
    Several(Vec<String>),
}

/// One text or number, or a list of them, each parsed by `read`.
fn one_or_more<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    read: fn(&str) -> Option<T>,
) -> Result<Vec<T>, D::Error> {
    struct OneOrMore<T> {
        expected: &'static str,
        read: fn(&str) -> Option<T>,
    }

    impl<T> OneOrMore<T> {
        fn one<E: de::Error>(&self, text: &str) -> Result<T, E> {
            (self.read)(text).ok_or_else(|| E::custom(format_args!("`{text}`, expected {}", self.expected)))
        }
    }

    impl<'de, T> Visitor<'de> for OneOrMore<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expected)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            Ok(vec![self.one(text)?])
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Vec<T>, E> {
            Ok(vec![self.one(&number.to_string())?])
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<T>, E> {
            Ok(vec![self.one(&number.to_string())?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(Scalar(text)) = seq.next_element()? {
                all.push(self.one(&text)?);
            }
            match all.is_empty() {
                true => Err(de::Error::custom(format_args!(
                    "an empty list, expected {}",
                    self.expected
                ))),
                false => Ok(all),
            }
        }
    }
    deserializer.deserialize_any(OneOrMore { expected, read })
}

/// A string, a number or a boolean, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or a boolean")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.into()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_bool<E: de::Error>(self, bool: bool) -> Result<Scalar, E> {
                Ok(Scalar(bool.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [{ "type": "string" }, { "type": "integer" }, { "type": "boolean" }] })
    }
}

#[derive(Debug, Clone)]
pub(super) struct Pattern(pub(super) Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let regex = regex::RegexBuilder::new(&text)
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        regex
            .map(Self)
            .map_err(|error| de::Error::custom(format_args!("`{text}` is not a regular expression: {error}")))
    }
}
