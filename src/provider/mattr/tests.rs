//! What is MATTR's alone.

use serde_json::json;

use super::super::simulated::Simulated;
use super::super::testbed::{TIMEOUT, canned, command, error, http, simulated};
use super::*;
use crate::contract::Reason;

fn adapter(base_url: &str, config: &Value) -> Mattr {
    let config: Config = serde_json::from_value(config.clone()).unwrap();
    Mattr::new(&config, http(base_url, TIMEOUT)).unwrap()
}

fn unused(config: &Value) -> Mattr {
    adapter("http://unused.example", config)
}

async fn both(config: &Value) -> (Simulated, Mattr) {
    let simulated = simulated(Kind::Mattr).await;
    let mattr = adapter(&simulated.base_url(), config);
    (simulated, mattr)
}

async fn apply(mattr: &Mattr, command: &UpdateUser) {
    mattr.check(command).unwrap();
    let current = match mattr.reads_before_write(command) {
        true => Some(mattr.read(&command.user_id).await.unwrap()),
        false => None,
    };
    mattr.update(command, current.as_ref()).await.unwrap();
    let user = mattr.read(&command.user_id).await.unwrap();
    assert_eq!(mattr.compare(command, &user), Comparison::AsAsked);
}

#[tokio::test]
async fn a_merge_keeps_what_the_command_does_not_name() {
    let (simulated, mattr) = both(&json!({})).await;
    let update = json!({"givenName": "Alex", "mattr": {"claims": {"badge": {"level": 3}}}});
    apply(&mattr, &command("u", &update)).await;
    let fields = simulated.user("u").unwrap()["fields"].clone();
    assert_eq!(
        fields["claims"],
        json!({"email": "u@users.example", "tier": "gold", "given_name": "Alex", "badge": {"level": 3}})
    );
    assert_eq!(
        fields["authenticationProvider"]["subjectId"], "u",
        "what was read is put again"
    );
    assert!(fields["authenticationProvider"].get("url").is_none());
}

#[tokio::test]
async fn a_replacement_puts_the_command_alone_without_a_read() {
    let (simulated, mattr) = both(&json!({"claims_mode": "replace"})).await;
    let update = json!({"givenName": "Alex", "mattr": {"authenticationProvider": {"subjectId": "s"}}});
    apply(&mattr, &command("u", &update)).await;
    let user = simulated.user("u").unwrap();
    assert_eq!(
        user["fields"],
        json!({"claims": {"given_name": "Alex"}, "authenticationProvider": {"subjectId": "s"}})
    );
    assert_eq!(simulated.calls()[0].method, "PUT");
}

#[tokio::test]
async fn a_cleared_claim_is_left_out_of_the_set() {
    let (simulated, mattr) = both(&json!({"clearable": ["claims"]})).await;
    apply(
        &mattr,
        &command("u", &json!({"email": null, "mattr": {"claims": {"tier": null}}})),
    )
    .await;
    assert_eq!(simulated.user("u").unwrap()["fields"]["claims"], json!({}));
}

#[tokio::test]
async fn a_merge_without_the_user_as_read_sends_nothing() {
    let server = canned("200 OK", "", "{}").await;
    let mattr = adapter(&server.base_url, &json!({}));
    let refused = error(
        mattr
            .update(&command("u", &json!({"givenName": "Alex"})), None)
            .await,
    );
    assert_eq!(refused.fault, Fault::Broken);
    assert!(server.requests().is_empty());
}

#[test]
fn clearing_needs_the_configurations_word() {
    let field = json!({"nickname": null});
    let claim = json!({"mattr": {"claims": {"tier": null}}});
    for (config, update, pointer) in [
        (json!({}), &field, Some("/update/nickname")),
        (json!({}), &claim, Some("/update/mattr/claims")),
        (json!({"clearable": ["nickname"]}), &field, None),
        (
            json!({"clearable": ["nickname"]}),
            &claim,
            Some("/update/mattr/claims"),
        ),
        (json!({"clearable": ["claims"]}), &field, None),
        (json!({"clearable": ["claims"]}), &claim, None),
    ] {
        let failure = unused(&config).check(&command("u", update)).err();
        assert_eq!(
            failure.as_ref().and_then(|failure| failure.pointer.as_deref()),
            pointer,
            "{config} {update}"
        );
        assert!(failure.is_none_or(|failure| failure.reason == Reason::UnsupportedField));
    }
}

#[test]
fn one_claim_named_twice_is_invalid() {
    let update = json!({"givenName": "Alex", "mattr": {"claims": {"given_name": "Alexa"}}});
    let failure = unused(&json!({})).check(&command("u", &update)).unwrap_err();
    assert_eq!(
        (failure.reason, failure.pointer.as_deref()),
        (Reason::Invalid, Some("/update/mattr/claims"))
    );
    assert!(
        failure.detail.contains("givenName") && !failure.detail.contains("Alex"),
        "{failure}"
    );
}

#[tokio::test]
async fn an_error_points_to_the_commands_own_member() {
    let update = json!({
        "email": "alex@example.com",
        "mattr": {"claims": {"badge": 1}, "authenticationProvider": {"subjectId": "s"}},
    });
    for (param, pointer) in [
        ("claims.email", Some("/update/email")),
        ("claims.given_name", Some("/update/mattr/claims")),
        ("claims", Some("/update/mattr/claims")),
        (
            "authenticationProvider.subjectId",
            Some("/update/mattr/authenticationProvider"),
        ),
        ("alex@example.com", None),
    ] {
        let body = json!({"code": "BadRequest", "details": [{"value": "alex@example.com", "param": param}]});
        let server = canned("400 Bad Request", "", &body.to_string()).await;
        let mattr = adapter(
            &server.base_url,
            &json!({"claims_mode": "replace", "codes": ["BadRequest"]}),
        );
        let refused = error(mattr.update(&command("u", &update), None).await);
        assert_eq!(refused.pointer.as_deref(), pointer, "{param}");
        assert_eq!(refused.code.as_deref(), Some("BadRequest"));
    }
}
