//! SCIM 2.0 (RFC 7643, RFC 7644): the whole command as one PATCH, which the provider applies as a whole or not at all.

mod check;
mod compare;
mod desired;
mod dialect;
mod error;
mod list;
mod patch;
mod put;
mod remarks;
mod shown;
mod simulated;
#[cfg(test)]
pub(super) mod tests;

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
use super::http::{Http, Place, Request};
use super::setup::PathTemplate;
use super::{Access, Comparison, Kind, Provider, ProviderError, Remark, SetupError, Updated, User};
use crate::contract::{Failure, Fault, Reason, UpdateUser, UserId, Version};

pub(super) const ANSWERS: &str = include_str!("scim/answers.toml");

pub use self::list::EntryMember;

const USER_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

/// `[provider.scim]`. `base_url` is what stands before `/Users`, such as `https://acme.example/scim/v2`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ScimConfig")]
pub struct Config {
    /// How a user is changed: `patch`, or `put` where the provider has no PATCH: the user is read, and put as a whole with
    /// the command's part over it, under the version that was read. What somebody else changes in between is lost where the
    /// provider keeps no versions. Default: `patch`, until the provider refuses the method (405, 501); then `put`.
    #[schemars(with = "Write")]
    pub write: Option<Write>,
    /// The media type of requests: `scim` (`application/scim+json`) or `json`. Default: `scim`, until the provider refuses
    /// it (406, 415); then `json`.
    #[schemars(with = "MediaType")]
    pub media_type: Option<MediaType>,
    /// Whether the path of an operation may have a filter, such as `emails[type eq "work"]`. Without it, the user is read
    /// and its list is put as a whole. Default: true, until the provider refuses one (`invalidPath`, `invalidFilter`).
    #[schemars(with = "bool")]
    pub path_filters: Option<bool>,
    /// What an entry of `emails` and `phoneNumbers` has beside its value: `type`, `primary`, both, or none of them (an empty
    /// list). Others are never sent. Without a `type`, the primary or only entry is meant. Default: both, until the provider
    /// refuses a write with an entry; then what its `/Schemas` says.
    #[schemars(with = "Vec<EntryMember>")]
    pub entry_members: Option<Vec<EntryMember>>,
    /// How an e-mail address or a phone number is written: SCIM keeps lists of them. Default: `entry`.
    pub contacts: Contacts,
    /// The type of the entry that a command's `email` means. Default: `work`.
    pub email_type: String,
    /// The type of the entry that a command's `phone` means. Default: `work`.
    pub phone_type: String,
    /// Whether the user is read before a write that changes an entry or clears anything: for providers that refuse
    /// (`noTarget`) to replace or remove what is not there, most of whose users have no such entry. It costs a second
    /// call for each command; without it, a command that is refused so costs two more. Default: false: the first 20 users
    /// whose entries change are read, and all others as soon as one was seen with an entry that has no type.
    pub read_first: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contacts {
    /// The entry of the type is removed and a new one is added, as the primary one, in one request. It works whether
    /// there was such an entry or not, and leaves entries of other types alone. Where no entry of a user has a type, the
    /// primary or only one is meant.
    #[default]
    Entry,
    /// The value in the entry of the type is replaced. Many providers make the entry where there is none; others
    /// need `read_first`.
    Value,
    /// The whole list is replaced by one entry. Every provider understands it, and entries of other types are lost.
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
            // It stands in quotes in a path.
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

    /// The request that makes the user as it is wished.
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
            self.refuse_ambiguous(&lists, desired, current)?;
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

    /// Which of several entries is meant has to be told by something.
    fn refuse_ambiguous(
        &self,
        lists: &Lists,
        desired: &[Desired<'_>],
        current: &Shown<'_>,
    ) -> Result<(), ProviderError> {
        let is_refused = |desired: &&Desired<'_>| match desired.attribute {
            Attribute::Plain(_) => false,
            Attribute::Entry { list, of_type } => {
                let (contacts, user) = (self.config.contacts, &current.value);
                // Where there are types, a new entry has one.
                (desired.value.is_none() || !lists.members(list).of_type)
                    && compare::is_ambiguous(contacts, list, user)
                    || desired.value.is_none() && compare::leaves_untyped(contacts, list, of_type, user)
            }
        };
        let Some(desired) = desired.iter().find(is_refused) else {
            return Ok(());
        };
        let detail = "the user has several such entries, and some have no type, so that nothing tells which of them are \
                      meant; give them types at the provider, or set `contacts = \"list\"` under [provider.scim], which \
                      replaces them all";
        Err(ProviderError {
            pointer: Some(desired.pointer.clone()),
            ..ProviderError::new(Fault::Command(Reason::Conflict), detail)
        })
    }

    /// One request in place of the write, which is made after it.
    async fn read_schemas(&self) -> ProviderError {
        let detail = match self.get(Place::Fixed("/Schemas")).await {
            Ok(answer) => {
                self.dialect.read_schemas(answer.json());
                "the provider's schemas were read, since it refused an entry"
            }
            // Whatever else is asked now ends so, too.
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
            // It was no write: whatever became of it, nothing was applied.
            Err(_) => {
                self.dialect.read_schemas(None);
                "the provider refused an entry, and its schemas can't be read"
            }
        };
        ProviderError::new(Fault::ReadFirst, detail)
    }

    /// What the server says of itself there, in whichever media type it takes.
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

    /// The refusal of a request whose form is not the provider's asks for the other form.
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
                && error::speaks_of_path(&error)
                && dialect.refused(config, Refused::Filter) =>
            {
                Fault::ReadFirst
            }
            // Members of entries that the provider does not have.
            400 if form.has_entry
                && error::may_be_a_member(&error)
                && dialect.may_lack_members(config, &form.lists) =>
            {
                Fault::ReadFirst
            }
            // The version was that of our own read: it is read and merged again.
            409 | 412 if form.is_merged && !form.is_versioned && error::is_version_conflict(&error) => {
                Fault::ReadFirst
            }
            _ => return error,
        };
        ProviderError { fault, ..error }
    }
}

/// What a request was made of, beside its method.
#[derive(Debug, Clone, Copy, Default)]
struct Form {
    has_filter: bool,
    has_entry: bool,
    lists: Lists,
    /// It has something of the user as it was read.
    is_merged: bool,
    /// Nothing but a removal, of what may not be there.
    may_be_done_already: bool,
    is_scim: bool,
    is_known: bool,
    is_versioned: bool,
}

/// An answer's body is the user where it says so.
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

    /// Values are set, not added to. But a password can't be read back: after a write that was not answered, a
    /// version that has moved on can't be told from somebody else's change.
    fn is_idempotent(&self, command: &UpdateUser) -> bool {
        command.expected_version.is_none() || !desired::sets_password(&command.update)
    }

    fn merges_updates(&self) -> bool {
        true
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        compare::compare(&self.config, command, &Shown::of(user).value)
    }

    /// Each change of a user moves its version on, where the provider keeps versions.
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
        self.dialect.saw(&Shown::of(&user).value);
        Ok(user)
    }

    async fn update(&self, command: &UpdateUser, current: Option<&User>) -> Result<Updated, ProviderError> {
        if let Some(_reading) = self.dialect.takes_schemas() {
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
            // What was to be cleared is clear.
            Err(error) if form.may_be_done_already && error::is_no_target(&error) => {
                return Ok(Updated::default());
            }
            Err(error) => return Err(error),
        };
        let Some(user) = answer.json().filter(|body| is_user(body)) else {
            return Ok(Updated {
                version: check::told_version(&answer),
                ..Updated::default()
            });
        };
        self.dialect.saw(user);
        Ok(Updated {
            ignored: compare::first_that_differs(&self.config, command, user),
            version: check::shown_version(user),
            ..Updated::default()
        })
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
