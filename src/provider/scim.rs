//! SCIM 2.0 (RFC 7643, RFC 7644): the whole command as one PATCH, which the provider applies as a whole or not at all.

mod check;
mod compare;
mod desired;
mod dialect;
mod error;
mod find;
mod list;
mod patch;
mod put;
mod remarks;
mod shown;
mod simulated;
#[cfg(test)]
pub(super) mod tests;

use std::borrow::Cow;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::IF_MATCH;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::desired::{Attribute, Desired};
use self::dialect::{Dialect, Refused, SCIM_JSON};
use self::list::Lists;
use self::shown::Shown;
pub use self::simulated::ScimDialect;
pub(crate) use self::simulated::Simulated;
use super::answer::Answer;
use super::find::{FindBy, Found};
use super::http::{Http, Place, Request};
use super::setup::PathTemplate;
use super::{Access, Comparison, Kind, Provider, ProviderError, Remark, SetupError, Updated, User};
use crate::contract::{Failure, Fault, Reason, UpdateUser, UserId, Version};

pub(super) const ANSWERS: &str = include_str!("scim/answers.toml");

pub use self::list::EntryMember;

const USER_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

/// `[provider.scim]`. `base_url` is everything before `/Users`, such as `https://acme.example/scim/v2`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ScimConfig")]
pub struct Config {
    /// How a user is changed: `patch`, or `put` if the provider has no PATCH: the user is read, and put completely with
    /// the command's changes, with the version that was read as a condition. Changes that others make in between are
    /// lost if the provider keeps no versions. Default: `patch`, until the provider refuses the method (405, 501); then
    /// `put`.
    #[schemars(with = "Write")]
    pub write: Option<Write>,
    /// The media type of requests: `scim` (`application/scim+json`) or `json`. Default: `scim`, until the provider refuses
    /// it (406, 415); then `json`.
    #[schemars(with = "MediaType")]
    pub media_type: Option<MediaType>,
    /// Whether the path of an operation may have a filter, such as `emails[type eq "work"]`. Without it, the user is
    /// read and the whole list is put. Default: true, until the provider refuses one (`invalidPath`, `invalidFilter`).
    #[schemars(with = "bool")]
    pub path_filters: Option<bool>,
    /// The members of an entry of `emails` and `phoneNumbers` besides its value: `type`, `primary`, both, or none of
    /// them (an empty list). Others are never sent. Without a `type`, a command means the primary or only entry.
    /// Default: both, until the provider refuses a write with an entry; then those in its `/Schemas`.
    #[schemars(with = "Vec<EntryMember>")]
    pub entry_members: Option<Vec<EntryMember>>,
    /// How an e-mail address or a phone number is written, because SCIM keeps lists of them. Default: `entry`.
    pub contacts: Contacts,
    /// The type of the entry that a command's `email` means. Default: `work`.
    pub email_type: String,
    /// The type of the entry that a command's `phone` means. Default: `work`.
    pub phone_type: String,
    /// Whether the user is read before a write that changes an entry or clears anything. For providers that refuse
    /// (`noTarget`) to replace or remove an entry that does not exist, and most of whose users have none. It costs a
    /// second call for each command; without it, a command that is refused in this way costs two more. Default: false:
    /// the first 20 users whose entries change are read, and all later ones as soon as one was seen with an entry
    /// without a type.
    pub read_first: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contacts {
    /// The entry of the type is removed and a new one is added as the primary one, in one request. It works whether or
    /// not there was such an entry, and keeps entries of other types. If no entry of a user has a type, the primary or
    /// only one is meant.
    #[default]
    Entry,
    /// The value in the entry of the type is replaced. Many providers create a missing entry; others need `read_first`.
    Value,
    /// The whole list is replaced by one entry. Every provider supports it, but entries of other types are lost.
    List,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    #[default]
    Patch,
    Put,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MediaType {
    #[default]
    Scim,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            write: None,
            media_type: None,
            path_filters: None,
            entry_members: None,
            contacts: Contacts::default(),
            email_type: "work".into(),
            phone_type: "work".into(),
            read_first: false,
        }
    }
}

pub struct Scim {
    config: Config,
    dialect: Dialect,
    http: Http,
    path: PathTemplate,
}

impl Scim {
    pub fn new(config: &Config, http: Http) -> Result<Self, SetupError> {
        for (key, name) in [
            ("provider.scim.email_type", &config.email_type),
            ("provider.scim.phone_type", &config.phone_type),
        ] {
            // It is in quotes in a path.
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            {
                let detail = "must be a name of ASCII letters, digits, _ and -, such as work";
                return Err(SetupError::new(key, detail));
            }
        }
        Ok(Self {
            config: config.clone(),
            dialect: Dialect::default(),
            http: http.of(Kind::Scim, Vec::new())?,
            path: PathTemplate::parse("path", "/Users/{userId}")?,
        })
    }

    /// The request that makes the user match the command.
    fn request<'a>(
        &'a self,
        command: &'a UpdateUser,
        desired: &[Desired<'_>],
        current: Option<&Shown<'_>>,
    ) -> Result<(Request<'a>, Form), ProviderError> {
        let media_type = self.dialect.media_type(&self.config);
        let puts = current.filter(|_| self.dialect.puts(&self.config));
        let mut form = Form {
            is_scim: media_type == SCIM_JSON,
            is_known: current.is_some(),
            is_versioned: command.expected_version.is_some(),
            has_entry: desired.iter().any(Desired::sets_entry),
            lists: self.dialect.lists(&self.config),
            ..Form::default()
        };
        let (path, user_id) = (&self.path, &command.user_id);
        let lists = form.lists;
        if let Some(current) = current {
            self.check_unambiguous(&lists, desired, current)?;
        }
        let mut request = match puts {
            Some(current) => {
                form.is_merged = true;
                let user = put::user(&self.config, &lists, desired, current)?;
                Request::write(Method::PUT, path, user_id, &user)?
            }
            None => {
                let patch = patch::patch(&self.config, desired, current, &lists);
                form.has_filter = patch.has_filter;
                form.is_merged = patch.is_merged;
                form.may_be_done_already = patch.may_be_done_already;
                Request::write(Method::PATCH, path, user_id, &patch.body)?
            }
        };
        let read = current.filter(|_| form.is_merged);
        let version = match (&command.expected_version, read) {
            (Some(version), _) => Some(check::version_header(version)?),
            (None, Some(current)) => check::read_version(&current.value),
            (None, None) => None,
        };
        if let Some(version) = version {
            request.headers.insert(IF_MATCH, version);
        }
        request.media_type = media_type;
        Ok((request, form))
    }

    /// If there are several entries, something must identify the one that is meant.
    fn check_unambiguous(
        &self,
        lists: &Lists,
        desired: &[Desired<'_>],
        current: &Shown<'_>,
    ) -> Result<(), ProviderError> {
        let is_refused = |desired: &&Desired<'_>| match desired.attribute {
            Attribute::Plain(_) => false,
            Attribute::Entry { list, of_type } => {
                let (contacts, user) = (self.config.contacts, &current.value);
                // If entries have types, a new entry has one.
                (desired.value.is_none() || !lists.members(list).of_type)
                    && compare::is_ambiguous(contacts, list, user)
                    || desired.value.is_none() && compare::leaves_untyped(contacts, list, of_type, user)
            }
        };
        let Some(desired) = desired.iter().find(is_refused) else {
            return Ok(());
        };
        let detail = "the user has several such entries, and some have no type, so it is unclear which of them is \
                          meant; give them types at the provider, or set `contacts = \"list\"` under [provider.scim], \
                          which replaces them all";
        Err(ProviderError {
            pointer: Some(desired.pointer.clone()),
            ..ProviderError::new(Fault::Command(Reason::Conflict), detail)
        })
    }

    /// A request instead of the write, which is made after it.
    async fn read_schemas(&self) -> ProviderError {
        let detail = match self.get(Place::Fixed("/Schemas")).await {
            Ok(answer) => {
                self.dialect.read_schemas(answer.json());
                "the provider's schemas were read, because it refused an entry"
            }
            // Other errors end the command in the same way.
            Err(error)
                if matches!(
                    error.fault,
                    Fault::Throttled { .. }
                        | Fault::Credentials
                        | Fault::CredentialsRenewed
                        | Fault::Unreachable
                ) =>
            {
                return error;
            }
            // It was not a write, so nothing was applied in any case.
            Err(_) => {
                self.dialect.read_schemas(None);
                "the provider refused an entry, and its schemas can't be read"
            }
        };
        ProviderError::new(Fault::ReadFirst, detail)
    }

    /// A document in which the server describes itself, in the media type that it accepts.
    async fn document(&self, path: &'static str) -> Result<Value, ProviderError> {
        let answer = match self.get(Place::Fixed(path)).await {
            Err(error) if error.fault == Fault::Again => self.get(Place::Fixed(path)).await,
            answer => answer,
        };
        answer?.object()
    }

    async fn get(&self, place: Place<'_>) -> Result<Answer, ProviderError> {
        let media_type = self.dialect.media_type(&self.config);
        let form = Form {
            is_scim: media_type == SCIM_JSON,
            ..Form::default()
        };
        let request = Request {
            media_type,
            ..Request::get(place)
        };
        let refusal = |answer: &Answer| {
            let error = error::of_read(answer);
            self.other_form(answer, error, form)
        };
        self.http.call(request, refusal).await
    }

    /// If the provider refuses the form of a request, the error asks for another form.
    fn other_form(&self, answer: &Answer, error: ProviderError, form: Form) -> ProviderError {
        let (dialect, config) = (&self.dialect, &self.config);
        let is_refused = error.fault == Fault::Configuration;
        let fault = match answer.status {
            406 | 415 if form.is_scim && dialect.refused(config, Refused::MediaType) => Fault::Again,
            405 | 501 if is_refused && answer.method == Method::PUT => {
                dialect.put_is_refused_too();
                return error;
            }
            405 | 501
                if is_refused
                    && answer.method == Method::PATCH
                    && dialect.refused(config, Refused::Method) =>
            {
                Fault::ReadFirst
            }
            400 if form.has_filter
                && error::is_path_refusal(&error)
                && dialect.refused(config, Refused::Filter) =>
            {
                Fault::ReadFirst
            }
            // Because of members of entries that the provider does not have.
            400 if form.has_entry
                && error::may_concern_a_member(&error)
                && dialect.may_lack_members(config, &form.lists) =>
            {
                Fault::ReadFirst
            }
            // The version was that of our own read: the user is read and merged again.
            409 | 412 if form.is_merged && !form.is_versioned && error::is_version_conflict(&error) => {
                Fault::ReadFirst
            }
            _ => return error,
        };
        ProviderError { fault, ..error }
    }
}

/// The form of a request, apart from its method.
#[derive(Debug, Clone, Copy, Default)]
struct Form {
    has_filter: bool,
    has_entry: bool,
    lists: Lists,
    /// It contains a part of the user that was read.
    is_merged: bool,
    /// It only removes something that may not exist.
    may_be_done_already: bool,
    is_scim: bool,
    is_known: bool,
    is_versioned: bool,
}

/// An answer's body is the user if it says so.
fn is_user(body: &Value) -> bool {
    let schemas = body["schemas"].as_array();
    schemas.is_some_and(|schemas| schemas.iter().any(|schema| schema == USER_SCHEMA))
}

#[async_trait]
impl Provider for Scim {
    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        check::check(command)
    }

    fn reads(&self) -> bool {
        true
    }

    fn reads_before_write(&self, command: &UpdateUser) -> bool {
        let contacts = self.config.contacts;
        if self.dialect.puts(&self.config) {
            return true;
        }
        desired::desired(&self.config, &command.update)
            .iter()
            .any(|desired| {
                let strict = self.config.read_first && patch::needs_target(contacts, desired);
                let needs_entries = match desired.attribute {
                    Attribute::Plain(_) => false,
                    Attribute::Entry { list, .. } => {
                        desired.value.is_none() || self.dialect.needs_entries(&self.config, list)
                    }
                };
                strict || contacts != Contacts::List && needs_entries
            })
    }

    /// Values are set, not added. But a password can't be read back: after a write without an answer, a new version may
    /// be from somebody else's change.
    fn is_idempotent(&self, command: &UpdateUser) -> bool {
        command.expected_version.is_none() || !desired::sets_password(&command.update)
    }

    fn merges_updates(&self) -> bool {
        true
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        compare::compare(&self.config, command, &Shown::of(user).value)
    }

    /// The provider changes a user's version with each change, if it keeps versions.
    fn is_unchanged(&self, before: &User, after: &User) -> bool {
        let shown = |user| User(Shown::of(user).value);
        shown(before).has_same_text_at(&shown(after), check::VERSION_AT)
    }

    fn version(&self, user: &User) -> Option<Version> {
        check::shown_version(&Shown::of(user).value)
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError> {
        let answer = self.get(Place::User(&self.path, user_id)).await?;
        let user = shown::read(&answer)?;
        self.dialect.observe(&Shown::of(&user).value);
        Ok(user)
    }

    async fn update(&self, command: &UpdateUser, current: Option<&User>) -> Result<Updated, ProviderError> {
        if let Some(_reading) = self.dialect.try_reading_schemas() {
            return Err(self.read_schemas().await);
        }
        let current = current.map(Shown::of);
        let desired = desired::desired(&self.config, &command.update);
        let (request, form) = self.request(command, &desired, current.as_ref())?;
        let refusal = |answer: &Answer| {
            let error = error::of_write(answer, &desired, &form);
            self.other_form(answer, error, form)
        };
        let answer = match self.http.call(request, refusal).await {
            Ok(answer) => answer,
            // The values to clear are already absent.
            Err(error) if form.may_be_done_already && error::is_no_target(&error) => {
                return Ok(Updated::default());
            }
            Err(error) => return Err(error),
        };
        let Some(user) = answer.json().filter(|body| is_user(body)) else {
            return Ok(Updated {
                version: check::answered_version(&answer),
                ..Updated::default()
            });
        };
        self.dialect.observe(user);
        Ok(Updated {
            ignored: compare::first_that_differs(&self.config, command, user),
            version: check::shown_version(user),
            ..Updated::default()
        })
    }

    fn finds(&self, _: FindBy) -> Result<(), Cow<'static, str>> {
        Ok(())
    }

    async fn find(&self, by: FindBy, key: &str) -> Result<Found, ProviderError> {
        find::find(self, by, key).await
    }

    async fn remarks(&self) -> Result<Vec<Remark>, ProviderError> {
        let service = self.document("/ServiceProviderConfig").await;
        let schemas = self.document("/Schemas").await;
        let types = self.document("/ResourceTypes").await;
        let mut remarks = remarks::of_service(&self.config, &service);
        remarks.push(remarks::of_schemas(&self.config, &schemas));
        remarks.push(remarks::of_resource_types(&types));
        Ok(remarks)
    }

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
