//! A PATCH (RFC 7644, section 3.5.2). Its operations are applied in order, each to an attribute, to a member of `name`,
//! to a list, or to the entries of one type in it.

use serde_json::{Map, Value};

use super::attribute::{LISTS, invalid, is_there, put};
use super::dialect::ScimDialect;
use crate::provider::shape::Refusal;

const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Add,
    Replace,
    Remove,
}

pub(super) fn patch(
    body: &Map<String, Value>,
    user: &mut Map<String, Value>,
    dialect: ScimDialect,
) -> Result<(), Refusal> {
    let schemas = body.get("schemas").and_then(Value::as_array);
    let operations = body.get("Operations").and_then(Value::as_array);
    let (Some(schemas), Some(operations)) = (schemas, operations) else {
        return Err(invalid("invalidSyntax", "schemas and Operations are required"));
    };
    if !schemas.contains(&PATCH_OP.into()) || operations.is_empty() {
        return Err(invalid("invalidSyntax", "no PatchOp with operations"));
    }
    operations
        .iter()
        .try_for_each(|operation| apply(operation, user, dialect))
}

fn op(operation: &Value, dialect: ScimDialect) -> Result<Op, Refusal> {
    let spelt = operation["op"].as_str().unwrap_or_default();
    let op = match dialect {
        ScimDialect::Entra => spelt.to_ascii_lowercase(),
        _ => spelt.to_owned(),
    };
    match &*op {
        "add" => Ok(Op::Add),
        "replace" => Ok(Op::Replace),
        "remove" => Ok(Op::Remove),
        _ => Err(invalid("invalidSyntax", "op is add, replace or remove")),
    }
}

fn apply(operation: &Value, user: &mut Map<String, Value>, dialect: ScimDialect) -> Result<(), Refusal> {
    let op = op(operation, dialect)?;
    let new = match (op, operation.get("value")) {
        (Op::Remove, None) => None,
        (Op::Add | Op::Replace, Some(value)) => Some(value.clone()),
        _ => {
            return Err(invalid(
                "invalidSyntax",
                "add and replace have a value, remove has none",
            ));
        }
    };
    let Some(path) = operation["path"].as_str() else {
        return match new {
            Some(Value::Object(members)) => {
                let mut members = members.into_iter();
                members.try_for_each(|(path, value)| change(op, &path, Some(value), user, dialect))
            }
            Some(_) => Err(invalid("invalidValue", "without a path, the value is an object")),
            None => Err(invalid("noTarget", "a removal has a path")),
        };
    };
    match path.contains('[') {
        true if dialect == ScimDialect::NoValuePaths => {
            Err(invalid("invalidPath", "a path may have no filter"))
        }
        true if dialect == ScimDialect::ValueOnly => {
            Err(invalid("invalidFilter", "an entry has nothing to compare"))
        }
        true => change_entries(path, new, user, dialect),
        false => change(op, path, new, user, dialect),
    }
}

fn change(
    op: Op,
    path: &str,
    new: Option<Value>,
    user: &mut Map<String, Value>,
    dialect: ScimDialect,
) -> Result<(), Refusal> {
    match new {
        None if dialect == ScimDialect::Strict && !is_there(user, path) => {
            Err(invalid("noTarget", "there is nothing to remove"))
        }
        Some(Value::Array(added)) if op == Op::Add && LISTS.contains(&path) => {
            let entries = entries(user, path)?;
            // At most one entry is primary: the new one.
            if added.iter().any(|entry| entry["primary"] == true) {
                for entry in entries.iter_mut().filter(|entry| entry["primary"] == true) {
                    entry["primary"] = false.into();
                }
            }
            let all = [std::mem::take(entries), added].concat();
            put(user, path, Some(all.into()), dialect)
        }
        new => put(user, path, new, dialect),
    }
}

/// At `list[type eq "type"]` or `list[type eq "type"].value`.
fn change_entries(
    path: &str,
    new: Option<Value>,
    user: &mut Map<String, Value>,
    dialect: ScimDialect,
) -> Result<(), Refusal> {
    let parts = path
        .split_once("[type eq \"")
        .and_then(|(list, rest)| Some((list, rest.split_once("\"]")?)));
    let Some((list, (of_type, sub))) = parts else {
        return Err(invalid("invalidFilter", "only type is compared, by eq"));
    };
    let entries = entries(user, list)?;
    let is_found = entries.iter().any(|entry| entry["type"] == of_type);
    match (new, sub) {
        (None, "") if !is_found && dialect == ScimDialect::Strict => {
            Err(invalid("noTarget", "no value matches the path's filter"))
        }
        (None, "") => {
            entries.retain(|entry| entry["type"] != of_type);
            Ok(())
        }
        (Some(value @ Value::String(_)), ".value") if !is_found && dialect == ScimDialect::Entra => {
            entries.push(serde_json::json!({ "type": of_type, "value": value }));
            Ok(())
        }
        (Some(Value::String(_)), ".value") if !is_found => {
            Err(invalid("noTarget", "no value matches the path's filter"))
        }
        (Some(value @ Value::String(_)), ".value") => {
            for entry in entries.iter_mut().filter(|entry| entry["type"] == of_type) {
                entry["value"] = value.clone();
            }
            Ok(())
        }
        _ => Err(invalid("invalidPath", "no such path")),
    }
}

fn entries<'a>(user: &'a mut Map<String, Value>, list: &str) -> Result<&'a mut Vec<Value>, Refusal> {
    if !LISTS.contains(&list) {
        return Err(invalid("invalidPath", "no such list"));
    }
    let entries = user.entry(list).or_insert_with(|| Value::Array(Vec::new()));
    entries.as_array_mut().ok_or(Refusal::Broken)
}
