//! Claims: which of them a command changes, and what is put for it.

use serde::Serialize;
use serde_json::Value;

use super::Clearable;
use super::shown::{Members, Shown};
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

/// The JSON of a write.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Members<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_provider: Option<Members<'a>>,
}

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
    pub(super) fn body<'a>(&self, update: &Update, current: Option<Shown<'a>>) -> Body<'a> {
        let current = current.unwrap_or_default();
        let mut named = current.claims.is_some();
        let mut claims = current.claims.unwrap_or_default();
        for (name, value) in self.fields.changes(update) {
            named = true;
            match value {
                Some(value) => claims.set(name, value.into()),
                None => claims.remove(name),
            }
        }
        for (name, value) in free(update) {
            named = true;
            match value {
                Value::Null => claims.remove(name),
                value => claims.set(name, value.clone()),
            }
        }
        let mut provider = current.authentication_provider.unwrap_or_default();
        if let Some(asked) = authentication_provider(update) {
            provider = Members::default();
            for (name, value) in provider_members(asked) {
                provider.set(name, value.into());
            }
        }
        provider.remove(READ_ONLY);
        Body {
            claims: named.then_some(claims),
            authentication_provider: (!provider.is_empty()).then_some(provider),
        }
    }

    /// Whether the user already has the command's part.
    pub(super) fn as_asked(&self, update: &Update, user: &Shown<'_>) -> bool {
        let has = |members: &Option<Members<'_>>, name: &str, value: &Value| match members {
            Some(members) => members.has(name, value),
            None => value.is_null(),
        };
        let claims = self.fields.changes(update);
        claims
            .into_iter()
            .all(|(name, value)| has(&user.claims, name, &Value::from(value)))
            && free(update).all(|(name, value)| has(&user.claims, name, value))
            && authentication_provider(update).is_none_or(|asked| {
                provider_members(asked)
                    .all(|(name, value)| has(&user.authentication_provider, name, &value.into()))
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

fn provider_members(provider: &AuthenticationProvider) -> impl Iterator<Item = (&'static str, &str)> {
    let provider_id = provider
        .provider_id
        .as_ref()
        .map(|id| ("providerId", id.as_str()));
    provider_id
        .into_iter()
        .chain([("subjectId", provider.subject_id.as_str())])
}
