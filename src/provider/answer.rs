//! A provider's answer, and the one table from its status to whose fault it is.
//!
//! The status decides: a body may be text, HTML or nothing at all, whatever the documents promise.

use std::borrow::Cow;
use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use super::code::Private;
use super::{ProviderError, User};
use crate::contract::{Fault, Reason};

pub(super) struct Answer {
    pub(super) status: u16,
    /// How long a 429 asks to wait.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
    /// What a refusal's code may not repeat.
    pub(super) private: Private,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The JSON object of a success.
    pub(super) fn object<T: DeserializeOwned>(&self) -> Result<T, ProviderError> {
        // serde would take an array for a struct, too.
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return Err(self.unreadable());
        }
        serde_json::from_slice(&self.body).map_err(|_| self.unreadable())
    }

    /// A success whose body says nothing that is needed: a JSON object, or nothing at all. Anything else comes
    /// from something that stands between the worker and the provider.
    pub(super) fn accepted(&self) -> Result<(), ProviderError> {
        if self.body.is_empty() {
            return Ok(());
        }
        self.object::<IgnoredAny>().map(drop)
    }

    /// The user that a read shows: the object itself, or what stands in it under `user`.
    pub(super) fn user(&self) -> Result<User, ProviderError> {
        let mut object: Map<String, Value> = self.object()?;
        Ok(User(match object.get_mut("user") {
            Some(user @ Value::Object(_)) => user.take(),
            _ => object.into(),
        }))
    }

    /// What a refusal's body says, where it is JSON of this shape.
    pub(super) fn refusal_body<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    fn unreadable(&self) -> ProviderError {
        let detail = "the provider answered with a success whose body is not the JSON it should be; see whether \
                      base_url leads to the provider or to something before it";
        self.error(Fault::Broken, detail)
    }

    /// What the status alone says of an answer that is no success.
    pub(super) fn refusal(&self) -> ProviderError {
        self.refusal_as(self.status)
    }

    /// The same, for a body that says that another status is meant.
    pub(super) fn refusal_as(&self, status: u16) -> ProviderError {
        let (fault, detail): (_, Cow<'static, str>) = match status {
            300..=399 => (
                Fault::Broken,
                "the provider answered with a redirect, and none is followed; base_url seems wrong, put the \
                 address there that the provider itself has"
                    .into(),
            ),
            401 => (
                Fault::Credentials,
                "the provider does not accept the worker's token; put a valid one in its place".into(),
            ),
            403 => (
                Fault::Denied,
                "the provider does not let the worker do this to this user; give the worker's account the right \
                 to, or take the command to who has it"
                    .into(),
            ),
            404 => (
                Fault::Command(Reason::NotFound),
                "the provider has no such user; see whether userId is the provider's own id".into(),
            ),
            409 => (
                Fault::Command(Reason::Conflict),
                "a value is taken by another user, or the user's state forbids the change; see the user at the \
                 provider, then change the command"
                    .into(),
            ),
            412 => (
                Fault::Command(Reason::VersionConflict),
                "the user has changed since expectedVersion; read it anew and send a command with its present \
                 version"
                    .into(),
            ),
            429 => (
                Fault::Throttled {
                    retry_after: self.retry_after,
                },
                "the provider asks for a slower pace".into(),
            ),
            400..=499 => (
                Fault::Command(Reason::Rejected),
                format!("the provider refused the command with {}; correct its values", self.status).into(),
            ),
            // A gateway has no answer from the provider behind it, which may be at work on the command still.
            502 | 504 => (
                Fault::Unknown,
                format!(
                    "what stands before the provider got no answer from it ({}); it may have applied the command",
                    self.status
                )
                .into(),
            ),
            _ => (
                Fault::Broken,
                format!("the provider failed with {}; see to the provider", self.status).into(),
            ),
        };
        self.error(fault, detail)
    }

    pub(super) fn error(&self, fault: Fault, detail: impl Into<Cow<'static, str>>) -> ProviderError {
        ProviderError {
            status: Some(self.status),
            ..ProviderError::new(fault, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16) -> ProviderError {
        Answer {
            status,
            retry_after: None,
            body: b"<html>".to_vec(),
            private: Private::default(),
        }
        .refusal()
    }

    #[test]
    fn the_status_decides_whose_fault_it_is() {
        let cases = [
            (302, Fault::Broken),
            (400, Fault::Command(Reason::Rejected)),
            (401, Fault::Credentials),
            (403, Fault::Denied),
            (404, Fault::Command(Reason::NotFound)),
            (405, Fault::Command(Reason::Rejected)),
            (409, Fault::Command(Reason::Conflict)),
            (412, Fault::Command(Reason::VersionConflict)),
            (418, Fault::Command(Reason::Rejected)),
            (422, Fault::Command(Reason::Rejected)),
            (429, Fault::Throttled { retry_after: None }),
            (500, Fault::Broken),
            (501, Fault::Broken),
            (502, Fault::Unknown),
            (503, Fault::Broken),
            (504, Fault::Unknown),
            (599, Fault::Broken),
            (999, Fault::Broken),
        ];
        for (status, fault) in cases {
            let error = refusal(status);
            assert_eq!((error.fault, error.status), (fault, Some(status)));
        }
        assert!(refusal(308).detail.contains("base_url"));
        assert!(refusal(504).detail.contains("may have applied"));
    }
}
