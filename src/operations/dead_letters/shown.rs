//! A command's body for people's eyes: with its values hidden, or on one line.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::contract::{dead_letter, shown_key, without_marks};

/// What stands for a value.
const HIDDEN: &str = "…";

/// The members of a command that are no values of a user.
const OPEN: [&str; 6] = ["id", "provider", "userId", "batchId", "issuedAt", "expiresAt"];

/// Headers of others that hold no value.
const OPEN_HEADERS: [&str; 3] = ["traceparent", "x-delivery-count", "x-acquired-count"];

/// Whether a dead letter's header may be shown: it is usher's own, or known to hold no value.
pub fn is_open_header(name: &str) -> bool {
    name.starts_with(dead_letter::PREFIX) || OPEN_HEADERS.contains(&name)
}

/// The body with every value replaced, the names of its fields kept, or only its size where it is no JSON object. A null
/// clears a field, and stays.
pub fn shown(body: &[u8]) -> Value {
    match serde_json::from_slice(without_marks(body)) {
        Ok(Value::Object(command)) => Value::Object(
            command
                .into_iter()
                .map(
                    |(name, value)| match OPEN.contains(&name.as_str()) && !value.is_object() {
                        true => (name, value),
                        false => (shown_key(&name).to_owned(), hidden(value)),
                    },
                )
                .collect(),
        ),
        _ => format!("{HIDDEN} ({} bytes)", body.len()).into(),
    }
}

fn hidden(value: Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (shown_key(&name).to_owned(), hidden(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(values) => values.into_iter().map(hidden).collect::<Vec<_>>().into(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => HIDDEN.into(),
    }
}

/// The same JSON on one line, every value as it is written. `None`: it is not JSON.
pub fn compact(body: &[u8]) -> Option<Vec<u8>> {
    let body = without_marks(body);
    serde_json::from_slice::<IgnoredAny>(body).ok()?;
    let (mut line, mut in_text, mut escaped) = (Vec::with_capacity(body.len()), false, false);
    for byte in body.iter().copied() {
        match (in_text, byte) {
            (false, b' ' | b'\t' | b'\r' | b'\n') => continue,
            (false, b'"') => in_text = true,
            (true, b'"') if !escaped => in_text = false,
            _ => {}
        }
        escaped = in_text && byte == b'\\' && !escaped;
        line.push(byte);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_value_is_shown_and_every_field_is() {
        let body = json!({
            "id": "c1", "userId": "u", "expectedVersion": "s3cret", "other": "s3cret",
            "update": { "email": "s3cret", "phone": null, "sivo": { "list": ["s3cret", 5150], "active": true } },
        });
        let shown = shown(body.to_string().as_bytes());
        let expected = json!({
            "id": "c1", "userId": "u", "expectedVersion": "…", "other": "…",
            "update": { "email": "…", "phone": null, "sivo": { "list": ["…", "…"], "active": "…" } },
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_no_command_is_only_measured() {
        for body in ["s3cret", "\"s3cret\"", "[\"s3cret\"]"] {
            let shown = shown(body.as_bytes()).to_string();
            assert!(!shown.contains("s3cret") && shown.contains("bytes"), "{shown}");
        }
        assert!(!shown(br#"{"id":{"x":"s3cret"}}"#).to_string().contains("s3cret"));
    }

    #[test]
    fn a_body_is_put_on_one_line_with_its_values_as_they_are() {
        let body = "{\n  \"a\": \"x \\\" y\\\\\",\r\n\t\"n\": 1.10,\n \"b\": [ 1 , 2 ]\n}\n";
        let line = compact(body.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"a\":\"x \\\" y\\\\\",\"n\":1.10,\"b\":[1,2]}"
        );
        assert_eq!(compact(b"{ no"), None);
        assert_eq!(compact("\u{feff}{ }".as_bytes()).unwrap(), b"{}");
    }
}
