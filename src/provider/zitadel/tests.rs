//! Tests of what is specific to Zitadel.

use serde_json::json;

use super::super::testbed::{TIMEOUT, canned, command, command_with, error, http, simulated, user_id};
use super::*;
use crate::simulator::{STARTING_PASSWORD, Simulated};

pub(in crate::provider) fn tested(http: Http) -> Zitadel {
    Zitadel::new(&Config::default(), http).unwrap()
}

fn adapter(base_url: &str, api: Api) -> Zitadel {
    adapter_with(base_url, api, Verification::Provider)
}

fn adapter_with(base_url: &str, api: Api, verification: Verification) -> Zitadel {
    Zitadel::new(&Config { api, verification }, http(base_url, TIMEOUT)).unwrap()
}

async fn both() -> (Simulated, Zitadel) {
    let simulated = simulated(Kind::Zitadel).await;
    let zitadel = adapter(&simulated.base_url(), Api::Put);
    (simulated, zitadel)
}

/// Sends the command as `worker::attempts` does, with a read first if needed.
async fn apply(zitadel: &Zitadel, command: &UpdateUser) -> Result<Updated, ProviderError> {
    zitadel.check(command).unwrap();
    let current = match zitadel.reads_before_write(command) {
        true => Some(zitadel.read(&command.user_id).await?),
        false => None,
    };
    let mut updated = zitadel.update(command, current.as_ref()).await?;
    for done in 1..zitadel.calls_of_write(command) {
        updated = zitadel.update_further(command, current.as_ref(), done).await?;
    }
    Ok(updated)
}

async fn compared(zitadel: &Zitadel, command: &UpdateUser) -> Comparison {
    zitadel.compare(command, &zitadel.read(&command.user_id).await.unwrap())
}

fn everything() -> Value {
    json!({
        "username": "alex", "email": "alex@example.com", "phone": "+61412345678", "givenName": "Alex",
        "familyName": "Taylor", "displayName": "Alex T", "nickname": "Al", "locale": "de-CH",
        "zitadel": {"gender": "diverse", "phoneVerification": {"verified": true}},
    })
}

#[tokio::test]
async fn every_field_matches_when_read_back() {
    let (simulated, _) = both().await;
    for (user, api) in [("by-put", Api::Put), ("by-patch", Api::Patch)] {
        let zitadel = adapter(&simulated.base_url(), api);
        let command = command(user, &everything());
        assert_eq!(compared(&zitadel, &command).await, Comparison::Differs);
        apply(&zitadel, &command).await.unwrap();
        assert_eq!(compared(&zitadel, &command).await, Comparison::Matches);
        let fields = &simulated.user(user).unwrap()["fields"];
        assert_eq!(fields["gender"], "GENDER_DIVERSE");
        assert_eq!(fields["phoneVerified"], true);
        assert_eq!(fields["preferredLanguage"], "de-CH");
    }
}

#[tokio::test]
async fn user_id_with_a_slash_reaches_its_user() {
    let (simulated, zitadel) = both().await;
    apply(&zitadel, &command("a/b?c", &json!({"username": "x"})))
        .await
        .unwrap();
    assert_eq!(simulated.user("a/b?c").unwrap()["fields"]["username"], "x");
}

#[tokio::test]
async fn put_fills_the_missing_name_from_the_read_user() {
    let (simulated, zitadel) = both().await;
    let one_name = command("u", &json!({"givenName": "Alex"}));
    assert!(zitadel.reads_before_write(&one_name));
    apply(&zitadel, &one_name).await.unwrap();
    let fields = simulated.user("u").unwrap()["fields"].clone();
    assert_eq!(
        (&fields["givenName"], &fields["familyName"]),
        (&json!("Alex"), &json!("Family"))
    );

    let refused = error(zitadel.update(&one_name, None).await);
    assert_eq!(refused.fault, Fault::Command(Reason::Invalid));
    assert_eq!(refused.pointer.as_deref(), Some("/update/familyName"));
}

#[tokio::test]
async fn only_a_put_of_a_partial_profile_reads_first() {
    let zitadel = adapter("http://unused.example", Api::Put);
    for (update, reads) in [
        (
            json!({"givenName": "A", "familyName": "B", "locale": "en"}),
            false,
        ),
        (
            json!({"email": "alex@example.com", "phone": "+61412345678", "username": "x"}),
            false,
        ),
        (json!({"nickname": null}), true),
        (json!({"zitadel": {"gender": "male"}}), true),
    ] {
        assert_eq!(
            zitadel.reads_before_write(&command("u", &update)),
            reads,
            "{update}"
        );
    }
    let patch = adapter("http://unused.example", Api::Patch);
    assert!(!patch.reads_before_write(&command("u", &json!({"givenName": "A"}))));
}

#[tokio::test]
async fn each_api_clears_everything_in_as_few_calls_as_possible() {
    let (simulated, put) = both().await;
    let patch = adapter(&simulated.base_url(), Api::Patch);
    let all = json!({
        "givenName": "Alexa", "email": "new@example.com", "nickname": null, "phone": null,
        "zitadel": {"gender": "unspecified"},
    });
    for (update, by_put, by_patch) in [
        (json!({"phone": null}), &["PATCH"][..], &["PATCH"][..]),
        (json!({"nickname": null}), &["PUT"], &["PUT"]),
        (json!({"zitadel": {"gender": "unspecified"}}), &["PUT"], &["PUT"]),
        (
            json!({"nickname": null, "phone": null}),
            &["PUT", "PATCH"],
            &["PATCH", "PUT"],
        ),
        (
            json!({"locale": "en", "phone": null}),
            &["PUT", "PATCH"],
            &["PATCH"],
        ),
        (
            json!({"locale": "en", "nickname": null}),
            &["PUT"],
            &["PATCH", "PUT"],
        ),
        (all, &["PUT", "PATCH"], &["PATCH", "PUT"]),
    ] {
        let command = command("u", &update);
        for (zitadel, methods) in [(&put, by_put), (&patch, by_patch)] {
            apply(&put, &super::super::testbed::command("u", &everything()))
                .await
                .unwrap();
            let before = simulated.calls().len();
            apply(zitadel, &command).await.unwrap();
            let writes: Vec<_> = simulated.calls()[before..]
                .iter()
                .map(|call| call.method.clone())
                .filter(|method| method != "GET")
                .collect();
            assert_eq!(writes, methods, "{update}");
            assert_eq!(compared(zitadel, &command).await, Comparison::Matches, "{update}");
            let family = &simulated.user("u").unwrap()["fields"]["familyName"];
            assert_eq!(family, "Taylor", "{update}");
        }
    }
    let failure = put.check(&command("u", &json!({"email": null}))).unwrap_err();
    assert_eq!(failure.reason, Reason::UnsupportedField);
}

#[tokio::test]
async fn missing_second_call_is_named_as_a_possible_cause() {
    let server = canned(
        "404 Not Found",
        "",
        r#"{"code":5,"message":"Not Found","details":[]}"#,
    )
    .await;
    let zitadel = adapter(&server.base_url, Api::Put);
    let refused = error(zitadel.update(&command("u", &json!({"phone": null})), None).await);
    assert_eq!(refused.fault, Fault::Command(Reason::NotFound));
    assert!(refused.detail.contains("no PATCH yet"), "{refused}");
    let configured = error(
        zitadel
            .update(&command("u", &json!({"username": "a"})), None)
            .await,
    );
    assert!(!configured.detail.contains("PATCH"), "{configured}");
}

#[test]
fn second_call_is_refused_with_one_time_values() {
    let code = json!({"emailVerification": {"returnCode": {}}});
    let password = json!({"password": {"password": "hunter2", "currentPassword": "Passw0rd!"}});
    for (api, update, pointer) in [
        (
            Api::Put,
            json!({"email": "a@b.example", "phone": null, "zitadel": code}),
            "/update/phone",
        ),
        (
            Api::Put,
            json!({"phone": null, "zitadel": password}),
            "/update/phone",
        ),
        (
            Api::Patch,
            json!({"nickname": null, "zitadel": password}),
            "/update/nickname",
        ),
    ] {
        let zitadel = adapter("http://unused.example", api);
        let failure = zitadel.check(&command("u", &update)).unwrap_err();
        assert_eq!(
            (failure.reason, failure.pointer.as_deref()),
            (Reason::UnsupportedField, Some(pointer))
        );
        assert!(failure.detail.contains("a separate command"), "{failure}");
    }
}

#[tokio::test]
async fn field_that_the_gateway_refuses_gets_a_pointer() {
    let body = json!({"code": 3, "message": "invalid UpdateHumanUserRequest.Email: embedded message failed validation | \
                      caused by: invalid SetHumanEmail.Email: value length must be between 1 and 200 runes, inclusive"});
    let server = canned("400 Bad Request", "", &body.to_string()).await;
    let zitadel = adapter(&server.base_url, Api::Put);
    let email = command("u", &json!({"email": "alex@example.com"}));
    let refused = error(zitadel.update(&email, None).await);
    assert_eq!(
        (refused.fault, refused.pointer.as_deref()),
        (Fault::Command(Reason::Rejected), Some("/update/email"))
    );
    let other = error(
        zitadel
            .update(&command("u", &json!({"username": "x"})), None)
            .await,
    );
    assert_eq!(other.pointer, None);
}

#[test]
fn unsupported_values_are_refused_with_a_pointer() {
    let zitadel = adapter("http://unused.example", Api::Put);
    let code = "9".repeat(21);
    for (update, more, reason, pointer) in [
        (
            json!({"email": null}),
            json!({}),
            Reason::UnsupportedField,
            "/update/email",
        ),
        (
            json!({"displayName": null}),
            json!({}),
            Reason::UnsupportedField,
            "/update/displayName",
        ),
        (
            json!({"sivo": {"lists": null}}),
            json!({}),
            Reason::UnsupportedField,
            "/update/sivo",
        ),
        (
            json!({"nickname": "x"}),
            json!({"expectedVersion": "1"}),
            Reason::UnsupportedField,
            "/expectedVersion",
        ),
        (
            json!({"locale": "de-Latn-CH-x"}),
            json!({}),
            Reason::Invalid,
            "/update/locale",
        ),
        (
            json!({"zitadel": {"emailVerification": {"verified": true}}}),
            json!({}),
            Reason::Invalid,
            "/update/zitadel/emailVerification",
        ),
        (
            json!({"zitadel": {"phoneVerification": {"returnCode": {}}}}),
            json!({}),
            Reason::Invalid,
            "/update/zitadel/phoneVerification",
        ),
        (
            json!({"zitadel": {"password": {"password": "hunter2", "verificationCode": code}}}),
            json!({}),
            Reason::Invalid,
            "/update/zitadel/password/verificationCode",
        ),
    ] {
        let failure = zitadel.check(&command_with("u", &update, &more)).unwrap_err();
        assert_eq!(
            (failure.reason, failure.pointer.as_deref()),
            (reason, Some(pointer)),
            "{update}"
        );
        assert!(!failure.detail.contains("hunter2"));
    }
}

#[tokio::test]
async fn codes_are_returned_once_and_only_if_requested() {
    let (simulated, zitadel) = both().await;
    let command = command(
        "u",
        &json!({
            "email": "alex@example.com", "phone": "+61412345678",
            "zitadel": {"emailVerification": {"returnCode": {}}, "phoneVerification": {"returnCode": {}}},
        }),
    );
    let codes = apply(&zitadel, &command).await.unwrap().codes;
    assert!(codes.email.is_some() && codes.phone.is_some());
    assert!(format!("{codes:?}").contains("redacted"));
    assert!(apply(&zitadel, &command).await.unwrap().codes.is_empty());
    assert_eq!(compared(&zitadel, &command).await, Comparison::Unreadable);
    assert!(!zitadel.is_idempotent(&command));
    let user = simulated.user("u").unwrap();
    assert_eq!((&user["mails"], &user["texts"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn configured_verification_applies_if_the_command_has_none() {
    let (simulated, zitadel) = both().await;
    let update = json!({"email": "alex@example.com", "phone": "+61412345678"});
    let plain = command("sent", &update);
    apply(&zitadel, &plain).await.unwrap();
    apply(&zitadel, &plain).await.unwrap();
    let user = simulated.user("sent").unwrap();
    assert_eq!(
        (&user["mails"], &user["texts"], &user["version"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(zitadel.is_idempotent(&plain));

    let verified = adapter_with(&simulated.base_url(), Api::Put, Verification::Verified);
    assert_eq!(
        compared(&verified, &plain).await,
        Comparison::Differs,
        "the value matches, but is not verified"
    );
    apply(&verified, &plain).await.unwrap();
    assert_eq!(compared(&verified, &plain).await, Comparison::Matches);
    assert_eq!(simulated.user("sent").unwrap()["mails"], 1);

    let asked = adapter_with(&simulated.base_url(), Api::Patch, Verification::SendCode);
    apply(&asked, &command("asked", &update)).await.unwrap();
    assert_eq!(simulated.user("asked").unwrap()["mails"], 1);
}

#[tokio::test]
async fn password_cannot_be_read_and_proof_works_once() {
    let (simulated, zitadel) = both().await;
    let with = |password: Value| command("u", &json!({"username": "x", "zitadel": {"password": password}}));
    let proven = with(json!({"password": "hunter2", "currentPassword": STARTING_PASSWORD}));
    apply(&zitadel, &proven).await.unwrap();
    assert_eq!(compared(&zitadel, &proven).await, Comparison::Unreadable);
    assert!(!zitadel.is_idempotent(&proven));
    let again = error(apply(&zitadel, &proven).await);
    assert_eq!(again.fault, Fault::Command(Reason::Rejected));
    assert!(again.detail.contains("COMMAND-3M0fs"), "{again}");

    let permitted = with(json!({"hash": "$2y$12$hunter2", "changeRequired": true}));
    apply(&zitadel, &permitted).await.unwrap();
    assert!(zitadel.is_idempotent(&permitted));
    assert_eq!(simulated.user("u").unwrap()["fields"]["changeRequired"], true);
    let other = with(json!({"password": "hunter2", "verificationCode": "000000"}));
    assert_eq!(
        error(apply(&zitadel, &other).await).fault,
        Fault::Command(Reason::Conflict)
    );
    assert!(!zitadel.is_idempotent(&other));
}

#[tokio::test]
async fn refusals_of_the_simulation_have_the_right_faults() {
    let (_simulated, zitadel) = both().await;
    let rejected = Fault::Command(Reason::Rejected);
    let conflict = Fault::Command(Reason::Conflict);
    for (user, update, fault, status, code) in [
        (
            "missing-1",
            json!({"username": "x"}),
            Fault::Command(Reason::NotFound),
            404,
            "NOT_FOUND",
        ),
        (
            "forbidden-1",
            json!({"username": "x"}),
            Fault::Denied,
            403,
            "PERMISSION_DENIED",
        ),
        (
            "broken-1",
            json!({"username": "x"}),
            Fault::Broken,
            500,
            "INTERNAL",
        ),
        (
            "locked",
            json!({"username": "x"}),
            conflict,
            400,
            "FAILED_PRECONDITION",
        ),
        ("u", json!({"username": "taken"}), conflict, 409, "ALREADY_EXISTS"),
        (
            "u",
            json!({"email": "taken@x.example"}),
            conflict,
            409,
            "ALREADY_EXISTS",
        ),
        (
            "u",
            json!({"givenName": "rejected", "familyName": "x"}),
            rejected,
            400,
            "INVALID_ARGUMENT",
        ),
    ] {
        let error = error(apply(&zitadel, &command(user, &update)).await);
        assert_eq!(
            (error.fault, error.status),
            (fault, Some(status)),
            "{user} {update}"
        );
        assert_eq!(error.code.as_deref(), Some(code), "{user} {update}");
    }
}

#[tokio::test]
async fn read_without_a_user_is_broken() {
    for body in ["", "{", "[1]", r#"{"user": 1}"#] {
        let server = canned("200 OK", "", body).await;
        let zitadel = adapter(&server.base_url, Api::Put);
        let read = zitadel.read(&user_id("u")).await;
        assert_eq!(error(read).fault, Fault::Broken, "{body}");
    }
}

#[tokio::test]
async fn write_with_unreadable_codes_is_applied() {
    for body in ["", "{", "[1]", r#"{"emailCode": 1}"#] {
        let server = canned("200 OK", "", body).await;
        let zitadel = adapter(&server.base_url, Api::Put);
        let written = zitadel
            .update(&command("u", &json!({"username": "x"})), None)
            .await;
        assert!(written.unwrap().codes.is_empty(), "{body}");
    }
}
