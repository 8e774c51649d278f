//! `usher check --show-request`: what each kind would send for a command, without a broker, a token or a call.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use usher::provider::Kind;
use usher::simulator::{self, Simulated};

use crate::process::Settings;

/// What would be sent to a provider of a kind; the last member is the body.
struct Case {
    kind: Kind,
    settings: &'static [(&'static str, &'static str)],
    command: Value,
    reads: bool,
    write: Option<(&'static str, &'static str, Value)>,
}

fn names() -> Value {
    json!({ "update": { "email": "alex@example.com", "givenName": "Alex", "familyName": "Taylor" } })
}

fn case(kind: Kind, command: Value, write: Option<(&'static str, &'static str, Value)>) -> Case {
    Case {
        kind,
        settings: &[],
        command,
        reads: false,
        write,
    }
}

/// The write takes the command alone.
fn at_once() -> Vec<Case> {
    let mut versioned = names();
    versioned["expectedVersion"] = "2026-01-01T00:00:00Z".into();
    let flat = json!({ "email": "alex@example.com", "firstName": "Alex", "lastName": "Taylor" });
    let human = json!({
        "email": { "email": "alex@example.com" },
        "profile": { "givenName": "Alex", "familyName": "Taylor" },
    });
    let patch = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{ "op": "replace", "path": "name.givenName", "value": "Alex" }],
    });
    let given_name = json!({ "update": { "givenName": "Alex" } });
    vec![
        case(
            Kind::Karmo,
            names(),
            Some(("PATCH", "/users/u%2F1", flat.clone())),
        ),
        case(Kind::Sivo, versioned, Some(("PATCH", "/users/u%2F1", flat))),
        case(
            Kind::Zitadel,
            names(),
            Some(("PUT", "/v2/users/human/u%2F1", human)),
        ),
        case(Kind::Scim, given_name, Some(("PATCH", "/Users/u%2F1", patch))),
        case(
            Kind::Rest,
            names(),
            Some(("PATCH", "/users/u%2F1", names()["update"].clone())),
        ),
    ]
}

/// The write takes the user as it is.
fn after_a_read() -> Vec<Case> {
    let fields = names()["update"].clone();
    let claims = json!({ "claims": fields.clone() });
    let cases = vec![
        case(Kind::Zitadel, json!({ "update": { "givenName": "Alex" } }), None),
        case(Kind::Mattr, names(), Some(("PUT", "/v1/users/u%2F1", claims))),
        Case {
            settings: &[
                ("METHOD", "PUT"),
                ("READ_PATH", "/users/{userId}"),
                ("REPLACES", "true"),
            ],
            ..case(Kind::Rest, names(), Some(("PUT", "/users/u%2F1", fields)))
        },
    ];
    let reads = |case| Case { reads: true, ..case };
    cases.into_iter().map(reads).collect()
}

async fn provider(kind: Kind) -> Simulated {
    let settings = simulator::Settings::new(kind);
    simulator::start(settings, (Ipv4Addr::LOCALHOST, 0).into())
        .await
        .unwrap()
}

/// Its token's file does not exist.
fn settings(kind: Kind, base_url: &str) -> Settings {
    let settings = Settings::default()
        .with("PROVIDER__NAME", &"idp")
        .with("PROVIDER__KIND", &kind)
        .with("PROVIDER__BASE_URL", &base_url)
        .with("PROVIDER__AUTH__TOKEN_FILE", &"/nowhere/token");
    match kind {
        Kind::Rest => settings
            .with("PROVIDER__REST__PATH", &"/users/{userId}")
            .with("PROVIDER__REST__FIELDS__EMAIL", &"email")
            .with("PROVIDER__REST__FIELDS__GIVEN_NAME", &"givenName")
            .with("PROVIDER__REST__FIELDS__FAMILY_NAME", &"familyName"),
        _ => settings,
    }
}

fn command(members: &Value) -> Vec<u8> {
    let mut command = json!({
        "id": "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e", "provider": "idp", "userId": "u/1",
    });
    let members = members.as_object().unwrap().clone();
    command.as_object_mut().unwrap().extend(members);
    command.to_string().into_bytes()
}

const SHOW: [&str; 3] = ["check", "--show-request", "-"];
const SHOW_AS_JSON: [&str; 4] = ["check", "--show-request", "-", "--json"];

#[tokio::test]
async fn the_request_of_each_kind_is_shown_and_nothing_is_sent() {
    let mut cases = at_once();
    cases.extend(after_a_read());
    for kind in Kind::ALL {
        assert!(cases.iter().any(|case| case.kind == kind), "{kind}");
    }
    for case in cases {
        let kind = case.kind;
        let provider = provider(kind).await;
        let base_url = provider.base_url();
        let mut settings = settings(kind, &base_url);
        for (key, value) in case.settings {
            settings = settings.with(&format!("PROVIDER__REST__{key}"), value);
        }
        let output = settings.run(&SHOW_AS_JSON, &command(&case.command)).await;
        assert_eq!(output.status.code(), Some(0), "{kind} {output:?}");
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(shown.get("read").is_some(), case.reads, "{kind} {shown}");
        if case.reads {
            assert_eq!(shown["read"]["method"], "GET", "{kind}");
        }
        match case.write {
            None => assert!(shown["write"].is_null(), "{kind} {shown}"),
            Some((method, path, body)) => {
                let write = &shown["write"];
                assert_eq!(write["method"], method, "{kind}");
                assert_eq!(write["url"], format!("{base_url}{path}"), "{kind}");
                assert_eq!(write["body"], body, "{kind}");
                assert_eq!(write["headers"]["authorization"], "Bearer <hidden>", "{kind}");
            }
        }
        assert!(provider.calls().is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn a_request_is_shown_as_it_would_be_sent_without_its_token() {
    let base_url = "https://idp.example/api";
    let settings = settings(Kind::Rest, base_url)
        .without("PROVIDER__AUTH__TOKEN_FILE")
        .with("PROVIDER__AUTH__TOKEN", &"hunter2")
        .with("PROVIDER__REST__CREDENTIAL_SCHEME", &"SSWS")
        .with("PROVIDER__REST__IDEMPOTENCY_HEADER", &"Idempotency-Key");
    let sent = "PATCH https://idp.example/api/users/u%2F1\n\
                accept: application/json\n\
                authorization: SSWS <hidden>\n\
                content-type: application/json\n\
                idempotency-key: 018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e\n\
                \n\
                {\"email\":\"alex@example.com\",\"givenName\":\"Alex\",\"familyName\":\"Taylor\"}\n";
    let output = settings.run(&SHOW, &command(&names())).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), sent);
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn a_kind_that_reads_the_user_first_says_so() {
    for (kind, update, said) in [
        (
            Kind::Mattr,
            names(),
            "This is sent then; here over a user of whom nothing is shown:\n\nPUT ",
        ),
        (
            Kind::Zitadel,
            json!({ "update": { "givenName": "Alex" } }),
            "What is sent then depends on that user, and can't be shown without one.\n",
        ),
    ] {
        let settings = settings(kind, "https://idp.example");
        let output = settings.run(&SHOW, &command(&update)).await;
        assert_eq!(output.status.code(), Some(0), "{kind} {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.starts_with("The user is read first:\n\nGET "),
            "{kind} {text}"
        );
        assert!(text.contains(said), "{kind} {text}");
    }
}

#[tokio::test]
async fn a_refused_command_is_reported_with_its_pointer() {
    for (members, expected) in [
        (
            json!({ "update": { "phone": "+61412345678" } }),
            "unsupported_field at /update/phone: ",
        ),
        (
            json!({ "update": { "phone": "0412" } }),
            "invalid at /update/phone: ",
        ),
        (json!({ "update": {} }), "invalid at /update: "),
        (
            json!({ "update": { "email": "alex@example.com" }, "expectedVersion": "v7" }),
            "unsupported_field at /expectedVersion: ",
        ),
        (
            json!({ "update": { "email": "alex@example.com" }, "provider": "other" }),
            "invalid at /provider: ",
        ),
    ] {
        let settings = settings(Kind::Rest, "https://idp.example");
        let output = settings.run(&SHOW, &command(&members)).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{said}"
        );
        assert!(said.starts_with(&format!("usher: {expected}")), "{said}");
        assert!(!said.contains("0412"), "{said}");
    }
    let missing = ["check", "--show-request", "/nowhere/command.json"];
    let output = settings(Kind::Rest, "https://idp.example")
        .run(&missing, b"")
        .await;
    assert_eq!(output.status.code(), Some(2));
}
