//! The whole user with the command's changes, for providers without PATCH.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::compare::{is_of_type, is_untyped, untyped_entry};
use super::desired::{Attribute, Desired};
use super::list::Lists;
use super::shown::Shown;
use super::{Config, Contacts};
use crate::provider::ProviderError;
use crate::provider::members::Members;

/// Attributes that a provider shows but does not accept (RFC 7643, sections 3.1 and 4.1.2).
const READ_ONLY: [&str; 2] = ["meta", "groups"];

/// Members that the command does not name are put back as they were read, byte by byte and in order.
pub(super) fn user<'a>(
    config: &Config,
    lists: &Lists,
    desired: &[Desired<'_>],
    current: &Shown<'a>,
) -> Result<Members<'a>, ProviderError> {
    let mut user = current.members()?;
    for name in READ_ONLY {
        user.remove(name);
    }
    for desired in desired {
        let (path, text) = match desired.attribute {
            Attribute::Plain(path) => (path, desired.value.as_ref().map(to_raw_value)),
            Attribute::Entry { list, of_type } => {
                let value = desired.value.as_ref();
                let entries = entries(config.contacts, lists, current, list, of_type, value);
                (list, (!entries.is_empty()).then(|| to_raw_value(&entries)))
            }
        };
        let path: Vec<Box<str>> = path.split('.').map(Box::from).collect();
        let set = match text {
            Some(text) => text.and_then(|text| user.set_text_at(&path, text)),
            None => user.remove_at(&path),
        };
        set.map_err(|_| super::shown::not_put_back())?;
    }
    Ok(user)
}

/// One entry of the new list.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Entry<'a> {
    Kept(&'a RawValue),
    Changed(Members<'a>),
    New(Value),
}

/// The new list. An entry that is changed keeps its other members.
pub(super) fn entries<'a>(
    contacts: Contacts,
    lists: &Lists,
    current: &Shown<'a>,
    list: &str,
    of_type: &str,
    value: Option<&Value>,
) -> Vec<Entry<'a>> {
    let (shown, texts) = match (contacts, current.value[list].as_array()) {
        (Contacts::Entry | Contacts::Value, Some(shown)) => (shown.as_slice(), current.entries(list)),
        _ => (&[][..], Vec::new()),
    };
    let meant = match is_untyped(shown) {
        true => untyped_entry(shown),
        false => shown.iter().position(|entry| is_of_type(entry, of_type)),
    };
    let mut entries: Vec<_> = texts.into_iter().map(Entry::Kept).collect();
    let new = |primary| value.map(|value| Entry::New(lists.members(list).entry(value, of_type, primary)));
    match meant {
        Some(meant) => {
            let changed = value.and_then(|value| changed(&entries[meant], value));
            // A value that is not an object can't be changed.
            let replacement = changed.or_else(|| new(true));
            entries.splice(meant..=meant, replacement);
        }
        None => {
            // At most one entry is primary.
            let primary = shown.iter().all(|entry| entry["primary"] != true);
            entries.extend(new(primary));
        }
    }
    entries
}

fn changed<'a>(entry: &Entry<'a>, value: &Value) -> Option<Entry<'a>> {
    let Entry::Kept(text) = *entry else {
        return None;
    };
    let mut members = Members::parse(text.get()).ok()?;
    members.set("value", value.clone());
    Some(Entry::Changed(members))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::desired::desired;
    use super::*;
    use crate::contract::UpdateUser;
    use crate::provider::User;
    use crate::provider::testbed::command;

    fn put(command: &UpdateUser, current: &str) -> String {
        let config = Config::default();
        let current = User(current.into());
        let user = user(
            &config,
            &Lists::USUAL,
            &desired(&config, &command.update),
            &Shown::of(&current),
        );
        serde_json::to_string(&user.unwrap()).unwrap()
    }

    #[test]
    fn cleared_entry_keeps_the_others_and_an_empty_list_is_removed() {
        let clear = command("7", &json!({"email": null}));
        for (emails, left) in [
            (
                r#"[{"value":"a@x.zz","type":"work"},{"value":"b@x.zz","type":"home"}]"#,
                r#"{"emails":[{"value":"b@x.zz","type":"home"}]}"#,
            ),
            (r#"[{"value":"a@x.zz"}]"#, "{}"),
        ] {
            assert_eq!(put(&clear, &format!(r#"{{"emails":{emails}}}"#)), left);
        }
    }

    #[test]
    fn entry_that_is_not_an_object_is_replaced_by_one() {
        let set = command("7", &json!({"email": "alex@example.com"}));
        assert_eq!(
            put(&set, r#"{"emails":["old@example.com"]}"#),
            r#"{"emails":[{"primary":true,"type":"work","value":"alex@example.com"}]}"#
        );
    }
}
