//! The whole user with the command's part over it, for providers that have no PATCH.

use serde_json::{Map, Value};

use super::compare::{is_of_type, is_untyped, meant_untyped};
use super::list::Lists;
use super::wish::{Attribute, Wish};
use super::{Config, Contacts};
use crate::provider::User;

/// What a provider shows and does not take (RFC 7643, section 3.1 and 4.1.2).
const READ_ONLY: [&str; 2] = ["meta", "groups"];

/// What the command does not name stays as it was read.
pub(super) fn user(
    config: &Config,
    lists: &Lists,
    wishes: &[Wish<'_>],
    current: &User,
) -> Map<String, Value> {
    let mut user = current.0.as_object().cloned().unwrap_or_default();
    user.retain(|name, _| !READ_ONLY.contains(&name.as_str()));
    for wish in wishes {
        match wish.attribute {
            Attribute::Plain(path) => set(&mut user, path, wish.value.clone()),
            Attribute::Entry { list, of_type } => {
                let entries = entries(
                    config.contacts,
                    lists,
                    current,
                    list,
                    of_type,
                    wish.value.as_ref(),
                );
                set(&mut user, list, (!entries.is_empty()).then(|| entries.into()));
            }
        }
    }
    user
}

/// The list as it is to be. An entry that is changed keeps its other members.
pub(super) fn entries(
    contacts: Contacts,
    lists: &Lists,
    current: &User,
    list: &str,
    of_type: &str,
    value: Option<&Value>,
) -> Vec<Value> {
    let mut entries = match contacts {
        Contacts::List => Vec::new(),
        Contacts::Entry | Contacts::Value => current.0[list].as_array().cloned().unwrap_or_default(),
    };
    let meant = match is_untyped(&entries) {
        true => meant_untyped(&entries),
        false => entries.iter().position(|entry| is_of_type(entry, of_type)),
    };
    match (meant, value) {
        (Some(meant), Some(value)) => entries[meant]["value"] = value.clone(),
        (Some(meant), None) => drop(entries.remove(meant)),
        (None, Some(value)) => {
            // There is one primary entry at most.
            let primary = entries.iter().all(|entry| entry["primary"] != true);
            entries.push(lists.members(list).entry(value, of_type, primary));
        }
        (None, None) => {}
    }
    entries
}

/// At a path of one or two names.
fn set(user: &mut Map<String, Value>, path: &str, value: Option<Value>) {
    let (object, name) = match path.split_once('.') {
        None => (user, path),
        Some((outer, name)) => {
            let outer = user.entry(outer).or_insert_with(|| Map::new().into());
            if !outer.is_object() {
                *outer = Map::new().into();
            }
            match outer.as_object_mut() {
                Some(object) => (object, name),
                None => return,
            }
        }
    };
    match value {
        Some(value) => object.insert(name.into(), value),
        None => object.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::super::wish::wishes;
    use super::*;
    use crate::provider::testbed::command;
    use serde_json::json;

    #[test]
    fn what_the_command_does_not_name_is_put_as_it_was_read() {
        let config = Config::default();
        let current = User(json!({
            "schemas": ["s"], "id": "7", "userName": "u", "name": {"givenName": "A", "middleName": "M"},
            "emails": [{"value": "old@example.com", "type": "work", "primary": true, "display": "W"},
                       {"value": "home@example.com", "type": "home"}],
            "nickName": "Al", "urn:x": {"floor": 3}, "groups": [{"value": "g"}], "meta": {"version": "1"},
        }));
        let command = command(
            "7",
            &json!({"givenName": "Alex", "email": "alex@example.com", "phone": "+61412345678", "nickname": null}),
        );
        let put = user(
            &config,
            &Lists::USUAL,
            &wishes(&config, &command.update),
            &current,
        );
        assert_eq!(
            Value::from(put),
            json!({
                "schemas": ["s"], "id": "7", "userName": "u", "name": {"givenName": "Alex", "middleName": "M"},
                "emails": [{"value": "alex@example.com", "type": "work", "primary": true, "display": "W"},
                           {"value": "home@example.com", "type": "home"}],
                "phoneNumbers": [{"value": "+61412345678", "type": "work", "primary": true}],
                "urn:x": {"floor": 3},
            })
        );
    }

    #[test]
    fn a_cleared_entry_leaves_the_others_and_an_empty_list_goes() {
        let config = Config::default();
        let clear = command("7", &json!({"email": null}));
        for (emails, left) in [
            (
                json!([{"value": "a@x.zz", "type": "work"}, {"value": "b@x.zz", "type": "home"}]),
                json!({"emails": [{"value": "b@x.zz", "type": "home"}]}),
            ),
            (json!([{"value": "a@x.zz"}]), json!({})),
        ] {
            let current = User(json!({ "emails": emails }));
            let put = user(&config, &Lists::USUAL, &wishes(&config, &clear.update), &current);
            assert_eq!(Value::from(put), left);
        }
    }
}
