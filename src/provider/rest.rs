//! Any API that keeps a user as a JSON object under a path: everything that differs from one to the other stands in the
//! configuration.

mod config;
mod headers;
mod layout;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::value::RawValue;

pub use self::config::{Clear, Config, Constant};
use self::headers::Headers;
use self::layout::Layout;
use super::answer::Answer;
use super::code::text;
use super::http::{Http, Request};
use super::setup::{PathTemplate, optional_path};
use super::token::Carried;
use super::{Access, Comparison, Kind, Provider, ProviderError, SetupError, Updated, User};
use crate::contract::{Failure, Fault, Field, Reason, UpdateUser, UserId, Version};

pub struct Rest {
    http: Http,
    method: Method,
    path: PathTemplate,
    read_path: Option<PathTemplate>,
    headers: Headers,
    layout: Layout,
    replaces: bool,
    error_code_at: Vec<String>,
    error_codes: Vec<String>,
    error_pointer_at: Vec<String>,
}

impl Rest {
    pub fn new(config: &Config, http: Http) -> Result<Self, SetupError> {
        if config.path.is_empty() {
            let detail = "is missing; write the path of the update, such as /users/{userId}";
            return Err(SetupError::new("provider.rest.path", detail));
        }
        let read_path = optional_path("provider.rest.read_path", &config.read_path)?;
        if config.replaces && read_path.is_none() {
            let detail =
                "needs `read_path`: without the user as it is, what a command does not name would be lost";
            return Err(SetupError::new("provider.rest.replaces", detail));
        }
        if config.error_code_at.is_empty() && !config.error_codes.is_empty() {
            let detail =
                "says nothing without `error_code_at`; write where a code stands, such as [\"/error/code\"]";
            return Err(SetupError::new("provider.rest.error_codes", detail));
        }
        for (key, pointers) in [
            ("provider.rest.error_code_at", &config.error_code_at),
            ("provider.rest.error_pointer_at", &config.error_pointer_at),
        ] {
            pointers
                .iter()
                .try_for_each(|text| layout::check_pointer(key, text))?;
        }
        Ok(Self {
            http: http.of(Kind::Rest, Vec::new())?.carrying(Carried::of(
                Kind::Rest,
                &config.credential_header,
                &config.credential_scheme,
            )?),
            method: config.method.into(),
            path: PathTemplate::parse("provider.rest.path", &config.path)?,
            read_path,
            headers: Headers::new(config)?,
            layout: Layout::new(config)?,
            replaces: config.replaces,
            error_code_at: config.error_code_at.clone(),
            error_codes: config.error_codes.clone(),
            error_pointer_at: config.error_pointer_at.clone(),
        })
    }

    fn refusal(&self, answer: &Answer, command: Option<&UpdateUser>) -> ProviderError {
        let mut error = answer.refusal();
        let Some(body) = answer.json() else {
            return error;
        };
        error.code = self
            .error_code_at
            .iter()
            .find_map(|at| answer.listed_code(&text(body.pointer(at)?)?, &self.error_codes));
        if let (Fault::Command(_), Some(command)) = (error.fault, command) {
            error.pointer = self
                .error_pointer_at
                .iter()
                .filter_map(|at| body.pointer(at)?.as_str())
                .find_map(|name| self.layout.field_named(name, &command.update))
                .map(Field::pointer);
        }
        error
    }

    /// What the update is made of; the user as it is, where the update replaces it.
    fn current<'a>(&self, current: Option<&'a User>) -> Result<Option<&'a User>, ProviderError> {
        match (self.replaces, current) {
            (false, _) => Ok(None),
            (true, Some(user)) => Ok(Some(user)),
            (true, None) => Err(ProviderError::new(
                Fault::Broken,
                "the user was not read before the write, and without it what the command does not name could be lost",
            )),
        }
    }
}

fn no_version() -> Failure {
    Failure::new(
        Reason::UnsupportedField,
        "no header is configured that carries a version; leave `expectedVersion` out, or see `version_header` under \
         [provider.rest] in the configuration",
    )
    .at("/expectedVersion")
}

fn no_header_carries_version() -> Failure {
    Failure::new(
        Reason::Invalid,
        "this is no version that a header can carry; add the user's present one",
    )
    .at("/expectedVersion")
}

#[async_trait]
impl Provider for Rest {
    fn kind(&self) -> &'static str {
        Kind::Rest.as_str()
    }

    fn check(&self, command: &UpdateUser) -> Result<(), Failure> {
        Kind::Rest.refuse_foreign(command)?;
        if command.expected_version.is_some() && !self.headers.takes_version() {
            return Err(no_version());
        }
        self.headers
            .of_update(command)
            .ok_or_else(no_header_carries_version)?;
        self.layout.fields().check(&command.update)
    }

    fn reads(&self) -> bool {
        self.read_path.is_some()
    }

    fn reads_before_write(&self, _: &UpdateUser) -> bool {
        self.replaces
    }

    /// The fields are set to the same values.
    fn is_idempotent(&self, _: &UpdateUser) -> bool {
        true
    }

    /// Where versions are checked, each names the one that it is for.
    fn merges_updates(&self) -> bool {
        !self.headers.takes_version()
    }

    fn compare(&self, command: &UpdateUser, user: &User) -> Comparison {
        match self.layout.as_asked(&command.update, user) {
            true => Comparison::Matches,
            false => Comparison::Differs,
        }
    }

    fn untouched(&self, before: &User, after: &User) -> bool {
        self.layout.is_untouched(before, after)
    }

    fn version(&self, user: &User) -> Option<Version> {
        self.layout.version(user).filter(|_| self.headers.takes_version())
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
        self.layout.user(&text).ok_or_else(|| {
            let detail = "the answer to the read has no user where `user_at` under [provider.rest] says, or one in which a \
                          name stands twice; correct `user_at`, or mend the user at the provider";
            answer.error(Fault::Broken, detail)
        })
    }

    async fn update(&self, command: &UpdateUser, current: Option<&User>) -> Result<Updated, ProviderError> {
        let Some(headers) = self.headers.of_update(command) else {
            let refused = no_header_carries_version();
            return Err(ProviderError::new(Fault::Command(refused.reason), refused.detail));
        };
        let current = self.current(current)?;
        let body = self.layout.body(&command.update, current).map_err(|_| {
            let detail = "the user as the provider shows it can't be put back whole: a name stands twice in it; nothing \
                          was sent, so nothing was lost. Mend the user at the provider";
            ProviderError::new(Fault::Broken, detail)
        })?;
        let request = Request {
            headers,
            ..Request::write(self.method.clone(), &self.path, &command.user_id, &body)?
        };
        let answer = self
            .http
            .call(request, |answer| self.refusal(answer, Some(command)))
            .await?;
        let shown = answer
            .object()
            .ok()
            .and_then(|text: Box<RawValue>| self.layout.user(&text));
        Ok(Updated {
            version: shown.and_then(|user| self.version(&user)),
            ..Updated::default()
        })
    }

    fn access(&self) -> &dyn Access {
        &self.http
    }
}
