//! Zitadel, version 2 of its user API.
//!
//! It silently drops members that it does not know, so every name here is the wire's own. Its PUT is a partial
//! update in truth, but a profile in it must carry both names: a missing one is filled from the user as read.

mod body;
mod check;
mod compare;
mod error;
mod place;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::Answer;
use super::http::{Http, Request};
use super::setup::PathTemplate;
use super::{Access, Codes, Comparison, Kind, Provider, ProviderError, SetupError, Updated, User};
use crate::contract::{Failure, Field, Secret, UpdateUser, UserId};

/// `[provider.zitadel]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ZitadelConfig")]
pub struct Config {
    /// Which call writes. Default: `put`.
    pub api: Api,
    /// What becomes of the verification of an e-mail address or a phone number for which the command names
    /// nothing. Default: `provider`.
    pub verification: Verification,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `PUT /v2/users/human/{userId}`: deprecated by Zitadel, known to all of version 2. It can clear a nickname.
    #[default]
    Put,
    /// `PATCH /v2/users/{userId}`: its successor. It can clear a phone number.
    Patch,
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
}

#[async_trait]
impl Provider for Zitadel {
    fn kind(&self) -> &'static str {
        Kind::Zitadel.as_str()
    }

    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        check::check(self.config.api, command)
    }

    fn reads(&self) -> bool {
        true
    }

    fn reads_before_write(&self, command: &UpdateUser) -> bool {
        let named = |field| command.update.shared(field).is_some();
        self.config.api == Api::Put
            && body::has_profile(&command.update)
            && !(named(Field::GivenName) && named(Field::FamilyName))
    }

    /// The same address again sends no second code, and equal values write nothing. A proof of the password can be
    /// given once only, and a code is returned once only.
    fn harmless_to_repeat(&self, command: &UpdateUser) -> bool {
        command.update.zitadel.as_ref().is_none_or(|zitadel| {
            !zitadel.returns_code()
                && zitadel
                    .password
                    .as_ref()
                    .is_none_or(|password| password.proof.is_none())
        })
    }

    fn merges_updates(&self) -> bool {
        true
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        compare::compare(self.config.verification, command, user)
    }

    /// Each change of a user moves its sequence on. Reads come from a projection that follows the writes: the
    /// handler gives it the settling time.
    fn untouched(&self, before: &User, after: &User) -> bool {
        before.is_marked_as(after, "/details/sequence")
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
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Written {
            email_code: Option<String>,
            phone_code: Option<String>,
        }
        let body = body::body(&self.config, command, current)?;
        let (method, path) = match self.config.api {
            Api::Put => (Method::PUT, &self.put_path),
            Api::Patch => (Method::PATCH, &self.user_path),
        };
        let request = Request::write(method, path, &command.user_id, &body)?;
        let refusal = |answer: &Answer| place::with_place(error::refusal(answer), answer, &command.update);
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

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
