//! Sivo: each write names the version that the user must still have. Much of its page is lost: what is not known
//! stands in the configuration.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Answer;
use super::field_map::{FieldMap, FieldNames};
use super::http::{Http, Request};
use super::members::Members;
use super::setup::{OWN, PathTemplate, WriteMethod, header_name, optional_path};
use super::token::Carried;
use super::{Access, Comparison, Kind, Provider, ProviderError, SetupError, Updated, User};
use crate::contract::extension::{SivoField, SivoUpdate};
use crate::contract::{Failure, Fault, Field, Json, Reason, Update, UpdateUser, UserId, Version};

const FIELDS: [(Field, &str); 6] = [
    (Field::Username, "username"),
    (Field::Email, "email"),
    (Field::Phone, "phoneNumber"),
    (Field::GivenName, "firstName"),
    (Field::FamilyName, "lastName"),
    (Field::Nickname, "alias"),
];

/// Where a user's version stands.
const VERSION: &str = "updated_at";

/// `[provider.sivo]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "SivoConfig")]
pub struct Config {
    /// The method of the update. Default: `PATCH`.
    pub method: WriteMethod,
    /// The path of the update, with `{userId}`. Default: `/users/{userId}`.
    pub path: String,
    /// The path to read one user, with `{userId}`; empty: a user can't be read back. Default: `/users/{userId}`.
    /// No such call is shown on Sivo's page; it is inferred from the update's.
    pub read_path: String,
    /// The header that carries the token. Default: `authorization`; Sivo's page does not show it.
    pub credential_header: String,
    /// The word before the token, such as `Token`; empty: the token stands alone. Default: `Bearer`.
    pub credential_scheme: String,
    /// The header that carries the command's `expectedVersion`, as it stands. Default: `If-Match`. Sivo demands
    /// such a header; its name is not known.
    pub version_header: String,
    /// Names that differ from the defaults, which are inferred from a model like Sivo's: username → `username`,
    /// email → `email`, phone → `phoneNumber`, givenName → `firstName`, familyName → `lastName`, nickname →
    /// `alias`, and no others.
    pub fields: FieldNames,
    /// Fields that null clears. Default: all. Sivo's page allows null in the fields that have a name here; that it
    /// clears is inferred.
    pub clearable: Vec<Field>,
    /// The fields under `sivo` that a command may set or clear, by name; another one is refused. Sivo's page lists 42 fields
    /// and does not say which of them it writes. Default: metadata and lists.
    pub writable: Vec<SivoField>,
    /// Codes of an error that are passed on to events and dead letters, such as `version_mismatch`. Default: none, because
    /// no list of Sivo's codes is known, and what stands there may be a user's data.
    pub codes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            method: WriteMethod::Patch,
            path: "/users/{userId}".into(),
            read_path: "/users/{userId}".into(),
            credential_header: "authorization".into(),
            credential_scheme: "Bearer".into(),
            version_header: "If-Match".into(),
            fields: FieldNames::default(),
            clearable: Field::ALL.into(),
            writable: vec![SivoField::Metadata, SivoField::Lists],
            codes: Vec::new(),
        }
    }
}

pub struct Sivo {
    http: Http,
    method: WriteMethod,
    path: PathTemplate,
    read_path: Option<PathTemplate>,
    version_header: HeaderName,
    fields: FieldMap,
    writable: Vec<SivoField>,
    codes: Vec<String>,
}

impl Sivo {
    pub fn new(config: &Config, http: Http) -> Result<Self, SetupError> {
        let clearable = |field| config.clearable.contains(&field);
        let carried = Carried::of(Kind::Sivo, &config.credential_header, &config.credential_scheme)?;
        let version_header = header_name("provider.sivo.version_header", &config.version_header)?;
        if version_header == *carried.header() || OWN.contains(&version_header.as_str()) {
            return Err(SetupError::new(
                "provider.sivo.version_header",
                "names a header that carries something else; name another",
            ));
        }
        Ok(Self {
            http: http.of(Kind::Sivo, Vec::new())?.carrying(carried),
            method: config.method,
            path: PathTemplate::parse("provider.sivo.path", &config.path)?,
            read_path: optional_path("provider.sivo.read_path", &config.read_path)?,
            version_header,
            fields: FieldMap::new(Kind::Sivo, &FIELDS, &config.fields, clearable)?,
            writable: config.writable.clone(),
            codes: config.codes.clone(),
        })
    }

    /// Refuses what the configuration does not list, and what a shared field sets already.
    fn check_own(&self, update: &Update) -> Result<(), Failure> {
        for (own, _) in own(update) {
            let name = own.name();
            if !self.writable.contains(&own) {
                let detail = format!(
                    "this provider is not set up to write `{name}`, since it is not known whether Sivo takes it; leave it \
                     out, or put `{name}` under `writable` in [provider.sivo]"
                );
                return Err(Failure::new(Reason::UnsupportedField, detail).at(own.pointer()));
            }
            if let Some(field) = self.fields.field(name)
                && update.shared(field).is_some()
            {
                let detail = format!(
                    "`{name}` is what `{}` sets at this provider; keep one of the two",
                    field.name()
                );
                return Err(Failure::new(Reason::Invalid, detail).at(own.pointer()));
            }
        }
        Ok(())
    }

    /// The members of a write; null clears.
    fn body<'a>(&self, update: &'a Update) -> Members<'a> {
        let mut body = Members::default();
        for (name, value) in self.fields.changes(update) {
            body.set(name, value.into());
        }
        for (field, value) in own(update) {
            body.set_raw(field.name(), value.raw());
        }
        body
    }

    fn refusal(&self, answer: &Answer) -> ProviderError {
        let mut error = answer.refusal();
        if let Some(body) = answer.json() {
            error.code = [&body["code"], &body["error"]["code"]]
                .into_iter()
                .find_map(|code| answer.listed_code(code.as_str()?, &self.codes));
        }
        error
    }
}

/// What the command changes of Sivo's own.
fn own(update: &Update) -> impl Iterator<Item = (SivoField, &Json)> {
    update.sivo.iter().flat_map(SivoUpdate::changes)
}

/// A user as it was read.
fn shown(user: &User) -> Option<Members<'_>> {
    Members::parse(user.0.as_str()?).ok()
}

/// A date-time, in quotes or not: how Sivo's header has it is not known.
fn is_moment(version: &str) -> bool {
    let unquoted = version.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    unquoted.unwrap_or(version).parse::<Timestamp>().is_ok()
}

#[async_trait]
impl Provider for Sivo {
    fn kind(&self) -> &'static str {
        Kind::Sivo.as_str()
    }

    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        Kind::Sivo.refuse_foreign(command)?;
        let version = command.expected_version.as_ref();
        let is_one = |version: &Version| version.is_previous() || is_moment(version.as_str());
        let detail = match version.map(is_one) {
            Some(true) => None,
            Some(false) => Some(
                "Sivo's versions are moments; send the user's present `updated_at` as it was read, such as \
                 2026-11-21T10:00:00.123Z, or `previous`",
            ),
            None => Some(
                "Sivo changes a user of a known version only; add `expectedVersion` with the user's present \
                 `updated_at`",
            ),
        };
        if let Some(detail) = detail {
            return Err(Failure::new(Reason::Invalid, detail).at("/expectedVersion"));
        }
        self.check_own(&command.update)?;
        self.fields.check(&command.update)
    }

    fn reads(&self) -> bool {
        self.read_path.is_some()
    }

    fn reads_before_write(&self, _: &UpdateUser) -> bool {
        false
    }

    /// The first write moves the version on, so that a second one is refused.
    fn is_idempotent(&self, _: &UpdateUser) -> bool {
        true
    }

    /// Each names the version that it is for.
    fn merges_updates(&self) -> bool {
        false
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        let update = &command.update;
        let as_asked = |user: Members<'_>| {
            self.fields
                .as_asked_where(update, |_, name| Cow::Owned(user.value(name)))
                && own(update).all(|(field, value)| user.has_raw(field.name(), value.raw()))
        };
        match shown(user).is_some_and(as_asked) {
            true => Comparison::Matches,
            false => Comparison::Differs,
        }
    }

    fn untouched(&self, before: &User, after: &User) -> bool {
        let before = self.version(before);
        before.is_some() && before == self.version(after)
    }

    fn version(&self, user: &User) -> Option<Version> {
        let version = Version::parse(shown(user)?.value(VERSION).as_str()?);
        version.filter(|version| is_moment(version.as_str()))
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError> {
        let Some(path) = &self.read_path else {
            return Err(ProviderError::cannot_read());
        };
        let answer = self
            .http
            .call(Request::read(path, user_id), |answer| self.refusal(answer))
            .await?;
        answer.user_as_written()
    }

    async fn update(&self, command: &UpdateUser, _: Option<&User>) -> Result<Updated, ProviderError> {
        let version = command.expected_version.as_ref();
        let Some(version) = version.and_then(|version| HeaderValue::from_str(version.as_str()).ok()) else {
            return Err(ProviderError::new(
                Fault::Command(Reason::Invalid),
                "the command has no expectedVersion that a header can carry; add the user's present one",
            ));
        };
        let body = self.body(&command.update);
        let mut request = Request::write(self.method.into(), &self.path, &command.user_id, &body)?;
        request.headers.insert(self.version_header.clone(), version);
        let answer = self.http.call(request, |answer| self.refusal(answer)).await?;
        let shown = answer.user_as_written().ok();
        Ok(Updated {
            version: shown.and_then(|user| self.version(&user)),
            ..Updated::default()
        })
    }

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
