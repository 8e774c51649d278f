//! A PUT (RFC 7644, section 3.5.1): the user is replaced by what is sent, except for read-only members.

use serde_json::{Map, Value};

use super::USER_SCHEMA;
use super::attribute::{invalid, put};
use super::dialect::ScimDialect;
use crate::provider::shape::Refusal;

/// Sent values of these are ignored.
const READ_ONLY: [&str; 4] = ["id", "meta", "groups", "schemas"];

pub(super) fn replace(
    body: &Map<String, Value>,
    user: &mut Map<String, Value>,
    dialect: ScimDialect,
) -> Result<(), Refusal> {
    let schemas = body.get("schemas").and_then(Value::as_array);
    if !schemas.is_some_and(|schemas| schemas.contains(&USER_SCHEMA.into())) {
        return Err(invalid("invalidSyntax", "schemas has to name the user's"));
    }
    let mut new = Map::new();
    // It is never shown, so a client that omits it may not know it.
    new.extend(user.remove_entry("password"));
    for (name, value) in body
        .iter()
        .filter(|(name, _)| !READ_ONLY.contains(&name.as_str()))
    {
        let value = (!value.is_null()).then(|| value.clone());
        put(&mut new, name, value, dialect)?;
    }
    *user = new;
    Ok(())
}
