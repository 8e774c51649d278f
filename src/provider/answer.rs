//! A provider's answer, and the error that is made of what it means.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ProviderError;
use super::answers::Class;
use super::code::Private;
use crate::contract::{Fault, Reason};

pub(super) struct Answer {
    /// The request's.
    pub(super) method: Method,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// How long the headers ask to wait.
    pub(super) retry_after: Option<Duration>,
    /// Without a byte order mark. Empty, where none could be read.
    pub(super) body: Vec<u8>,
    /// What it is taken for.
    pub(super) class: Class,
    /// What a refusal's code may not repeat.
    pub(super) private: Private,
    json: OnceCell<Option<Value>>,
}

impl Answer {
    /// What it is taken for, and what its codes may not repeat, is to be found out yet.
    pub(super) fn new(method: Method, status: u16, headers: HeaderMap, body: Vec<u8>) -> Self {
        Self {
            method,
            status,
            headers,
            retry_after: None,
            body,
            class: Class::Outage,
            private: Private::default(),
            json: OnceCell::new(),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, where it is a JSON object.
    pub(super) fn json(&self) -> Option<&Value> {
        let read = || match self.body.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice(&self.body).ok(),
            _ => None,
        };
        self.json.get_or_init(read).as_ref()
    }

    /// The JSON object of a read.
    pub(super) fn object<T: DeserializeOwned>(&self) -> Result<T, ProviderError> {
        // serde would take an array for a struct, too.
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return Err(self.unreadable());
        }
        serde_json::from_slice(&self.body).map_err(|_| self.unreadable())
    }

    fn unreadable(&self) -> ProviderError {
        let detail = "the provider answered with a success whose body is not the JSON it should be; see whether \
                      base_url leads to the provider or to something before it";
        self.error(Fault::Broken, detail)
    }

    /// What it means that this is no success.
    pub(super) fn refusal(&self) -> ProviderError {
        self.refusal_as(self.class)
    }

    /// The same, for what the adapter takes it for.
    pub(super) fn refusal_as(&self, class: Class) -> ProviderError {
        let status = self.status;
        let retry_after = self.retry_after;
        let (fault, detail): (_, Cow<'static, str>) = match class {
            Class::Applied => (Fault::Broken, "the answer is a success and can't be used".into()),
            Class::Throttled => (
                Fault::Throttled { retry_after },
                "the provider asks for a slower pace".into(),
            ),
            Class::Again => (
                Fault::Again,
                format!("the provider did not take the request up this time ({status})").into(),
            ),
            Class::Credentials => (
                Fault::Credentials,
                "the provider does not accept the worker's token; put a valid one in its place".into(),
            ),
            Class::Denied => (
                Fault::Denied,
                "the provider does not let the worker do this to this user; give the worker's account the right \
                 to, or take the command to who has it"
                    .into(),
            ),
            Class::Configuration => (
                Fault::Configuration,
                format!(
                    "the provider refuses the form of the request ({status}): see `base_url`, the path and the method \
                     under [provider], what `usher check` says, and what stands before the provider"
                )
                .into(),
            ),
            Class::Rejected => (
                Fault::Command(Reason::Rejected),
                format!("the provider refused the command with {status}; correct its values").into(),
            ),
            Class::NotFound => (
                Fault::Command(Reason::NotFound),
                "the provider has no such user; see whether userId is the provider's own id".into(),
            ),
            Class::Conflict => (
                Fault::Command(Reason::Conflict),
                "a value is taken by another user, or the user's state forbids the change; see the user at the \
                 provider, then change the command"
                    .into(),
            ),
            Class::VersionConflict => (
                Fault::Command(Reason::VersionConflict),
                "the user has changed since expectedVersion; read it anew and send a command with its present \
                 version"
                    .into(),
            ),
            Class::Outage => (Fault::Broken, outage(status)),
            Class::Unknown => (Fault::Unknown, unknown(status, &self.method)),
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

fn outage(status: u16) -> Cow<'static, str> {
    match status {
        300..=399 => "the provider answered with a redirect, and none is followed; base_url seems wrong, put the \
                      address there that the provider itself has"
            .into(),
        400..=499 => format!(
            "an answer with {status} came that is not the provider's own: see what stands before the provider, and \
             whether base_url leads to it"
        )
        .into(),
        _ => format!("the provider failed with {status}; see to the provider").into(),
    }
}

fn unknown(status: u16, method: &Method) -> Cow<'static, str> {
    if *method == Method::GET {
        return format!("the answer to a read ({status}) shows no user: see what stands before the provider")
            .into();
    }
    match status {
        200..=299 => format!(
            "an answer with {status} came that does not say whether the command was applied: see what stands before \
             the provider, and whether base_url leads to it"
        )
        .into(),
        _ => format!(
            "what stands before the provider got no answer from it ({status}); it may have applied the command"
        )
        .into(),
    }
}
