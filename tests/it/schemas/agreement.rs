//! The schema and the worker agree on what a command is, over documents that nobody thought of.
//!
//! Where they are known to differ, because JSON Schema can't say it or leaves it to each validator:
//! a key that stands twice; the size of the body; how deeply it may nest; e-mail addresses at the edge of what
//! RFC 5321 allows; moments, of which the worker also takes other forms of ISO 8601, and none after the year 9999.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Map, Value, json};
use usher::contract::decode;

use super::commands;

const CASES: u32 = 4_000;

/// Addresses and moments on which both agree: the first half is valid, the second is not.
const EMAILS: [&str; 6] = [
    "alex@example.com",
    "a.b+c@mail.example.org",
    "x@y.zz",
    "alexander",
    "@example.com",
    "a b@example.com",
];
const MOMENTS: [&str; 6] = [
    "2026-11-21T10:00:00Z",
    "2026-11-21T10:00:00.123456789Z",
    "2026-11-21T21:00:00+11:00",
    "2026-11-21",
    "2026-13-21T10:00:00Z",
    "tomorrow",
];

fn text() -> impl Strategy<Value = Value> {
    let known = select(vec![
        "",
        ".",
        "..",
        "a",
        "Alex",
        "+61491570156",
        "+0123",
        "61491570156",
        "+1",
        "+12",
        "en",
        "de-CH",
        "en_AU",
        "x-y",
        "female",
        "male",
        "diverse",
        "true",
        "zitadel",
        "zitadel-eu",
        "Zitadel",
        "2026-01-01T00:00:00.000Z",
        "é",
        "日本語",
        "a\nb",
        "\u{7f}",
        "\u{85}",
        "\u{0}",
        "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e",
        "018F6F1E-3B1C-7C5E-9D1A-0F3A2B4C5D6E",
        "018f6f1e3b1c7c5e9d1a0f3a2b4c5d6e",
        "{018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e}",
        "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6g",
    ]);
    prop_oneof![
        4 => known.prop_map(Value::from),
        1 => ".{0,8}".prop_map(Value::from),
        1 => (select(vec!["x", "日", "-"]), select(vec![35_usize, 36, 40, 41, 199, 200, 201]))
            .prop_map(|(unit, count)| unit.repeat(count).into()),
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        5 => text(),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
    ]
}

fn key() -> impl Strategy<Value = String> {
    select(vec![
        "id",
        "provider",
        "userId",
        "update",
        "expectedVersion",
        "batchId",
        "issuedAt",
        "expiresAt",
        "username",
        "email",
        "phone",
        "givenName",
        "familyName",
        "displayName",
        "nickname",
        "locale",
        "zitadel",
        "sivo",
        "mattr",
        "karmo",
        "scim",
        "gender",
        "emailVerification",
        "phoneVerification",
        "password",
        "hash",
        "changeRequired",
        "currentPassword",
        "verificationCode",
        "sendCode",
        "returnCode",
        "verified",
        "urlTemplate",
        "metadata",
        "lists",
        "newUser",
        "firstVisit",
        "sessionId",
        "verifiedCredentials",
        "sessions",
        "team",
        "claims",
        "authenticationProvider",
        "providerId",
        "subjectId",
        "active",
        "externalId",
        "title",
        "userType",
        "preferredLanguage",
        "timezone",
        "profileUrl",
        "female",
        "Id",
        "user_id",
        "",
    ])
    .prop_map(String::from)
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            3 => prop::collection::vec((key(), inner), 0..4)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// A command with everything in it; what it is left with is drawn.
fn everything() -> Value {
    json!({
        "id": "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e", "provider": "zitadel-eu", "userId": "69629023906488334",
        "update": {
            "username": "alex", "email": "alex@example.com", "phone": "+61491570156", "givenName": "Alex",
            "familyName": null, "displayName": "Alex T", "nickname": null, "locale": "de-CH",
            "zitadel": {
                "gender": "diverse", "emailVerification": { "sendCode": { "urlTemplate": "https://x.example" } },
                "phoneVerification": { "verified": true },
                "password": { "password": "hunter2", "changeRequired": true, "currentPassword": "Passw0rd!" },
            },
            "sivo": {
                "metadata": { "a": [1, null] }, "lists": ["beta"], "newUser": true, "team": null, "sessionId": "s",
                "firstVisit": "2026-11-21T10:00:00Z", "sessions": [{ "a": 1 }], "verifiedCredentials": [],
            },
            "mattr": { "claims": { "b": null }, "authenticationProvider": { "providerId": "p", "subjectId": "s" } },
            "scim": {
                "active": false, "externalId": "e", "title": null, "userType": "Contractor", "preferredLanguage": "de",
                "timezone": "Australia/Sydney", "profileUrl": "https://x.example/alex", "password": "hunter2",
            },
        },
        "expectedVersion": "7", "batchId": "b", "issuedAt": "2026-11-21T10:00:00Z", "expiresAt": null,
    })
}

/// One change at one place of a document.
#[derive(Debug, Clone)]
enum Change {
    Remove,
    Replace(Value),
    Add(String, Value),
    /// `[value]`
    Wrap,
    /// A struct's values without their names.
    Unname,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => Just(Change::Remove),
        4 => value().prop_map(Change::Replace),
        2 => (key(), value()).prop_map(|(key, value)| Change::Add(key, value)),
        1 => Just(Change::Wrap),
        1 => Just(Change::Unname),
    ]
}

fn mostly_valid(known: [&'static str; 6]) -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => select(known[..3].to_vec()), 1 => select(known[3..].to_vec())]
}

fn document() -> impl Strategy<Value = Value> {
    let removed = prop::collection::vec(any::<Index>(), 0..12);
    let changes = prop::collection::vec((any::<Index>(), change()), 0..3);
    let known = (mostly_valid(EMAILS), mostly_valid(MOMENTS));
    (removed, changes, known).prop_map(|(removed, changes, (email, moment))| {
        let mut document = everything();
        for index in removed {
            apply(&mut document, index, Change::Remove, true);
        }
        for (index, change) in changes {
            apply(&mut document, index, change, false);
        }
        keep_to_common_ground(&mut document, email, moment);
        document
    })
}

fn apply(document: &mut Value, index: Index, change: Change, keep_required: bool) {
    let mut places = Vec::new();
    places_in(document, "", &mut places);
    if keep_required {
        places.retain(|place| !["", "/id", "/provider", "/userId", "/update"].contains(&place.as_str()));
    }
    let Some(place) = (!places.is_empty()).then(|| index.get(&places)) else {
        return;
    };
    let (parent, name) = place.rsplit_once('/').unwrap_or_default();
    match change {
        Change::Remove => {
            if let Some(members) = document.pointer_mut(parent).and_then(Value::as_object_mut) {
                members.remove(name);
            }
        }
        Change::Replace(value) => *document.pointer_mut(place).unwrap() = value,
        Change::Add(key, value) => {
            if let Some(members) = document.pointer_mut(place).and_then(Value::as_object_mut) {
                members.insert(key, value);
            }
        }
        Change::Wrap => {
            let target = document.pointer_mut(place).unwrap();
            *target = json!([target.take()]);
        }
        Change::Unname => {
            let target = document.pointer_mut(place).unwrap();
            if let Value::Object(members) = target {
                *target = members.values().cloned().collect();
            }
        }
    }
}

fn places_in(value: &Value, place: &str, places: &mut Vec<String>) {
    places.push(place.to_owned());
    for (key, member) in value.as_object().into_iter().flatten() {
        // Keys of our own pool need no escape.
        places_in(member, &format!("{place}/{key}"), places);
    }
}

/// Puts an address or a moment on which both agree wherever another text stands.
fn keep_to_common_ground(document: &mut Value, email: &str, moment: &str) {
    for (place, known, text) in [
        ("/update/email", EMAILS, email),
        ("/issuedAt", MOMENTS, moment),
        ("/expiresAt", MOMENTS, moment),
    ] {
        if let Some(Value::String(there)) = document.pointer_mut(place)
            && (!known.contains(&there.as_str()) || there == known[0])
        {
            *there = text.to_owned();
        }
    }
}

#[test]
fn schema_and_worker_agree_on_what_a_command_is() {
    let commands = commands();
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        rng_seed: RngSeed::Fixed(2026),
        failure_persistence: None,
        ..Config::default()
    });
    let counts = std::cell::Cell::new([0_u32; 2]);
    let agreed = runner.run(&document(), |document| {
        let by_schema = commands.is_valid(&document);
        let decoded = decode(document.to_string().as_bytes());
        let mut counted = counts.get();
        counted[usize::from(by_schema)] += 1;
        counts.set(counted);
        prop_assert_eq!(decoded.is_ok(), by_schema, "{:?}\n{:#}", decoded.err(), document);
        Ok(())
    });
    if let Err(difference) = agreed {
        panic!("{difference}");
    }
    let [invalid, valid] = counts.get();
    assert!(
        invalid > CASES / 5 && valid > CASES / 5,
        "one-sided: {valid} valid, {invalid} invalid"
    );
}

#[test]
fn listed_differences_between_schema_and_worker_hold() {
    let commands = commands();
    let mut command = json!({
        "id": "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e", "provider": "p", "userId": "u", "update": { "nickname": "x" },
    });
    for (moment, by_schema, by_worker) in [
        ("20261121T100000Z", false, true),
        ("9999-12-31T23:59:59Z", true, false),
    ] {
        command["expiresAt"] = json!(moment);
        assert_eq!(commands.is_valid(&command), by_schema, "{moment}");
        assert_eq!(
            decode(command.to_string().as_bytes()).is_ok(),
            by_worker,
            "{moment}"
        );
    }
}
