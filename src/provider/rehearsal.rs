//! Requests that are made as ever and not sent: they show what a configuration makes of a command.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde_json::value::RawValue;

use super::ProviderError;
use super::answer::Answer;
use crate::contract::Fault;

/// Stands where the token would, which is not even read.
pub(super) const HIDDEN: &str = "<hidden>";

/// A user of whom nothing is shown: in whole, or under `user`, where some APIs have it.
const NOBODY: &[u8] = br#"{"user":{}}"#;

/// A request as it would be sent, but for what each has: `host`, `user-agent`, `content-length`. It holds a user's data.
#[derive(Serialize)]
pub struct Unsent {
    pub method: String,
    pub url: String,
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
}

/// The requests so far.
#[derive(Default)]
pub struct Rehearsal(Mutex<Vec<Unsent>>);

impl Rehearsal {
    /// The requests so far, in their order.
    pub fn requests(&self) -> Vec<Unsent> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes the request. A read finds a user of whom nothing is shown, and a write is applied.
    pub(super) fn answer(&self, request: RequestBuilder) -> Result<Answer, ProviderError> {
        let unusable =
            |_| ProviderError::new(Fault::Configuration, "the configuration makes no HTTP request");
        let request = request.build().map_err(unusable)?;
        let headers = request.headers().iter();
        let text =
            |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let body = request.body().and_then(|body| body.as_bytes());
        let unsent = Unsent {
            method: request.method().to_string(),
            url: request.url().to_string(),
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: body.and_then(|body| serde_json::from_slice(body).ok()),
        };
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(unsent);
        let (status, body) = match *request.method() {
            Method::GET => (200, NOBODY),
            _ => (204, &b""[..]),
        };
        let method = request.method().clone();
        Ok(Answer::new(method, status, HeaderMap::new(), body.to_vec()))
    }
}
