//! A provider's code, as it may be passed on: from a closed list or of its kind's form, and never one that repeats a
//! value.
//!
//! Some providers put free words where a code belongs, the refused value among them. A `Code` can only be made here,
//! so the adapters of all kinds pass the same check.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::Answer;

/// A shorter value is in many codes by chance.
const VALUE_CHARS_MIN: usize = 4;

/// How deep what was sent is looked through.
const DEPTH_MAX: u32 = 128;

/// Goes into events, headers and logs.
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

/// What no code may repeat.
#[derive(Default)]
pub(super) struct Private {
    pub(super) sent: Sent,
    /// The token, and the client's id and secret where there are such.
    pub(super) credentials: Vec<SecretString>,
}

/// What of a user's data the request carried that is answered.
#[derive(Default)]
pub(super) enum Sent {
    /// None has to do with it: a token was asked for.
    #[default]
    Nothing,
    /// The command's values, as JSON.
    Values(Bytes),
    /// A read: it is for a command whose values are not at hand here, so no code of its answer is passed on.
    Unknown,
}

/// What stands where a code belongs: a text, or a number as a text.
pub(super) fn text(code: &Value) -> Option<String> {
    match code {
        Value::String(code) => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    }
}

impl Answer {
    /// This text as a code, where it stands in the list.
    pub(super) fn listed_code(&self, text: &str, list: &[impl AsRef<str>]) -> Option<Code> {
        let listed = list.iter().any(|code| code.as_ref() == text);
        (listed && !self.private.is_repeated_by(text)).then(|| Code(text.into()))
    }

    /// This text as a code, where it has the form of one.
    pub(super) fn formed_code(&self, text: &str, form: fn(&str) -> bool) -> Option<Code> {
        (form(text) && !self.private.is_repeated_by(text)).then(|| Code(text.into()))
    }
}

impl Private {
    fn is_repeated_by(&self, code: &str) -> bool {
        let code = bare(code);
        let credential = |secret: &SecretString| overlap(&code, secret.expose_secret());
        if self.credentials.iter().any(credential) {
            return true;
        }
        match &self.sent {
            Sent::Nothing => false,
            Sent::Unknown => true,
            // Were it no JSON, nothing could be told from it.
            Sent::Values(sent) => {
                serde_json::from_slice(sent).map_or(true, |sent: &RawValue| repeats(&code, sent, DEPTH_MAX))
            }
        }
    }
}

/// Whether the code is one of the values, a part of one, or holds one: numbers as they are written. The names of members
/// may be a publisher's data too; but a code may speak of a member. What can't be read may be anything.
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

/// Letters and digits alone, in one case: `+61 412 345 678` is repeated by `61412345678`.
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
        answer.private = Private {
            sent: sent.map_or(Sent::Nothing, |sent| Sent::Values(sent.to_string().into())),
            credentials: vec![credential.into()],
        };
        answer
    }

    #[test]
    fn what_is_not_in_the_list_or_has_not_the_form_is_left_out() {
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
    fn no_code_is_taken_over_where_the_values_are_not_at_hand() {
        let mut read = answer(None, "t0ken");
        assert!(read.listed_code("noTarget", &LIST).is_some());
        read.private.sent = Sent::Unknown;
        assert_eq!(read.formed_code("10000409", eight_digits), None);
        assert_eq!(read.listed_code("noTarget", &LIST), None);
    }

    #[test]
    fn what_repeats_a_value_is_left_out() {
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
        long.private.sent = Sent::Values(Bytes::from_static(br#"{"n":[99999999999999999912345678]}"#));
        assert_eq!(long.formed_code("12345678", eight_digits), None, "of many digits");
        let chance = json!({"nickname": "Val", "value": true, "n": 1});
        assert!(
            answer(Some(&chance), "t0ken")
                .listed_code("invalidValue", &LIST)
                .is_some()
        );
    }

    #[test]
    fn what_repeats_a_credential_is_left_out() {
        for credential in ["12345678", "x.12345678.y", "2345"] {
            let sent = json!({});
            let repeated = answer(Some(&sent), credential).formed_code("12345678", eight_digits);
            assert_eq!(repeated, None, "{credential}");
        }
        assert_eq!(answer(None, "noTarget").listed_code("noTarget", &LIST), None);
    }

    #[test]
    fn nothing_is_taken_over_where_what_was_sent_cannot_be_read() {
        let mut answer = answer(None, "t0ken");
        answer.private.sent = Sent::Values(Bytes::from_static(b"no JSON"));
        assert_eq!(answer.listed_code("noTarget", &LIST), None);
    }
}
