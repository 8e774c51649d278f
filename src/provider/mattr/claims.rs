//! Claims: which ones a command changes, and what is put.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::Value;

use super::shown::Shown;
use super::{Clearable, Config};
use crate::contract::extension::{AuthenticationProvider, MattrUpdate};
use crate::contract::{Failure, Field, Json, Reason, Update, shown_key};
use crate::provider::field_map::FieldMap;
use crate::provider::members::Members;
use crate::provider::{Kind, SetupError};

/// The names in MATTR's own examples of a user, and those of OpenID Connect where the examples show none.
const FIELDS: [(Field, &str); 8] = [
    (Field::Username, "preferred_username"),
    (Field::Email, "email"),
    (Field::Phone, "phone_number"),
    (Field::GivenName, "givenName"),
    (Field::FamilyName, "familyName"),
    (Field::DisplayName, "name"),
    (Field::Nickname, "nickname"),
    (Field::Locale, "locale"),
];

const CLAIMS_POINTER: &str = "/update/mattr/claims";
const PROVIDER_POINTER: &str = "/update/mattr/authenticationProvider";

/// A read-only member of a user that is read: a write does not accept it.
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
    /// None means all.
    allowed: Option<HashSet<String>>,
    allow_relink: bool,
}

/// The free-form claims of a command.
fn free(update: &Update) -> impl Iterator<Item = (&String, &Json)> {
    let claims = update.mattr.as_ref().and_then(|mattr| mattr.claims.as_ref());
    claims.into_iter().flatten()
}

fn authentication_provider(update: &Update) -> Option<&AuthenticationProvider> {
    let mattr: Option<&MattrUpdate> = update.mattr.as_ref();
    mattr.and_then(|mattr| mattr.authentication_provider.as_ref())
}

impl Claims {
    pub(super) fn new(config: &Config) -> Result<Self, SetupError> {
        let clearable = &config.clearable;
        let null_clears = clearable.contains(&Clearable::Claims);
        let clears = |field| null_clears || clearable.contains(&Clearable::Field(field));
        Ok(Self {
            fields: FieldMap::new(Kind::Mattr, &FIELDS, &config.fields, clears)?,
            null_clears,
            allowed: config.claims.clone().map(HashSet::from_iter),
            allow_relink: config.allow_relink,
        })
    }

    /// The claim of a field, if it has one.
    pub(super) fn name(&self, field: Field) -> Option<&str> {
        let mut names = self.fields.names();
        names.find(|(of, _)| *of == field).map(|(_, name)| name)
    }

    pub(super) fn check(&self, update: &Update) -> Result<(), Failure> {
        self.fields.check(update)?;
        for (name, value) in free(update) {
            if self
                .allowed
                .as_ref()
                .is_some_and(|allowed| !allowed.contains(name))
            {
                let detail = "commands may not set this claim at this provider; omit it, or add it to `claims` in \
                              [provider.mattr]";
                let pointer = format!("{CLAIMS_POINTER}/{}", shown_key(name));
                return Err(Failure::new(Reason::UnsupportedField, detail).at(pointer));
            }
            if value.is_null() && !self.null_clears {
                let detail = "this provider is not configured to clear claims; omit the claim, or add `claims` to \
                              `clearable` in [provider.mattr]";
                return Err(Failure::new(Reason::UnsupportedField, detail).at(CLAIMS_POINTER));
            }
            if let Some(field) = self.fields.field(name)
                && update.shared(field).is_some()
            {
                let detail = format!(
                    "the claim `{name}` and `{}` set the same claim at this provider; keep one of the two",
                    field.name()
                );
                return Err(Failure::new(Reason::Invalid, detail).at(CLAIMS_POINTER));
            }
        }
        if !self.allow_relink && authentication_provider(update).is_some() {
            let detail = "this provider is not configured to link users to other logins, because any publisher could then take \
                      over any user; omit it, or set `allow_relink` in [provider.mattr] if every publisher is \
                      trusted that far";
            return Err(Failure::new(Reason::UnsupportedField, detail).at(PROVIDER_POINTER));
        }
        Ok(())
    }

    /// The body to put: the command's changes over the user, if it was read.
    pub(super) fn body<'a>(&self, update: &'a Update, current: Option<Shown<'a>>) -> Body<'a> {
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
            match value.is_null() {
                true => claims.remove(name),
                false => claims.set_raw(name, value.raw()),
            }
        }
        let mut provider = current.authentication_provider.unwrap_or_default();
        for (name, value) in authentication_provider(update)
            .into_iter()
            .flat_map(provider_members)
        {
            provider.set(name, value.into());
        }
        provider.remove(READ_ONLY);
        Body {
            claims: named.then_some(claims),
            authentication_provider: (!provider.is_empty()).then_some(provider),
        }
    }

    /// Whether the user already matches the command.
    pub(super) fn matches(&self, update: &Update, user: &Shown<'_>) -> bool {
        let has = |members: &Option<Members<'_>>, name: &str, value: &Value| match members {
            Some(members) => members.has(name, value),
            None => value.is_null(),
        };
        let has_raw = |name: &str, value: &Json| match &user.claims {
            Some(claims) => claims.has_raw(name, value.raw()),
            None => value.is_null(),
        };
        let claims = self.fields.changes(update);
        claims
            .into_iter()
            .all(|(name, value)| has(&user.claims, name, &Value::from(value)))
            && free(update).all(|(name, value)| has_raw(name, value))
            && authentication_provider(update).is_none_or(|asked| {
                provider_members(asked)
                    .all(|(name, value)| has(&user.authentication_provider, name, &value.into()))
            })
    }

    /// The pointer into the command of a member that an error names, such as `claims.email` or `body.claims.email`.
    /// None if the command does not have it, because a member that was put back may be wrong as well.
    pub(super) fn pointer(&self, update: &Update, member: &str) -> Option<String> {
        let member = member.strip_prefix("body.").unwrap_or(member);
        let (head, claim) = member.split_once('.').unwrap_or((member, ""));
        match head {
            "claims" => {
                let field = self.fields.field(claim);
                let within = |name: &str| {
                    claim
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                match field.filter(|field| update.shared(*field).is_some()) {
                    Some(field) => Some(field.pointer()),
                    None => free(update)
                        .any(|(name, _)| claim.is_empty() || within(name))
                        .then(|| CLAIMS_POINTER.into()),
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
