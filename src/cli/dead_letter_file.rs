//! The dead-letter file of `usher apply` and `usher dead-letters export`: each failed command as it was read, with the
//! reason.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::de::Error as _;
use serde_json::{Map, Value, json};
use usher::broker::{Header, Properties};
use usher::contract::dead_letter;
use uuid::Uuid;

use super::files::{self, Access};
use super::outcomes::Earlier;
use super::sink::Form;

const HEADERS: [&str; 11] = [
    dead_letter::REASON,
    dead_letter::DETAIL,
    dead_letter::STATUS,
    dead_letter::CODE,
    dead_letter::ATTEMPTS,
    dead_letter::FIRST_ATTEMPT_AT,
    dead_letter::DEAD_AT,
    dead_letter::EXCHANGE,
    dead_letter::ROUTING_KEY,
    dead_letter::REDRIVES,
    dead_letter::VERSION,
];

/// `out.dead-letters.jsonl` for `out.jsonl`, so that two runs in one folder don't share a file.
pub fn beside(outcomes: &Path) -> PathBuf {
    let name = outcomes.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".jsonl").unwrap_or(&name);
    outcomes.with_file_name(format!("{stem}.dead-letters.jsonl"))
}

/// Dead letters in the file whose event is missing, because a run ended between the two. Their commands run again,
/// and must not write the same dead letter twice.
#[derive(Default)]
pub struct WithoutEvent(HashSet<Uuid>);

/// Opens a file of dead letters to append to it. It holds values of users.
pub fn resume(path: &Path, earlier: &Earlier) -> anyhow::Result<(File, WithoutEvent)> {
    let mut without_event = HashSet::new();
    let file = files::go_on(path, Access::Private, "dead letter", |line| {
        let line: Value = serde_json::from_slice(line)?;
        if !line["headers"][dead_letter::REASON].is_string() {
            return Err(serde_json::Error::custom("no reason"));
        }
        let id = line["messageId"].as_str();
        if id.is_none_or(|id| !earlier.settled.contains_key(id)) {
            without_event.insert(key(&line));
        }
        Ok(())
    })?;
    Ok((file, WithoutEvent(without_event)))
}

/// The form of a dead letter's line.
pub fn form(without_event: WithoutEvent) -> Form {
    let without_event = Mutex::new(without_event.0);
    Box::new(move |message| {
        let line = line(&message.properties, &message.body);
        let is_written = without_event
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key(&line));
        match is_written {
            true => Ok(None),
            false => Ok(Some(serde_json::to_vec(&line).map_err(io::Error::from)?)),
        }
    })
}

/// Identifies a dead letter across runs, whose times and attempts differ.
fn key(line: &Value) -> Uuid {
    let headers = &line["headers"];
    let identity = json!([
        line["messageId"],
        headers[dead_letter::REASON],
        headers[dead_letter::REDRIVES],
        line["body"],
        line["bodyHex"],
    ]);
    Uuid::new_v5(&Uuid::NAMESPACE_OID, identity.to_string().as_bytes())
}

/// The line of a dead letter.
pub fn line(properties: &Properties, body: &[u8]) -> Value {
    let mut headers = Map::new();
    for name in HEADERS {
        match properties.header(name) {
            Some(Header::Text(text)) => headers.insert(name.to_owned(), text.into()),
            Some(Header::Number(number)) => headers.insert(name.to_owned(), number.into()),
            None => None,
        };
    }
    // A body that is not text is kept in hex, which JSON can hold.
    let (key, body) = text_or_hex("body", body);
    json!({ "messageId": properties.message_id(), "headers": headers, key: body })
}

/// The member's name and value for these bytes: `{name}` with text, or `{name}Hex`.
pub fn text_or_hex(name: &str, bytes: &[u8]) -> (String, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text.to_owned()),
        Err(_) => (
            format!("{name}Hex"),
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use usher::broker::Message;

    use super::super::outcomes::Settled;
    use super::*;

    fn message(id: &str, reason: &str, redrives: i64) -> Message {
        let headers = [
            (dead_letter::REASON.to_owned(), Header::Text(reason.to_owned())),
            (dead_letter::REDRIVES.to_owned(), Header::Number(redrives)),
        ];
        Message {
            exchange: String::new(),
            routing_key: String::new(),
            properties: Properties::persistent(id, "application/json").with_headers(headers),
            body: "{}".into(),
            mandatory: false,
        }
    }

    #[test]
    fn a_dead_letter_without_its_event_is_not_written_twice() {
        let path = std::env::temp_dir().join(format!("usher-dead-letters-{}.jsonl", Uuid::new_v4()));
        let written = form(WithoutEvent::default());
        let mut lines = Vec::new();
        for id in ["settled", "unsettled"] {
            lines.extend(written(&message(id, "conflict", 0)).unwrap().unwrap());
            lines.push(b'\n');
        }
        std::fs::write(&path, [&lines[..], b"{\"messageId\":\"half"].concat()).unwrap();
        let mut earlier = Earlier::default();
        earlier.settled.insert("settled".to_owned(), Settled::Failed);
        let (_, without_event) = resume(&path, &earlier).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), lines);
        std::fs::remove_file(&path).unwrap();

        let written = form(without_event);
        let is_written = |id, reason, redrives| written(&message(id, reason, redrives)).unwrap().is_some();
        assert!(is_written("settled", "conflict", 0));
        assert!(is_written("unsettled", "rejected", 0));
        assert!(is_written("unsettled", "conflict", 1));
        assert!(!is_written("unsettled", "conflict", 0));
        // Once is enough: this one is of this run.
        assert!(is_written("unsettled", "conflict", 0));
    }

    #[test]
    fn the_file_is_named_after_the_outcomes_file() {
        for (outcomes, dead_letters) in [
            ("out.jsonl", "out.dead-letters.jsonl"),
            ("runs/2026.11", "runs/2026.11.dead-letters.jsonl"),
            ("/x/a.json", "/x/a.json.dead-letters.jsonl"),
        ] {
            assert_eq!(beside(Path::new(outcomes)), Path::new(dead_letters));
        }
    }
}
