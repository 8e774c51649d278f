//! A provider's answer, and the error that its class gives.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ProviderError;
use super::answers::Class;
use super::code::Sensitive;
use crate::contract::{Fault, Reason};

pub(super) struct Answer {
    /// The method of the request.
    pub(super) method: Method,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// How long the headers ask to wait.
    pub(super) retry_after: Option<Duration>,
    /// Without a byte order mark. Empty if it could not be read.
    pub(super) body: Vec<u8>,
    /// What the answer means.
    pub(super) class: Class,
    /// What a code must not repeat.
    pub(super) sensitive: Sensitive,
    json: OnceCell<Option<Value>>,
}

impl Answer {
    /// An answer whose class and sensitive values are not known yet.
    pub(super) fn new(method: Method, status: u16, headers: HeaderMap, body: Vec<u8>) -> Self {
        Self {
            method,
            status,
            headers,
            retry_after: None,
            body,
            class: Class::Outage,
            sensitive: Sensitive::default(),
            json: OnceCell::new(),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, if it is a JSON object.
    pub(super) fn json(&self) -> Option<&Value> {
        let read = || match self.body.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice(&self.body).ok(),
            _ => None,
        };
        self.json.get_or_init(read).as_ref()
    }

    /// The JSON object of a read.
    pub(super) fn object<T: DeserializeOwned>(&self) -> Result<T, ProviderError> {
        // serde would also accept an array for a struct.
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return Err(self.unreadable());
        }
        serde_json::from_slice(&self.body).map_err(|_| self.unreadable())
    }

    /// The body of a success is not what it has to be.
    pub(super) fn unreadable(&self) -> ProviderError {
        let detail = "the provider answered with a success whose body is not the expected JSON; check whether base_url \
                      is the provider's address, and which proxy or gateway is in front of the provider";
        self.error(Fault::Broken, detail)
    }

    /// The error of an answer that is not a success.
    pub(super) fn refusal(&self) -> ProviderError {
        self.refusal_as(self.class)
    }

    /// The same, for another class.
    pub(super) fn refusal_as(&self, class: Class) -> ProviderError {
        let status = self.status;
        let retry_after = self.retry_after;
        let (fault, detail): (_, Cow<'static, str>) = match class {
            Class::Applied => (Fault::Broken, "the answer is a success, but can't be used".into()),
            Class::Throttled => (
                Fault::Throttled { retry_after },
                "the provider asks for a slower pace".into(),
            ),
            Class::Again => (
                Fault::Again,
                format!("the provider did not process the request this time ({status})").into(),
            ),
            Class::Credentials => (
                Fault::Credentials,
                "the provider does not accept the worker's token; replace it with a valid one".into(),
            ),
            Class::Denied => (
                Fault::Denied,
               "the provider does not let the worker change this user; give the worker's account the permission, or \
                 have an authorised account make the change"
                    .into(),
            ),
            Class::Configuration => (
                Fault::Configuration,
                format!(
                   "the provider refuses the form of the request ({status}): check `base_url`, the path and the method \
                     under [provider], the output of `usher check`, and any proxy in front of the provider"
                )
                .into(),
            ),
            Class::Rejected => (
                Fault::Command(Reason::Rejected),
                format!("the provider refused the command with {status}; correct its values").into(),
            ),
            Class::NotFound => (
                Fault::Command(Reason::NotFound),
                "the provider has no such user; check that userId is the provider's own id".into(),
            ),
            Class::Conflict => (
                Fault::Command(Reason::Conflict),
               "a value belongs to another user, or the user's state forbids the change; look at the user at the \
                 provider, then change the command"
                    .into(),
            ),
            Class::VersionConflict => (
                Fault::Command(Reason::VersionConflict),
               "the user has changed since expectedVersion; read it again and send a command with its current \
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
       300..=399 => "the provider answered with a redirect, which is never followed; set base_url to the address \
                      that the provider itself has"
            .into(),
        400..=499 => format!(
           "the answer with status {status} is not from the provider's API: check which proxy or gateway is in front \
             of the provider, and whether base_url is right"
        )
        .into(),
        _ => format!("the provider failed with {status}; check the provider").into(),
    }
}

fn unknown(status: u16, method: &Method) -> Cow<'static, str> {
    if *method == Method::GET {
        return format!(
            "the answer to a read ({status}) shows no user: check any proxy in front of the provider"
        )
        .into();
    }
    match status {
        200..=299 => format!(
           "the answer with status {status} does not say whether the command was applied: check which proxy or \
             gateway is in front of the provider, and whether base_url is right"
        )
        .into(),
        _ => format!(
            "a gateway in front of the provider got no answer from it ({status}); the command may have been applied"
        )
        .into(),
    }
}
