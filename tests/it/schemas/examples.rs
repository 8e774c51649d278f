//! The examples for publishers: each shows one fact, and the worker and the schema see it as its name says.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use usher::contract::lifecycle::LifecycleEvent;
use usher::contract::{Reason, asyncapi, decode, schema};

use super::{assert_valid, commands, folder, validator};

/// A refused file, its reason and pointer, and whether JSON Schema can say it too.
type Refusal = (&'static str, Reason, Option<&'static str>, bool);

const fn invalid(file: &'static str, pointer: &'static str) -> Refusal {
    (file, Reason::Invalid, Some(pointer), true)
}

const REFUSED: [Refusal; 44] = [
    ("broken-json", Reason::Undecodable, None, false),
    ("two-commands-in-one-body", Reason::Undecodable, None, false),
    // To JSON Schema, which sees the last alone, it stands there once.
    (
        "email-stands-twice",
        Reason::Invalid,
        Some("/update/email"),
        false,
    ),
    invalid("array-around-a-command", ""),
    invalid("missing-id", "/id"),
    invalid("id-is-no-uuid", "/id"),
    invalid("id-without-hyphens", "/id"),
    invalid("missing-provider", "/provider"),
    invalid("provider-in-capitals", "/provider"),
    invalid("user-id-is-a-number", "/userId"),
    invalid("user-id-is-two-dots", "/userId"),
    invalid("missing-update", "/update"),
    invalid("empty-update", "/update"),
    invalid("empty-block", "/update/zitadel"),
    invalid("null-for-a-block", "/update/zitadel"),
    invalid("unknown-key", "/priority"),
    invalid("unknown-key-in-update", "/update/emial"),
    invalid("unknown-key-that-holds-data", "/update/*"),
    invalid("unknown-key-in-a-block", "/update/zitadel/gendre"),
    invalid("email-without-a-domain", "/update/email"),
    invalid("email-with-a-display-name", "/update/email"),
    invalid("phone-without-country-code", "/update/phone"),
    invalid("empty-nickname", "/update/nickname"),
    invalid("name-of-201-characters", "/update/displayName"),
    invalid("locale-with-an-underscore", "/update/locale"),
    invalid("zitadel-password-and-hash", "/update/zitadel/password"),
    invalid("zitadel-password-without-password", "/update/zitadel/password"),
    invalid("zitadel-password-with-two-proofs", "/update/zitadel/password"),
    invalid(
        "zitadel-two-verifications-of-an-email",
        "/update/zitadel/emailVerification",
    ),
    invalid(
        "zitadel-verified-false",
        "/update/zitadel/phoneVerification/verified",
    ),
    invalid("zitadel-gender-that-is-not-known", "/update/zitadel/gender"),
    invalid("sivo-list-is-a-number", "/update/sivo/lists/1"),
    invalid("sivo-new-user-is-null", "/update/sivo/newUser"),
    invalid("sivo-sessions-hold-a-text", "/update/sivo/sessions/0"),
    invalid("sivo-visit-without-a-zone", "/update/sivo/lastVisit"),
    invalid("sivo-empty-country", "/update/sivo/country"),
    invalid(
        "mattr-authentication-provider-without-subject",
        "/update/mattr/authenticationProvider/subjectId",
    ),
    invalid("scim-active-is-a-word", "/update/scim/active"),
    invalid("scim-password-is-null", "/update/scim/password"),
    invalid("unknown-key-in-the-scim-block", "/update/scim/emails"),
    invalid("expected-version-in-another-script", "/expectedVersion"),
    invalid("batch-id-with-a-line-break", "/batchId"),
    invalid("issued-at-without-a-zone", "/issuedAt"),
    invalid("expires-at-is-a-number", "/expiresAt"),
];

/// Every file of a folder of examples, by its name without the extension.
fn files(kind: &str) -> BTreeMap<String, Vec<u8>> {
    let files: BTreeMap<_, _> = fs::read_dir(folder().join("examples").join(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect();
    assert!(!files.is_empty(), "{kind}");
    files
}

#[test]
fn valid_examples_are_valid_to_the_worker_and_by_the_schema() {
    let commands = commands();
    for (name, body) in files("valid") {
        if let Err(failure) = decode(&body) {
            panic!("{name}: {failure}");
        }
        assert_valid(&commands, &name, &serde_json::from_slice(&body).unwrap());
    }
}

#[test]
fn invalid_examples_are_refused_for_the_reason_in_their_names() {
    let commands = commands();
    let mut files = files("invalid");
    for (name, reason, pointer, by_schema) in REFUSED {
        let body = files
            .remove(name)
            .unwrap_or_else(|| panic!("{name}: no such file"));
        let failure = decode(&body).unwrap_err();
        assert_eq!(
            (failure.reason, failure.pointer.as_deref()),
            (reason, pointer),
            "{name}"
        );
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        let refused_by_schema = json.as_ref().is_some_and(|json| !commands.is_valid(json));
        assert_eq!(refused_by_schema, by_schema, "{name}");
        for value in json.iter().flat_map(values) {
            assert!(!failure.to_string().contains(&value), "{name}: {failure}");
        }
    }
    assert!(
        files.is_empty(),
        "the table does not know {:?}",
        files.keys().collect::<Vec<_>>()
    );
}

/// Every value that a refusal could quote, and keys that are somebody's data. Shorter ones stand in any sentence.
fn values(json: &Value) -> Vec<String> {
    let mut found = match json {
        Value::Object(members) => {
            let data = members.keys().filter(|key| key.contains('@')).cloned();
            data.chain(members.values().flat_map(values)).collect()
        }
        Value::Array(items) => items.iter().flat_map(values).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        _ => Vec::new(),
    };
    found.retain(|value| value.len() > 2);
    found
}

#[test]
fn example_events_and_headers_are_valid() {
    let events = validator(&schema::event().to_value());
    for (name, body) in files("events") {
        assert_valid(&events, &name, &serde_json::from_slice(&body).unwrap());
    }
    let lifecycle = validator(&schema::lifecycle().to_value());
    for (name, body) in files("lifecycle") {
        let event = serde_json::from_slice(&body).unwrap();
        assert_valid(&lifecycle, &name, &event);
        assert!(!events.is_valid(&event), "{name} is no command's event");
        let read: LifecycleEvent = serde_json::from_slice(&body).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), event, "{name}");
    }
    let headers = validator(&asyncapi::document()["components"]["schemas"]["DeadLetterHeaders"]);
    for (name, body) in files("dead-letter-headers") {
        assert_valid(&headers, &name, &serde_json::from_slice(&body).unwrap());
    }
}

#[test]
fn each_line_of_the_migration_is_a_command_of_its_own() {
    let commands = commands();
    let text = fs::read_to_string(folder().join("examples/migration.jsonl")).unwrap();
    let (mut ids, mut users) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for line in text.lines() {
        let command = decode(line.as_bytes()).unwrap_or_else(|failure| panic!("{failure}: {line}"));
        assert_valid(&commands, line, &serde_json::from_str(line).unwrap());
        assert!(ids.insert(command.id), "{line}");
        users.insert(command.user_id);
    }
    assert_eq!((ids.len(), users.len()), (3000, 1500));
}
