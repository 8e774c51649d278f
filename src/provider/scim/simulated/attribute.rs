//! The attributes of a user, and their valid values.

use serde_json::{Map, Value};

use super::dialect::ScimDialect;
use crate::provider::shape::Refusal;

const TEXTS: [&str; 11] = [
    "userName",
    "displayName",
    "nickName",
    "locale",
    "externalId",
    "title",
    "userType",
    "preferredLanguage",
    "timezone",
    "profileUrl",
    "password",
];

pub(super) const LISTS: [&str; 2] = ["emails", "phoneNumbers"];

pub(super) fn invalid(id: &'static str, message: &'static str) -> Refusal {
    Refusal::invalid("", id, message)
}

/// Sets or removes the attribute at this path.
pub(super) fn put(
    user: &mut Map<String, Value>,
    path: &str,
    new: Option<Value>,
    dialect: ScimDialect,
) -> Result<(), Refusal> {
    match (path, new) {
        ("name.givenName" | "name.familyName", new @ (None | Some(Value::String(_)))) => {
            let name = user.entry("name").or_insert_with(|| Map::new().into());
            let name = name.as_object_mut().ok_or(Refusal::Broken)?;
            store(name, path.trim_start_matches("name."), new);
        }
        ("name", Some(Value::Object(name))) => {
            for (part, value) in name {
                put(user, &format!("name.{part}"), Some(value), dialect)?;
            }
        }
        ("name", None) => store(user, path, None),
        ("active", new @ (None | Some(Value::Bool(_)))) => store(user, path, new),
        ("active", Some(Value::String(word))) if dialect == ScimDialect::Entra => match () {
            () if word.eq_ignore_ascii_case("true") => store(user, path, Some(true.into())),
            () if word.eq_ignore_ascii_case("false") => store(user, path, Some(false.into())),
            () => return Err(invalid("invalidValue", "active is true or false")),
        },
        (list, Some(Value::Array(entries))) if LISTS.contains(&list) => {
            let known = |entry: &Value| {
                let mut members = entry.as_object().into_iter().flat_map(Map::keys);
                entry.is_object() && members.all(|name| dialect.entry().contains(&name.as_str()))
            };
            match entries.iter().all(known) {
                true => store(user, path, Some(entries.into())),
                false => {
                    return Err(invalid("invalidSyntax", "an entry has an unknown member"));
                }
            }
        }
        (list, None) if LISTS.contains(&list) => store(user, path, None),
        (text, new @ (None | Some(Value::String(_)))) if TEXTS.contains(&text) => store(user, path, new),
        _ => {
            return Err(invalid(
                "invalidPath",
                "no such attribute, or a value of the wrong type",
            ));
        }
    }
    Ok(())
}

fn store(object: &mut Map<String, Value>, name: &str, new: Option<Value>) {
    match new {
        Some(value) => object.insert(name.into(), value),
        None => object.remove(name),
    };
}

/// Whether there is a value at this path.
pub(super) fn is_there(user: &Map<String, Value>, path: &str) -> bool {
    let (name, rest) = path
        .split_once('.')
        .map_or((path, None), |(name, rest)| (name, Some(rest)));
    match (user.get(name), rest) {
        (found, None) => found.is_some(),
        (found, Some(rest)) => found.is_some_and(|value| value.get(rest).is_some()),
    }
}
