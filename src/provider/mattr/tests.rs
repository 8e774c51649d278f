//! Tests of what is specific to MATTR.

use crate::provider::conformance::CONFIGURED;
use serde_json::json;

use super::super::testbed::{TIMEOUT, canned, command, command_as_written, error, http, simulated};
use super::*;
use crate::simulator::Simulated;

pub(in crate::provider) fn tested(http: Http) -> Mattr {
    let config = Config {
        codes: vec![CONFIGURED.into()],
        ..Config::default()
    };
    Mattr::new(&config, http).unwrap()
}

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
    assert_eq!(mattr.compare(command, &user), Comparison::Matches);
}

#[tokio::test]
async fn merge_keeps_claims_that_the_command_does_not_name() {
    let (simulated, mattr) = both(&json!({})).await;
    let update = json!({"givenName": "Alex", "mattr": {"claims": {"badge": {"level": 3}}}});
    apply(&mattr, &command("u", &update)).await;
    let fields = simulated.user("u").unwrap()["fields"].clone();
    assert_eq!(
        fields["claims"],
        json!({"email": "u@users.example", "tier": "gold", "givenName": "Alex", "badge": {"level": 3}})
    );
    assert_eq!(
        fields["authenticationProvider"]["subjectId"], "u",
        "the user that was read is put back"
    );
    assert!(fields["authenticationProvider"].get("url").is_none());
}

/// The body that is put if this is the user that was read.
async fn put_over(read: &str, config: &Value, update: &Value) -> String {
    let server = canned("200 OK", "", read).await;
    let mattr = adapter(&server.base_url, config);
    let command = command("u", update);
    let user = mattr.read(&command.user_id).await.unwrap();
    assert_eq!(mattr.compare(&command, &user), Comparison::Differs);
    mattr.update(&command, Some(&user)).await.unwrap();
    let put = server.requests().pop().unwrap();
    put.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn unnamed_members_are_put_back_byte_by_byte_in_order() {
    let config = json!({"clearable": ["claims"]});
    let update = json!({"email": "new@example.com", "nickname": "Al", "mattr": {"claims": {"tier": null}}});
    let read = r#"{"url":1,"claims":{"z":12345678901234567890123,"tier":"gold","email":"old@example.com",
        "b":{"y":0.1234567890123456789,"x": [1e400, -0, 1.0,18446744073709551617],"y ":"\u00e9\/"},"a":null},
        "authenticationProvider":{"subjectId":"s","url":"https://provider.example","more":1e400,"providerId":"p"},"id":"u"}"#;
    assert_eq!(
        put_over(read, &config, &update).await,
        concat!(
            r#"{"claims":{"z":12345678901234567890123,"email":"new@example.com","#,
            r#""b":{"y":0.1234567890123456789,"x": [1e400, -0, 1.0,18446744073709551617],"y ":"\u00e9\/"},"a":null,"#,
            r#""nickname":"Al"},"authenticationProvider":{"subjectId":"s","more":1e400,"providerId":"p"}}"#
        )
    );
    for nothing in ["{}", r#"{"claims":null,"authenticationProvider":null}"#] {
        assert_eq!(
            put_over(nothing, &config, &json!({"nickname": "Al"})).await,
            r#"{"claims":{"nickname":"Al"}}"#
        );
    }
}

#[tokio::test]
async fn user_that_cannot_be_put_back_is_broken_with_a_reason() {
    for read in [
        r#"{"claims":["Alex"]}"#,
        r#"{"claims":"Alex"}"#,
        r#"{"authenticationProvider":[]}"#,
        r#"{"claims":{"email":"alex@example.com","email":"alex@example.com"}}"#,
        r#"{"claims":{},"claims":{"name":"Alex"}}"#,
        r#"{"claims":{"\ud800":"Alex"}}"#,
    ] {
        let server = canned("200 OK", "", read).await;
        let mattr = adapter(&server.base_url, &json!({}));
        let broken = error(
            mattr
                .read(&command("u", &json!({"nickname": "Al"})).user_id)
                .await,
        );
        assert_eq!(
            (broken.fault, broken.status),
            (Fault::Broken, Some(200)),
            "{read}"
        );
        assert!(broken.detail.contains("can't be put back completely"), "{broken}");
    }
}

#[test]
fn claim_with_an_unrepresentable_number_does_not_match() {
    let mattr = unused(&json!({}));
    let command = command(
        "u",
        &json!({"mattr": {"claims": {"level": 3, "list": [1, {"a": null}]}}}),
    );
    for (claims, comparison) in [
        (
            r#"{"level":3,"list":[1,{"a":null}],"other":1e400}"#,
            Comparison::Matches,
        ),
        (r#"{"level":1e400,"list":[1,{"a":null}]}"#, Comparison::Differs),
        (r#"{"level":3}"#, Comparison::Differs),
    ] {
        let user = User(format!("{{\"claims\":{claims}}}").into());
        assert_eq!(mattr.compare(&command, &user), comparison, "{claims}");
    }
}

#[tokio::test]
async fn replace_puts_only_the_command_without_a_read() {
    let (simulated, mattr) = both(&json!({"claims_mode": "replace", "allow_relink": true})).await;
    let update = json!({"givenName": "Alex", "mattr": {"authenticationProvider": {"subjectId": "s"}}});
    apply(&mattr, &command("u", &update)).await;
    let user = simulated.user("u").unwrap();
    assert_eq!(
        user["fields"],
        json!({"claims": {"givenName": "Alex"}, "authenticationProvider": {"subjectId": "s"}})
    );
    assert_eq!(simulated.calls()[0].method, "PUT");
}

#[tokio::test]
async fn cleared_claim_is_omitted_from_the_set() {
    let (simulated, mattr) = both(&json!({"clearable": ["claims"]})).await;
    apply(
        &mattr,
        &command("u", &json!({"email": null, "mattr": {"claims": {"tier": null}}})),
    )
    .await;
    assert_eq!(simulated.user("u").unwrap()["fields"]["claims"], json!({}));
}

#[tokio::test]
async fn merge_without_a_read_user_sends_nothing() {
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
fn clearing_has_to_be_configured() {
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
fn unlisted_claim_is_refused_by_name() {
    let level = json!({"mattr": {"claims": {"level": 3}}});
    let both = json!({"email": "a@x.example", "mattr": {"claims": {"level": 3, "tier": "gold"}}});
    let odd = json!({"mattr": {"claims": {"alex@example.com": 1}}});
    for (config, update, pointer) in [
        (json!({}), &both, None),
        (json!({"claims": ["level", "tier"]}), &both, None),
        (json!({"claims": ["level"]}), &level, None),
        (
            json!({"claims": ["level"]}),
            &both,
            Some("/update/mattr/claims/tier"),
        ),
        (json!({"claims": []}), &level, Some("/update/mattr/claims/level")),
        (json!({"claims": ["level"]}), &odd, Some("/update/mattr/claims/*")),
        (json!({"claims": []}), &json!({"email": "a@x.example"}), None),
    ] {
        let failure = unused(&config).check(&command("u", update)).err();
        let refused = failure.as_ref().map(|failure| failure.reason);
        assert_eq!(
            refused,
            pointer.map(|_| Reason::UnsupportedField),
            "{config} {update}"
        );
        assert_eq!(
            failure.as_ref().and_then(|failure| failure.pointer.as_deref()),
            pointer
        );
        assert!(failure.is_none_or(|failure| !failure.to_string().contains("alex")));
    }
}

#[tokio::test]
async fn user_is_relinked_only_if_allowed_and_otherwise_keeps_its_provider() {
    let update = json!({"mattr": {"authenticationProvider": {"subjectId": "other"}}});
    let failure = unused(&json!({})).check(&command("u", &update)).unwrap_err();
    assert_eq!(
        (failure.reason, failure.pointer.as_deref()),
        (
            Reason::UnsupportedField,
            Some("/update/mattr/authenticationProvider")
        )
    );
    assert!(failure.detail.contains("`allow_relink`"), "{failure}");

    let (simulated, mattr) = both(&json!({"allow_relink": true})).await;
    let before = mattr.read(&command("u", &update).user_id).await.unwrap();
    apply(&mattr, &command("u", &update)).await;
    let before: Value = serde_json::from_str(before.0.as_str().unwrap()).unwrap();
    let after = simulated.user("u").unwrap()["fields"].clone();
    assert_eq!(
        after["authenticationProvider"],
        json!({"providerId": before["authenticationProvider"]["providerId"], "subjectId": "other"})
    );
    assert_eq!(after["claims"], before["claims"]);
}

#[test]
fn claim_that_is_set_twice_is_invalid() {
    let update = json!({"givenName": "Alex", "mattr": {"claims": {"givenName": "Alexa"}}});
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
async fn error_points_to_the_member_of_the_command() {
    let update = json!({
        "email": "alex@example.com",
        "mattr": {"claims": {"badge": 1}, "authenticationProvider": {"subjectId": "s"}},
    });
    for (param, pointer) in [
        ("claims.email", Some("/update/email")),
        ("body.claims.email", Some("/update/email")),
        ("claims.badge", Some("/update/mattr/claims")),
        ("claims.badge.level", Some("/update/mattr/claims")),
        ("claims", Some("/update/mattr/claims")),
        (
            "authenticationProvider.subjectId",
            Some("/update/mattr/authenticationProvider"),
        ),
        // From the user that was put back, not from the command.
        ("claims.givenName", None),
        ("claims.badgeNumber", None),
        ("alex@example.com", None),
        ("", None),
    ] {
        for (param, location) in [
            (json!(param), json!("body")),
            (Value::Null, json!(param)),
            (json!("body"), json!(param)),
        ] {
            let body = json!({"code": "BadRequest", "details": [
            {"value": "alex@example.com", "param": param, "location": location}]});
            let server = canned("400 Bad Request", "", &body.to_string()).await;
            let mattr = adapter(
                &server.base_url,
                &json!({"claims_mode": "replace", "codes": ["BadRequest"]}),
            );
            let refused = error(mattr.update(&command("u", &update), None).await);
            assert_eq!(refused.pointer.as_deref(), pointer, "{body}");
            assert_eq!(refused.code.as_deref(), Some("BadRequest"));
        }
    }
    // A place that the command does not have is not passed on.
    let update = json!({"nickname": "Al"});
    for param in [
        "claims",
        "claims.email",
        "authenticationProvider",
        "authenticationProvider.subjectId",
    ] {
        let body = json!({"code": "BadRequest", "details": [{"param": param, "location": "body"}]});
        let server = canned("400 Bad Request", "", &body.to_string()).await;
        let mattr = adapter(&server.base_url, &json!({"claims_mode": "replace"}));
        let refused = error(mattr.update(&command("u", &update), None).await);
        assert_eq!(refused.pointer, None, "{param}");
    }
}

#[test]
fn id_that_is_not_a_uuid_is_refused_if_configured() {
    let update = json!({"email": "alex@example.com"});
    let strict = adapter("http://unused.example", &json!({"user_ids": "uuid"}));
    for id in [
        "u1",
        "0c3fad74a8df4a2d8e75f2d356b413ba",
        "{0c3fad74-a8df-4a2d-8e75-f2d356b413ba}",
    ] {
        let failure = strict.check(&command(id, &update)).unwrap_err();
        assert_eq!(
            (failure.reason, failure.pointer.as_deref()),
            (Reason::Invalid, Some("/userId")),
            "{id}"
        );
    }
    for id in [
        "0c3fad74-a8df-4a2d-8e75-f2d356b413ba",
        "0C3FAD74-A8DF-4A2D-8E75-F2D356B413BA",
    ] {
        assert_eq!(strict.check(&command(id, &update)), Ok(()), "{id}");
    }
    let lenient = adapter("http://unused.example", &json!({}));
    assert_eq!(lenient.check(&command("u1", &update)), Ok(()));
}

#[tokio::test]
async fn remarks_name_changes_that_can_be_lost() {
    for (mode, says) in [
        ("merge", "between the read and the put are lost"),
        ("replace", "without a read"),
    ] {
        let config = serde_json::from_value(json!({ "claims_mode": mode })).unwrap();
        let mattr = Mattr::new(&config, http("http://unused.example", TIMEOUT)).unwrap();
        let remarks = mattr.remarks().await.unwrap();
        assert_eq!(remarks.len(), 1);
        assert!(
            remarks[0].workable && remarks[0].detail.contains(says),
            "{remarks:?}"
        );
    }
}

#[tokio::test]
async fn claims_are_sent_as_written() {
    let command = command_as_written(
        r#"{"mattr":{"claims":{"level":1.10,"id":123456789012345678901234567890,"more":{"n":12345678901234567890,"list":[1e400, -0]},"tier":null}}}"#,
        "",
    );
    for (mode, put) in [
        (
            "merge",
            r#"{"claims":{"id":123456789012345678901234567890,"kept":1.0,"level":1.10,"more":{"n":12345678901234567890,"list":[1e400, -0]}}}"#,
        ),
        (
            "replace",
            r#"{"claims":{"id":123456789012345678901234567890,"level":1.10,"more":{"n":12345678901234567890,"list":[1e400, -0]}}}"#,
        ),
    ] {
        let read = r#"{"claims":{"id":7,"kept":1.0,"tier":"gold"}}"#;
        let server = canned("200 OK", "", read).await;
        let mattr = adapter(
            &server.base_url,
            &json!({"claims_mode": mode, "clearable": ["claims"]}),
        );
        mattr.check(&command).unwrap();
        let user = mattr.read(&command.user_id).await.unwrap();
        mattr.update(&command, Some(&user)).await.unwrap();
        let sent = server.requests().pop().unwrap();
        assert_eq!(sent.split_once("\r\n\r\n").unwrap().1, put, "{mode}");
    }
}
