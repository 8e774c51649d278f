//! A provider's code, checked before it is passed on: it is in a closed list or has the form of its kind, and never
//! repeats a value.
//!
//! Some providers put free text, including the refused value, where a code belongs. A `Code` can only be made here, so
//! the adapters of all kinds apply the same check.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::Answer;

/// Shorter values are contained in many codes by chance.
const VALUE_CHARS_MIN: usize = 4;

/// How many levels of the sent JSON are searched.
const DEPTH_MAX: u32 = 128;

/// It is written to events, headers and logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Box<str>);

impl Deref for Code {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.0.into()
    }
}

/// Values that no code may repeat.
#[derive(Default)]
pub(super) struct Sensitive {
    pub(super) sent: SentValues,
    /// The token, and the client's id and secret, if there are any.
    pub(super) credentials: Vec<SecretString>,
}

/// The user data in the request.
#[derive(Default)]
pub(super) enum SentValues {
    /// None: the request was for a token.
    #[default]
    Nothing,
    /// The command's values, as JSON.
    Values(Bytes),
    /// A read: the command's values are not available here, so no code of its answer is passed on.
    Unknown,
}

/// A code as text: a string, or a number in its text form.
pub(super) fn text(code: &Value) -> Option<String> {
    match code {
        Value::String(code) => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    }
}

impl Answer {
    /// The text as a code, if it is in the list.
    pub(super) fn listed_code(&self, text: &str, list: &[impl AsRef<str>]) -> Option<Code> {
        let listed = list.iter().any(|code| code.as_ref() == text);
        (listed && !self.sensitive.is_repeated_by(text)).then(|| Code(text.into()))
    }

    /// The text as a code, if it has the form of one.
    pub(super) fn formed_code(&self, text: &str, form: fn(&str) -> bool) -> Option<Code> {
        (form(text) && !self.sensitive.is_repeated_by(text)).then(|| Code(text.into()))
    }
}

impl Sensitive {
    fn is_repeated_by(&self, code: &str) -> bool {
        let code = bare(code);
        let credential = |secret: &SecretString| overlap(&code, secret.expose_secret());
        if self.credentials.iter().any(credential) {
            return true;
        }
        match &self.sent {
            SentValues::Nothing => false,
            SentValues::Unknown => true,
            // If it is not JSON, it can't be searched.
            SentValues::Values(sent) => {
                serde_json::from_slice(sent).map_or(true, |sent: &RawValue| repeats(&code, sent, DEPTH_MAX))
            }
        }
    }
}

/// Whether the code equals a value, is part of one, or contains one; numbers are compared as they are written. Member
/// names may be user data too, but a code may contain a member's name. JSON that can't be read counts as repeated.
fn repeats(code: &str, sent: &RawValue, depth: u32) -> bool {
    let text = sent.get();
    let Some(depth) = depth.checked_sub(1) else {
        return true;
    };
    match text.as_bytes().first() {
        Some(b'{') => {
            let repeated = |(name, value): (&String, &&RawValue)| {
                bare(name).contains(code) || repeats(code, value, depth)
            };
            let members = serde_json::from_str::<HashMap<String, &RawValue>>(text);
            members.map_or(true, |members| members.iter().any(repeated))
        }
        Some(b'[') => {
            let items = serde_json::from_str::<Vec<&RawValue>>(text);
            items.map_or(true, |items| items.iter().any(|item| repeats(code, item, depth)))
        }
        Some(b'"') => {
            let value = serde_json::from_str::<Cow<'_, str>>(text);
            value.map_or(true, |value| overlap(code, &value))
        }
        Some(b't' | b'f' | b'n') => false,
        _ => overlap(code, text),
    }
}

fn overlap(code: &str, value: &str) -> bool {
    let value = bare(value);
    value.contains(code) || (value.chars().count() >= VALUE_CHARS_MIN && code.contains(&value))
}

/// Only letters and digits, in lower case: `+61 412 345 678` is repeated by `61412345678`.
fn bare(text: &str) -> String {
    let kept = text.chars().filter(|c| c.is_alphanumeric());
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use reqwest::header::HeaderMap;
    use serde_json::json;

    use super::*;

    const LIST: [&str; 3] = ["noTarget", "invalidValue", "INVALID_ARGUMENT"];

    fn eight_digits(text: &str) -> bool {
        text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit())
    }

    fn answer(sent: Option<&Value>, credential: &str) -> Answer {
        let mut answer = Answer::new(Method::PUT, 400, HeaderMap::new(), Vec::new());
        answer.sensitive = Sensitive {
            sent: sent.map_or(SentValues::Nothing, |sent| {
                SentValues::Values(sent.to_string().into())
            }),
            credentials: vec![credential.into()],
        };
        answer
    }

    #[test]
    fn text_that_is_not_listed_or_well_formed_is_dropped() {
        let answer = answer(Some(&json!({"email": "alex@example.com"})), "t0ken");
        assert_eq!(answer.listed_code("noTarget", &LIST).as_deref(), Some("noTarget"));
        for text in ["", "notarget", "alex", "noTarget "] {
            assert_eq!(answer.listed_code(text, &LIST), None, "{text}");
        }
        assert_eq!(
            answer.formed_code("10000409", eight_digits).as_deref(),
            Some("10000409")
        );
        assert_eq!(answer.formed_code("1000040", eight_digits), None);
    }

    #[test]
    fn codes_are_dropped_if_the_values_are_not_available() {
        let mut read = answer(None, "t0ken");
        assert!(read.listed_code("noTarget", &LIST).is_some());
        read.sensitive.sent = SentValues::Unknown;
        assert_eq!(read.formed_code("10000409", eight_digits), None);
        assert_eq!(read.listed_code("noTarget", &LIST), None);
    }

    #[test]
    fn code_that_repeats_a_value_is_dropped() {
        for (sent, code) in [
            (json!({"nickname": "noTarget"}), "noTarget"),
            (json!({"nickname": "NOTARGET"}), "noTarget"),
            (json!({"a": [{"b": "the target noTarget of"}]}), "noTarget"),
            (json!({"nickname": "value"}), "invalidValue"),
            (json!({"nickname": "Invalid Argument"}), "INVALID_ARGUMENT"),
            (json!({"claims": {"noTarget": 1}}), "noTarget"),
        ] {
            assert_eq!(
                answer(Some(&sent), "t0ken").listed_code(code, &LIST),
                None,
                "{sent}"
            );
        }
        for sent in [
            json!({"phone": "+61412345678"}),
            json!({"phone": "0412-34 56 78"}),
            json!({"number": 12_345_678}),
            json!({"pin": "4567"}),
        ] {
            let repeated = answer(Some(&sent), "t0ken").formed_code("12345678", eight_digits);
            assert_eq!(repeated, None, "{sent}");
        }
        let mut long = answer(None, "t0ken");
        long.sensitive.sent =
            SentValues::Values(Bytes::from_static(br#"{"n":[99999999999999999912345678]}"#));
        assert_eq!(long.formed_code("12345678", eight_digits), None, "of many digits");
        let chance = json!({"nickname": "Val", "value": true, "n": 1});
        assert!(
            answer(Some(&chance), "t0ken")
                .listed_code("invalidValue", &LIST)
                .is_some()
        );
    }

    #[test]
    fn code_that_repeats_a_credential_is_dropped() {
        for credential in ["12345678", "x.12345678.y", "2345"] {
            let sent = json!({});
            let repeated = answer(Some(&sent), credential).formed_code("12345678", eight_digits);
            assert_eq!(repeated, None, "{credential}");
        }
        assert_eq!(answer(None, "noTarget").listed_code("noTarget", &LIST), None);
    }

    #[test]
    fn codes_are_dropped_if_the_sent_values_cannot_be_read() {
        let mut answer = answer(None, "t0ken");
        answer.sensitive.sent = SentValues::Values(Bytes::from_static(b"not JSON"));
        assert_eq!(answer.listed_code("noTarget", &LIST), None);
    }
}
