//! One operation of a PATCH: on an attribute, on one of `name`, on a list, or on the entries of one type in it.

use serde_json::{Map, Value};

use crate::provider::simulated::shape::Refusal;

const PLAIN: [&str; 11] = [
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

const LISTS: [&str; 2] = ["emails", "phoneNumbers"];

fn invalid(id: &'static str, message: &'static str) -> Refusal {
    Refusal::invalid("Operations", id, message)
}

pub(super) fn apply(operation: &Value, user: &mut Map<String, Value>) -> Result<(), Refusal> {
    let Some(path) = operation["path"].as_str() else {
        return Err(invalid("invalidSyntax", "a path is required"));
    };
    let new = match (operation["op"].as_str(), operation.get("value")) {
        (Some("remove"), None) => None,
        (Some("add" | "replace"), Some(value)) => Some(value.clone()),
        _ => {
            return Err(invalid(
                "invalidSyntax",
                "op is add or replace with a value, or remove",
            ));
        }
    };
    let adds = operation["op"] == "add";
    if let Some((list, rest)) = path.split_once("[type eq \"") {
        let (of_type, sub) = rest
            .split_once("\"]")
            .ok_or_else(|| invalid("invalidPath", "no such filter"))?;
        let entries = entries(user, list)?;
        return match (new, sub) {
            (None, "") => {
                entries.retain(|entry| entry["type"] != of_type);
                Ok(())
            }
            (Some(value @ Value::String(_)), ".value") => set_value(entries, of_type, &value),
            _ => Err(invalid("invalidPath", "no such path")),
        };
    }
    match (path, new) {
        (list, Some(Value::Array(added))) if adds && LISTS.contains(&list) => {
            let entries = entries(user, list)?;
            // There is one primary entry at most.
            if added.iter().any(|entry| entry["primary"] == true) {
                for entry in entries.iter_mut().filter(|entry| entry["primary"] == true) {
                    entry["primary"] = false.into();
                }
            }
            entries.extend(added);
            Ok(())
        }
        ("name.givenName" | "name.familyName", new) => {
            let name = user.entry("name").or_insert_with(|| Map::new().into());
            let name = name.as_object_mut().ok_or(Refusal::Broken)?;
            put(name, path.trim_start_matches("name."), new)
        }
        ("active", new @ (None | Some(Value::Bool(_)))) => put(user, path, new),
        (list, new @ (None | Some(Value::Array(_)))) if LISTS.contains(&list) => put(user, path, new),
        (plain, new @ (None | Some(Value::String(_)))) if PLAIN.contains(&plain) => put(user, path, new),
        _ => Err(invalid("invalidPath", "no such attribute, or not of its type")),
    }
}

fn put(object: &mut Map<String, Value>, name: &str, new: Option<Value>) -> Result<(), Refusal> {
    match new {
        Some(value) => object.insert(name.into(), value),
        None => object.remove(name),
    };
    Ok(())
}

fn entries<'a>(user: &'a mut Map<String, Value>, list: &str) -> Result<&'a mut Vec<Value>, Refusal> {
    if !LISTS.contains(&list) {
        return Err(invalid("invalidPath", "no such list"));
    }
    let entries = user.entry(list).or_insert_with(|| Value::Array(Vec::new()));
    entries.as_array_mut().ok_or(Refusal::Broken)
}

fn set_value(entries: &mut [Value], of_type: &str, value: &Value) -> Result<(), Refusal> {
    let mut found = false;
    for entry in entries.iter_mut().filter(|entry| entry["type"] == of_type) {
        entry["value"] = value.clone();
        found = true;
    }
    match found {
        true => Ok(()),
        false => Err(invalid("noTarget", "no value matches the path's filter")),
    }
}
