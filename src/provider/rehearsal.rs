//! Requests that are built as usual but not sent: they show what a configuration makes of a command.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde_json::value::RawValue;

use super::ProviderError;
use super::answer::Answer;
use crate::contract::Fault;

/// Replaces the token, which is not even read.
pub(super) const HIDDEN: &str = "<hidden>";

/// A user without members: at the top, or under `user`, as in some APIs.
const EMPTY_USER: &[u8] = br#"{"user":{}}"#;

/// A request as it would be sent, without `host`, `user-agent` and `content-length`. It contains user data.
#[derive(Serialize)]
pub struct Unsent {
    pub method: String,
    pub url: String,
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
}

/// The recorded requests.
#[derive(Default)]
pub struct Rehearsal(Mutex<Vec<Unsent>>);

impl Rehearsal {
    /// The recorded requests, in order.
    pub fn requests(&self) -> Vec<Unsent> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records the request. A read returns a user without members, and a write succeeds.
    pub(super) fn answer(&self, request: RequestBuilder) -> Result<Answer, ProviderError> {
        let unusable = |_| {
            ProviderError::new(
                Fault::Configuration,
                "the configuration gives no valid HTTP request",
            )
        };
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
            Method::GET => (200, EMPTY_USER),
            _ => (204, &b""[..]),
        };
        let method = request.method().clone();
        Ok(Answer::new(method, status, HeaderMap::new(), body.to_vec()))
    }
}
