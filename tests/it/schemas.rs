//! The published contracts: they are what the types generate, and they say what the worker does.

mod agreement;
mod examples;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use jsonschema::{EmailOptions, PatternOptions, Validator};
use serde_json::{Value, json};
use usher::broker::topology::{COMMANDS, COMMANDS_BULK, DEAD_LETTERS, OUTCOMES};
use usher::contract::dead_letter::{DeadLetter, HeaderValue};
use usher::contract::event::Event;
use usher::contract::outcome::Settlement;
use usher::contract::{Failure, Ident, Outcome, ProviderName, Reason, Version, asyncapi, decode, schema};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn validator(schema: &Value) -> Validator {
    // As the worker reads addresses: no `Alex <alex@example.com>`, no `alex@[127.0.0.1]`.
    let addresses = EmailOptions::default()
        .without_display_text()
        .without_domain_literal();
    jsonschema::options()
        .should_validate_formats(true)
        .with_email_options(addresses)
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .unwrap()
}

fn commands() -> Validator {
    validator(&schema::command().to_value())
}

#[track_caller]
fn assert_valid(validator: &Validator, what: &str, json: &Value) {
    let errors: Vec<_> = validator
        .iter_errors(json)
        .map(|error| format!("{} {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}");
}

#[test]
fn the_files_are_what_the_types_generate() {
    let files = [
        ("update-user.v1.json", schema::command().to_value()),
        ("user-update-event.v1.json", schema::event().to_value()),
        ("lifecycle-event.v1.json", schema::lifecycle().to_value()),
        ("config.json", usher::config::schema().to_value()),
        ("asyncapi.json", asyncapi::document()),
    ];
    for (name, generated) in files {
        let path = folder().join(name);
        let text = format!("{}\n", serde_json::to_string_pretty(&generated).unwrap());
        if std::env::var_os("USHER_TEST_BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let same = fs::read_to_string(&path).is_ok_and(|file| file == text);
        assert!(
            same,
            "schemas/{name} is not what the types generate. Where the change is meant, run this test with \
             USHER_TEST_BLESS=1 and look at the difference before you commit it"
        );
    }
}

#[test]
fn the_command_prints_the_files() {
    for (name, file) in [
        ("command", "update-user.v1.json"),
        ("event", "user-update-event.v1.json"),
        ("lifecycle", "lifecycle-event.v1.json"),
        ("config", "config.json"),
        ("asyncapi", "asyncapi.json"),
    ] {
        let printed = Command::new(env!("CARGO_BIN_EXE_usher"))
            .args(["schema", name])
            .output()
            .unwrap();
        assert_eq!(printed.status.code(), Some(0), "{name}");
        assert!(printed.stdout == fs::read(folder().join(file)).unwrap(), "{name}");
    }
}

#[test]
fn each_schema_is_a_schema_of_its_draft() {
    for schema in [
        schema::command(),
        schema::event(),
        schema::lifecycle(),
        usher::config::schema(),
    ] {
        let schema = schema.to_value();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert!(
            jsonschema::draft202012::meta::is_valid(&schema),
            "{}",
            schema["$id"]
        );
    }
}

#[test]
fn secrets_are_marked_in_the_schemas() {
    let command = schema::command().to_value();
    let password = &command["$defs"]["Password"]["properties"];
    for secret in ["password", "hash", "currentPassword", "verificationCode"] {
        assert_eq!(password[secret]["x-sensitive"], true, "{secret}");
    }
    assert_eq!(
        command["$defs"]["ScimUpdate"]["properties"]["password"]["x-sensitive"],
        true
    );
    for secret in [
        "sessionId",
        "sessions",
        "mfaDevices",
        "oauthAccounts",
        "verifiedCredentials",
    ] {
        let own = &command["$defs"]["SivoUpdate"]["properties"][secret];
        assert_eq!(own["x-sensitive"], true, "{secret}");
    }
    let config = usher::config::schema().to_value();
    for secret in [
        "/$defs/Admin/properties/token",
        "/$defs/Auth/properties/token",
        "/$defs/OAuth2Config/properties/client_secret",
        "/$defs/BrokerUrls",
    ] {
        assert_eq!(config.pointer(secret).unwrap()["x-sensitive"], true, "{secret}");
    }
}

#[test]
fn the_contracts_configuration_is_valid_by_its_schema() {
    let config = validator(&usher::config::schema().to_value());
    let example = json!({
        "broker": { "url": "amqp://guest:guest@127.0.0.1:5672/%2f", "partitions": 1, "prefetch": 256 },
        "provider": {
            "name": "zitadel-eu", "kind": "zitadel", "base_url": "https://acme.zitadel.cloud",
            "rate": { "per_second": 50, "burst": 10 }, "concurrency": 64, "timeout": "10s",
            "auth": { "token_file": "/run/secrets/zitadel" },
        },
        "retry": { "attempts": 5, "delay_min": "200ms", "delay_max": "30s", "budget": 0.2 },
        "worker": { "grace_period": "25s", "bulk_share_min": 0.05 },
        "admin": { "listen": "127.0.0.1:9464" },
    });
    assert_valid(&config, "the contract's example", &example);
    let both = json!({ "token_file": "/run/secrets/zitadel", "token": "t" });
    let fetched = json!({ "token_url": "https://acme.zitadel.cloud/oauth/v2/token", "client_id": "usher" });
    let mut oauth2 = example.clone();
    oauth2["provider"]["auth"] = json!({ "oauth2": fetched });
    assert!(!config.is_valid(&oauth2), "a client without a secret");
    oauth2["provider"]["auth"]["oauth2"]["client_secret_file"] = json!("/run/secrets/client");
    assert_valid(&config, "a token that is fetched", &oauth2);
    for (pointer, refused) in [
        ("/provider/auth", json!({})),
        ("/provider/auth", both),
        ("/provider/kind", json!("ldap")),
        ("/retry/attempts", json!(0)),
        ("/broker", json!({ "prefech": 1 })),
    ] {
        let mut config_json = example.clone();
        *config_json.pointer_mut(pointer).unwrap() = refused;
        assert!(!config.is_valid(&config_json), "{pointer}");
    }
}

#[test]
fn the_channels_are_the_topologys_exchanges() {
    let document = asyncapi::document();
    let channels = document["channels"].as_object().unwrap();
    let exchange = |name: &str| channels[name]["bindings"]["amqp"]["exchange"]["name"].clone();
    let expected = [
        ("commands", COMMANDS),
        ("bulkCommands", COMMANDS_BULK),
        ("started", OUTCOMES),
        ("succeeded", OUTCOMES),
        ("failed", OUTCOMES),
        ("providerPaused", OUTCOMES),
        ("providerResumed", OUTCOMES),
        ("providerCredentialsRefused", OUTCOMES),
        ("providerCredentialsAccepted", OUTCOMES),
        ("intakeStalled", OUTCOMES),
        ("intakeResumed", OUTCOMES),
        ("batchOpened", OUTCOMES),
        ("batchClosed", OUTCOMES),
        ("batchPaused", OUTCOMES),
        ("batchResumed", OUTCOMES),
        ("batchCancelled", OUTCOMES),
        ("operationPlanned", OUTCOMES),
        ("operationStarted", OUTCOMES),
        ("operationProgressed", OUTCOMES),
        ("operationEnded", OUTCOMES),
        ("deadLetters", DEAD_LETTERS),
    ];
    assert_eq!(channels.len(), expected.len());
    for (channel, name) in expected {
        assert_eq!(exchange(channel), name);
    }
}

#[test]
fn each_reference_of_the_asyncapi_document_leads_somewhere() {
    fn look(document: &Value, value: &Value) {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        match value {
            Value::Object(members) => members.values().for_each(|member| look(document, member)),
            Value::Array(items) => items.iter().for_each(|item| look(document, item)),
            _ => {}
        }
    }
    let document = asyncapi::document();
    look(&document, &document);
}

#[test]
fn each_event_that_the_worker_makes_is_valid() {
    let events = validator(&schema::event().to_value());
    let provider = ProviderName::parse("zitadel-eu").unwrap();
    let now = Timestamp::from_second(1_795_255_200).unwrap();
    let read = decode(&fs::read(folder().join("examples/valid/batch-of-a-migration.json")).unwrap()).unwrap();
    let idents = [
        Ident::of(&read, 0),
        Ident::of_refused(b"{", Some("m"), 2),
        Ident::of_refused(b"{", None, 0),
    ];
    let failures = Reason::ALL.into_iter().map(|reason| {
        Outcome::Failure(Failure {
            status: Some(409),
            code: Some("ALREADY_EXISTS".into()),
            ..Failure::new(reason, "detail").at("/update/email")
        })
    });
    let bare = Outcome::Failure(Failure::new(Reason::Undecodable, "detail"));
    let outcomes: Vec<Outcome> = [true, false]
        .map(|changed| Outcome::Success {
            changed,
            version: changed.then(|| Version::parse("W/\"3\"").unwrap()),
        })
        .into_iter()
        .chain(failures)
        .chain([bare])
        .collect();
    for ident in &idents {
        let start = Event::start(&provider, ident, true, now);
        assert_valid(&events, "START", &serde_json::to_value(start).unwrap());
        for outcome in &outcomes {
            let settlement = Settlement {
                outcome: outcome.clone(),
                attempts: 3,
                duration: Duration::from_millis(5231),
                merged_into: None,
            };
            let event = Event::terminal(&provider, ident, false, &settlement, now);
            assert_valid(
                &events,
                &format!("{outcome:?}"),
                &serde_json::to_value(event).unwrap(),
            );
        }
    }
}

#[test]
fn each_event_type_has_its_own_data() {
    let events = validator(&schema::event().to_value());
    let example = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(folder().join("examples/events").join(name)).unwrap()).unwrap()
    };
    let mut unchanged = example("success.json");
    unchanged["data"].as_object_mut().unwrap().remove("changed");
    let mut with_error = example("success.json");
    with_error["data"]["error"] = json!({ "reason": "conflict" });
    let mut renamed = example("start.json");
    renamed["type"] = json!("USER_UPDATE_FAIL");
    let mut with_value = example("start.json");
    with_value["data"]["email"] = json!("alex@example.com");
    let mut at_root = example("start.json");
    at_root["email"] = json!("alex@example.com");
    for refused in [unchanged, with_error, renamed, with_value, at_root] {
        assert!(!events.is_valid(&refused), "{refused}");
    }
}

#[test]
fn the_headers_of_dead_letters_are_as_the_document_says() {
    let headers = validator(&asyncapi::document()["components"]["schemas"]["DeadLetterHeaders"]);
    let full = Failure {
        status: Some(409),
        code: Some("ALREADY_EXISTS".into()),
        ..Failure::new(Reason::Conflict, "detail").at("/update/email")
    };
    let bare = Failure::new(Reason::Undecodable, "detail");
    for (failure, first_attempt_at) in [(&full, Some(Timestamp::UNIX_EPOCH)), (&bare, None)] {
        let dead_letter = DeadLetter {
            failure,
            attempts: 3,
            first_attempt_at,
            dead_at: Timestamp::UNIX_EPOCH,
            exchange: COMMANDS,
            routing_key: "zitadel-eu.u",
            redrives: 0,
        };
        let written: serde_json::Map<_, _> = dead_letter
            .headers()
            .into_iter()
            .map(|(name, value)| match value {
                HeaderValue::Text(text) => (name.to_owned(), Value::from(text)),
                HeaderValue::Number(number) => (name.to_owned(), Value::from(number)),
            })
            .collect();
        assert_valid(&headers, failure.reason.as_str(), &written.into());
    }
}
