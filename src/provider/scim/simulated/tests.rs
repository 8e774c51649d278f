//! Each dialect makes its own refusals, according to RFC 7644.

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::ScimDialect::{Entra, Lenient, NoValuePaths, PutOnly, Strict, ValueOnly};
use super::*;

/// The reply to a write, and the user after it.
fn write(dialect: ScimDialect, method: &Method, if_match: Option<&str>, body: &Value) -> (Reply, Value) {
    let scim = Simulated(dialect);
    let mut account = scim.account("u");
    let headers: HeaderMap = if_match
        .map(|tag| ("if-match".parse().unwrap(), tag.parse().unwrap()))
        .into_iter()
        .collect();
    let body = body.to_string();
    let write = Write {
        method,
        headers: &headers,
        user_id: "u",
        body: body.as_bytes(),
    };
    let reply = match scim.write(&write, &mut account) {
        Ok(answer) => scim.reply(&answer, &account),
        Err(refusal) => scim.refuse(&refusal),
    };
    (reply, scim.show("u", &account))
}

fn patch(dialect: ScimDialect, operation: &Value) -> (u16, String, Value) {
    let body =
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [operation]});
    let (reply, user) = write(dialect, &Method::PATCH, None, &body);
    let said: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    (
        reply.status,
        said["scimType"].as_str().unwrap_or_default().into(),
        user,
    )
}

#[test]
fn each_dialect_accepts_and_refuses_as_documented() {
    let remove = |path: &str| json!({"op": "remove", "path": path});
    let value = json!({"op": "replace", "path": "emails[type eq \"work\"].value", "value": "a@b.zz"});
    let home = json!({"op": "replace", "path": "emails[type eq \"home\"].value", "value": "a@b.zz"});
    let spelt = json!({"op": "Replace", "path": "title", "value": "t"});
    let word = json!({"op": "replace", "path": "active", "value": "False"});
    let whole = json!({"op": "add", "value": {"title": "t", "name": {"givenName": "A"}}});
    let (ok, refused) = ((200, ""), |scim_type| (400, scim_type));
    for (operation, lenient, strict, entra, no_value_paths) in [
        (&remove("nickName"), ok, refused("noTarget"), (204, ""), ok),
        (
            &remove("emails[type eq \"work\"]"),
            ok,
            refused("noTarget"),
            (204, ""),
            refused("invalidPath"),
        ),
        (
            &value,
            refused("noTarget"),
            refused("noTarget"),
            (204, ""),
            refused("invalidPath"),
        ),
        (&home, ok, ok, (204, ""), refused("invalidPath")),
        (
            &spelt,
            refused("invalidSyntax"),
            refused("invalidSyntax"),
            (204, ""),
            refused("invalidSyntax"),
        ),
        (
            &word,
            refused("invalidPath"),
            refused("invalidPath"),
            (204, ""),
            refused("invalidPath"),
        ),
        (
            &remove("userName"),
            refused("mutability"),
            refused("mutability"),
            refused("mutability"),
            refused("mutability"),
        ),
        (&whole, ok, ok, (204, ""), ok),
    ] {
        let all = [
            (Lenient, lenient),
            (Strict, strict),
            (Entra, entra),
            (NoValuePaths, no_value_paths),
        ];
        for (dialect, expected) in all {
            let (status, scim_type, _) = patch(dialect, operation);
            assert_eq!((status, &*scim_type), expected, "{dialect} {operation}");
        }
        assert_eq!(patch(PutOnly, operation).0, 501, "{operation}");
    }
}

#[test]
fn put_replaces_the_user_if_the_version_matches() {
    let body = json!({"schemas": [USER_SCHEMA], "userName": "v", "meta": {}, "groups": []});
    for dialect in ScimDialect::ALL {
        let (reply, user) = write(dialect, &Method::PUT, Some("W/\"0\""), &body);
        assert_eq!(
            (reply.status, reply.etag.is_some()),
            (200, dialect != Entra),
            "{dialect}"
        );
        assert_eq!(
            (&user["userName"], &user["name"]),
            (&json!("v"), &Value::Null),
            "{dialect}"
        );
        let (reply, _) = write(dialect, &Method::PUT, Some("W/\"7\""), &body);
        assert_eq!(
            reply.status,
            if dialect == Entra { 200 } else { 412 },
            "{dialect}"
        );
        let (reply, _) = write(dialect, &Method::PUT, None, &json!({"userName": "v"}));
        assert_eq!(reply.status, 400, "{dialect}: schemas are required");
    }
}

#[test]
fn entries_have_the_members_of_the_schemas() {
    let add = json!({"op": "add", "path": "phoneNumbers", "value": [{"value": "1", "type": "work"}]});
    let bare = json!({"op": "add", "path": "phoneNumbers", "value": [{"value": "1"}]});
    assert_eq!(patch(ValueOnly, &add).0, 400);
    assert_eq!(patch(ValueOnly, &bare).0, 200);
    assert_eq!(patch(Lenient, &add).0, 200);
    let schemas = documents::document(ValueOnly, "/Schemas").unwrap();
    let emails = &schemas["Resources"][0]["attributes"][2];
    assert_eq!(emails["subAttributes"].as_array().unwrap().len(), 1, "{emails}");
}

#[test]
fn entra_shows_a_guid_id_and_active_as_a_word() {
    let (_, _, user) = patch(Entra, &json!({"op": "replace", "path": "active", "value": false}));
    assert_eq!(
        (&user["active"], &user["meta"]["version"]),
        (&json!("False"), &Value::Null)
    );
    assert!(Uuid::try_parse(user["id"].as_str().unwrap()).is_ok(), "{user}");
}
