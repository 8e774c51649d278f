//! The door holds: whatever is thrown at it, it neither panics nor repeats what it was given.
//!
//! `USHER_TEST_SEED=42` throws other bodies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fastrand::Rng;
use serde_json::{Value, json};
use usher::contract::{Ident, decode};

const BODIES: u32 = 100_000;

/// Stand where a user's data stands. Cut in two by a mutation they are no marker any more.
const MARKER: &str = "M4rk3r";
const MARKED_NUMBER: u64 = 515_051_505;

/// What breaks readers of JSON: bounds of numbers, halves of characters, invisible ones, depth.
const ODDITIES: [&str; 28] = [
    "1e999",
    "-1e-999",
    "-0",
    "18446744073709551616",
    "0x10",
    "NaN",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\u0000\"",
    "\\",
    "\"",
    "\u{feff}",
    "\u{202e}",
    "\u{1f600}",
    "\u{0}",
    "null",
    "true",
    "[]",
    "{}",
    "[[[[",
    "}}",
    ",",
    ":",
    "/*",
    "{\"id\":",
    ",\"update\":{}",
    "\"zitadel\":{\"password\":",
    "\"M4rk3r@key\":\"M4rk3r\",",
];

fn marked() -> Vec<u8> {
    let text = |more: &str| format!("{MARKER}{more}");
    let command = json!({
        "id": "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e", "provider": "zitadel-eu", "userId": "69629023906488334",
        "update": {
            "username": text(""), "email": text("@example.com"), "phone": "+61491570156", "givenName": text(" A"),
            "familyName": text(" B"), "displayName": text(" C"), "nickname": null, "locale": "de-CH",
            "zitadel": {
                "gender": "diverse", "emailVerification": { "sendCode": { "urlTemplate": text("://x") } },
                "phoneVerification": { "returnCode": {} },
                "password": { "password": text("!"), "changeRequired": true, "verificationCode": text("") },
            },
            "sivo": {
                "metadata": { "a": [MARKED_NUMBER, text(""), null] }, "lists": [text("")], "sessionId": text(""),
                "newUser": true, "lastVisit": "2026-11-21T10:00:00Z", "mfaDevices": [{ "a": text("") }], "team": null,
            },
            "mattr": {
                "claims": { "b": MARKED_NUMBER, "M4rk3r@key": { "c": text("") } },
                "authenticationProvider": { "providerId": text(""), "subjectId": text("") },
            },
            "scim": {
                "active": true, "externalId": text(""), "title": text(""), "userType": text(""),
                "preferredLanguage": text(""), "timezone": text(""), "profileUrl": text("://x"),
                "password": text("!"),
            },
        },
        "expectedVersion": "7", "batchId": "b", "issuedAt": "2026-11-21T10:00:00Z", "expiresAt": null,
    });
    command.to_string().into_bytes()
}

/// Bodies to start from: one with a marker in each field, and the examples.
fn bodies() -> Vec<Vec<u8>> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/examples");
    let mut paths: Vec<_> = ["valid", "invalid"]
        .into_iter()
        .flat_map(|kind| fs::read_dir(examples.join(kind)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let examples = paths.iter().map(|path| fs::read(path).unwrap());
    // The one that can tell of a leak comes up as often as all others.
    let marked = std::iter::repeat_with(marked).take(paths.len());
    marked.chain(examples).collect()
}

fn body(rng: &mut Rng, bodies: &[Vec<u8>]) -> Vec<u8> {
    match rng.u8(..20) {
        0 => (0..rng.usize(..300)).map(|_| rng.u8(..)).collect(),
        1 => (0..rng.usize(..40))
            .map(|_| oddity(rng))
            .collect::<String>()
            .into(),
        2 => nested(rng),
        _ => {
            let mut body = bodies[rng.usize(..bodies.len())].clone();
            // Few, so that some of it stays a command, or JSON at least.
            for _ in 0..=rng.usize(..2) {
                mutate(rng, &mut body, bodies);
            }
            body
        }
    }
}

fn oddity(rng: &mut Rng) -> &'static str {
    ODDITIES[rng.usize(..ODDITIES.len())]
}

/// Up to some hundreds of levels, with a command's beginning or without.
fn nested(rng: &mut Rng) -> Vec<u8> {
    let openings = [
        "[",
        "{\"a\":",
        "{\"update\":",
        "{\"update\":{\"mattr\":{\"claims\":{\"M4rk3r@\":",
    ];
    let mut text = String::from(*rng.choice(&["", "{\"update\":{\"sivo\":{\"metadata\":"]).unwrap());
    let opening = openings[rng.usize(..openings.len())];
    text.push_str(&opening.repeat(rng.usize(1..400)));
    text.push_str(oddity(rng));
    text.into()
}

/// A place in the body, and a stretch from there on.
fn stretch(rng: &mut Rng, body: &[u8], bytes_max: usize) -> Range<usize> {
    let start = rng.usize(..=body.len());
    let end = (start + rng.usize(..=bytes_max)).min(body.len());
    start..end
}

fn mutate(rng: &mut Rng, body: &mut Vec<u8>, bodies: &[Vec<u8>]) {
    let place = stretch(rng, body, 40);
    match rng.u8(..12) {
        0 => body.truncate(place.start),
        1 => drop(body.drain(place)),
        2 if !body.is_empty() => body[rng.usize(..place.end.max(1))] ^= 1 << rng.u32(..8),
        2 | 3 => drop(body.splice(place, oddity(rng).bytes())),
        // A piece of one where a piece of another was.
        4 => {
            let other = &bodies[rng.usize(..bodies.len())];
            let piece = other[stretch(rng, other, 200)].to_vec();
            body.splice(place, piece);
        }
        5 => {
            let piece = body[place.clone()].to_vec();
            body.splice(place.end..place.end, piece);
        }
        // One value in another's place, from quote to quote or from colon to comma: still JSON, often.
        6..=9 => replace_value(rng, body),
        10 => body.extend(oddity(rng).bytes()),
        _ => drop(body.splice(place, (0..4).map(|_| rng.u8(..)).collect::<Vec<_>>())),
    }
}

fn replace_value(rng: &mut Rng, body: &mut Vec<u8>) {
    let values: [&[u8]; 6] = [
        b"\"M4rk3r\"",
        b"515051505",
        b"[\"M4rk3r\"]",
        b"{\"M4rk3r@key\":515051505}",
        b"\"M4rk3r, expected M4rk3r at line 1\"",
        b"5150515.05e2",
    ];
    let colons: Vec<usize> = (0..body.len()).filter(|i| body[*i] == b':').collect();
    let Some(colon) = rng.choice(&colons) else { return };
    let start = colon + 1;
    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']');
    let end = body[start..]
        .iter()
        .position(ends)
        .map_or(body.len(), |length| start + length);
    body.splice(start..end, values[rng.usize(..values.len())].iter().copied());
}

#[test]
#[expect(clippy::print_stdout, reason = "to replay it")]
fn no_body_makes_decode_panic_or_repeat_a_value() {
    let seed = std::env::var("USHER_TEST_SEED").map_or(20_261_121, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let bodies = bodies();
    let mut ended: BTreeMap<&str, u32> = BTreeMap::new();
    for n in 0..BODIES {
        let body = body(&mut rng, &bodies);
        let context = || format!("seed {seed}, body {n}: {}", String::from_utf8_lossy(&body));
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let decoded = decode(&body);
            let ident = Ident::of_refused(&body, None, 0);
            (decoded, ident)
        }));
        let Ok((decoded, ident)) = decoded else {
            panic!("it panics: {}", context())
        };
        match decoded {
            Ok(command) => {
                *ended.entry("accepted").or_default() += 1;
                assert_eq!(ident.key, command.id, "{}", context());
            }
            Err(failure) => {
                *ended.entry(failure.reason.as_str()).or_default() += 1;
                let said = format!("{} {}", failure.detail, failure.pointer.unwrap_or_default());
                for planted in [MARKER, &MARKED_NUMBER.to_string(), "5150515"] {
                    assert!(!said.contains(planted), "{said}\n{}", context());
                }
            }
        }
    }
    println!("{ended:?}");
    for kind in ["accepted", "invalid", "undecodable"] {
        let count = ended.get(kind).copied().unwrap_or_default();
        assert!(count > BODIES / 100, "one-sided: {ended:?}");
    }
}

/// Members of the published schema: where each stands, and which JSON types it takes.
fn members(root: &Value, at: &Value, pointer: &str, found: &mut BTreeMap<String, Vec<String>>) {
    let reference = at["$ref"].as_str();
    let of = reference.map_or(at, |reference| root.pointer(&reference[1..]).unwrap());
    for branch in ["oneOf", "anyOf"]
        .iter()
        .filter_map(|word| of[*word].as_array())
        .flatten()
    {
        members(root, branch, pointer, found);
    }
    for (name, member) in of["properties"].as_object().into_iter().flatten() {
        members(root, member, &format!("{pointer}/{name}"), found);
    }
    if let Some(items) = of.get("items") {
        members(root, items, &format!("{pointer}/0"), found);
    }
    let types = match &of["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let types = types.iter().filter_map(Value::as_str).map(String::from);
    found.entry(pointer.to_owned()).or_default().extend(types);
}

/// A command with this in one place, and what must be there for it to be looked at.
fn command_with(pointer: &str, value: &Value) -> Value {
    let mut command = json!({
        "id": "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e", "provider": "zitadel-eu", "userId": "u", "update": {},
    });
    let mut at = &mut command;
    for name in pointer.split('/').skip(1) {
        at = match name {
            "0" => {
                *at = json!([null]);
                &mut at[0]
            }
            name => &mut at[name],
        };
    }
    *at = value.clone();
    command
}

#[test]
fn each_member_of_a_wrong_type_is_refused_with_both_types() {
    let schema = usher::contract::schema::command().to_value();
    let mut found = BTreeMap::new();
    members(&schema, &schema, "", &mut found);
    let sent = [
        (
            &["integer", "number"][..],
            json!(MARKED_NUMBER),
            "this is a number; send ",
        ),
        (&["number"], json!(5150.5), "this is a number; send "),
        (&["boolean"], json!(true), "this is true or false; send "),
        (&["string"], json!(MARKER), "this is a string; send "),
        (&["array"], json!([MARKER]), "this is an array; send "),
        (
            &["object"],
            json!({ "M4rk3r@key": MARKER }),
            "this is an object; send ",
        ),
        (&["null"], Value::Null, "this is null; send "),
    ];
    let wanted = [
        ("string", "a string, in quotes: "),
        ("object", "object"),
        ("array", "an array"),
        ("boolean", "true or false"),
    ];
    let mut refused_types = 0;
    for (pointer, types) in &found {
        for (names, value, is) in &sent {
            // Untyped members take anything; which words a string may be is its own rule.
            if types.is_empty() || names.iter().any(|name| types.iter().any(|one| one == name)) {
                continue;
            }
            let body = match pointer.as_str() {
                "" => value.to_string(),
                pointer => command_with(pointer, value).to_string(),
            };
            let failure = decode(body.as_bytes()).unwrap_err();
            let detail = &*failure.detail;
            assert!(detail.starts_with(is), "{pointer} = {value}: {detail}");
            let (_, send) = wanted
                .iter()
                .find(|(name, _)| types.iter().any(|one| one == name))
                .unwrap();
            assert!(detail.contains(send), "{pointer} = {value}: {detail}");
            assert_eq!(
                failure.pointer.as_deref().unwrap_or_default(),
                pointer,
                "{value}: {detail}"
            );
            for planted in [MARKER, &MARKED_NUMBER.to_string(), "5150"] {
                assert!(!detail.contains(planted), "{detail}");
            }
            refused_types += 1;
        }
    }
    assert!(
        refused_types > 150,
        "only {refused_types} in {} members",
        found.len()
    );
}

/// All that may stand where a command's changes are printed: names, whether there is a change, and whether it clears.
const PRINTED: [&str; 25] = [
    "Update",
    "username",
    "email",
    "phone",
    "given_name",
    "family_name",
    "display_name",
    "nickname",
    "locale",
    "zitadel",
    "sivo",
    "mattr",
    "scim",
    "ZitadelUpdate",
    "SivoUpdate",
    "MattrUpdate",
    "ScimUpdate",
    "Gender",
    "Verification",
    "Password",
    "Some",
    "None",
    "Set",
    "Clear",
    "redacted",
];

#[test]
fn a_command_that_is_printed_shows_none_of_its_values() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/examples/valid");
    let mut bodies: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    bodies.push(marked());
    let mut seen = BTreeSet::new();
    for body in bodies {
        let command = decode(&body).unwrap();
        let mut printed = format!("{:?}", command.update);
        assert!(format!("{command:?}").contains(&printed));
        if let Some(zitadel) = &command.update.zitadel {
            printed += &format!(" {:?} {:?}", zitadel.gender, zitadel.password);
            printed += &format!(
                " {:?} {:?}",
                zitadel.email_verification, zitadel.phone_verification
            );
        }
        let words = printed.split(|c: char| !c.is_alphanumeric() && c != '_');
        for word in words.filter(|word| !word.is_empty()) {
            assert!(PRINTED.contains(&word), "{word} is in {printed}");
            seen.insert(word.to_owned());
        }
    }
    assert_eq!(seen.len(), PRINTED.len(), "{seen:?}");
}
