//! Shared fields under a provider's own names, for kinds whose users are flat JSON objects.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::equal::{Case, Form, same};
use super::{Kind, SetupError};
use crate::contract::{Failure, Field, Reason, Update};

/// Names at the provider that replace the defaults, by the field's name in a command. An empty name means that the
/// provider does not take the field. In the environment, whose names have one case only, `GIVEN_NAME` is givenName.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FieldNames {
    #[schemars(with = "String")]
    pub username: Option<String>,
    #[schemars(with = "String")]
    pub email: Option<String>,
    #[schemars(with = "String")]
    pub phone: Option<String>,
    #[schemars(with = "String")]
    pub given_name: Option<String>,
    #[schemars(with = "String")]
    pub family_name: Option<String>,
    #[schemars(with = "String")]
    pub display_name: Option<String>,
    #[schemars(with = "String")]
    pub nickname: Option<String>,
    #[schemars(with = "String")]
    pub locale: Option<String>,
}

impl FieldNames {
    pub(super) fn get(&self, field: Field) -> Option<&str> {
        let name = match field {
            Field::Username => &self.username,
            Field::Email => &self.email,
            Field::Phone => &self.phone,
            Field::GivenName => &self.given_name,
            Field::FamilyName => &self.family_name,
            Field::DisplayName => &self.display_name,
            Field::Nickname => &self.nickname,
            Field::Locale => &self.locale,
        };
        name.as_deref()
    }
}

/// Which fields a provider takes, under which names, and which of them it can clear.
pub(super) struct FieldMap {
    kind: Kind,
    fields: Vec<Mapped>,
}

struct Mapped {
    field: Field,
    name: Box<str>,
    clearable: bool,
    case: Case,
}

impl FieldMap {
    pub(super) fn new(
        kind: Kind,
        defaults: &[(Field, &str)],
        names: &FieldNames,
        clearable: impl Fn(Field) -> bool,
    ) -> Result<Self, SetupError> {
        let mut seen = HashSet::new();
        let mut fields = Vec::new();
        for field in Field::ALL {
            let default = defaults
                .iter()
                .find(|(of, _)| *of == field)
                .map(|(_, name)| *name);
            let Some(name) = names.get(field).or(default).filter(|name| !name.is_empty()) else {
                continue;
            };
            if !seen.insert(name) {
                return Err(SetupError::new(
                    format!("provider.{kind}.fields.{}", field.name()),
                    "another field has the same name; give each its own",
                ));
            }
            fields.push(Mapped {
                field,
                name: name.into(),
                clearable: clearable(field),
                case: Case::Exact,
            });
        }
        Ok(Self { kind, fields })
    }

    /// Treats these fields as equal in any case.
    pub(super) fn folding(mut self, folded: &[Field]) -> Self {
        for mapped in &mut self.fields {
            if folded.contains(&mapped.field) {
                mapped.case = Case::Folded;
            }
        }
        self
    }

    pub(super) fn case(&self, field: Field) -> Case {
        self.mapped(field).map_or(Case::Exact, |mapped| mapped.case)
    }

    fn mapped(&self, field: Field) -> Option<&Mapped> {
        self.fields.iter().find(|mapped| mapped.field == field)
    }

    /// Refuses fields that the provider can't take, and clears that it can't make.
    pub(super) fn check(&self, update: &Update) -> Result<(), Failure> {
        for (field, value) in update.shared_changes() {
            let (verb, allowed) = match self.mapped(field) {
                None => ("take", self.names_of(|_| true)),
                Some(mapped) if value.is_none() && !mapped.clearable => {
                    ("clear", self.names_of(|mapped| mapped.clearable))
                }
                Some(_) => continue,
            };
            let allowed = match allowed.as_str() {
                "" => format!("it is configured to {verb} none"),
                names => format!("it can {verb} {names}"),
            };
            let detail = format!(
                "this provider ({}) can't {verb} `{}`; {allowed}: leave the field out, or see \
                 [provider.{}] in the configuration",
                self.kind,
                field.name(),
                self.kind
            );
            return Err(Failure::new(Reason::UnsupportedField, detail).at(field.pointer()));
        }
        Ok(())
    }

    fn names_of(&self, wanted: impl Fn(&Mapped) -> bool) -> String {
        let names: Vec<_> = self
            .fields
            .iter()
            .filter(|mapped| wanted(mapped))
            .map(|mapped| mapped.field.name())
            .collect();
        names.join(", ")
    }

    /// The update's changes, under the provider's names; `None` clears.
    pub(super) fn changes<'a>(
        &'a self,
        update: &'a Update,
    ) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.fields
            .iter()
            .filter_map(|mapped| update.shared(mapped.field).map(|value| (&*mapped.name, value)))
    }

    /// The first field that does not match. A field for which `shown` returns None is skipped.
    pub(super) fn first_that_differs(
        &self,
        update: &Update,
        shown: impl Fn(Field, &str) -> Option<Value>,
    ) -> Option<Field> {
        let differs = |mapped: &&Mapped| {
            let Some(asked) = update.shared(mapped.field) else {
                return false;
            };
            let Some(shown) = shown(mapped.field, &mapped.name) else {
                return false;
            };
            match asked {
                None => !shown.is_null(),
                Some(asked) => {
                    let form = Form::of(mapped.field);
                    let shown = shown.as_str();
                    !shown.is_some_and(|shown| same(form, mapped.case, asked, shown))
                }
            }
        };
        self.fields.iter().find(differs).map(|mapped| mapped.field)
    }

    /// The mapped fields, with their names.
    pub(super) fn names(&self) -> impl Iterator<Item = (Field, &str)> {
        self.fields.iter().map(|mapped| (mapped.field, &*mapped.name))
    }

    /// The shared field that has this name at the provider.
    pub(super) fn field(&self, name: &str) -> Option<Field> {
        self.fields
            .iter()
            .find(|mapped| *mapped.name == *name)
            .map(|mapped| mapped.field)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testbed::command;
    use super::*;

    const DEFAULTS: [(Field, &str); 2] = [(Field::Email, "mail"), (Field::Phone, "mobile")];

    fn map(names: &Value) -> Result<FieldMap, SetupError> {
        let names = serde_json::from_value(names.clone()).unwrap();
        FieldMap::new(Kind::Karmo, &DEFAULTS, &names, |field| field == Field::Phone)
    }

    #[test]
    fn configured_names_replace_the_defaults() {
        let map = map(&json!({"email": "", "nickname": "alias"})).unwrap();
        let update = command("u", &json!({"nickname": "Al", "phone": null})).update;
        let changes: Vec<_> = map.changes(&update).collect();
        assert_eq!(changes, [("mobile", None), ("alias", Some("Al"))]);
        assert_eq!(
            (map.field("alias"), map.field("mail")),
            (Some(Field::Nickname), None)
        );
    }

    #[test]
    fn same_name_for_two_fields_is_refused() {
        let error = map(&json!({"nickname": "mail"})).map(drop).unwrap_err();
        assert_eq!(error.key, "provider.karmo.fields.nickname");
    }

    #[test]
    fn unsupported_and_unclearable_fields_are_refused_by_name() {
        let map = map(&json!({})).unwrap();
        for (update, pointer, remedy) in [
            (
                json!({"locale": "en"}),
                "/update/locale",
                "it can take email, phone",
            ),
            (json!({"email": null}), "/update/email", "it can clear phone"),
        ] {
            let failure = map.check(&command("u", &update).update).unwrap_err();
            assert_eq!(
                (failure.reason, failure.pointer.as_deref()),
                (Reason::UnsupportedField, Some(pointer))
            );
            assert!(failure.detail.contains(remedy), "{failure}");
        }
        assert_eq!(map.check(&command("u", &json!({"phone": null})).update), Ok(()));
    }

    #[test]
    fn absent_member_equals_null() {
        let map = map(&json!({})).unwrap();
        let cleared = command("u", &json!({"phone": null})).update;
        let set = command("u", &json!({"phone": "+61412345678"})).update;
        for (user, is_cleared, is_set) in [
            (json!({}), true, false),
            (json!({"mobile": null}), true, false),
            (json!({"mobile": "+61412345678"}), false, true),
            (json!({"mobile": 5}), false, false),
        ] {
            let shown = |_: Field, name: &str| Some(user[name].clone());
            let differs = |update| map.first_that_differs(update, shown).is_some();
            assert_eq!(
                (differs(&cleared), differs(&set)),
                (!is_cleared, !is_set),
                "{user}"
            );
        }
    }
}
