//! What is Karmo's alone.

use serde_json::json;

use super::super::testbed::{TIMEOUT, canned, command, error, http, simulated, user_id};
use super::*;
use crate::contract::Reason;

fn adapter(base_url: &str, config: &Config) -> Karmo {
    Karmo::new(config, http(base_url, TIMEOUT)).unwrap()
}

#[tokio::test]
async fn by_default_a_user_cannot_be_read_back() {
    let karmo = adapter("http://unused.example", &Config::default());
    assert!(!karmo.reads());
    let error = error(karmo.read(&user_id("u")).await);
    assert_eq!(error.fault, Fault::Command(Reason::OutcomeUnknown));
}

#[tokio::test]
async fn method_path_and_names_are_the_configured_ones() {
    let server = canned("204 No Content", "", "").await;
    let config = Config {
        method: WriteMethod::Put,
        path: "/auth/{userId}/profile".into(),
        fields: serde_json::from_value(json!({"nickname": "alias"})).unwrap(),
        clearable: vec![Field::Phone],
        ..Config::default()
    };
    let karmo = adapter(&server.base_url, &config);
    let command = command("user_01", &json!({"nickname": "Al", "phone": null}));
    karmo.check(&command).unwrap();
    karmo.update(&command, None).await.unwrap();
    let request = &server.requests()[0];
    assert!(request.starts_with("PUT /auth/user_01/profile "), "{request}");
    assert!(
        request.ends_with(r#"{"alias":"Al","mobileNumber":null}"#),
        "{request}"
    );
}

#[test]
fn by_default_four_fields_are_taken_and_none_is_cleared() {
    let karmo = adapter("http://unused.example", &Config::default());
    let locale = karmo.check(&command("u", &json!({"locale": "en"}))).unwrap_err();
    assert!(
        locale.detail.contains("email, phone, givenName, familyName"),
        "{locale}"
    );
    let clear = karmo.check(&command("u", &json!({"phone": null}))).unwrap_err();
    assert_eq!(clear.pointer.as_deref(), Some("/update/phone"));
}

#[test]
fn paths_that_cannot_be_used_are_refused() {
    for (path, read_path, key) in [
        ("/users", "", "provider.karmo.path"),
        ("/users/{userId}", "users/{userId}", "provider.karmo.read_path"),
    ] {
        let config = Config {
            path: path.into(),
            read_path: read_path.into(),
            ..Config::default()
        };
        let refused = Karmo::new(&config, http("http://unused.example", TIMEOUT)).map(drop);
        assert_eq!(refused.unwrap_err().key, key);
    }
}

#[tokio::test]
async fn a_refusal_carries_the_code_and_the_place_in_the_command() {
    let karmo_sim = simulated(Kind::Karmo).await;
    let karmo = adapter(&karmo_sim.base_url(), &Config::default());
    let refused = error(
        karmo
            .update(&command("u", &json!({"email": "taken@x.example"})), None)
            .await,
    );
    assert_eq!(refused.code.as_deref(), Some("10000409"));
    assert_eq!(refused.pointer.as_deref(), Some("/update/email"));
}

#[tokio::test]
async fn only_what_is_surely_a_code_or_a_field_is_passed_on() {
    for (body, code, pointer) in [
        (
            r#"{"code":12345678,"errors":[{"at":{"pointer":"/email"}}]}"#,
            Some("12345678"),
            Some("/update/email"),
        ),
        (
            r##"{"errors":["/mobileNumber","#/email"]}"##,
            None,
            Some("/update/email"),
        ),
        (
            r#"{"error":{"code":"10000409","at":"/body/email"}}"#,
            Some("10000409"),
            Some("/update/email"),
        ),
        (r#"{"field":"email"}"#, None, Some("/update/email")),
        (r#"{"field":"/update/email"}"#, None, None),
        // The command has no phone.
        (r#"{"errors":["/mobileNumber"]}"#, None, None),
        (r#"{"errorCode":"00000001"}"#, Some("00000001"), None),
        (r#"{"code":"1234567","errors":["/iban"]}"#, None, None),
        (r#"{"code":"alex@example.com","e":"/alex"}"#, None, None),
    ] {
        let server = canned("422 Unprocessable Entity", "", body).await;
        let karmo = adapter(&server.base_url, &Config::default());
        let refused = error(
            karmo
                .update(&command("u", &json!({"email": "alex@example.com"})), None)
                .await,
        );
        assert_eq!(
            (refused.code.as_deref(), refused.pointer.as_deref()),
            (code, pointer),
            "{body}"
        );
        assert_eq!(refused.fault, Fault::Command(Reason::Rejected));
    }
}
