//! Sivo: each write names the version that the user must still have. Much of its page is lost: what is not known
//! stands in the configuration.

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::field_map::{FieldMap, FieldNames};
use super::http::{Http, Request};
use super::setup::{PathTemplate, WriteMethod, header_name, optional_path};
use super::{Access, Comparison, Kind, Provider, ProviderError, SetupError, Updated, User};
use crate::contract::extension::SivoUpdate;
use crate::contract::{Change, Failure, Fault, Field, Reason, UpdateUser, UserId, Version};

const FIELDS: [(Field, &str); 6] = [
    (Field::Username, "username"),
    (Field::Email, "email"),
    (Field::Phone, "phoneNumber"),
    (Field::GivenName, "firstName"),
    (Field::FamilyName, "lastName"),
    (Field::Nickname, "alias"),
];

/// Where a user's version stands.
const VERSION_AT: &str = "/updated_at";

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
            version_header: "If-Match".into(),
            fields: FieldNames::default(),
            clearable: Field::ALL.into(),
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
    codes: Vec<String>,
}

impl Sivo {
    pub fn new(config: &Config, http: Http) -> Result<Self, SetupError> {
        let clearable = |field| config.clearable.contains(&field);
        Ok(Self {
            http: http.of(Kind::Sivo, Vec::new())?,
            method: config.method,
            path: PathTemplate::parse("provider.sivo.path", &config.path)?,
            read_path: optional_path("provider.sivo.read_path", &config.read_path)?,
            version_header: header_name("provider.sivo.version_header", &config.version_header)?,
            fields: FieldMap::new(Kind::Sivo, &FIELDS, &config.fields, clearable)?,
            codes: config.codes.clone(),
        })
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

/// The members of Sivo's own that the command changes; null clears.
fn own_members(own: &SivoUpdate) -> Map<String, Value> {
    let mut members = Map::new();
    if let Some(metadata) = &own.metadata {
        let metadata = metadata.value().map(|metadata| metadata.clone().into());
        members.insert("metadata".into(), metadata.unwrap_or_default());
    }
    if let Some(lists) = &own.lists {
        let lists = match lists {
            Change::Set(lists) => lists.iter().map(|list| list.as_str()).collect(),
            Change::Clear => Value::Null,
        };
        members.insert("lists".into(), lists);
    }
    members
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
        self.fields.check(&command.update)
    }

    fn reads(&self) -> bool {
        self.read_path.is_some()
    }

    fn reads_before_write(&self, _: &UpdateUser) -> bool {
        false
    }

    /// The first write moves the version on, so that a second one is refused.
    fn harmless_to_repeat(&self, _: &UpdateUser) -> bool {
        true
    }

    /// Each names the version that it is for.
    fn merges_updates(&self) -> bool {
        false
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        let own = command.update.sivo.as_ref().map(own_members).unwrap_or_default();
        let as_asked = self.fields.as_asked(&command.update, &user.0)
            && own.iter().all(|(name, value)| user.0[name] == *value);
        match as_asked {
            true => Comparison::AsAsked,
            false => Comparison::Differs,
        }
    }

    fn untouched(&self, before: &User, after: &User) -> bool {
        before.is_marked_as(after, VERSION_AT)
    }

    fn version(&self, user: &User) -> Option<Version> {
        user.version_at(VERSION_AT)
            .filter(|version| is_moment(version.as_str()))
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError> {
        let Some(path) = &self.read_path else {
            return Err(ProviderError::cannot_read());
        };
        self.http
            .call(Request::read(path, user_id), |answer| self.refusal(answer))
            .await?
            .user()
    }

    async fn update(&self, command: &UpdateUser, _: Option<&User>) -> Result<Updated, ProviderError> {
        let version = command.expected_version.as_ref();
        let Some(version) = version.and_then(|version| HeaderValue::from_str(version.as_str()).ok()) else {
            return Err(ProviderError::new(
                Fault::Command(Reason::Invalid),
                "the command has no expectedVersion that a header can carry; add the user's present one",
            ));
        };
        let mut body = self.fields.members(&command.update);
        body.extend(command.update.sivo.as_ref().map(own_members).unwrap_or_default());
        let mut request = Request::write(self.method.into(), &self.path, &command.user_id, &body)?;
        request.headers.insert(self.version_header.clone(), version);
        let answer = self.http.call(request, |answer| self.refusal(answer)).await?;
        let shown = answer.user().ok();
        Ok(Updated {
            version: shown.and_then(|user| self.version(&user)),
            ..Updated::default()
        })
    }

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
