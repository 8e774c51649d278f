//! How the entries of a list are written: which members they have, and how one of them is addressed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::USER_SCHEMA;
use super::desired::PHONES;

/// A member of an entry besides its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryMember {
    Type,
    Primary,
}

/// Which of these members a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryMembers {
    pub(super) of_type: bool,
    pub(super) primary: bool,
}

impl EntryMembers {
    const ALL: Self = Self {
        of_type: true,
        primary: true,
    };

    fn new(members: &[EntryMember]) -> Self {
        Self {
            of_type: members.contains(&EntryMember::Type),
            primary: members.contains(&EntryMember::Primary),
        }
    }

    pub(super) fn entry(self, value: &Value, of_type: &str, primary: bool) -> Value {
        let mut entry = json!({ "value": value });
        if self.of_type {
            entry["type"] = of_type.into();
        }
        if self.primary {
            entry["primary"] = primary.into();
        }
        entry
    }

    /// Whether it has no member that the other lacks.
    pub(super) fn fits(self, others: Self) -> bool {
        (!self.of_type || others.of_type) && (!self.primary || others.primary)
    }

    pub(super) fn names(self) -> &'static str {
        match (self.of_type, self.primary) {
            (true, true) => "a value, `type` and `primary`",
            (true, false) => "a value and `type`, and no `primary`",
            (false, true) => "a value and `primary`, and no `type`",
            (false, false) => "only a value",
        }
    }

    /// The members in `/Schemas`. None if it does not describe the list.
    pub(super) fn from_schemas(schemas: &Value, list: &str) -> Option<Self> {
        let is =
            |value: &Value, name: &str| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(name));
        let user = schemas["Resources"].as_array()?.iter();
        let user = user.clone().find(|schema| is(&schema["id"], USER_SCHEMA))?;
        let mut attributes = user["attributes"].as_array()?.iter();
        let attribute = attributes.find(|attribute| is(&attribute["name"], list))?;
        let parts = attribute["subAttributes"].as_array()?;
        let has = |name| parts.iter().any(|part| is(&part["name"], name));
        // Some schemas omit the sub-attributes. Without a value, there would be no entry.
        has("value").then(|| Self {
            of_type: has("type"),
            primary: has("primary"),
        })
    }
}

/// How each list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lists {
    pub(super) emails: EntryMembers,
    pub(super) phones: EntryMembers,
    /// Whether a path with a filter can address an entry.
    pub(super) path_filters: bool,
}

impl Default for Lists {
    fn default() -> Self {
        Self::USUAL
    }
}

impl Lists {
    pub(super) const USUAL: Self = Self {
        emails: EntryMembers::ALL,
        phones: EntryMembers::ALL,
        path_filters: true,
    };

    pub(super) fn configured(members: &[EntryMember]) -> Self {
        let members = EntryMembers::new(members);
        Self {
            emails: members,
            phones: members,
            ..Self::USUAL
        }
    }

    /// According to `/Schemas`; lists that it does not describe have the usual form.
    pub(super) fn from_schemas(schemas: &Value) -> Self {
        Self {
            emails: EntryMembers::from_schemas(schemas, "emails").unwrap_or(EntryMembers::ALL),
            phones: EntryMembers::from_schemas(schemas, PHONES).unwrap_or(EntryMembers::ALL),
            ..Self::USUAL
        }
    }

    pub(super) fn members(&self, list: &str) -> EntryMembers {
        match list {
            PHONES => self.phones,
            _ => self.emails,
        }
    }

    pub(super) fn has_members_of(&self, other: &Self) -> bool {
        (self.emails, self.phones) == (other.emails, other.phones)
    }

    /// Whether no path can address an entry of a type. The list is then written as a whole, for a user that was read.
    pub(super) fn is_whole(&self, list: &str) -> bool {
        !self.path_filters || !self.members(list).of_type
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_the_schemas_omit_have_the_usual_form() {
        let schemas = |emails: Value| {
            json!({"Resources": [
                {"id": "urn:ietf:params:scim:schemas:core:2.0:Group", "attributes": []},
                {"id": USER_SCHEMA, "attributes": [{"name": "userName"}, {"name": "Emails", "subAttributes": emails}]},
            ]})
        };
        for (document, of_type, primary) in [
            (schemas(json!([{"name": "value"}])), false, false),
            (schemas(json!([{"name": "value"}, {"name": "Type"}])), true, false),
            (
                schemas(json!([{"name": "value"}, {"name": "primary"}])),
                false,
                true,
            ),
            (schemas(json!([])), true, true),
            (schemas(json!([{"name": "display"}])), true, true),
            (schemas(json!(null)), true, true),
            (json!({"Resources": [{"id": USER_SCHEMA}]}), true, true),
            (json!({"Resources": 5}), true, true),
            (json!({}), true, true),
        ] {
            let lists = Lists::from_schemas(&document);
            assert_eq!(lists.emails, EntryMembers { of_type, primary }, "{document}");
            assert_eq!(lists.phones, EntryMembers::ALL, "{document}");
        }
    }
}
