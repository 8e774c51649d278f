//! The adapter for APIs that keep a user as a JSON object under a path. The kinds `karmo`, `sivo` and `rest` all use
//! it, each set up from its own table of the configuration.

mod errors;
mod find;
mod headers;
mod layout;
mod own;

use std::borrow::Cow;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::value::RawValue;

pub(super) use self::errors::{Codes, Errors, Places, check_places};
pub use self::find::FindConfig;
pub(super) use self::find::Searches;
pub(super) use self::headers::{HeaderNames, Headers};
pub(super) use self::layout::{Layout, Path, dotted, pointer};
pub(super) use self::own::OwnFields;
use super::answer::Answer;
use super::find::{FindBy, Found};
use super::http::{Http, Request};
use super::setup::PathTemplate;
use super::{Access, Comparison, Kind, Provider, ProviderError, Updated, User};
use crate::contract::{Failure, Fault, Field, Reason, UpdateUser, UserId, Version};

const NO_USER: &str = "the answer to the read has no user in the expected place (`user_at`, for the kind rest), or one with a \
                       duplicate name; correct the configuration, or the user at the provider";

pub struct Flat {
    pub(super) kind: Kind,
    pub(super) http: Http,
    pub(super) method: Method,
    pub(super) path: PathTemplate,
    pub(super) read_path: Option<PathTemplate>,
    pub(super) headers: Headers,
    pub(super) versions: Versions,
    pub(super) layout: Layout,
    /// The fields of the kind's own block.
    pub(super) own: OwnFields,
    /// Whether the update replaces the user, which is then read first and put back.
    pub(super) replaces: bool,
    /// The fields that the answer to an update shows with their new values.
    pub(super) shown_by_update: fn(Field) -> bool,
    pub(super) errors: Errors,
    pub(super) searches: Searches,
}

/// The form of a version, for APIs that check versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    Any,
    /// Each update needs one, and it is a date-time.
    NeededDateTime,
}

impl Versions {
    fn has(self, version: &Version) -> bool {
        match self {
            Self::Any => true,
            Self::NeededDateTime => is_date_time(version.as_str()),
        }
    }

    fn check(self, version: Option<&Version>) -> Result<(), Failure> {
        let detail = match (self, version) {
            (Self::Any, _) => return Ok(()),
            (Self::NeededDateTime, Some(version)) if version.is_previous() || self.has(version) => {
                return Ok(());
            }
            (Self::NeededDateTime, Some(_)) => {
                "this provider's versions are date-times; send the user's current `updated_at` as it was read, such as \
                 2026-11-21T10:00:00.123Z, or `previous`"
            }
            (Self::NeededDateTime, None) => {
                "this provider changes a user only if its version is known; add `expectedVersion` with the user's current \
                 `updated_at`"
            }
        };
        Err(Failure::new(Reason::Invalid, detail).at("/expectedVersion"))
    }
}

/// With or without quotes: how Sivo's header writes it is not known.
fn is_date_time(version: &str) -> bool {
    let unquoted = version.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    unquoted.unwrap_or(version).parse::<Timestamp>().is_ok()
}

impl Flat {
    fn refusal(&self, answer: &Answer, command: Option<&UpdateUser>) -> ProviderError {
        let mut error = answer.refusal();
        if let Some(body) = answer.json() {
            error.code = self.errors.code(answer, body);
            if let (Fault::Command(_), Some(command)) = (error.fault, command) {
                self.errors.point(&mut error, body, &self.layout, &command.update);
            }
        }
        error
    }

    /// What the update starts from: the current user, if the update replaces it.
    fn current<'a>(&self, current: Option<&'a User>) -> Result<Option<&'a User>, ProviderError> {
        match (self.replaces, current) {
            (false, _) => Ok(None),
            (true, Some(user)) => Ok(Some(user)),
            (true, None) => Err(ProviderError::new(
                Fault::Broken,
                "the user was not read before the write; without it, members that the command does not name could be lost",
            )),
        }
    }

    fn check_version(&self, command: &UpdateUser) -> Result<(), Failure> {
        if !self.headers.has_version() {
            return self.kind.check_no_version(command);
        }
        self.versions.check(command.expected_version.as_ref())?;
        self.headers.of_update(command).map(drop)
    }
}

#[async_trait]
impl Provider for Flat {
    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        self.kind.check_blocks(command)?;
        self.check_version(command)?;
        self.own.check(&command.update, &self.layout.fields)?;
        self.layout.fields.check(&command.update)
    }

    fn reads(&self) -> bool {
        self.read_path.is_some()
    }

    fn reads_before_write(&self, _: &UpdateUser) -> bool {
        self.replaces
    }

    /// Fields are set to the same values, and nothing is sent to the user. If versions are checked, the first write
    /// changes the version, so that a second one is refused.
    fn is_idempotent(&self, _: &UpdateUser) -> bool {
        true
    }

    /// If versions are checked, each update names the one that it is for.
    fn merges_updates(&self) -> bool {
        !self.headers.has_version()
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        let update = &command.update;
        match self.layout.matches(update, user) && self.own.matches(update, user) {
            true => Comparison::Matches,
            false => Comparison::Differs,
        }
    }

    fn is_unchanged(&self, before: &User, after: &User) -> bool {
        self.layout.is_unchanged(before, after)
    }

    fn version(&self, user: &User) -> Option<Version> {
        self.layout
            .version(user)
            .filter(|version| self.headers.has_version() && self.versions.has(version))
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError> {
        let Some(path) = &self.read_path else {
            return Err(ProviderError::cannot_read());
        };
        let request = Request {
            headers: self.headers.of_read(),
            ..Request::read(path, user_id)
        };
        let answer = self
            .http
            .call(request, |answer| self.refusal(answer, None))
            .await?;
        let text: Box<RawValue> = answer.object()?;
        self.layout
            .user(&text)
            .ok_or_else(|| answer.error(Fault::Broken, NO_USER))
    }

    async fn update(&self, command: &UpdateUser, current: Option<&User>) -> Result<Updated, ProviderError> {
        let headers = self
            .headers
            .of_update(command)
            .map_err(|refused| ProviderError::new(Fault::Command(refused.reason), refused.detail))?;
        let current = self.current(current)?;
        let body = self.layout.body(&command.update, current).map_err(|_| {
               let detail = "the user as the provider shows it can't be put back completely, because it has a duplicate \
                              name. Nothing was sent, so nothing was lost. Correct the user at the provider";
            ProviderError::new(Fault::Broken, detail)
        })?;
        let body = self.own.put(&command.update, body);
        let request = Request {
            headers,
            ..Request::write(self.method.clone(), &self.path, &command.user_id, &body)?
        };
        let answer = self
            .http
            .call(request, |answer| self.refusal(answer, Some(command)))
            .await?;
        let text = answer.object::<Box<RawValue>>().ok();
        let Some(user) = text.and_then(|text| self.layout.user(&text)) else {
            return Ok(Updated::default());
        };
        let ignored = self
            .layout
            .first_ignored(&command.update, &user, self.shown_by_update);
        Ok(Updated {
            ignored: ignored.map(Field::pointer),
            version: self.version(&user),
            ..Updated::default()
        })
    }

    fn finds(&self, by: FindBy) -> Result<(), Cow<'static, str>> {
        self.searches.check(by)
    }

    async fn find(&self, by: FindBy, key: &str) -> Result<Found, ProviderError> {
        find::find(self, by, key).await
    }

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
