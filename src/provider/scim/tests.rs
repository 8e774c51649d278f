//! Tests of what is specific to SCIM.

mod dialects;
mod entries;
mod remarks;

use serde_json::json;

use super::super::testbed::{TIMEOUT, canned, command, command_with, error, http, simulated};
use super::*;
use crate::contract::{Fault, Reason};
use crate::simulator::Simulated;

/// Refused forms are answers like any other.
pub(in crate::provider) fn tested(http: Http) -> Scim {
    let config = Config {
        write: Some(Write::Patch),
        media_type: Some(MediaType::Scim),
        entry_members: Some(vec![EntryMember::Type, EntryMember::Primary]),
        ..Config::default()
    };
    Scim::new(&config, http).unwrap()
}

const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";

const UNIQUENESS: Option<&str> = Some("uniqueness");

const REJECTED: Fault = Fault::Command(Reason::Rejected);
const CONFLICT: Fault = Fault::Command(Reason::Conflict);
const VERSION_CONFLICT: Fault = Fault::Command(Reason::VersionConflict);

fn adapter(base_url: &str, config: &Value) -> Scim {
    let config: Config = serde_json::from_value(config.clone()).unwrap();
    Scim::new(&config, http(base_url, TIMEOUT)).unwrap()
}

fn unused(config: &Value) -> Scim {
    adapter("http://unused.example", config)
}

async fn both(config: &Value) -> (Simulated, Scim) {
    let simulated = simulated(Kind::Scim).await;
    let scim = adapter(&simulated.base_url(), config);
    (simulated, scim)
}

fn versioned(update: &Value, version: &str) -> UpdateUser {
    command_with("u", update, &json!({"expectedVersion": version}))
}

async fn apply(scim: &Scim, command: &UpdateUser) {
    scim.check(command).unwrap();
    let current = match scim.reads_before_write(command) {
        true => Some(scim.read(&command.user_id).await.unwrap()),
        false => None,
    };
    scim.update(command, current.as_ref()).await.unwrap();
}

async fn compared(scim: &Scim, command: &UpdateUser) -> Comparison {
    scim.compare(command, &scim.read(&command.user_id).await.unwrap())
}

#[tokio::test]
async fn command_is_one_scim_patch_with_the_unchanged_version() {
    let server = canned("204 No Content", "", "").await;
    let scim = adapter(&format!("{}/scim/v2", server.base_url), &json!({}));
    let update = json!({"givenName": "Alex", "nickname": null, "scim": {"active": false}});
    apply(&scim, &versioned(&update, "W/\"3694\"")).await;
    let request = &server.requests()[0];
    assert!(request.starts_with("PATCH /scim/v2/Users/u "), "{request}");
    for line in [
        "if-match: W/\"3694\"\r\n",
        "content-type: application/scim+json\r\n",
        "accept: application/scim+json\r\n",
    ] {
        assert!(request.contains(line), "{request}");
    }
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let expected = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [
            {"op": "replace", "path": "name.givenName", "value": "Alex"},
            {"op": "remove", "path": "nickName"},
            {"op": "replace", "path": "active", "value": false},
        ],
    });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
}

fn every_field() -> Value {
    json!({
        "email": "alex@example.com", "phone": "+61412345678", "givenName": "Alex", "familyName": "Taylor",
        "displayName": "Alex T", "nickname": "Al", "locale": "de-CH",
        "scim": {"externalId": "e", "title": "t", "userType": "u", "preferredLanguage": "de",
            "timezone": "Australia/Sydney", "profileUrl": "https://x.example", "active": false},
    })
}

/// The same, cleared where possible.
fn no_field() -> Value {
    let mut clear = every_field();
    for pointer in ["", "/scim"] {
        for (_, value) in clear.pointer_mut(pointer).unwrap().as_object_mut().unwrap() {
            if value.is_string() {
                *value = Value::Null;
            }
        }
    }
    clear["scim"]["active"] = true.into();
    clear
}

#[tokio::test]
async fn every_field_is_set_cleared_and_compared() {
    for contacts in ["entry", "value", "list"] {
        let (_simulated, scim) =
            both(&json!({"contacts": contacts, "read_first": contacts == "value"})).await;
        let (set, clear) = (command("u", &every_field()), command("u", &no_field()));
        for (command, other) in [(&set, &clear), (&clear, &set)] {
            apply(&scim, command).await;
            assert_eq!(compared(&scim, command).await, Comparison::Matches, "{contacts}");
            assert_eq!(compared(&scim, other).await, Comparison::Differs, "{contacts}");
        }
    }
}

#[tokio::test]
async fn entries_of_other_types_are_kept_unless_the_list_is_replaced() {
    for (contacts, shown) in [
        (
            "entry",
            json!([
                {"value": "u@users.example", "type": "home", "primary": false},
                {"value": "alex@example.com", "type": "work", "primary": true},
            ]),
        ),
        (
            "list",
            json!([{"value": "alex@example.com", "type": "work", "primary": true}]),
        ),
    ] {
        let (simulated, scim) = both(&json!({"contacts": contacts})).await;
        for _ in 0..2 {
            apply(&scim, &command("u", &json!({"email": "alex@example.com"}))).await;
            assert_eq!(simulated.user("u").unwrap()["fields"]["emails"], shown);
        }
    }
}

#[test]
fn user_is_read_first_if_a_target_may_be_missing() {
    let reads = |config: &Value, update: &Value| unused(config).reads_before_write(&command("u", update));
    let strict = json!({"read_first": true});
    assert!(reads(&strict, &json!({"email": "alex@example.com"})));
    assert!(reads(&strict, &json!({"nickname": null})));
    assert!(!reads(&strict, &json!({"nickname": "Al"})));
    assert!(!reads(
        &json!({"read_first": true, "contacts": "list"}),
        &json!({"email": "alex@example.com"})
    ));
    assert!(!reads(&json!({}), &json!({"nickname": null})));
    assert!(reads(&json!({}), &json!({"email": null})), "it may have no type");
    assert!(!reads(&json!({"contacts": "list"}), &json!({"email": null})));
}

#[tokio::test]
async fn missing_target_counts_as_cleared_only_for_pure_removals() {
    let body = json!({"schemas": [ERROR], "status": "400", "scimType": "noTarget"}).to_string();
    let server = canned("400 Bad Request", "", &body).await;
    let scim = adapter(&server.base_url, &json!({}));
    let none = User("{}".into());
    let one = command("u", &json!({"phone": null}));
    let plain = command("u", &json!({"nickname": null}));
    let two = command("u", &json!({"phone": null, "nickname": null}));
    let both = command("u", &json!({"phone": null, "nickname": "Al"}));
    scim.update(&plain, None).await.unwrap();
    scim.update(&one, Some(&none)).await.unwrap();
    scim.update(&two, Some(&none)).await.unwrap();
    for command in [&one, &two, &both] {
        let refused = error(scim.update(command, None).await);
        assert_eq!(
            (refused.fault, refused.code.as_deref()),
            (Fault::ReadFirst, Some("noTarget"))
        );
    }
    let refused = error(scim.update(&both, Some(&none)).await);
    assert_eq!(refused.fault, REJECTED, "there was nothing to remove");
    let gone = json!({"schemas": [ERROR], "status": "404"}).to_string();
    server.answer_with("404 Not Found", &gone);
    assert_eq!(
        error(scim.update(&one, Some(&none)).await).fault,
        Fault::Command(Reason::NotFound)
    );
}

#[tokio::test]
async fn second_write_with_the_same_version_is_a_version_conflict() {
    let (simulated, scim) = both(&json!({})).await;
    let first = versioned(&json!({"nickname": "Al"}), "W/\"0\"");
    apply(&scim, &first).await;
    assert_eq!(error(scim.update(&first, None).await).fault, VERSION_CONFLICT);
    let before = scim.read(&first.user_id).await.unwrap();
    assert!(scim.is_unchanged(&before, &scim.read(&first.user_id).await.unwrap()));
    apply(&scim, &versioned(&json!({"nickname": null}), "W/\"1\"")).await;
    assert!(!scim.is_unchanged(&before, &scim.read(&first.user_id).await.unwrap()));
    assert!(
        !scim.is_unchanged(&User("{}".into()), &User("{}".into())),
        "no versions are kept"
    );
    assert_eq!(simulated.user("u").unwrap()["version"], 2);
}

/// With a version or without, status, `scimType` and `detail`; the fault and the field.
type Refusal = (
    bool,
    &'static str,
    Option<&'static str>,
    &'static str,
    Fault,
    Option<&'static str>,
);

const REFUSALS: [Refusal; 12] = [
    (
        false,
        "409",
        UNIQUENESS,
        "userName alex is taken",
        CONFLICT,
        Some("/update/username"),
    ),
    (false, "409", UNIQUENESS, "alex is taken", CONFLICT, None),
    (
        false,
        "400",
        UNIQUENESS,
        "emails: alex@example.com",
        CONFLICT,
        Some("/update/email"),
    ),
    (false, "409", None, "the version does not match", CONFLICT, None),
    (
        true,
        "409",
        None,
        "the Version does not match",
        VERSION_CONFLICT,
        None,
    ),
    (true, "409", None, "alex is taken", CONFLICT, None),
    (true, "409", UNIQUENESS, "a conversion", CONFLICT, None),
    (true, "412", None, "changed", VERSION_CONFLICT, None),
    (
        false,
        "400",
        Some("invalidValue"),
        "emails and userName",
        REJECTED,
        None,
    ),
    (false, "400", Some("alex@example.com"), "", REJECTED, None),
    (false, "501", None, "", Fault::Configuration, None),
    (false, "405", None, "", Fault::Configuration, None),
];

#[tokio::test]
async fn body_of_a_refusal_overrides_its_status_and_is_not_passed_on() {
    let server = canned("200 OK", "", "").await;
    let known = json!({"write": "patch", "entry_members": ["type", "primary"]});
    let scim = adapter(&server.base_url, &known);
    let update = json!({"username": "alex", "email": "alex@example.com"});
    for (with_version, status, scim_type, detail, fault, pointer) in REFUSALS {
        let command = match with_version {
            true => versioned(&update, "W/\"1\""),
            false => command("u", &update),
        };
        let body = json!({"schemas": [ERROR], "status": status, "scimType": scim_type, "detail": detail});
        server.answer_with(&format!("{status} Said"), &body.to_string());
        let refused = error(scim.update(&command, None).await);
        let code = scim_type.filter(|code| !code.contains('@'));
        assert_eq!(
            (refused.fault, refused.pointer.as_deref(), refused.code.as_deref()),
            (fault, pointer, code),
            "{body}"
        );
        assert_eq!(
            refused.detail.contains("PATCH"),
            fault == Fault::Configuration,
            "{refused}"
        );
    }
}

#[test]
fn user_name_cannot_be_cleared_and_version_must_be_one_entity_tag() {
    let scim = unused(&json!({}));
    let failure = scim.check(&command("u", &json!({"username": null}))).unwrap_err();
    assert_eq!(
        (failure.reason, failure.pointer.as_deref()),
        (Reason::UnsupportedField, Some("/update/username"))
    );
    let lists = ["\"zz\", *", "\"a\", \"b\"", "a,b", "W/*", "W/"];
    for version in ["*", " ", " W/\"1\"", "W/\"1\" "].into_iter().chain(lists) {
        let failure = scim
            .check(&versioned(&json!({"nickname": "Al"}), version))
            .unwrap_err();
        assert_eq!(
            (failure.reason, failure.pointer.as_deref()),
            (Reason::Invalid, Some("/expectedVersion"))
        );
    }
    for version in ["W/\"1\"", "\"a b\"", "e1"] {
        assert_eq!(
            scim.check(&versioned(&json!({"nickname": "Al"}), version)),
            Ok(())
        );
    }
}

#[tokio::test]
async fn password_is_judged_by_the_version_only() {
    let (simulated, scim) = both(&json!({})).await;
    let update = json!({"scim": {"password": "hunter2"}});
    let plain = command("u", &update);
    apply(&scim, &plain).await;
    assert_eq!(simulated.user("u").unwrap()["fields"]["password"], "hunter2");
    assert_eq!(compared(&scim, &plain).await, Comparison::Unreadable);
    assert!(scim.is_idempotent(&plain));

    let next = versioned(&json!({"scim": {"password": "hunter2!"}}), "W/\"1\"");
    assert!(!scim.is_idempotent(&next));
    assert_eq!(
        compared(&scim, &next).await,
        Comparison::Differs,
        "not written yet"
    );
    apply(&scim, &next).await;
    assert_eq!(compared(&scim, &next).await, Comparison::Unreadable);
    assert!(scim.is_idempotent(&versioned(&json!({"nickname": "Al"}), "W/\"1\"")));
}

#[test]
fn phone_number_may_be_shown_as_a_uri() {
    let scim = unused(&json!({"phone_type": "mobile"}));
    let command = command("u", &json!({"phone": "+61412345678"}));
    for (shown, comparison) in [
        (
            json!([{"type": "mobile", "value": "tel:+61-412-345678"}]),
            Comparison::Matches,
        ),
        (
            json!([{"type": "Mobile", "value": "+61412345678"}]),
            Comparison::Matches,
        ),
        (
            json!([{"type": "work", "value": "+61412345678"}]),
            Comparison::Differs,
        ),
        (
            json!([{"type": "mobile", "value": "+61412345679"}]),
            Comparison::Differs,
        ),
        (json!([{"type": "mobile", "value": 61}]), Comparison::Differs),
        (json!(5), Comparison::Differs),
    ] {
        let user = User(json!({ "phoneNumbers": shown }).to_string().into());
        assert_eq!(scim.compare(&command, &user), comparison, "{:?}", user.0);
    }
}

#[test]
fn type_with_a_quote_is_refused() {
    for key in ["email_type", "phone_type"] {
        let config = serde_json::from_value(json!({ key: "work\"]" })).unwrap();
        let refused = Scim::new(&config, http("http://unused.example", TIMEOUT)).map(drop);
        assert_eq!(refused.unwrap_err().key, format!("provider.scim.{key}"));
    }
}

#[tokio::test]
async fn user_with_untyped_entries_is_changed_in_the_same_form() {
    let user = json!({"schemas": [USER_SCHEMA], "id": "u", "emails": [{"value": "old@example.com"}]});
    let server = canned("200 OK", "", &user.to_string()).await;
    let scim = adapter(&server.base_url, &json!({}));
    let set = command("u", &json!({"email": "alex@example.com"}));
    let clear = command("u", &json!({"email": null}));
    assert!(
        scim.reads_before_write(&clear),
        "it still exists, so the write must not succeed"
    );
    assert_eq!(compared(&scim, &set).await, Comparison::Differs);
    assert_eq!(compared(&scim, &clear).await, Comparison::Differs);
    assert!(
        scim.reads_before_write(&set),
        "a path with a type addresses none of them"
    );
    let current = scim.read(&set.user_id).await.unwrap();
    server.answer_with("204 No Content", "");
    scim.update(&set, Some(&current)).await.unwrap();
    scim.update(&clear, Some(&current)).await.unwrap();
    let operations = |n: usize| -> Value {
        let requests = server.requests();
        let (_, body) = requests[requests.len() - n].split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()["Operations"].clone()
    };
    let put = json!({"op": "replace", "path": "emails", "value": [{"value": "alex@example.com"}]});
    assert_eq!(operations(2), json!([put]));
    assert_eq!(operations(1), json!([{"op": "remove", "path": "emails"}]));
}

#[tokio::test]
async fn answer_without_the_new_value_reports_the_field() {
    let with = |more: Value| {
        let mut user = json!({"schemas": [USER_SCHEMA], "id": "u", "userName": "Alex"});
        user.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        user.to_string()
    };
    let asked = json!({"username": "alex", "scim": {"externalId": "7", "password": "hunter2"}});
    for (body, ignored) in [
        (with(json!({"externalId": "7"})), None),
        (with(json!({})), Some("/update/scim/externalId")),
        (
            with(json!({"externalId": "7", "userName": "x"})),
            Some("/update/username"),
        ),
        // No user.
        ("{}".into(), None),
        (String::new(), None),
    ] {
        let server = canned("200 OK", "", &body).await;
        let scim = adapter(&server.base_url, &json!({}));
        let updated = scim.update(&command("u", &asked), None).await.unwrap();
        assert_eq!(updated.ignored.as_deref(), ignored, "{body}");
    }
}
