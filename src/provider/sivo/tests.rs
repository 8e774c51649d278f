//! What is Sivo's alone.

use serde_json::json;

use super::super::simulated::STARTING_VERSION;
use super::super::testbed::{TIMEOUT, canned, command, command_with, error, http, simulated, user_id};
use super::*;

fn adapter(base_url: &str) -> Sivo {
    let config = Config {
        codes: vec!["version_mismatch".into()],
        ..Config::default()
    };
    Sivo::new(&config, http(base_url, TIMEOUT)).unwrap()
}

fn versioned(update: &Value, version: &str) -> UpdateUser {
    command_with("u", update, &json!({"expectedVersion": version}))
}

#[test]
fn a_command_without_a_version_is_invalid() {
    let sivo = adapter("http://unused.example");
    let failure = sivo.check(&command("u", &json!({"nickname": "Al"}))).unwrap_err();
    assert_eq!(failure.reason, Reason::Invalid);
    assert_eq!(failure.pointer.as_deref(), Some("/expectedVersion"));
}

#[test]
fn a_version_that_is_no_moment_is_invalid() {
    let sivo = adapter("http://unused.example");
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
async fn the_version_travels_as_it_stands_under_the_configured_header() {
    let server = canned("200 OK", "", "").await;
    let config = Config {
        version_header: "X-Known-Version".into(),
        ..Config::default()
    };
    let sivo = Sivo::new(&config, http(&server.base_url, TIMEOUT)).unwrap();
    let command = versioned(&json!({"nickname": "Al"}), "\"2026-01-01T00:00:00Z\"");
    sivo.update(&command, None).await.unwrap();
    let request = &server.requests()[0];
    assert!(
        request.contains("x-known-version: \"2026-01-01T00:00:00Z\"\r\n"),
        "{request}"
    );
    assert!(request.starts_with("PATCH /users/u "), "{request}");

    let bad = Config {
        version_header: "If Match".into(),
        ..Config::default()
    };
    let refused = Sivo::new(&bad, http("http://unused.example", TIMEOUT)).map(drop);
    assert_eq!(refused.unwrap_err().key, "provider.sivo.version_header");
}

#[tokio::test]
async fn a_second_write_of_the_same_version_is_a_version_conflict() {
    let simulated = simulated(Kind::Sivo).await;
    let sivo = adapter(&simulated.base_url());
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
    let sivo = adapter(&simulated.base_url());
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
        assert_eq!(sivo.compare(command, &user), Comparison::AsAsked);
        assert_eq!(sivo.compare(other, &user), Comparison::Differs);
    }
}

#[tokio::test]
async fn a_user_that_stands_under_a_name_is_found() {
    let server = canned("200 OK", "", r#"{"user":{"alias":"Al"}}"#).await;
    let user = adapter(&server.base_url).read(&user_id("u")).await.unwrap();
    let command = versioned(&json!({"nickname": "Al"}), "v");
    assert_eq!(
        adapter("http://unused.example").compare(&command, &user),
        Comparison::AsAsked
    );
}
