//! A provider's answer, and the one table from its status to whose fault it is.
//!
//! The status decides: a body may be text, HTML or nothing at all, whatever the documents promise.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use super::{ProviderError, User};
use crate::clock::Clock;
use crate::contract::{Fault, Reason};

/// A longer wait than this is taken for a mistake.
const WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Headers that say when the quota is whole again, for providers that send no `Retry-After`.
const RESET_HEADERS: [&str; 3] = ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"];

/// A reset value above this is a moment (seconds since 1970) and no number of seconds to wait.
const RESET_IS_MOMENT_FROM: u64 = 1_000_000_000;

pub(super) struct Answer {
    pub(super) status: u16,
    /// How long a 429 asks to wait.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
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

/// A provider's code is passed on only where it can be nothing else than a code.
pub(super) fn safe_code(text: &str) -> Option<String> {
    let safe = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    safe.then(|| text.into())
}

/// How long the headers of a 429 ask to wait. What can't be read or can't be meant is as if it were not there.
pub(super) fn wait_asked(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    // The provider's own clock, where it tells it: the worker's may be off.
    let now = || {
        text(DATE.as_str())
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .unwrap_or_else(|| clock.now().into())
    };
    let until = |moment: SystemTime| moment.duration_since(now()).unwrap_or_default();
    let wait = match text(RETRY_AFTER.as_str()) {
        Some(asked) => match asked.parse().map(Duration::from_secs) {
            Ok(wait) => Some(wait),
            Err(_) => httpdate::parse_http_date(asked).ok().map(until),
        },
        None => RESET_HEADERS
            .into_iter()
            .find_map(|name| text(name)?.parse::<u64>().ok())
            .and_then(|reset| match Duration::from_secs(reset) {
                since_1970 if reset >= RESET_IS_MOMENT_FROM => UNIX_EPOCH.checked_add(since_1970).map(until),
                wait => Some(wait),
            }),
    };
    wait.filter(|wait| *wait <= WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn refusal(status: u16) -> ProviderError {
        Answer {
            status,
            retry_after: None,
            body: b"<html>".to_vec(),
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
            (503, Fault::Broken),
            (599, Fault::Broken),
            (999, Fault::Broken),
        ];
        for (status, fault) in cases {
            let error = refusal(status);
            assert_eq!((error.fault, error.status), (fault, Some(status)));
        }
        assert!(refusal(308).detail.contains("base_url"));
    }

    #[test]
    fn only_what_looks_like_a_code_is_passed_on() {
        assert_eq!(safe_code("COMMAND-3M0fs").as_deref(), Some("COMMAND-3M0fs"));
        for bad in ["", "alex@example.com", "a b", &"x".repeat(65), "é"] {
            assert_eq!(safe_code(bad), None, "{bad}");
        }
    }

    fn wait(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        let clock = Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap());
        wait_asked(&headers, &clock)
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_seconds_or_a_date() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(wait(&[("retry-after", "7")]), seconds(7));
        assert_eq!(wait(&[("retry-after", "0")]), seconds(0));
        let date = ("retry-after", "Sat, 21 Nov 2026 10:00:30 GMT");
        assert_eq!(wait(&[date]), seconds(30));
        assert_eq!(
            wait(&[date, ("date", "Sat, 21 Nov 2026 10:00:20 GMT")]),
            seconds(10),
            "the provider's own clock comes first"
        );
        assert_eq!(
            wait(&[("retry-after", "Sat, 21 Nov 2026 09:00:00 GMT")]),
            seconds(0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_cannot_be_meant_is_ignored() {
        for absurd in [
            "",
            "soon",
            "-1",
            "1.5",
            "604801",
            "99999999999999999999",
            "Sat, 21 Nov 2099 10:00:00 GMT",
        ] {
            assert_eq!(wait(&[("retry-after", absurd)]), None, "{absurd}");
        }
        assert_eq!(wait(&[]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn reset_headers_stand_in_for_a_missing_retry_after() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(wait(&[("ratelimit-reset", "9")]), seconds(9));
        assert_eq!(wait(&[("x-rate-limit-reset", "1795255205")]), seconds(5));
        assert_eq!(
            wait(&[("ratelimit-reset", "9"), ("retry-after", "2")]),
            seconds(2)
        );
        assert_eq!(wait(&[("x-ratelimit-reset", &u64::MAX.to_string())]), None);
    }
}
