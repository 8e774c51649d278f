//! Tests of what is specific to Karmo.

use serde_json::json;

use super::super::http::Settings;
use super::super::testbed::{TIMEOUT, canned, command, error, http, simulated, user_id};
use super::super::token::Source;
use super::*;
use crate::contract::{Fault, Reason};
use crate::provider::Provider;

/// Users can be read.
pub(in crate::provider) fn tested(http: Http) -> Flat {
    let config = Config {
        read_path: "/users/{userId}".into(),
        ..Config::default()
    };
    adapter(&config, http).unwrap()
}

fn over(base_url: &str, config: &Config) -> Flat {
    adapter(config, http(base_url, TIMEOUT)).unwrap()
}

#[tokio::test]
async fn users_cannot_be_read_back_by_default() {
    let karmo = over("http://unused.example", &Config::default());
    assert!(!karmo.reads());
    let error = error(karmo.read(&user_id("u")).await);
    assert_eq!(error.fault, Fault::Command(Reason::OutcomeUnknown));
}

#[tokio::test]
async fn method_path_and_names_are_configurable() {
    let server = canned("204 No Content", "", "").await;
    let config = Config {
        method: WriteMethod::Put,
        path: "/auth/{userId}/profile".into(),
        fields: serde_json::from_value(json!({"nickname": "alias"})).unwrap(),
        clearable: vec![Field::Phone],
        ..Config::default()
    };
    let karmo = over(&server.base_url, &config);
    let command = command("user_01", &json!({"nickname": "Al", "phone": null}));
    karmo.check(&command).unwrap();
    karmo.update(&command, None).await.unwrap();
    let request = &server.requests()[0];
    assert!(request.starts_with("PUT /auth/user_01/profile "), "{request}");
    assert!(
        request.ends_with(r#"{"mobileNumber":null,"alias":"Al"}"#),
        "{request}"
    );
}

#[test]
fn four_fields_are_accepted_and_none_is_clearable_by_default() {
    let karmo = over("http://unused.example", &Config::default());
    let locale = karmo.check(&command("u", &json!({"locale": "en"}))).unwrap_err();
    assert!(
        locale.detail.contains("email, phone, givenName, familyName"),
        "{locale}"
    );
    let clear = karmo.check(&command("u", &json!({"phone": null}))).unwrap_err();
    assert_eq!(clear.pointer.as_deref(), Some("/update/phone"));
}

#[test]
fn unusable_paths_are_refused() {
    for (path, read_path, key) in [
        ("/users", "", "provider.karmo.path"),
        ("/users/{userId}", "users/{userId}", "provider.karmo.read_path"),
    ] {
        let config = Config {
            path: path.into(),
            read_path: read_path.into(),
            ..Config::default()
        };
        let refused = adapter(&config, http("http://unused.example", TIMEOUT)).map(drop);
        assert_eq!(refused.unwrap_err().key, key);
    }
}

#[tokio::test]
async fn refusal_has_the_code_and_the_pointer_into_the_command() {
    let karmo_sim = simulated(Kind::Karmo).await;
    let karmo = over(&karmo_sim.base_url(), &Config::default());
    let refused = error(
        karmo
            .update(&command("u", &json!({"email": "taken@x.example"})), None)
            .await,
    );
    assert_eq!(refused.code.as_deref(), Some("10000409"));
    assert_eq!(refused.pointer.as_deref(), Some("/update/email"));
}

#[tokio::test]
async fn only_certain_codes_and_fields_are_passed_on() {
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
        let karmo = over(&server.base_url, &Config::default());
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

/// Names for the place of the code in a body: Karmo's pages do not show it.
const CODE_PLACES: [&str; 6] = [
    r#"{"code":"40917364"}"#,
    r#"{"code":40917364}"#,
    r#"{"error":{"code":"40917364","metadata":{}}}"#,
    r#"{"errors":[{"detail":"x"},{"detail":"y","code":"40917364"}]}"#,
    r#"{"code":"BAD_REQUEST","error":{"details":[{"errorCode":"40917364"}]}}"#,
    r#"{"error":{"code":{"value":1},"inner":{"code":"40917364"}}}"#,
];

#[tokio::test]
async fn not_configured_code_is_never_the_commands_fault() {
    let listed = Config {
        not_configured_codes: vec!["11111111".into(), "40917364".into()],
        ..Config::default()
    };
    for status in [400, 403, 404, 409, 412, 422, 424, 500, 501, 503] {
        for body in CODE_PLACES {
            let server = canned(&format!("{status} X"), "", body).await;
            let update = async |config: &Config| {
                let karmo = over(&server.base_url, config);
                error(
                    karmo
                        .update(&command("u", &json!({"email": "alex@example.com"})), None)
                        .await,
                )
            };
            let refused = update(&listed).await;
            assert_eq!(
                (refused.fault, refused.status),
                (Fault::Configuration, Some(status)),
                "{status} {body}"
            );
            assert_eq!(refused.code.as_deref(), Some("40917364"), "{status} {body}");
            let another = update(&Config::default()).await;
            assert_eq!(
                another.fault == Fault::Configuration,
                status == 501,
                "{status} {body}: {another:?}"
            );
        }
    }
}

#[tokio::test]
async fn configured_rules_can_use_the_code_and_the_status() {
    for (rule, status, fault) in [
        (
            json!({"pointer": "/**/code", "equals": "40917364", "class": "configuration"}),
            422,
            Fault::Configuration,
        ),
        (
            json!({"status": 503, "class": "configuration"}),
            503,
            Fault::Configuration,
        ),
        (
            json!({"pointer": "/**/code", "matches": "^4091", "class": "conflict"}),
            500,
            Fault::Command(Reason::Conflict),
        ),
        (
            json!({"pointer": "/**/code", "equals": "40917365", "class": "conflict"}),
            422,
            Fault::Command(Reason::Rejected),
        ),
        (
            json!({"pointer": "/error/**/code", "equals": "40917364", "class": "conflict"}),
            422,
            Fault::Command(Reason::Conflict),
        ),
        (
            json!({"pointer": "/errors/**/code", "equals": "40917364", "class": "conflict"}),
            422,
            Fault::Command(Reason::Rejected),
        ),
    ] {
        let body = r#"{"code":"BAD","error":{"more":[{"code":"40917364"}]}}"#;
        let server = canned(&format!("{status} X"), "", body).await;
        let http = Http::new(Settings {
            base_url: server.base_url.clone(),
            timeout: TIMEOUT,
            token: Source::Value("t0ken".into()),
            concurrency: 1,
            answers: vec![serde_json::from_value(rule.clone()).unwrap()],
        });
        let karmo = adapter(&Config::default(), http.unwrap()).unwrap();
        let refused = error(
            karmo
                .update(&command("u", &json!({"givenName": "Alex"})), None)
                .await,
        );
        assert_eq!(refused.fault, fault, "{rule}");
    }
}

#[tokio::test]
async fn every_field_that_an_error_names_is_in_the_detail() {
    let body = r#"{"code":"40917364","metadata":{"limit":"/lastName"},"errors":[
        {"detail":"alex is no name","pointer":"/firstName"},{"detail":"x","pointer":"/mobileNumber"},
        {"detail":"again","pointer":"/firstName"},{"detail":"not sent","pointer":"/email"}]}"#;
    let server = canned("422 Unprocessable Entity", "", body).await;
    let karmo = over(&server.base_url, &Config::default());
    let update = json!({"givenName": "Alex", "phone": "+61412345678"});
    let refused = error(karmo.update(&command("u", &update), None).await);
    assert_eq!(refused.pointer.as_deref(), Some("/update/givenName"));
    assert!(
        refused
            .detail
            .ends_with("; the provider names /update/givenName, /update/phone"),
        "{refused}"
    );
}

#[tokio::test]
async fn answer_without_the_new_value_reports_the_field_except_for_email() {
    let asked = json!({
        "email": "alex@example.com", "phone": "+61412345678", "givenName": "Zo\u{eb}", "familyName": null,
    });
    for (body, ignored) in [
        ("", None),
        ("{}", None),
        (r#"{"id":"u","email":"before@example.com"}"#, None),
        (
            r#"{"firstName":"Zoe\u0308","mobileNumber":"+61 412 345 678","lastName":null}"#,
            None,
        ),
        (r#"{"user":{"firstName":"Zo\u00eb","lastName":""}}"#, None),
        (r#"{"firstName":"Alexa"}"#, Some("/update/givenName")),
        (r#"{"user":{"mobileNumber":null}}"#, Some("/update/phone")),
        (r#"{"lastName":"Taylor"}"#, Some("/update/familyName")),
        (r#"["Alexa"]"#, None),
    ] {
        let server = canned("200 OK", "", body).await;
        let config = Config {
            clearable: vec![Field::FamilyName],
            ..Config::default()
        };
        let karmo = over(&server.base_url, &config);
        let updated = karmo.update(&command("u", &asked), None).await.unwrap();
        assert_eq!(updated.ignored.as_deref(), ignored, "{body}");
    }
}
