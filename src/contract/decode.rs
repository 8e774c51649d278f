//! Decodes a body into a valid command, or a refusal that says where the error is and how to fix it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};
use uuid::Uuid;

use super::checked::{BatchId, UserId};
use super::command::{CommandId, Field, UpdateUser, object, parse_command_id};
use super::event::EventIds;
use super::failure::{Failure, Reason};

/// A larger body is refused without decoding it.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The UUID namespace for the keys of commands without an id.
const NAMELESS: Uuid = Uuid::from_u128(0x5b0f_6c52_41d9_5f0a_9b86_6d1c_3a7e_9f10);

#[derive(Deserialize)]
struct Body(#[serde(deserialize_with = "object")] UpdateUser);

/// A text without leading byte order marks. Some publishers and editors begin UTF-8 with one; it has no meaning, and JSON
/// does not allow it. Concatenated files may have several.
pub fn without_marks(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_prefix(b"\xef\xbb\xbf") {
        text = rest;
    }
    text
}

/// Reads a command.
pub fn decode(body: &[u8]) -> Result<UpdateUser, Failure> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Failure::new(
            Reason::Oversized,
            format!("the body has {} bytes; send at most {BODY_BYTES_MAX}", body.len()),
        ));
    }
    let body = without_marks(body);
    let mut json = serde_json::Deserializer::from_slice(body);
    let Body(command) = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| refusal(body, error.path(), error.inner()))?;
    json.end().map_err(|error| refusal_of_syntax(&error))?;
    if let Some(kind) = command.update.empty_block() {
        return Err(invalid(
            format!("/update/{kind}"),
            "the block is empty; name a field in it, or leave it out",
        ));
    }
    if command.update.field_names().is_empty() {
        return Err(invalid(
            "/update",
            "no field is named; send at least one field to set or to clear",
        ));
    }
    Ok(command)
}

fn invalid(pointer: impl Into<String>, detail: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(Reason::Invalid, detail).at(pointer)
}

/// A body that is not JSON as a whole is reported as such, even if its beginning has another error.
fn refusal(body: &[u8], path: &Path, error: &serde_json::Error) -> Failure {
    match error.classify() {
        Category::Data => match serde_json::from_slice::<IgnoredAny>(body) {
            Ok(IgnoredAny) => refusal_of_data(path, &error.to_string()),
            Err(error) => refusal_of_syntax(&error),
        },
        Category::Syntax | Category::Eof | Category::Io => refusal_of_syntax(error),
    }
}

fn refusal_of_syntax(error: &serde_json::Error) -> Failure {
    Failure::new(
        Reason::Undecodable,
        format!(
            "the body is not JSON: the error is at line {}, column {}; send one JSON object in UTF-8",
            error.line(),
            error.column()
        ),
    )
}

fn refusal_of_data(path: &Path, message: &str) -> Failure {
    let mut pointer = pointer(path);
    let (member, detail) = remedy(
        message
            .rsplit_once(" at line ")
            .map_or(message, |(message, _)| message),
    );
    if let Some(member) = member
        && !pointer.ends_with(&format!("/{member}"))
    {
        pointer.push('/');
        pointer.push_str(&member);
    }
    invalid(pointer, detail)
}

/// Turns serde's message into advice, and names the member if the path doesn't.
fn remedy(message: &str) -> (Option<String>, String) {
    if let Some(member) = quoted(message, "missing field `") {
        return (Some(member.into()), "the member is required; add it".into());
    }
    if let Some(member) = quoted(message, "duplicate field `") {
        return (Some(member.into()), "the member appears twice; keep one".into());
    }
    let expected = expected_of(message);
    if message.starts_with("unknown field") {
        let instead = expected.map_or_else(String::new, |known| format!(", or use {known}"));
        return (None, format!("unknown key; remove it{instead}"));
    }
    let is = sent_type(message).map_or_else(
        || "the value is not valid".to_owned(),
        |sent| format!("this is {sent}"),
    );
    let send = expected.map_or_else(String::new, |expected| {
        format!("; send {}", in_json_words(expected))
    });
    (None, format!("{is}{send}"))
}

/// The part of serde's message that says what was expected. It is text of this crate; the part before it quotes the
/// input.
pub fn expected_of(message: &str) -> Option<&str> {
    message.rsplit_once(", expected ").map(|(_, expected)| expected)
}

/// The JSON type that was sent instead of the expected one.
fn sent_type(message: &str) -> Option<&'static str> {
    let sent = message.strip_prefix("invalid type: ")?;
    [
        ("integer", "a number"),
        ("floating point", "a number"),
        ("number", "a number"),
        ("boolean", "true or false"),
        ("string", "a string"),
        ("null", "null"),
        ("sequence", "an array"),
        ("map", "an object"),
    ]
    .into_iter()
    .find_map(|(word, sent_type)| sent.starts_with(word).then_some(sent_type))
}

/// Translates serde's names of types into JSON's.
fn in_json_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "an array",
        "a map" => "an object",
        "a boolean" => "true or false",
        expected => expected,
    }
}

fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split('`').next()
}

/// A key as shown in a pointer. A key that does not look like a name may be a user's data and is not shown.
pub fn shown_key(key: &str) -> &str {
    let name = !key.is_empty()
        && key.len() <= 40
        && key
            .bytes()
            .all(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'-');
    if name { key } else { "*" }
}

/// A JSON pointer.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => pointer.push_str(shown_key(key)),
            Segment::Unknown => pointer.push('*'),
        }
    }
    pointer
}

/// Identifies a delivery's command in its events, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident {
    /// The event ids derive from it: the command's id, else the AMQP `message_id`, else the body.
    pub key: Uuid,
    pub event_ids: EventIds,
    /// The command's id, else the AMQP `message_id`.
    pub command_id: Option<String>,
    pub user_id: Option<String>,
    pub batch_id: Option<BatchId>,
    pub fields: Vec<&'static str>,
    /// How many times the command was redriven.
    pub redrives: u32,
    /// When it was issued, if it says so.
    pub issued_at: Option<Timestamp>,
}

impl Ident {
    pub fn of(command: &UpdateUser, redrives: u32) -> Self {
        Self {
            key: command.id,
            event_ids: EventIds::new(&command.id, redrives),
            command_id: Some(command.id.to_string()),
            user_id: Some(command.user_id.as_str().into()),
            batch_id: command.batch_id.clone(),
            fields: command.update.field_names(),
            redrives,
            issued_at: command.issued_at,
        }
    }

    /// The same command after another number of redrives.
    pub fn at(&self, redrives: u32) -> Self {
        Self {
            event_ids: EventIds::new(&self.key, redrives),
            redrives,
            ..self.clone()
        }
    }

    /// Identifies a body that could not be decoded, from what can be read of it.
    pub fn of_refused(body: &[u8], message_id: Option<&str>, redrives: u32) -> Self {
        let json = (body.len() <= BODY_BYTES_MAX)
            .then(|| serde_json::from_slice::<Value>(without_marks(body)).ok())
            .flatten()
            .unwrap_or(Value::Null);
        let member = |name: &str| json.get(name).and_then(Value::as_str);
        let id: Option<CommandId> = member("id").and_then(parse_command_id);
        let message_id = message_id.filter(|id| !id.is_empty());
        let named: BTreeSet<&str> = json
            .get("update")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|update| update.keys().map(String::as_str))
            .collect();
        let key = id.unwrap_or_else(|| match message_id {
            Some(message_id) => message_id
                .parse()
                .unwrap_or_else(|_| Uuid::new_v5(&NAMELESS, message_id.as_bytes())),
            None => Uuid::new_v5(&NAMELESS, body),
        });
        Self {
            key,
            event_ids: EventIds::new(&key, redrives),
            command_id: id.map(|id| id.to_string()).or(message_id.map(String::from)),
            user_id: member("userId")
                .and_then(UserId::parse)
                .map(|user_id| user_id.as_str().into()),
            batch_id: member("batchId").and_then(BatchId::parse),
            fields: Field::ALL
                .into_iter()
                .map(Field::name)
                .filter(|name| named.contains(name))
                .collect(),
            redrives,
            issued_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_update(update: &str) -> String {
        format!(
            r#"{{"id":"018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e","provider":"p","userId":"u","update":{update}}}"#
        )
    }

    #[track_caller]
    fn refused(body: &str) -> (Reason, String, String) {
        let failure = decode(body.as_bytes()).unwrap_err();
        (
            failure.reason,
            failure.pointer.unwrap_or_default(),
            failure.detail.into_owned(),
        )
    }

    #[test]
    fn null_clears_a_field_and_absence_keeps_it() {
        let command = decode(with_update(r#"{"phone":null,"email":"a@b.example"}"#).as_bytes()).unwrap();
        assert_eq!(command.update.shared(Field::Phone), Some(None));
        assert_eq!(command.update.shared(Field::Email), Some(Some("a@b.example")));
        assert_eq!(command.update.shared(Field::Locale), None);
        assert_eq!(command.update.field_names(), ["email", "phone"]);
    }

    #[test]
    fn refusals_name_the_pointer_and_the_remedy_and_quote_no_value() {
        let cases = [
            (
                with_update(r#"{"email":"s3cret"}"#),
                "/update/email",
                "an e-mail address",
            ),
            (
                with_update(r#"{"email":5150}"#),
                "/update/email",
                "this is a number; send a string, in quotes: an e-mail address",
            ),
            (with_update(r#"{"emial":"s3cret"}"#), "/update/emial", "`email`"),
            (with_update(r#"{"s3cret@x":1}"#), "/update/*", "unknown key"),
            (
                with_update(r#"{"phone":"+61, expected s3cret"}"#),
                "/update/phone",
                "E.164",
            ),
            (with_update("{}"), "/update", "at least one field"),
            (
                with_update(r#"{"zitadel":{}}"#),
                "/update/zitadel",
                "name a field",
            ),
            (
                with_update(r#"{"nickname":"s3cret","mattr":{}}"#),
                "/update/mattr",
                "leave it out",
            ),
            (
                with_update(r#"{"zitadel":null}"#),
                "/update/zitadel",
                "a JSON object",
            ),
            (with_update(r#"["s3cret"]"#), "/update", "a JSON object"),
            (
                with_update(r#"{"zitadel":{"gender":{"male":null}}}"#),
                "/update/zitadel/gender",
                "female, male",
            ),
            (
                with_update(r#"{"zitadel":{"emailVerification":{"verified":true,"sendCode":{}}}}"#),
                "/update/zitadel/emailVerification",
                "exactly one of",
            ),
            (
                with_update(r#"{"email":"a@b.example","email":"s3cret"}"#),
                "/update/email",
                "twice",
            ),
            (
                with_update(r#"{"zitadel":{"password":{"password":"s3cret","hash":"s3cret"}}}"#),
                "/update/zitadel/password",
                "exactly one of",
            ),
            (
                with_update(r#"{"zitadel":{"phoneVerification":{"verified":false}}}"#),
                "/update/zitadel/phoneVerification/verified",
                "send true",
            ),
            (r#"{"id":"s3cret"}"#.into(), "/id", "a UUID"),
            ("{}".into(), "/id", "required"),
            ("[]".into(), "", "a JSON object"),
        ];
        for (body, pointer, remedy) in cases {
            let (reason, at, detail) = refused(&body);
            assert_eq!(reason, Reason::Invalid, "{body}");
            assert_eq!(at, pointer, "{body}");
            assert!(detail.contains(remedy), "{body}: {detail}");
            assert!(
                !detail.contains("s3cret") && !detail.contains("5150"),
                "{body}: {detail}"
            );
        }
    }

    #[test]
    fn body_that_is_not_json_is_undecodable() {
        for body in ["", "{", "s3cret", "{} {}", "{}\u{feff}", &"[".repeat(4000)] {
            let (reason, _, detail) = refused(body);
            assert_eq!(reason, Reason::Undecodable, "{body}");
            assert!(!detail.contains("s3cret"), "{detail}");
        }
        assert_eq!(decode(&[0xff, 0xfe]).unwrap_err().reason, Reason::Undecodable);
        let twice = format!("{} {{}}", with_update(r#"{"nickname":"x"}"#));
        assert_eq!(refused(&twice).0, Reason::Undecodable);
    }

    #[test]
    fn byte_order_mark_before_the_body_is_skipped() {
        let body = format!("\u{feff}{}", with_update(r#"{"nickname":"x"}"#));
        let command = decode(body.as_bytes()).unwrap();
        assert_eq!(command.user_id.as_str(), "u");
        assert_eq!(refused("\u{feff}{}").0, Reason::Invalid);
        let ident = Ident::of_refused(body.as_bytes(), Some("m1"), 0);
        assert_eq!(ident.command_id, Some(command.id.to_string()));
    }

    #[test]
    fn oversized_body_is_refused_without_decoding() {
        assert_eq!(
            decode(&vec![b'{'; BODY_BYTES_MAX + 1]).unwrap_err().reason,
            Reason::Oversized
        );
    }

    #[test]
    fn refused_body_is_identified_as_far_as_possible() {
        let body = with_update(r#"{"email":"nope","phone":"x"}"#);
        let ident = Ident::of_refused(body.as_bytes(), Some("m1"), 0);
        assert_eq!(
            ident.command_id.as_deref(),
            Some("018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e")
        );
        assert_eq!(ident.fields, ["email", "phone"]);
        let by_message_id = Ident::of_refused(b"{", Some("m1"), 0);
        assert_eq!(by_message_id.command_id.as_deref(), Some("m1"));
        let nameless = Ident::of_refused(b"{", None, 0);
        assert_eq!(nameless.command_id, None);
        assert_eq!(nameless, Ident::of_refused(b"{", None, 0));
        assert_ne!(nameless.key, Ident::of_refused(b"[", None, 0).key);
    }
}
