//! Zitadel, version 2 of its user API.
//!
//! It silently drops unknown members, so every name here is the one on the wire. Its PUT is really a partial update,
//! but a profile in it must contain both names: a missing one is filled from the user that was read. What one of PUT
//! and PATCH can't do is sent with the other.

mod body;
mod check;
mod compare;
mod error;
mod find;
mod place;
mod plan;
mod simulated;
#[cfg(test)]
pub(super) mod tests;

use std::borrow::Cow;

use async_trait::async_trait;
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::plan::Part;
pub(super) use self::simulated::Simulated;
use super::answer::Answer;
use super::find::{FindBy, Found};
use super::http::{Http, Request};
use super::setup::PathTemplate;
use super::{Access, Codes, Comparison, Kind, Provider, ProviderError, SetupError, Updated, User};
use crate::contract::{Failure, Fault, Reason, Secret, UpdateUser, UserId};

pub(super) const ANSWERS: &str = include_str!("zitadel/answers.toml");

/// `[provider.zitadel]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ZitadelConfig")]
pub struct Config {
    /// Which call writes. What it can't do is sent with the other one, in a second call after it. Default: `put`.
    pub api: Api,
    /// How an e-mail address or a phone number is verified if the command does not say. Default: `provider`.
    pub verification: Verification,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `PUT /v2/users/human/{userId}`: deprecated by Zitadel, supported by every server of version 2. It can clear a
    /// nickname and a gender. If a command changes the profile without setting both names, the user is read first and
    /// the missing names are put back.
    #[default]
    Put,
    /// `PATCH /v2/users/{userId}`: its successor, which older servers of version 2 do not have. It can clear a phone
    /// number.
    Patch,
}

impl Api {
    /// Added to the error if the call that is not the configured one answers that there is no such user.
    fn missing_call_hint(self) -> &'static str {
        match self {
            Self::Put => "; or this Zitadel has no PUT, which is needed to clear a nickname or a gender",
            Self::Patch => "; or this Zitadel has no PATCH yet, which is needed to clear a phone",
        }
    }
}

/// Codes are returned only to a command that requests them, so returning them can't be a default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Zitadel's own behaviour: it sends a code to a changed address or number.
    #[default]
    Provider,
    /// Zitadel is asked to send a code.
    SendCode,
    /// It counts as verified: for migrations of users whose addresses another system has verified.
    Verified,
}

pub struct Zitadel {
    config: Config,
    http: Http,
    put_path: PathTemplate,
    user_path: PathTemplate,
}

impl Zitadel {
    pub fn new(config: &Config, http: Http) -> Result<Self, SetupError> {
        Ok(Self {
            config: config.clone(),
            http: http.of(Kind::Zitadel, Vec::new())?,
            put_path: PathTemplate::parse("path", "/v2/users/human/{userId}")?,
            user_path: PathTemplate::parse("path", "/v2/users/{userId}")?,
        })
    }

    fn parts<'u>(&self, command: &'u UpdateUser) -> Vec<Part<'u>> {
        plan::parts(self.config.api, &command.update)
    }

    async fn send(
        &self,
        part: &Part<'_>,
        command: &UpdateUser,
        current: Option<&User>,
    ) -> Result<Updated, ProviderError> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Written {
            email_code: Option<String>,
            phone_code: Option<String>,
        }
        let body = body::body(part.api, self.config.verification, &part.update, current)?;
        let (method, path) = match part.api {
            Api::Put => (Method::PUT, &self.put_path),
            Api::Patch => (Method::PATCH, &self.user_path),
        };
        let request = Request::write(method, path, &command.user_id, &body)?;
        let refusal = |answer: &Answer| {
            let mut error = place::with_place(error::refusal(answer), answer, &command.update);
            if part.api != self.config.api && error.fault == Fault::Command(Reason::NotFound) {
                error.detail = format!("{}{}", error.detail, part.api.missing_call_hint()).into();
            }
            error
        };
        let answer = self.http.call(request, refusal).await?;
        // The write was applied, whether or not its codes can be read.
        let written: Written = answer.object().unwrap_or_default();
        let secret = |code: Option<String>| code.as_deref().and_then(Secret::parse);
        Ok(Updated {
            codes: Codes {
                email: secret(written.email_code),
                phone: secret(written.phone_code),
            },
            ..Updated::default()
        })
    }
}

#[async_trait]
impl Provider for Zitadel {
    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        check::check(self.config.api, command)
    }

    fn reads(&self) -> bool {
        true
    }

    fn reads_before_write(&self, command: &UpdateUser) -> bool {
        self.parts(command).iter().any(Part::needs_user)
    }

    /// The same address again sends no second code, and equal values write nothing. A proof of the password works once
    /// only, and a code is returned once only.
    fn is_idempotent(&self, command: &UpdateUser) -> bool {
        check::is_idempotent(&command.update)
    }

    fn calls_of_write(&self, command: &UpdateUser) -> usize {
        self.parts(command).len()
    }

    fn merges_updates(&self) -> bool {
        true
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        compare::compare(self.config.verification, command, user)
    }

    /// Each change of a user advances its sequence. Reads come from a projection that lags behind writes:
    /// `worker::attempts` waits for the settling time.
    fn is_unchanged(&self, before: &User, after: &User) -> bool {
        before.has_same_text_at(after, "/details/sequence")
    }

    async fn read(&self, user_id: &UserId) -> Result<User, ProviderError> {
        #[derive(Deserialize)]
        struct Read {
            user: Map<String, Value>,
        }
        let request = Request::read(&self.user_path, user_id);
        let answer = self.http.call(request, error::refusal).await?;
        Ok(User(answer.object::<Read>()?.user.into()))
    }

    async fn update(&self, command: &UpdateUser, current: Option<&User>) -> Result<Updated, ProviderError> {
        match self.parts(command).first() {
            Some(part) => self.send(part, command, current).await,
            None => Ok(Updated::default()),
        }
    }

    async fn update_further(
        &self,
        command: &UpdateUser,
        current: Option<&User>,
        done: usize,
    ) -> Result<Updated, ProviderError> {
        match self.parts(command).get(done) {
            Some(part) => self.send(part, command, current).await,
            None => Ok(Updated::default()),
        }
    }

    fn finds(&self, by: FindBy) -> Result<(), Cow<'static, str>> {
        find::finds(by)
    }

    async fn find(&self, by: FindBy, key: &str) -> Result<Found, ProviderError> {
        find::find(self, by, key).await
    }

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
