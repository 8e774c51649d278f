//! Which codes of a refusal each kind passes on.

use serde_json::{Value, json};

use super::super::testbed::{TIMEOUT, canned, error, http_with_token};
use super::super::{Kind, ProviderError};
use super::{CONFIGURED, adapter, blank_user, command, some_fields};

/// A code that the kind may pass on.
fn known_code(kind: Kind) -> &'static str {
    match kind {
        Kind::Karmo => "40917364",
        Kind::Zitadel => "ALREADY_EXISTS",
        Kind::Scim => "invalidVers",
        _ => CONFIGURED,
    }
}

/// An error body with this code in every place where some kind has one.
fn says(code: &str) -> String {
    let details = json!([{"id": code, "msg": code, "param": code, "value": code}]);
    json!({"code": code, "errorCode": code, "scimType": code, "detail": code, "details": details}).to_string()
}

/// The error of a write, and that of a read.
async fn refused_with(kind: Kind, code: &str, update: &Value) -> [ProviderError; 2] {
    let server = canned("400 Bad Request", "", &says(code)).await;
    let provider = adapter(kind, &server.base_url, TIMEOUT);
    let command = command(kind, "u", update);
    [
        error(provider.update(&command, Some(&blank_user(kind))).await),
        error(provider.read(&command.user_id).await),
    ]
}

#[tokio::test]
async fn only_listed_or_well_formed_codes_are_passed_on() {
    for kind in Kind::ALL {
        let known = known_code(kind);
        let [write, _] = refused_with(kind, known, &some_fields()).await;
        assert_eq!(write.code.as_deref(), Some(known), "{kind}");
        for free in [
            "alex.taylor",
            "61412345678",
            "hunter2",
            "user_01J7C4Q8",
            "Zq-4f3d6",
            "version_mismatch",
            "4091736",
        ] {
            for refused in refused_with(kind, free, &some_fields()).await {
                assert_eq!(refused.code, None, "{kind} {free}");
                assert!(!refused.detail.contains(free), "{kind} {refused}");
            }
        }
    }
}

#[tokio::test]
async fn code_that_repeats_a_value_is_dropped() {
    for kind in Kind::ALL {
        let known = known_code(kind);
        for value in [
            known.to_owned(),
            format!("x{known}x"),
            known.to_uppercase(),
            known[1..6].to_owned(),
        ] {
            let update = json!({"email": "alex@example.com", "givenName": value, "familyName": "Taylor"});
            for refused in refused_with(kind, known, &update).await {
                assert_eq!(refused.code, None, "{kind} {value}");
                assert!(!refused.detail.contains(known), "{kind} {refused}");
            }
        }
    }
    // It has the form of a Zitadel id.
    let update = json!({"givenName": "ALEX-1234", "familyName": "Taylor"});
    let server = canned(
        "400 Bad Request",
        "",
        r#"{"code":3,"details":[{"id":"ALEX-1234"}]}"#,
    )
    .await;
    let provider = adapter(Kind::Zitadel, &server.base_url, TIMEOUT);
    let command = command(Kind::Zitadel, "u", &update);
    let write = error(provider.update(&command, Some(&blank_user(Kind::Zitadel))).await);
    let read = error(provider.read(&command.user_id).await);
    assert_eq!(write.code.as_deref(), Some("INVALID_ARGUMENT"));
    assert_eq!(
        read.code, None,
        "the command's values are not available in a read"
    );
    for refused in [write, read] {
        assert!(!refused.detail.contains("1234"), "{refused}");
    }
}

#[tokio::test]
async fn code_that_repeats_the_token_is_dropped() {
    for kind in Kind::ALL {
        let known = known_code(kind);
        let server = canned("400 Bad Request", "", &says(known)).await;
        let token = format!("ey.{known}.x");
        let provider = kind.tested(http_with_token(&server.base_url, TIMEOUT, &token));
        let command = command(kind, "u", &some_fields());
        let refused = error(provider.update(&command, Some(&blank_user(kind))).await);
        assert_eq!(refused.code, None, "{kind}");
    }
}
