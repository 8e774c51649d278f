//! Tests of what is specific to Sivo.

use serde_json::{Value, json};

use super::super::testbed::{
    TIMEOUT, canned, command, command_as_written, command_with, error, http, simulated, user_id,
};
use super::*;
use crate::contract::{Fault, Reason, UpdateUser};
use crate::provider::conformance::CONFIGURED;
use crate::provider::{Comparison, Provider};
use crate::simulator::STARTING_VERSION;

pub(in crate::provider) fn tested(http: Http) -> Flat {
    let config = Config {
        codes: vec![CONFIGURED.into()],
        ..Config::default()
    };
    adapter(&config, http).unwrap()
}

fn over(base_url: &str) -> Flat {
    let config = Config {
        codes: vec!["version_mismatch".into()],
        ..Config::default()
    };
    adapter(&config, http(base_url, TIMEOUT)).unwrap()
}

fn versioned(update: &Value, version: &str) -> UpdateUser {
    command_with("u", update, &json!({"expectedVersion": version}))
}

#[test]
fn command_without_a_version_is_invalid() {
    let sivo = over("http://unused.example");
    let failure = sivo.check(&command("u", &json!({"nickname": "Al"}))).unwrap_err();
    assert_eq!(failure.reason, Reason::Invalid);
    assert_eq!(failure.pointer.as_deref(), Some("/expectedVersion"));
}

#[test]
fn version_that_is_not_a_date_time_is_invalid() {
    let sivo = over("http://unused.example");
    let check = |version| sivo.check(&versioned(&json!({"nickname": "Al"}), version));
    for version in [
        "*",
        "yesterday",
        "W/\"3\"",
        "7",
        "2026-01-01",
        "\"2026-01-01T00:00:00Z",
    ] {
        let failure = check(version).unwrap_err();
        assert_eq!(
            (failure.reason, failure.pointer.as_deref()),
            (Reason::Invalid, Some("/expectedVersion")),
            "{version}"
        );
    }
    for version in [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123456+10:00",
        "\"2026-01-01T00:00:00Z\"",
    ] {
        assert_eq!(check(version), Ok(()), "{version}");
    }
}

#[tokio::test]
async fn version_is_sent_unchanged_in_the_configured_header() {
    let server = canned("200 OK", "", "").await;
    let config = Config {
        version_header: "X-Known-Version".into(),
        ..Config::default()
    };
    let sivo = adapter(&config, http(&server.base_url, TIMEOUT)).unwrap();
    let command = versioned(&json!({"nickname": "Al"}), "\"2026-01-01T00:00:00Z\"");
    sivo.update(&command, None).await.unwrap();
    let request = &server.requests()[0];
    assert!(
        request.contains("x-known-version: \"2026-01-01T00:00:00Z\"\r\n"),
        "{request}"
    );
    assert!(request.starts_with("PATCH /users/u "), "{request}");

    for (key, value) in [
        ("version_header", "If Match"),
        ("version_header", "authorization"),
        ("version_header", "host"),
        ("credential_header", "content-type"),
        ("credential_scheme", "Token token"),
    ] {
        let bad: Config = serde_json::from_value(json!({ key: value })).unwrap();
        let refused = adapter(&bad, http("http://unused.example", TIMEOUT)).map(drop);
        assert_eq!(
            refused.unwrap_err().key,
            format!("provider.sivo.{key}"),
            "{value}"
        );
    }
}

#[tokio::test]
async fn token_is_sent_in_the_configured_header() {
    let server = canned("200 OK", "", "").await;
    let config = Config {
        credential_header: "X-Api-Key".into(),
        credential_scheme: String::new(),
        ..Config::default()
    };
    let sivo = adapter(&config, http(&server.base_url, TIMEOUT)).unwrap();
    let command = versioned(&json!({"nickname": "Al"}), STARTING_VERSION);
    sivo.update(&command, None).await.unwrap();
    let request = &server.requests()[0];
    assert!(request.contains("x-api-key: t0ken\r\n"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
}

#[tokio::test]
async fn second_write_with_the_same_version_is_a_version_conflict() {
    let simulated = simulated(Kind::Sivo).await;
    let sivo = over(&simulated.base_url());
    let first = versioned(&json!({"nickname": "Al"}), STARTING_VERSION);
    sivo.update(&first, None).await.unwrap();
    let again = error(sivo.update(&first, None).await);
    assert_eq!(again.fault, Fault::Command(Reason::VersionConflict));
    assert_eq!(again.code.as_deref(), Some("version_mismatch"));
    let next = versioned(&json!({"nickname": null}), "2026-01-01T00:00:01.000Z");
    sivo.update(&next, None).await.unwrap();
    assert_eq!(simulated.user("u").unwrap()["version"], 2);
}

#[tokio::test]
async fn metadata_and_lists_are_set_cleared_and_compared() {
    let simulated = simulated(Kind::Sivo).await;
    let sivo = over(&simulated.base_url());
    let set = versioned(
        &json!({"username": null, "sivo": {"metadata": {"a": [1]}, "lists": ["x", "y"]}}),
        STARTING_VERSION,
    );
    let clear = versioned(
        &json!({"sivo": {"metadata": null, "lists": null}}),
        "2026-01-01T00:00:01.000Z",
    );
    for (command, other) in [(&set, &clear), (&clear, &set)] {
        sivo.check(command).unwrap();
        sivo.update(command, None).await.unwrap();
        let user = sivo.read(&user_id("u")).await.unwrap();
        assert_eq!(sivo.compare(command, &user), Comparison::Matches);
        assert_eq!(sivo.compare(other, &user), Comparison::Differs);
    }
}

#[tokio::test]
async fn wrapped_user_is_found() {
    let server = canned("200 OK", "", r#"{"user":{"alias":"Al"}}"#).await;
    let user = over(&server.base_url).read(&user_id("u")).await.unwrap();
    let command = versioned(&json!({"nickname": "Al"}), "v");
    assert_eq!(
        over("http://unused.example").compare(&command, &user),
        Comparison::Matches
    );
}

/// The request of a write.
async fn sent(sivo: impl Fn(&str) -> Flat, command: &UpdateUser) -> String {
    let server = canned("200 OK", "", "").await;
    let sivo = sivo(&server.base_url);
    sivo.check(command).unwrap();
    sivo.update(command, None).await.unwrap();
    let request = server.requests().pop().unwrap();
    request.split_once("\r\n\r\n").unwrap().1.to_owned()
}

const AT: &str = r#","expectedVersion":"2026-01-01T00:00:00Z""#;

#[tokio::test]
async fn metadata_is_sent_as_written() {
    let metadata = r#"{"z":12345678901234567890,"id":123456789012345678901234567890,"price":1.10,
        "a":[1e400, -0,{"y":1.0,"x ":"\u00e9\/"}],"b":null}"#;
    let command = command_as_written(&format!(r#"{{"sivo":{{"metadata":{metadata}}}}}"#), AT);
    assert_eq!(
        sent(over, &command).await,
        format!(r#"{{"metadata":{metadata}}}"#)
    );
}

#[tokio::test]
async fn long_numbers_of_metadata_are_compared_to_the_last_digit() {
    let command = command_as_written(
        r#"{"sivo":{"metadata":{"id":123456789012345678901234567890,"price":1.10}}}"#,
        AT,
    );
    for (metadata, comparison) in [
        (
            r#"{"price":1.1,"id":123456789012345678901234567890}"#,
            Comparison::Matches,
        ),
        (
            r#"{"price":1.1,"id":123456789012345678901234567891}"#,
            Comparison::Differs,
        ),
        (r#"{"price":1.1,"id":1.2345678901234568e29}"#, Comparison::Differs),
        (r#"{"price":1.1}"#, Comparison::Differs),
        ("null", Comparison::Differs),
    ] {
        for body in [
            format!(r#"{{"metadata":{metadata}}}"#),
            format!(r#"{{"user":{{"metadata":{metadata}}}}}"#),
        ] {
            let server = canned("200 OK", "", &body).await;
            let sivo = over(&server.base_url);
            let user = sivo.read(&user_id("u")).await.unwrap();
            assert_eq!(sivo.compare(&command, &user), comparison, "{body}");
        }
    }
}

/// A value for each field, of its type.
fn every_own_field() -> Value {
    json!({
        "projectEnvironmentId": "e", "verifiedCredentials": [{"id": "c"}], "lastVerifiedCredentialId": "c",
        "sessionId": "s", "newUser": false, "firstVisit": "2026-01-01T00:00:00Z",
        "lastVisit": "2026-01-01T00:00:00.123+10:00", "country": "AU", "jobTitle": "x".repeat(300),
        "policiesConsent": true, "tShirtSize": "M", "team": "a", "metadata": {"a": {"b": null}},
        "mfaBackupCodeAcknowledgement": "pending", "btcWallet": "b", "kdaWallet": "k", "ltcWallet": "l",
        "ckbWallet": "c", "kasWallet": "k", "dogeWallet": "d", "emailNotification": true,
        "discordNotification": false, "newsletterNotification": true, "lists": ["x"], "scope": "s",
        "missingFields": [], "walletPublicKey": "p", "wallet": "w", "chain": "c", "sessions": [{}],
        "wallets": [{"id": 1.5}], "chainalysisChecks": [], "oauthAccounts": [{"a": []}], "mfaDevices": [],
    })
}

#[tokio::test]
async fn every_writable_field_is_set_cleared_and_compared() {
    let simulated = simulated(Kind::Sivo).await;
    let config = Config {
        writable: SivoField::ALL.into(),
        ..Config::default()
    };
    let sivo = adapter(&config, http(&simulated.base_url(), TIMEOUT)).unwrap();
    let all = every_own_field();
    assert_eq!(all.as_object().unwrap().len(), SivoField::ALL.len());
    let set = versioned(&json!({ "sivo": all }), STARTING_VERSION);
    let nullable = json!({
        "sivo": all.as_object().unwrap().keys()
            .filter(|name| !NEVER_NULL.contains(&name.as_str()))
            .map(|name| (name.clone(), Value::Null))
            .collect::<serde_json::Map<_, _>>()
    });
    let clear = versioned(&nullable, "2026-01-01T00:00:01.000Z");
    for (command, other) in [(&set, &clear), (&clear, &set)] {
        sivo.check(command).unwrap();
        sivo.update(command, None).await.unwrap();
        let user = sivo.read(&user_id("u")).await.unwrap();
        assert_eq!(sivo.compare(command, &user), Comparison::Matches);
        assert_eq!(sivo.compare(other, &user), Comparison::Differs);
    }
    assert_eq!(set.update.field_names().len(), 34);
    assert!(set.update.field_names().contains(&"sivo.tShirtSize"));
}

/// According to Sivo's page.
const NEVER_NULL: [&str; 7] = [
    "projectEnvironmentId",
    "verifiedCredentials",
    "lastVerifiedCredentialId",
    "sessionId",
    "newUser",
    "firstVisit",
    "lastVisit",
];

#[test]
fn fields_that_are_not_writable_are_refused_by_name() {
    let sivo = over("http://unused.example");
    for (name, value) in every_own_field().as_object().unwrap() {
        let checked = sivo.check(&versioned(&json!({"sivo": { name: value }}), STARTING_VERSION));
        if ["metadata", "lists"].contains(&name.as_str()) {
            assert_eq!(checked, Ok(()), "{name}");
            continue;
        }
        let failure = checked.unwrap_err();
        assert_eq!(
            (failure.reason, failure.pointer),
            (Reason::UnsupportedField, Some(format!("/update/sivo/{name}")))
        );
        assert!(
            failure
                .detail
                .contains(&format!("`{name}` to `writable` in [provider.sivo]")),
            "{}",
            failure.detail
        );
    }
}

#[test]
fn same_member_for_two_fields_is_refused() {
    let config = Config {
        writable: vec![SivoField::Team],
        fields: serde_json::from_value(json!({"displayName": "team"})).unwrap(),
        ..Config::default()
    };
    let sivo = adapter(&config, http("http://unused.example", TIMEOUT)).unwrap();
    let both = versioned(
        &json!({"displayName": "a", "sivo": {"team": "b"}}),
        STARTING_VERSION,
    );
    let failure = sivo.check(&both).unwrap_err();
    assert_eq!(failure.pointer.as_deref(), Some("/update/sivo/team"));
    assert!(failure.detail.contains("`displayName`"), "{}", failure.detail);
}
