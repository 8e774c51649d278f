//! The operations that make a user match a command.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::compare::{is_there, is_untyped, untyped_entry};
use super::desired::{Attribute, Desired};
use super::list::Lists;
use super::shown::Shown;
use super::{Config, Contacts, put};

const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

pub(super) struct Patch {
    pub(super) body: Body,
    /// It only removes, and there may be nothing to remove: then `noTarget` means that the user already matches.
    pub(super) may_be_done_already: bool,
    /// A path in it has a filter.
    pub(super) has_filter: bool,
    /// It contains a list as it was read, with the command's changes. Later changes to the list would be lost.
    pub(super) is_merged: bool,
}

#[derive(Serialize)]
pub(super) struct Body {
    schemas: [&'static str; 1],
    #[serde(rename = "Operations")]
    operations: Vec<Operation>,
}

#[derive(Serialize)]
struct Operation {
    op: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
}

impl Operation {
    /// Strings and booleans under string keys: every value is representable in JSON.
    fn new(op: &'static str, path: &str, value: &impl Serialize) -> Self {
        Self {
            op,
            path: path.into(),
            value: to_raw_value(value).ok(),
        }
    }

    fn replace(path: &str, value: &impl Serialize) -> Self {
        Self::new("replace", path, value)
    }
}

/// Whether a strict provider refuses the operation if its target does not exist.
pub(super) fn needs_target(contacts: Contacts, desired: &Desired<'_>) -> bool {
    match desired.attribute {
        Attribute::Entry { .. } => contacts != Contacts::List || desired.value.is_none(),
        Attribute::Plain(_) => desired.value.is_none(),
    }
}

/// If the user is known, values that do not exist are not removed or replaced.
pub(super) fn patch(
    config: &Config,
    desired: &[Desired<'_>],
    current: Option<&Shown<'_>>,
    lists: &Lists,
) -> Patch {
    let contacts = config.contacts;
    let all = |forced| -> Vec<Operation> {
        desired
            .iter()
            .flat_map(|desired| operations(contacts, lists, desired, current, forced))
            .collect()
    };
    let needed = all(false);
    // Everything is already cleared, but the provider still has to check the version and that the user exists.
    let nothing_there = needed.is_empty();
    let operations = if nothing_there { all(true) } else { needed };
    // Besides entries of the desired type there may be entries without one.
    let is_plain = desired
        .iter()
        .all(|desired| matches!(desired.attribute, Attribute::Plain(_)));
    let is_merged = |desired| merged(contacts, lists, desired, current).is_some();
    let only_removes = operations.iter().all(|operation| operation.op == "remove");
    Patch {
        has_filter: operations.iter().any(|operation| operation.path.contains('[')),
        is_merged: desired.iter().any(is_merged),
        may_be_done_already: only_removes && (nothing_there || is_plain && operations.len() == 1),
        body: Body {
            schemas: [PATCH_OP],
            operations,
        },
    }
}

/// `forced`: also removes values that may not exist.
fn operations(
    contacts: Contacts,
    lists: &Lists,
    desired: &Desired<'_>,
    current: Option<&Shown<'_>>,
    forced: bool,
) -> Vec<Operation> {
    let there = forced || current.is_none_or(|user| is_there(contacts, desired.attribute, &user.value));
    if let Some((user, list, of_type)) = merged(contacts, lists, desired, current) {
        let entries = put::entries(contacts, lists, user, list, of_type, desired.value.as_ref());
        return match entries.is_empty() {
            true => removed(there, list),
            false => vec![Operation::replace(list, &entries)],
        };
    }
    match (desired.attribute, &desired.value) {
        (Attribute::Plain(path), Some(value)) => vec![Operation::replace(path, value)],
        (Attribute::Plain(path), None) => removed(there, path),
        (Attribute::Entry { list, .. }, None) if contacts == Contacts::List => removed(there, list),
        (Attribute::Entry { list, of_type }, None) => removed(there, &of(list, of_type)),
        (Attribute::Entry { list, of_type }, Some(value)) => {
            let entries = [lists.members(list).entry(value, of_type, true)];
            match contacts {
                Contacts::List => vec![Operation::replace(list, &entries)],
                Contacts::Value if there => {
                    vec![Operation::replace(&format!("{}.value", of(list, of_type)), value)]
                }
                Contacts::Value | Contacts::Entry => {
                    let mut operations = match contacts {
                        Contacts::Entry => removed(there, &of(list, of_type)),
                        _ => Vec::new(),
                    };
                    operations.push(Operation::new("add", list, &entries));
                    operations
                }
            }
        }
    }
}

/// The user whose list is put as a whole, and the entry in it that is meant.
fn merged<'a>(
    contacts: Contacts,
    lists: &Lists,
    desired: &Desired<'a>,
    current: Option<&'a Shown<'a>>,
) -> Option<(&'a Shown<'a>, &'static str, &'a str)> {
    let (Attribute::Entry { list, of_type }, Some(user)) = (desired.attribute, current) else {
        return None;
    };
    let is_merged = contacts != Contacts::List && (lists.is_whole(list) || has_untyped_entry(user, list));
    is_merged.then_some((user, list, of_type))
}

/// No path can address an entry without a type, so the list is put back in its own form.
fn has_untyped_entry(user: &Shown<'_>, list: &str) -> bool {
    let entries = user.value[list].as_array().filter(|entries| is_untyped(entries));
    entries.is_some_and(|entries| untyped_entry(entries).is_some())
}

fn of(list: &str, of_type: &str) -> String {
    format!("{list}[type eq \"{of_type}\"]")
}

fn removed(there: bool, path: &str) -> Vec<Operation> {
    let operation = Operation {
        op: "remove",
        path: path.into(),
        value: None,
    };
    there.then_some(operation).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::desired::desired;
    use super::*;
    use crate::contract::UpdateUser;
    use crate::provider::User;
    use crate::provider::testbed::command;

    fn operations(config: &Value, command: &UpdateUser, current: Option<&Value>) -> Value {
        let config: Config = serde_json::from_value(config.clone()).unwrap();
        let desired = desired(&config, &command.update);
        let current = current.map(|user| User(user.to_string().into()));
        let current = current.as_ref().map(Shown::of);
        let patch = patch(&config, &desired, current.as_ref(), &Lists::USUAL);
        serde_json::to_value(patch.body).unwrap()["Operations"].clone()
    }

    #[test]
    fn known_user_needs_no_removal_of_absent_values() {
        let command = command(
            "u",
            &json!({"email": "alex@example.com", "nickname": null, "locale": null}),
        );
        let add = json!({"op": "add", "path": "emails",
            "value": [{"value": "alex@example.com", "type": "work", "primary": true}]});
        let remove = |path: &str| json!({"op": "remove", "path": path});
        let bare = json!({"emails": [{"type": "home", "value": "x@y.zz"}], "locale": "en"});
        let full = json!({"emails": [{"type": "Work", "value": "x@y.zz"}], "nickName": "Al"});
        assert_eq!(
            operations(&json!({}), &command, Some(&bare)),
            json!([add, remove("locale")])
        );
        assert_eq!(
            operations(&json!({}), &command, Some(&full)),
            json!([remove("emails[type eq \"work\"]"), add, remove("nickName")])
        );
        let only = json!({"emails": [{"value": "x@y.zz", "display": "X"}]});
        let several = json!({"emails": [{"value": "a@y.zz"}, {"value": "x@y.zz", "primary": true}]});
        let put = |entries: Value| json!({"op": "replace", "path": "emails", "value": entries});
        assert_eq!(
            operations(&json!({}), &command, Some(&only))[0],
            put(json!([{"value": "alex@example.com", "display": "X"}]))
        );
        assert_eq!(
            operations(&json!({}), &command, Some(&several))[0],
            put(json!([{"value": "a@y.zz"}, {"value": "alex@example.com", "primary": true}]))
        );
        let by_value = json!({"contacts": "value"});
        let replace =
            json!({"op": "replace", "path": "emails[type eq \"work\"].value", "value": "alex@example.com"});
        assert_eq!(operations(&by_value, &command, Some(&full))[0], replace);
        assert_eq!(operations(&by_value, &command, Some(&bare))[0], add);
        assert_eq!(operations(&by_value, &command, None)[0], replace);
    }

    #[test]
    fn only_entry_without_a_type_is_cleared_with_its_list() {
        let clear = command("u", &json!({"email": null}));
        let only = json!({"emails": [{"value": "x@y.zz"}]});
        assert_eq!(
            operations(&json!({}), &clear, Some(&only)),
            json!([{"op": "remove", "path": "emails"}])
        );
    }
}
