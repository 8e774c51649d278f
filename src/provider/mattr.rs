//! MATTR VII: a user is a set of claims and a link to an authentication provider, and a write puts all of it.
//!
//! It is not documented whether a PUT replaces or merges. By default the user is read, merged here, and put completely:
//! the result is the same either way.

mod claims;
mod find;
mod shown;
mod simulated;
#[cfg(test)]
pub(super) mod tests;

use std::borrow::Cow;

use async_trait::async_trait;
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use self::claims::Claims;
use self::shown::Shown;
pub(super) use self::simulated::Simulated;
use super::answer::Answer;
use super::field_map::FieldNames;
use super::find::{FindBy, Found};
use super::http::{Http, Request};
use super::setup::PathTemplate;
use super::{Access, Comparison, Kind, Provider, ProviderError, Remark, SetupError, Updated, User};
use crate::contract::{Failure, Fault, Field, Reason, UpdateUser, UserId};

pub(super) const ANSWERS: &str = include_str!("mattr/answers.toml");

/// `[provider.mattr]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "MattrConfig")]
pub struct Config {
    /// What is put. Default: `merge`.
    pub claims_mode: ClaimsMode,
    /// Names of claims that differ from the defaults. MATTR's own examples of a user have givenName → `givenName` and
    /// familyName → `familyName`. They show no names for the others, which default to those of OpenID Connect: username
    /// → `preferred_username`, email → `email`, phone → `phone_number`, displayName → `name`, nickname → `nickname`,
    /// locale → `locale`.
    pub fields: FieldNames,
    /// The claims that a command may set or clear under `mattr.claims`, by name; others are refused. An empty list:
    /// none. Default: all, if the key is omitted.
    #[schemars(with = "Vec<String>")]
    pub claims: Option<Vec<String>>,
    /// Whether a command may set `mattr.authenticationProvider`. Default: false. With true, every publisher of commands
    /// can link any user to any other login, and the owner of that login then gets the user's credentials. MATTR warns
    /// of this, and nothing here proves that the two belong together.
    pub allow_relink: bool,
    /// Whether a command whose `userId` is not a UUID is refused before the call (`uuid`), because MATTR's own ids are
    /// UUIDs, or is sent unchanged (`any`). Default: `any`, for systems in front of MATTR that map ids.
    pub user_ids: UserIds,
    /// Fields that null clears; the word `claims` means all of them and null inside `mattr.claims`. Default: none. To
    /// clear a claim, it is omitted from the set that is put. It is not documented whether a PUT replaces the set, so
    /// it is not known whether this clears it.
    pub clearable: Vec<Clearable>,
    /// Codes of an error that are passed on to events and dead letters, such as `BadRequest`. Default: none, because no
    /// list of MATTR's codes is known, and text in their place may be user data.
    pub codes: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserIds {
    #[default]
    Any,
    Uuid,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimsMode {
    /// The user is read first. Its claims are put with the command's changes, and its authentication provider unless
    /// the command sets one.
    #[default]
    Merge,
    /// Only the command's claims are put, without a read. If a PUT replaces, other claims are lost.
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    rename_all = "lowercase",
    expecting = "expected a field's name, such as phone, or the word claims"
)]
pub enum Clearable {
    Claims,
    #[serde(untagged)]
    Field(Field),
}

pub struct Mattr {
    http: Http,
    path: PathTemplate,
    mode: ClaimsMode,
    user_ids: UserIds,
    claims: Claims,
    codes: Vec<String>,
}

impl Mattr {
    pub fn new(config: &Config, http: Http) -> Result<Self, SetupError> {
        Ok(Self {
            http: http.of(Kind::Mattr, Vec::new())?,
            path: PathTemplate::parse("path", "/v1/users/{userId}")?,
            mode: config.claims_mode,
            user_ids: config.user_ids,
            claims: Claims::new(config)?,
            codes: config.codes.clone(),
        })
    }

    fn refusal(&self, answer: &Answer, command: Option<&UpdateUser>) -> ProviderError {
        let mut error = answer.refusal();
        let Some(body) = answer.json() else {
            return error;
        };
        error.code = body["code"]
            .as_str()
            .and_then(|code| answer.listed_code(code, &self.codes));
        if let (Fault::Command(_), Some(command), Some(details)) =
            (error.fault, command, body["details"].as_array())
        {
            // Either may contain the place; a location is usually just the word `body`.
            error.pointer = details
                .iter()
                .flat_map(|detail| [&detail["param"], &detail["location"]])
                .filter_map(Value::as_str)
                .find_map(|place| self.claims.pointer(&command.update, place));
        }
        error
    }
}

fn require_uuid(user_id: &UserId) -> Result<(), Failure> {
    let text = user_id.as_str();
    let hyphenated = |id: Uuid| text.eq_ignore_ascii_case(&id.hyphenated().to_string());
    match Uuid::try_parse(text).is_ok_and(hyphenated) {
        true => Ok(()),
        false => Err(Failure::new(
            Reason::Invalid,
            "MATTR's user ids are UUIDs, such as 0c3fad74-a8df-4a2d-8e75-f2d356b413ba; send the id that MATTR has for \
             the user",
        )
        .at("/userId")),
    }
}

#[async_trait]
impl Provider for Mattr {
    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        Kind::Mattr.check_blocks(command)?;
        Kind::Mattr.check_no_version(command)?;
        if self.user_ids == UserIds::Uuid {
            require_uuid(&command.user_id)?;
        }
        self.claims.check(&command.update)
    }

    fn reads(&self) -> bool {
        true
    }

    fn reads_before_write(&self, _: &UpdateUser) -> bool {
        self.mode == ClaimsMode::Merge
    }

    /// The same complete user is put again.
    fn is_idempotent(&self, _: &UpdateUser) -> bool {
        true
    }

    /// Replacing sets of claims can't be merged, because one set may replace the other.
    fn merges_updates(&self) -> bool {
        self.mode == ClaimsMode::Merge
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        let matches = |user| self.claims.matches(&command.update, &user);
        match Shown::of(user).is_ok_and(matches) {
            true => Comparison::Matches,
            false => Comparison::Differs,
        }
    }

    fn is_unchanged(&self, _: &User, _: &User) -> bool {
        false
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError> {
        let request = Request::read(&self.path, user_id);
        let answer = self
            .http
            .call(request, |answer| self.refusal(answer, None))
            .await?;
        shown::read(&answer)
    }

    async fn update(&self, command: &UpdateUser, current: Option<&User>) -> Result<Updated, ProviderError> {
        let current = match (self.mode, current) {
            (ClaimsMode::Merge, None) => {
                return Err(ProviderError::new(
                    Fault::Broken,
                    "the user was not read before the write; without it, its other claims could be lost",
                ));
            }
            (ClaimsMode::Merge, Some(user)) => Some(Shown::of(user)?),
            (ClaimsMode::Replace, _) => None,
        };
        let body = self.claims.body(&command.update, current);
        let request = Request::write(Method::PUT, &self.path, &command.user_id, &body)?;
        self.http
            .call(request, |answer| self.refusal(answer, Some(command)))
            .await?;
        Ok(Updated::default())
    }

    fn finds(&self, by: FindBy) -> Result<(), Cow<'static, str>> {
        self.can_find(by)
    }

    async fn find(&self, by: FindBy, key: &str) -> Result<Found, ProviderError> {
        find::find(self, by, key).await
    }

    async fn remarks(&self) -> Result<Vec<Remark>, ProviderError> {
        let detail = match self.mode {
            ClaimsMode::Merge => {
                "users are read, merged and put, and MATTR keeps no versions: changes that others make to a user between \
             the read and the put are lost"
            }
            ClaimsMode::Replace => {
                "users are put without a read (`claims_mode = \"replace\"`): if a PUT replaces, claims that a command does \
             not name are lost"
            }
        };
        Ok(vec![Remark {
            detail: detail.into(),
            workable: true,
        }])
    }

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
