//! Strings that are validated when they are deserialized.
//!
//! Each type states its rule once: as a check, a JSON Schema and an error message. Types that contain user data print
//! as `<redacted>`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::{Serialize, Serializer};

/// Parses a string into a `T`. The error says what was expected and, for another JSON type, that a string is required;
/// it never quotes the input.
struct StringVisitor<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for StringVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string, in quotes: {}", self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Other("a string"), &self.expected))
    }
}

pub(super) fn deserialize_with<'de, D, T>(
    deserializer: D,
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_str(StringVisitor { expected, parse })
}

macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, expected: $expected:literal, check: $check:expr, schema: $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The rule, as error messages state it.
            pub const EXPECTED: &'static str = $expected;

            pub fn parse(text: &str) -> Option<Self> {
                let check: fn(&str) -> bool = $check;
                check(text).then(|| Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text).ok_or(Self::EXPECTED)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_with(deserializer, Self::EXPECTED, Self::parse)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

impl Version {
    /// In a command, means the version that the user's last success reported.
    pub const PREVIOUS: &'static str = "previous";

    pub fn is_previous(&self) -> bool {
        self.as_str() == Self::PREVIOUS
    }
}

/// Identifiers that may be logged and passed on: they contain no user data.
macro_rules! public {
    ($($name:ident),*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )* };
}

/// User data: prints as `<redacted>`, and can't be serialized by accident.
macro_rules! personal {
    ($($name:ident),*) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("<redacted>")
            }
        }
    )* };
}

fn printable(text: &str, chars_max: usize) -> bool {
    !text.is_empty() && text.chars().count() <= chars_max && !text.chars().any(char::is_control)
}

checked_string!(
    /// The configured provider's name: part of queue names and routing keys.
    ProviderName,
    expected: "1 to 40 of the characters a-z, 0-9 and -",
    check: |text| (1..=40).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
    schema: { "type": "string", "pattern": "^[a-z0-9-]{1,40}$" }
);

checked_string!(
    /// The provider's own id of the user. `.` and `..` are not ids: in a URL's path they refer to another resource.
    UserId,
    expected: "1 to 200 characters without control characters, and not `.` or `..`",
    check: |text| printable(text, 200) && text != "." && text != "..",
    schema: {
        "type": "string", "minLength": 1, "maxLength": 200,
        "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$", "not": { "enum": [".", ".."] }
    }
);

checked_string!(
    /// Groups the commands of one migration.
    BatchId,
    expected: "1 to 200 characters without control characters",
    check: |text| printable(text, 200),
    schema: { "type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$" }
);

checked_string!(
    /// The user's version, as given by the provider. It is sent in an HTTP header, so it is ASCII.
    Version,
    expected: "1 to 200 printable ASCII characters",
    check: |text| (1..=200).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b)),
    schema: { "type": "string", "pattern": "^[ -~]{1,200}$" }
);

checked_string!(
    /// A name or another short text about a user.
    Text,
    expected: "1 to 200 characters (null clears a field, an empty string does not)",
    check: |text| (1..=200).contains(&text.chars().count()),
    schema: { "type": "string", "minLength": 1, "maxLength": 200 }
);

checked_string!(
    /// A text that only has to be present. The body's size bounds it.
    NonEmpty,
    expected: "1 or more characters (an empty string does not clear a field)",
    check: |text| !text.is_empty(),
    schema: { "type": "string", "minLength": 1 }
);

checked_string!(
    /// An e-mail address. Only the form is checked, not whether the address exists.
    Email,
    expected: "an e-mail address of at most 200 characters, such as name@example.com",
    check: |text| text.chars().count() <= 200
        && email_address::EmailAddress::parse_with_options(
            text,
            email_address::Options::default().without_display_text().without_domain_literal(),
        )
        .is_ok(),
    schema: { "type": "string", "format": "email", "maxLength": 200 }
);

checked_string!(
    /// A phone number in E.164 form.
    Phone,
    expected: "a phone number in E.164 form: a plus sign and 2 to 15 digits, such as +61412345678",
    check: |text| text.strip_prefix('+').is_some_and(|digits| (2..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0')),
    schema: { "type": "string", "pattern": "^\\+[1-9][0-9]{1,14}$" }
);

checked_string!(
    /// A language tag.
    Locale,
    expected: "a language tag (BCP 47) of at most 35 characters, such as en or de-CH",
    check: |text| text.len() <= 35
        && text.split('-').enumerate().all(|(i, part)| {
            let shape = if i == 0 { 2..=8 } else { 1..=8 };
            shape.contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()))
        }),
    schema: { "type": "string", "maxLength": 35, "pattern": "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$" }
);

public!(ProviderName, UserId, BatchId, Version);
personal!(Text, NonEmpty, Email, Phone, Locale);

/// A password, a hash or a code: never printed, and wiped from memory on drop.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    const EXPECTED: &'static str = "1 to 200 characters";

    pub fn parse(text: &str) -> Option<Self> {
        (1..=200)
            .contains(&text.chars().count())
            .then(|| Self(SecretString::from(text)))
    }

    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_with(deserializer, Self::EXPECTED, Self::parse)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 200, "x-sensitive": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_that_are_dot_segments_are_refused() {
        for bad in ["", ".", "..", "a\nb", &"x".repeat(201)] {
            assert!(UserId::parse(bad).is_none(), "{bad:?}");
        }
        assert!(UserId::parse("a/b c.é").is_some());
    }

    #[test]
    fn phone_numbers_must_be_e164() {
        for bad in ["", "+", "61412345678", "+0123", "+1 23", "+1234567890123456"] {
            assert!(Phone::parse(bad).is_none(), "{bad:?}");
        }
        assert!(Phone::parse("+61412345678").is_some());
    }

    #[test]
    fn emails_with_a_display_name_are_refused() {
        for bad in ["", "a", "a@", "Alex <alex@example.com>", "alex@[127.0.0.1]"] {
            assert!(Email::parse(bad).is_none(), "{bad:?}");
        }
        assert!(Email::parse("alex+tag@example.com").is_some());
    }

    #[test]
    fn locales_must_be_language_tags() {
        for bad in ["", "e", "en_US", "en-", "-en", "1a"] {
            assert!(Locale::parse(bad).is_none(), "{bad:?}");
        }
        assert!(Locale::parse("zh-Hant-TW").is_some());
    }

    #[test]
    fn personal_and_secret_values_print_redacted() {
        let text = Text::parse("Alex").unwrap();
        let secret = Secret::parse("hunter2").unwrap();
        assert_eq!(format!("{text:?} {secret:?}"), "<redacted> <redacted>");
    }
}
