//! The dead letter's headers: what an operator needs to fix the cause and redrive the command.

use jiff::Timestamp;

use super::failure::Failure;

pub const REASON: &str = "x-usher-reason";
pub const DETAIL: &str = "x-usher-detail";
pub const STATUS: &str = "x-usher-status";
pub const CODE: &str = "x-usher-code";
pub const ATTEMPTS: &str = "x-usher-attempts";
pub const FIRST_ATTEMPT_AT: &str = "x-usher-first-attempt-at";
pub const DEAD_AT: &str = "x-usher-dead-at";
pub const EXCHANGE: &str = "x-usher-exchange";
pub const ROUTING_KEY: &str = "x-usher-routing-key";
pub const REDRIVES: &str = "x-usher-redrives";
pub const VERSION: &str = "x-usher-version";

/// The number and names of the command's headers that were dropped because they did not fit beside these.
pub const HEADERS_CUT: &str = "x-usher-headers-cut";
/// The prefix of all these names.
pub const PREFIX: &str = "x-usher-";

/// The value of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    Text(String),
    Number(u32),
}

/// A failed command: where it was published, its failure and its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    pub failure: &'a Failure,
    pub attempts: u32,
    /// None if no call was made.
    pub first_attempt_at: Option<Timestamp>,
    pub dead_at: Timestamp,
    pub exchange: &'a str,
    pub routing_key: &'a str,
    pub redrives: u32,
}

impl DeadLetter<'_> {
    /// The headers that are added to those of the command.
    pub fn headers(&self) -> Vec<(&'static str, HeaderValue)> {
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        let mut headers = vec![
            (REASON, text(self.failure.reason.as_str())),
            (DETAIL, HeaderValue::Text(self.detail())),
            (ATTEMPTS, HeaderValue::Number(self.attempts)),
            (DEAD_AT, HeaderValue::Text(self.dead_at.to_string())),
            (EXCHANGE, text(self.exchange)),
            (ROUTING_KEY, text(self.routing_key)),
            (REDRIVES, HeaderValue::Number(self.redrives)),
            (VERSION, text(env!("CARGO_PKG_VERSION"))),
        ];
        if let Some(status) = self.failure.status {
            headers.push((STATUS, HeaderValue::Number(status.into())));
        }
        if let Some(code) = &self.failure.code {
            headers.push((CODE, text(code)));
        }
        if let Some(at) = self.first_attempt_at {
            headers.push((FIRST_ATTEMPT_AT, HeaderValue::Text(at.to_string())));
        }
        headers
    }

    fn detail(&self) -> String {
        match &self.failure.pointer {
            Some(pointer) => format!("{pointer}: {}", self.failure.detail),
            None => self.failure.detail.clone().into_owned(),
        }
    }
}
