//! Whether a user, as the provider shows it, is as a command asks. Absent, null and an empty list are the same.

use serde_json::Value;

use super::wish::{Attribute, PASSWORD, PHONES, Wish, sets_password, wishes};
use super::{Config, Contacts};
use crate::contract::UpdateUser;
use crate::provider::equal::{Case, Form, same};
use crate::provider::{Comparison, User};

pub(super) fn compare(config: &Config, command: &UpdateUser, user: &User) -> Comparison {
    let differs = wishes(config, &command.update)
        .iter()
        .any(|wish| wish.attribute != PASSWORD && !as_asked(config.contacts, wish, &user.0));
    if differs {
        return Comparison::Differs;
    }
    if !sets_password(&command.update) {
        return Comparison::AsAsked;
    }
    // A user that still has the version that the command expects was not written since.
    let version = command.expected_version.as_ref();
    match version.is_some_and(|version| user.0["meta"]["version"] == version.as_str()) {
        true => Comparison::Differs,
        false => Comparison::Unreadable,
    }
}

/// Whether there is anything to remove or to replace.
pub(super) fn is_there(contacts: Contacts, attribute: Attribute<'_>, user: &User) -> bool {
    match attribute {
        Attribute::Plain(path) => !plain(&user.0, path).is_null(),
        Attribute::Entry { list, of_type } => entries(contacts, &user.0, list, of_type).next().is_some(),
    }
}

fn as_asked(contacts: Contacts, wish: &Wish<'_>, user: &Value) -> bool {
    let (list, of_type) = match wish.attribute {
        Attribute::Plain(path) => return is_shown(path, wish.value.as_ref(), plain(user, path)),
        Attribute::Entry { list, of_type } => (list, of_type),
    };
    let mut entries = entries(contacts, user, list, of_type).peekable();
    match wish.value.as_ref().and_then(Value::as_str) {
        None => entries.next().is_none(),
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

/// Those that a command means.
fn entries<'a>(
    contacts: Contacts,
    user: &'a Value,
    list: &str,
    of_type: &'a str,
) -> impl Iterator<Item = &'a Value> {
    user[list].as_array().into_iter().flatten().filter(move |entry| {
        let shown = entry["type"].as_str().unwrap_or_default();
        contacts == Contacts::List || shown.eq_ignore_ascii_case(of_type)
    })
}

fn is_shown(path: &str, asked: Option<&Value>, shown: &Value) -> bool {
    match (asked, shown) {
        (Some(Value::String(asked)), Value::String(shown)) => same(form(path), Case::Folded, asked, shown),
        (Some(asked), shown) => asked == shown,
        (None, shown) => shown.is_null(),
    }
}

/// RFC 7643 has user names and addresses that are not case-exact.
fn form(attribute: &str) -> Form {
    match attribute {
        "userName" => Form::Username,
        "emails" => Form::Email,
        PHONES => Form::Phone,
        "locale" | "preferredLanguage" => Form::Language,
        _ => Form::Text,
    }
}
