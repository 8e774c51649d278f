//! What is sent and how answers are interpreted, as configured.

use serde_json::{Value, json};

use super::*;
use crate::contract::{Fault, Reason};
use crate::provider::conformance::CONFIGURED;
use crate::provider::flat::FindConfig;
use crate::provider::http::Settings;
use crate::provider::testbed::{
    TIMEOUT, canned, command, command_with, error, http, scratch_file, simulated, user_id,
};
use crate::provider::token::Source;
use crate::provider::{Comparison, Provider, User};
use crate::simulator::Op;

pub(in crate::provider) fn tested(http: Http) -> Flat {
    adapter(&simulated_users(), http).unwrap()
}

/// Users as the simulation has them.
pub(in crate::provider) fn simulated_users() -> Config {
    let names = json!({
        "email": "email", "phone": "phone", "givenName": "givenName", "familyName": "familyName",
    });
    Config {
        path: "/users/{userId}".into(),
        read_path: "/users/{userId}".into(),
        fields: serde_json::from_value(names).unwrap(),
        error_code_at: vec!["/code".into()],
        error_codes: vec![CONFIGURED.into()],
        find: FindConfig {
            email: "/users?email={key}".into(),
            users_at: "/users".into(),
            ..FindConfig::default()
        },
        ..Config::default()
    }
}

/// A configuration with the two required keys, as read from a file.
fn config(more: &Value) -> Config {
    let mut config =
        json!({ "path": "/users/{userId}", "fields": { "email": "email", "givenName": "name.first" } });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

fn rest(base_url: &str, more: &Value) -> Flat {
    adapter(&config(more), http(base_url, TIMEOUT)).unwrap()
}

/// The head and the body of the request for an update, with `current` as the user.
async fn sent(more: &Value, update: &Value, current: Option<&str>) -> (String, String) {
    let server = canned("204 No Content", "", "").await;
    let rest = rest(&server.base_url, more);
    let current = current.map(|text| User(text.into()));
    let version = json!({ "expectedVersion": "v7" });
    let command = match more.get("version_header") {
        Some(_) => command_with("u/1", update, &version),
        None => command("u/1", update),
    };
    rest.check(&command).unwrap();
    rest.update(&command, current.as_ref()).await.unwrap();
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn request_follows_the_configuration() {
    let more = json!({
        "method": "POST", "path": "/v1/users/{userId}?strict=true", "wrap": "profile",
        "credential_scheme": "SSWS", "headers": { "x-tenant": "a b" }, "version_header": "if-match",
        "idempotency_header": "idempotency-key", "clear": "null", "clearable": ["email"],
        "constants": { "notify.mail": false, "n": 3, "source": "usher" },
    });
    let (head, body) = sent(&more, &json!({ "email": null, "givenName": "Alex" }), None).await;
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /v1/users/u%2F1?strict=true HTTP/1.1");
    for header in [
        "authorization: SSWS t0ken",
        "x-tenant: a b",
        "if-match: v7",
        "idempotency-key: 018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e",
        "content-type: application/json",
    ] {
        assert!(lines.contains(&header), "{header}: {lines:?}");
    }
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({
            "n": 3, "notify": { "mail": false }, "source": "usher",
            "profile": { "email": null, "name": { "first": "Alex" } },
        })
    );
}

#[tokio::test]
async fn token_may_have_no_scheme_and_another_header() {
    let more = json!({ "credential_header": "x-api-key", "credential_scheme": "" });
    let (head, _) = sent(&more, &json!({ "email": "alex@example.com" }), None).await;
    assert!(head.lines().any(|line| line == "x-api-key: t0ken"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
}

#[tokio::test]
async fn rotated_token_keeps_the_scheme() {
    let server = canned("401 Unauthorized", "", "").await;
    let file = scratch_file("first");
    let http = Http::new(Settings {
        base_url: server.base_url.clone(),
        timeout: TIMEOUT,
        token: Source::File(file.path().into()),
        concurrency: 1,
        answers: Vec::new(),
    });
    let rest = adapter(&config(&json!({ "credential_scheme": "SSWS" })), http.unwrap()).unwrap();
    let command = command("u", &json!({ "email": "alex@example.com" }));
    let mut faults = Vec::new();
    for token in ["first", "second", "second"] {
        file.write(token);
        faults.push(error(rest.update(&command, None).await).fault);
    }
    assert_eq!(
        faults,
        [Fault::Credentials, Fault::CredentialsRenewed, Fault::Credentials]
    );
    let carried: Vec<_> = server
        .requests()
        .iter()
        .filter_map(|request| {
            Some(
                request
                    .lines()
                    .find_map(|line| line.strip_prefix("authorization: "))?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(carried, ["SSWS first", "SSWS first", "SSWS second"]);
}

#[tokio::test]
async fn replacing_put_keeps_unnamed_members_byte_by_byte() {
    let more = json!({
        "method": "PUT", "read_path": "/users/{userId}", "replaces": true, "omit": ["id", "meta.created"],
        "clear": "empty", "clearable": ["email"],
    });
    let current = r#"{"id":"u","n":1.50,"name":{"first":"X","x":12345678901234567890123},"meta":{"created":1,"k":1e999},"email":"a@b.example"}"#;
    let (_, body) = sent(
        &more,
        &json!({ "email": null, "givenName": "Alex" }),
        Some(current),
    )
    .await;
    assert_eq!(
        body,
        r#"{"n":1.50,"name":{"first":"Alex","x":12345678901234567890123},"meta":{"k":1e999},"email":""}"#
    );
}

#[tokio::test]
async fn nothing_is_put_without_a_read_or_with_a_duplicate_name() {
    let server = canned("204 No Content", "", "").await;
    let more = json!({ "replaces": true, "read_path": "/users/{userId}" });
    let rest = rest(&server.base_url, &more);
    let command = command("u", &json!({ "givenName": "Alex" }));
    assert!(rest.reads_before_write(&command));
    for current in [None, Some(r#"{"name":{"a":1,"a":2}}"#), Some(r#"{"a":1,"a":2}"#)] {
        let current = current.map(|text| User(text.into()));
        let error = error(rest.update(&command, current.as_ref()).await);
        assert_eq!(error.fault, Fault::Broken);
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn user_is_found_at_the_configured_place() {
    let asked = command("u", &json!({ "email": "alex@example.com", "givenName": "Alex" }));
    let plain = r#"{"email":"alex@example.com","name":{"first":"Alex"}}"#;
    for (more, answer) in [
        (json!({}), plain.to_owned()),
        (json!({}), format!(r#"{{"user":{plain}}}"#)),
        (json!({ "wrap": "user" }), format!(r#"{{"user":{plain}}}"#)),
        (
            json!({ "wrap": "profile" }),
            format!(r#"{{"user":{{"profile":{plain}}}}}"#),
        ),
        (
            json!({ "user_at": "/data/0" }),
            format!(r#"{{"data":[{plain}]}}"#),
        ),
        (
            json!({ "read_fields": { "givenName": "first" }, "wrap": "profile" }),
            r#"{"first":"Alex","profile":{"email":"alex@example.com"}}"#.to_owned(),
        ),
    ] {
        let server = canned("200 OK", "", &answer).await;
        let mut more = more;
        more["read_path"] = "/users/{userId}".into();
        let rest = rest(&server.base_url, &more);
        let user = rest.read(&user_id("u")).await.unwrap();
        assert_eq!(rest.compare(&asked, &user), Comparison::Matches, "{more}");
        let other = command("u", &json!({ "givenName": "Sam" }));
        assert_eq!(rest.compare(&other, &user), Comparison::Differs, "{more}");
    }
}

#[tokio::test]
async fn read_without_a_user_in_its_place_is_broken() {
    for (at, answer) in [
        ("/data", "{}"),
        ("/data", r#"{"data":[]}"#),
        ("", r#"{"a":1,"a":2}"#),
    ] {
        let server = canned("200 OK", "", answer).await;
        let more = json!({ "read_path": "/users/{userId}", "user_at": at });
        let error = error(rest(&server.base_url, &more).read(&user_id("u")).await);
        assert_eq!(error.fault, Fault::Broken, "{at} {answer}");
        assert!(error.detail.contains("user_at"), "{error}");
    }
}

#[test]
fn field_cleared_by_empty_text_may_read_back_empty_null_or_absent() {
    let rest = rest(
        "http://unused.example",
        &json!({ "clear": "empty", "clearable": ["email"] }),
    );
    let cleared = command("u", &json!({ "email": null }));
    for (user, comparison) in [
        (r#"{"email":""}"#, Comparison::Matches),
        (r#"{"email":null}"#, Comparison::Matches),
        ("{}", Comparison::Matches),
        (r#"{"email":"a@b.example"}"#, Comparison::Differs),
    ] {
        assert_eq!(rest.compare(&cleared, &User(user.into())), comparison, "{user}");
    }
}

#[test]
fn user_is_unchanged_if_its_version_member_is_equal() {
    let marked = rest("http://unused.example", &json!({ "version_at": "/meta/at" }));
    let unmarked = rest("http://unused.example", &json!({}));
    for (before, after, same) in [
        (r#"{"meta":{"at":7}}"#, r#"{"meta":{"at":7}}"#, true),
        (r#"{"meta":{"at":"a"}}"#, r#"{"meta":{"at":"a"}}"#, true),
        (r#"{"meta":{"at":7}}"#, r#"{"meta":{"at":8}}"#, false),
        (r#"{"meta":{"at":null}}"#, r#"{"meta":{"at":null}}"#, false),
        ("{}", "{}", false),
    ] {
        let (before, after) = (User(before.into()), User(after.into()));
        assert_eq!(marked.is_unchanged(&before, &after), same);
        assert!(!unmarked.is_unchanged(&before, &after));
    }
}

#[tokio::test]
async fn member_named_in_an_error_becomes_the_commands_field() {
    let more = json!({ "wrap": "profile", "error_pointer_at": ["/none", "/errors/0/field"] });
    for (named, pointer) in [
        ("name.first", Some("/update/givenName")),
        ("/profile/name/first", Some("/update/givenName")),
        ("#/name/first", Some("/update/givenName")),
        ("profile.name.first", Some("/update/givenName")),
        ("email", None),
        ("alex@example.com", None),
        ("", None),
    ] {
        let body = json!({ "errors": [{ "field": named }] }).to_string();
        let server = canned("400 Bad Request", "", &body).await;
        let rest = rest(&server.base_url, &more);
        let command = command("u", &json!({ "givenName": "Alex" }));
        let error = error(rest.update(&command, None).await);
        assert_eq!(error.pointer.as_deref(), pointer, "{named}");
    }
}

#[tokio::test]
async fn every_field_named_in_an_error_is_in_the_detail() {
    let more = json!({ "error_pointer_at": ["/**/field"] });
    let body = json!({ "errors": [{ "field": "name.first" }, { "field": "other" }, { "field": "email" }] });
    let server = canned("400 Bad Request", "", &body.to_string()).await;
    let rest = rest(&server.base_url, &more);
    let update = json!({ "email": "alex@example.com", "givenName": "Alex" });
    let error = error(rest.update(&command("u", &update), None).await);
    assert_eq!(error.pointer.as_deref(), Some("/update/givenName"));
    let named = "; the provider names /update/givenName, /update/email";
    assert!(error.detail.ends_with(named), "{error}");
}

#[tokio::test]
async fn member_within_data_is_found_by_its_own_path() {
    let more =
        json!({ "fields": { "email": "data.email", "givenName": "name" }, "error_pointer_at": ["/field"] });
    for (named, pointer) in [
        ("data.email", Some("/update/email")),
        ("/data/data/email", Some("/update/email")),
        ("data.name", Some("/update/givenName")),
        ("email", None),
    ] {
        let server = canned("400 Bad Request", "", &json!({ "field": named }).to_string()).await;
        let rest = rest(&server.base_url, &more);
        let update = json!({ "email": "alex@example.com", "givenName": "Alex" });
        let error = error(rest.update(&command("u", &update), None).await);
        assert_eq!(error.pointer.as_deref(), pointer, "{named}");
    }
}

#[tokio::test]
async fn code_is_looked_for_at_each_place_in_order() {
    let more = json!({ "error_code_at": ["/a", "/b/0", "/**/deep"], "error_codes": ["taken", "4711"] });
    for (body, code) in [
        (json!({ "a": "taken" }), Some("taken")),
        (json!({ "a": "other", "b": [4711] }), Some("4711")),
        (json!({ "b": ["other"] }), None),
        (
            json!({ "e": [{ "deep": "other" }, { "in": { "deep": "taken" } }] }),
            Some("taken"),
        ),
    ] {
        let server = canned("400 Bad Request", "", &body.to_string()).await;
        let command = command("u", &json!({ "givenName": "Alex" }));
        let error = error(rest(&server.base_url, &more).update(&command, None).await);
        assert_eq!(error.code.as_deref(), code, "{body}");
    }
}

#[test]
fn version_is_accepted_if_a_header_is_configured() {
    let update = json!({ "givenName": "Alex" });
    let versioned = command_with("u", &update, &json!({ "expectedVersion": "v7" }));
    let without = rest("http://unused.example", &json!({}));
    let failure = without.check(&versioned).unwrap_err();
    assert_eq!(failure.reason, Reason::UnsupportedField);
    assert_eq!(failure.pointer.as_deref(), Some("/expectedVersion"));
    assert!(failure.detail.contains("version_header"), "{failure}");
    assert!(without.merges_updates());
    let with = rest("http://unused.example", &json!({ "version_header": "if-match" }));
    assert_eq!(with.check(&versioned), Ok(()));
    assert_eq!(with.check(&command("u", &update)), Ok(()));
    assert!(!with.merges_updates());
}

#[test]
fn folded_field_matches_in_any_case() {
    let asked = command("u", &json!({ "email": "Alex@example.com" }));
    let shown = User(json!({ "email": "alex@EXAMPLE.com" }).to_string().into());
    for (folds_case, comparison) in [
        (json!([]), Comparison::Differs),
        (json!(["email"]), Comparison::Matches),
    ] {
        let rest = rest("http://unused.example", &json!({ "folds_case": folds_case }));
        assert_eq!(rest.compare(&asked, &shown), comparison);
    }
}

#[test]
fn unnamed_and_unclearable_fields_are_refused_by_name() {
    let rest = rest(
        "http://unused.example",
        &json!({ "clear": "null", "clearable": ["email"] }),
    );
    for (update, pointer) in [
        (json!({ "phone": "+61412345678" }), "/update/phone"),
        (json!({ "givenName": null }), "/update/givenName"),
    ] {
        let failure = rest.check(&command("u", &update)).unwrap_err();
        assert_eq!(failure.reason, Reason::UnsupportedField);
        assert_eq!(failure.pointer.as_deref(), Some(pointer));
        assert!(failure.detail.contains("[provider.rest]"), "{failure}");
    }
}

#[test]
fn unusable_configuration_is_refused_by_key() {
    for (more, key) in [
        (json!({ "path": "" }), "path"),
        (json!({ "path": "/users" }), "path"),
        (json!({ "fields": {} }), "fields"),
        (json!({ "fields": { "email": "a..b" } }), "fields.email"),
        (
            json!({ "fields": { "email": "a", "phone": "a.b" } }),
            "fields.phone",
        ),
        (json!({ "constants": { "email": true } }), "constants.email"),
        (json!({ "constants": { "a.": true } }), "constants.a."),
        (json!({ "wrap": "." }), "wrap"),
        (json!({ "clearable": ["email"] }), "clear"),
        (json!({ "read_fields": { "phone": "p" } }), "read_fields.phone"),
        (json!({ "read_fields": { "email": "" } }), "read_fields.email"),
        (json!({ "replaces": true }), "replaces"),
        (json!({ "omit": ["id"] }), "omit"),
        (json!({ "user_at": "data" }), "user_at"),
        (json!({ "user_at": "/user", "wrap": "user" }), "user_at"),
        (json!({ "user_at": "/data/user", "wrap": "user" }), "user_at"),
        (json!({ "fields": { "email": "\"a.b\"" } }), "fields.email"),
        (json!({ "version_at": "updated" }), "version_at"),
        (json!({ "error_codes": ["a"] }), "error_codes"),
        (json!({ "error_code_at": ["code"] }), "error_code_at"),
        (json!({ "error_code_at": ["/**/a/**/b"] }), "error_code_at"),
        (json!({ "error_pointer_at": ["field"] }), "error_pointer_at"),
        (
            json!({ "headers": { "Authorization": "hunter2" } }),
            "headers.Authorization",
        ),
        (json!({ "headers": { "host": "hunter2" } }), "headers.host"),
        (json!({ "headers": { "x y": "hunter2" } }), "headers.x y"),
        (json!({ "headers": { "x": "hunter2\n" } }), "headers.x"),
        (
            json!({ "headers": { "x": "hunter2" }, "version_header": "X" }),
            "headers.x",
        ),
        (json!({ "version_header": "content-type" }), "version_header"),
        (
            json!({ "version_header": "a", "idempotency_header": "a" }),
            "idempotency_header",
        ),
        (json!({ "folds_case": ["email", "phone"] }), "folds_case"),
        (json!({ "credential_header": "host" }), "credential_header"),
        (json!({ "credential_header": "" }), "credential_header"),
        (json!({ "credential_scheme": "Token token" }), "credential_scheme"),
    ] {
        let refused = adapter(&config(&more), http("http://unused.example", TIMEOUT));
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.key, format!("provider.rest.{key}"), "{more}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let nothing = adapter(&Config::default(), http("http://unused.example", TIMEOUT));
    let error = nothing.map(drop).unwrap_err().to_string();
    assert!(
        error.starts_with("provider.rest.path: is missing; write "),
        "{error}"
    );
}

#[tokio::test]
async fn replaced_user_keeps_members_that_no_command_names() {
    let simulated = simulated(Kind::Rest).await;
    let more = json!({
        "method": "PUT", "read_path": "/users/{userId}", "replaces": true, "omit": ["id", "version"],
        "fields": { "email": "email", "givenName": "givenName" }, "version_header": "if-match",
        "version_at": "/version", "error_code_at": ["/error/code"], "error_codes": ["version_mismatch"],
        "error_pointer_at": ["/error/field"],
    });
    let rest = rest(&simulated.base_url(), &more);
    let update = json!({ "givenName": "Alex" });
    let command = command_with("u", &update, &json!({ "expectedVersion": "0" }));
    let before = rest.read(&command.user_id).await.unwrap();
    rest.update(&command, Some(&before)).await.unwrap();
    let after = rest.read(&command.user_id).await.unwrap();
    assert_eq!(rest.compare(&command, &after), Comparison::Matches);
    assert!(!rest.is_unchanged(&before, &after));
    assert!(rest.is_unchanged(&after, &after));
    let user = simulated.user("u").unwrap();
    assert_eq!(
        (&user["fields"]["tier"], &user["fields"]["familyName"]),
        (&json!("gold"), &json!("Family"))
    );
    let late = error(rest.update(&command, Some(&after)).await);
    assert_eq!(late.fault, Fault::Command(Reason::VersionConflict));
    assert_eq!(late.code.as_deref(), Some("version_mismatch"));
    let taken = command_with("u", &json!({ "email": "taken@x.example" }), &json!({}));
    let refused = error(rest.update(&taken, Some(&after)).await);
    assert_eq!(refused.pointer.as_deref(), Some("/update/email"));
    assert_eq!(
        simulated
            .calls()
            .iter()
            .filter(|call| call.op == Op::Write)
            .count(),
        3
    );
}
