//! A user as the server shows it, kept as text, so that a write puts it back as it was read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::contract::Fault;
use crate::provider::answer::Answer;
use crate::provider::members::Members;
use crate::provider::{ProviderError, User};

/// It is read-only (RFC 7643, section 4.1.2), nothing here uses it, and it can have thousands of entries.
const NOT_KEPT: &str = "groups";

/// The levels of a user, its attributes, their values, and the values in those.
const DEPTH_MAX: u8 = 4;

const NOT_PUT_BACK: &str = "the user as the provider shows it can't be put back completely, because it has a duplicate name; \
                            nothing was put, so nothing was lost. Correct the user at the provider";

pub(super) fn not_put_back() -> ProviderError {
    ProviderError::new(Fault::Broken, NOT_PUT_BACK)
}

/// The user in an answer.
pub(super) fn read(answer: &Answer) -> Result<User, ProviderError> {
    let text: Box<RawValue> = answer.object()?;
    // A duplicate name only prevents a write.
    let kept = Members::parse(text.get()).ok().and_then(|mut members| {
        members.remove(NOT_KEPT);
        serde_json::to_string(&members).ok()
    });
    Ok(User(kept.unwrap_or_else(|| text.get().into()).into()))
}

/// A user that was read.
pub(super) struct Shown<'a> {
    text: &'a str,
    /// Its parsed value, for comparisons.
    pub(super) value: Value,
}

impl<'a> Shown<'a> {
    pub(super) fn of(user: &'a User) -> Self {
        let text = user.0.as_str().unwrap_or_default();
        Self {
            text,
            value: value(text, DEPTH_MAX),
        }
    }

    /// Its members, to put back.
    pub(super) fn members(&self) -> Result<Members<'a>, ProviderError> {
        Members::parse(self.text).map_err(|_| not_put_back())
    }

    /// The entries of a list, as text.
    pub(super) fn entries(&self, list: &str) -> Vec<&'a RawValue> {
        let user: BTreeMap<Cow<'_, str>, &'a RawValue> = serde_json::from_str(self.text).unwrap_or_default();
        let list = user.get(list).map(|list| serde_json::from_str(list.get()));
        list.and_then(Result::ok).unwrap_or_default()
    }
}

/// A number beyond a float's range counts as absent, and hides nothing else.
fn value(text: &str, depth_max: u8) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    let inner = |text: &RawValue| value(text.get(), depth_max - 1);
    match text.bytes().next() {
        Some(b'{') if depth_max > 0 => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
            let members = members.into_iter();
            members.map(|(name, text)| (name, inner(text))).collect()
        }
        Some(b'[') if depth_max > 0 => {
            let entries: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            entries.into_iter().map(inner).collect()
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unrepresentable_number_hides_nothing_else() {
        let user = User(
            r#"{"a":1e999,"emails":[{"value":"x","n":1e999},{"value":"y"}],"name":{"n":-1e999,"m":1}}"#
                .into(),
        );
        let shown = Shown::of(&user);
        let expected = json!({
            "a": null, "emails": [{"value": "x", "n": null}, {"value": "y"}], "name": {"n": null, "m": 1},
        });
        assert_eq!(shown.value, expected);
        let texts: Vec<_> = shown.entries("emails").into_iter().map(RawValue::get).collect();
        assert_eq!(texts, [r#"{"value":"x","n":1e999}"#, r#"{"value":"y"}"#]);
        assert!(shown.entries("phoneNumbers").is_empty() && shown.entries("name").is_empty());
        let deep = User(format!("{{\"a\":{}1e999{}}}", "[".repeat(5000), "]".repeat(5000)).into());
        assert!(
            Shown::of(&deep).value["a"][0][0].is_array(),
            "and no stack is exhausted"
        );
    }

    #[test]
    fn user_with_a_duplicate_name_is_read_but_not_put_back() {
        let user = User(r#"{"a":1,"a":2}"#.into());
        let shown = Shown::of(&user);
        assert_eq!(shown.value, json!({"a": 2}));
        assert_eq!(
            shown.members().err().map(|error| error.fault),
            Some(Fault::Broken)
        );
    }
}
