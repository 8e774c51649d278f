//! The documents in which a server describes itself (RFC 7643, sections 5 to 7).

use serde_json::{Value, json};

use super::USER_SCHEMA;
use super::dialect::ScimDialect;

pub(super) fn document(dialect: ScimDialect, path: &str) -> Option<Value> {
    match path {
        "/ServiceProviderConfig" => Some(config(dialect)),
        "/ResourceTypes" => Some(list(&json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": "User", "name": "User", "endpoint": "/Users", "schema": USER_SCHEMA,
        }))),
        "/Schemas" => Some(list(&user(dialect))),
        _ => None,
    }
}

fn list(only: &Value) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": 1, "startIndex": 1, "itemsPerPage": 1, "Resources": [only],
    })
}

fn config(dialect: ScimDialect) -> Value {
    let is = |supported: bool| json!({ "supported": supported });
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": is(dialect.has_patch()), "etag": is(dialect.has_versions()), "changePassword": is(true),
        "bulk": is(false), "filter": is(false), "sort": is(false),
    })
}

fn user(dialect: ScimDialect) -> Value {
    let text = |name: &str| json!({ "name": name, "type": "string", "multiValued": false });
    let parts = |name: &str, multi_valued: bool, parts: &[&str]| {
        let parts: Vec<_> = parts.iter().copied().map(text).collect();
        json!({ "name": name, "type": "complex", "multiValued": multi_valued, "subAttributes": parts })
    };
    let entry = dialect.entry();
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"], "id": USER_SCHEMA, "name": "User",
        "attributes": [
            text("userName"), parts("name", false, &["givenName", "familyName"]),
            parts("emails", true, entry), parts("phoneNumbers", true, entry),
        ],
    })
}
