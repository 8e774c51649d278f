//! Zitadel, version 2 of its user API.
//!
//! It silently drops members that it does not know, so every name here is the wire's own. Its PUT is a partial
//! update in truth, but a profile in it must carry both names: a missing one is filled from the user as read. What one of PUT
//! and PATCH can't do goes out by the other.

mod body;
mod check;
mod compare;
mod error;
mod place;
mod plan;
mod simulated;
#[cfg(test)]
pub(super) mod tests;

use async_trait::async_trait;
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::plan::Part;
pub(super) use self::simulated::Simulated;
use super::answer::Answer;
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
    /// Which call writes; what it can't do, the other one does in a second call after it. Default: `put`.
    pub api: Api,
    /// What becomes of the verification of an e-mail address or a phone number for which the command names
    /// nothing. Default: `provider`.
    pub verification: Verification,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `PUT /v2/users/human/{userId}`: deprecated by Zitadel, known to all of version 2. It clears a nickname and takes a gender
    /// back. Where a command names one of the two names alone, the user is read first and the other one put again.
    #[default]
    Put,
    /// `PATCH /v2/users/{userId}`: its successor, which older servers of version 2 do not have. It clears a phone number.
    Patch,
}

impl Api {
    /// To a command that is told of no such user by the call that is not the configured one.
    fn may_be_missing(self) -> &'static str {
        match self {
            Self::Put => {
                "; or this Zitadel has no PUT, which alone clears a nickname and takes a gender back"
            }
            Self::Patch => "; or this Zitadel has no PATCH yet, which alone clears a phone",
        }
    }
}

/// Codes are returned only to a command that asks for them, so that is no default that can be set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// As Zitadel does by itself: it sends a code to a changed address or number.
    #[default]
    Provider,
    /// Zitadel is asked to send a code.
    SendCode,
    /// It is taken for verified already: for migrations of users whose addresses another system has verified.
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
                error.detail = format!("{}{}", error.detail, part.api.may_be_missing()).into();
            }
            error
        };
        let answer = self.http.call(request, refusal).await?;
        // What was written is written, whether the codes can be read or not.
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

    /// The same address again sends no second code, and equal values write nothing. A proof of the password can be
    /// given once only, and a code is returned once only.
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

    /// Each change of a user moves its sequence on. Reads come from a projection that follows the writes: the
    /// handler gives it the settling time.
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

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
