//! Claims: which of them a command changes, and what is put for it.

use serde_json::{Map, Value};

use super::Clearable;
use crate::contract::extension::{AuthenticationProvider, MattrUpdate};
use crate::contract::{Failure, Field, Reason, Update};
use crate::provider::field_map::{FieldMap, FieldNames};
use crate::provider::{Kind, SetupError};

/// OpenID Connect's standard claims.
const FIELDS: [(Field, &str); 8] = [
    (Field::Username, "preferred_username"),
    (Field::Email, "email"),
    (Field::Phone, "phone_number"),
    (Field::GivenName, "given_name"),
    (Field::FamilyName, "family_name"),
    (Field::DisplayName, "name"),
    (Field::Nickname, "nickname"),
    (Field::Locale, "locale"),
];

const CLAIMS_POINTER: &str = "/update/mattr/claims";
const PROVIDER_POINTER: &str = "/update/mattr/authenticationProvider";

/// In a user as read, for the reader only: a write does not take it.
const READ_ONLY: &str = "url";

pub(super) struct Claims {
    fields: FieldMap,
    null_clears: bool,
}

/// The free-form claims of a command.
fn free(update: &Update) -> impl Iterator<Item = (&String, &Value)> {
    let claims = update.mattr.as_ref().and_then(|mattr| mattr.claims.as_ref());
    claims.into_iter().flatten()
}

fn authentication_provider(update: &Update) -> Option<&AuthenticationProvider> {
    let mattr: Option<&MattrUpdate> = update.mattr.as_ref();
    mattr.and_then(|mattr| mattr.authentication_provider.as_ref())
}

impl Claims {
    pub(super) fn new(names: &FieldNames, clearable: &[Clearable]) -> Result<Self, SetupError> {
        let null_clears = clearable.contains(&Clearable::Claims);
        let clears = |field| null_clears || clearable.contains(&Clearable::Field(field));
        Ok(Self {
            fields: FieldMap::new(Kind::Mattr, &FIELDS, names, clears)?,
            null_clears,
        })
    }

    pub(super) fn check(&self, update: &Update) -> Result<(), Failure> {
        self.fields.check(update)?;
        for (name, value) in free(update) {
            if value.is_null() && !self.null_clears {
                let detail = "this provider is not set up to clear claims; leave the claim out, or put `claims` under \
                              `clearable` in [provider.mattr]";
                return Err(Failure::new(Reason::UnsupportedField, detail).at(CLAIMS_POINTER));
            }
            if let Some(field) = self.fields.field(name)
                && update.shared(field).is_some()
            {
                let detail = format!(
                    "the claim `{name}` is what `{}` sets at this provider; keep one of the two",
                    field.name()
                );
                return Err(Failure::new(Reason::Invalid, detail).at(CLAIMS_POINTER));
            }
        }
        Ok(())
    }

    /// What is put: the command's part over the user as read, where it was.
    pub(super) fn body(&self, update: &Update, current: Option<&Value>) -> Map<String, Value> {
        let member = |name: &str| current.and_then(|user| user[name].as_object()).cloned();
        let read = member("claims");
        let mut named = read.is_some();
        let mut claims = read.unwrap_or_default();
        for (name, value) in self.fields.changes(update) {
            named = true;
            match value {
                Some(value) => claims.insert(name.into(), value.into()),
                None => claims.remove(name),
            };
        }
        for (name, value) in free(update) {
            named = true;
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.clone(), value.clone()),
            };
        }
        let mut body = Map::new();
        if named {
            body.insert("claims".into(), claims.into());
        }
        let provider = match authentication_provider(update) {
            Some(provider) => Some(provider_members(provider)),
            None => member("authenticationProvider"),
        };
        let mut provider = provider.unwrap_or_default();
        provider.remove(READ_ONLY);
        if !provider.is_empty() {
            body.insert("authenticationProvider".into(), provider.into());
        }
        body
    }

    /// Whether the user already has the command's part.
    pub(super) fn as_asked(&self, update: &Update, user: &Value) -> bool {
        let claims = &user["claims"];
        let provider = &user["authenticationProvider"];
        self.fields.as_asked(update, claims)
            && free(update).all(|(name, value)| claims[name] == *value)
            && authentication_provider(update).is_none_or(|asked| {
                provider_members(asked)
                    .iter()
                    .all(|(name, value)| provider[name] == *value)
            })
    }

    /// Where in the command the member stands that an error names, such as `claims.email`.
    pub(super) fn pointer(&self, update: &Update, member: &str) -> Option<String> {
        let (head, claim) = member.split_once('.').unwrap_or((member, ""));
        match head {
            "claims" => {
                let field = self.fields.field(claim);
                match field.filter(|field| update.shared(*field).is_some()) {
                    Some(field) => Some(field.pointer()),
                    None => free(update).next().map(|_| CLAIMS_POINTER.into()),
                }
            }
            "authenticationProvider" => authentication_provider(update).map(|_| PROVIDER_POINTER.into()),
            _ => None,
        }
    }
}

fn provider_members(provider: &AuthenticationProvider) -> Map<String, Value> {
    let mut members = Map::new();
    if let Some(provider_id) = &provider.provider_id {
        members.insert("providerId".into(), provider_id.as_str().into());
    }
    members.insert("subjectId".into(), provider.subject_id.as_str().into());
    members
}
