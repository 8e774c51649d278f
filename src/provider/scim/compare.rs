//! Whether a user, as the provider shows it, matches a command. Absent, null and an empty list are equal.

use serde_json::Value;

use super::desired::{Attribute, Desired, PASSWORD, PHONES, desired, sets_password};
use super::{Config, Contacts};
use crate::contract::UpdateUser;
use crate::provider::Comparison;
use crate::provider::equal::{Case, Form, same};

pub(super) fn compare(config: &Config, command: &UpdateUser, user: &Value) -> Comparison {
    if first_that_differs(config, command, user).is_some() {
        return Comparison::Differs;
    }
    if !sets_password(&command.update) {
        return Comparison::Matches;
    }
    // A user that still has the version that the command expects was not written since.
    let version = command.expected_version.as_ref();
    match version.is_some_and(|version| user["meta"]["version"] == version.as_str()) {
        true => Comparison::Differs,
        false => Comparison::Unreadable,
    }
}

/// The pointer into the command of the first value that the user does not match.
pub(super) fn first_that_differs(config: &Config, command: &UpdateUser, user: &Value) -> Option<String> {
    desired(config, &command.update)
        .into_iter()
        .find(|desired| desired.attribute != PASSWORD && !matches(config.contacts, desired, user))
        .map(|desired| desired.pointer)
}

/// Whether there is something to remove or to replace.
pub(super) fn is_there(contacts: Contacts, attribute: Attribute<'_>, user: &Value) -> bool {
    match attribute {
        Attribute::Plain(path) => !plain(user, path).is_null(),
        Attribute::Entry { list, of_type } => entries(contacts, user, list, of_type).next().is_some(),
    }
}

fn matches(contacts: Contacts, desired: &Desired<'_>, user: &Value) -> bool {
    let (list, of_type) = match desired.attribute {
        Attribute::Plain(path) => return is_shown(path, desired.value.as_ref(), plain(user, path)),
        Attribute::Entry { list, of_type } => (list, of_type),
    };
    let mut entries = entries(contacts, user, list, of_type).peekable();
    match desired.value.as_ref().and_then(Value::as_str) {
        None => entries.next().is_none() && !is_ambiguous(contacts, list, user),
        Some(value) => {
            entries.peek().is_some()
                && entries.all(|entry| {
                    let shown = entry["value"].as_str().unwrap_or_default();
                    same(form(list), Case::Folded, value, shown)
                })
        }
    }
}

fn plain<'a>(user: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(user, |value, name| &value[name])
}

/// The entries that a command means.
fn entries<'a>(
    contacts: Contacts,
    user: &'a Value,
    list: &str,
    of_type: &'a str,
) -> impl Iterator<Item = &'a Value> {
    let all = user[list].as_array().map_or(&[][..], Vec::as_slice);
    all.iter()
        .enumerate()
        .filter(move |(n, entry)| match contacts {
            Contacts::List => true,
            Contacts::Entry | Contacts::Value if is_untyped(all) => untyped_entry(all) == Some(*n),
            Contacts::Entry | Contacts::Value => is_of_type(entry, of_type),
        })
        .map(|(_, entry)| entry)
}

pub(super) fn is_of_type(entry: &Value, of_type: &str) -> bool {
    let shown = entry["type"].as_str().unwrap_or_default();
    shown.eq_ignore_ascii_case(of_type)
}

/// Whether there are entries, and none has a type. The type is optional, and some providers never set it.
pub(super) fn is_untyped(entries: &[Value]) -> bool {
    !entries.is_empty() && entries.iter().all(|entry| entry["type"].is_null())
}

/// The entry that a command means if none has a type: the primary one, or the only one.
pub(super) fn untyped_entry(entries: &[Value]) -> Option<usize> {
    let primary = entries.iter().position(|entry| entry["primary"] == true);
    primary.or((entries.len() == 1).then_some(0))
}

/// Whether clearing would leave only entries without a type. One of them would then count as the user's address, and
/// the next comparison would want to clear it, too.
pub(super) fn leaves_untyped(contacts: Contacts, list: &str, of_type: &str, user: &Value) -> bool {
    let all = user[list].as_array().map_or(&[][..], Vec::as_slice);
    let meant: Vec<_> = entries(contacts, user, list, of_type).collect();
    let mut left = all.iter().filter(|entry| !meant.contains(entry)).peekable();
    contacts != Contacts::List
        && !meant.is_empty()
        && left.peek().is_some()
        && left.all(|entry| entry["type"].is_null())
}

/// Whether there are several entries and nothing identifies the one that a command means.
pub(super) fn is_ambiguous(contacts: Contacts, list: &str, user: &Value) -> bool {
    let entries = user[list].as_array().filter(|entries| is_untyped(entries));
    contacts != Contacts::List && entries.is_some_and(|entries| untyped_entry(entries).is_none())
}

fn is_shown(path: &str, asked: Option<&Value>, shown: &Value) -> bool {
    match (asked, shown) {
        (Some(Value::String(asked)), Value::String(shown)) => same(form(path), Case::Folded, asked, shown),
        // Some servers show the word that was sent.
        (Some(Value::Bool(asked)), Value::String(shown)) => shown.eq_ignore_ascii_case(&asked.to_string()),
        (Some(asked), shown) => asked == shown,
        (None, shown) => shown.is_null(),
    }
}

/// In RFC 7643, user names and addresses are not case-exact.
fn form(attribute: &str) -> Form {
    match attribute {
        "userName" => Form::Username,
        "emails" => Form::Email,
        PHONES => Form::Phone,
        "locale" | "preferredLanguage" => Form::Language,
        _ => Form::Text,
    }
}
