//! What an answer's headers report: how long a 429 asks to wait, and what is left of the quota.
//!
//! Providers write this in many ways, and some write nonsense. Each value is read by itself; one that can't be read or
//! is implausible is ignored.

mod list;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use tokio::time::Instant;

use self::list::Item;
use crate::clock::Clock;
use crate::contract::RateLimitHint;

/// Longer times are implausible: for a wait, a window, or the distance of a timestamp from now.
const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// More calls are implausible.
const CALLS_MAX: u64 = 10_000_000;

/// A reset value from here on is a timestamp, in seconds since 1970: as a wait it would be 31 years.
const RESET_IS_TIMESTAMP_FROM: u64 = 1_000_000_000;

/// From here on it is a timestamp in milliseconds: in seconds it would be in the year 5138.
const RESET_IS_TIMESTAMP_IN_MS_FROM: u64 = 100_000_000_000;

/// Waits in milliseconds, which some vendors send in addition to `Retry-After`.
const WAITS_IN_MS: [&str; 2] = ["retry-after-ms", "x-ms-retry-after-ms"];

/// The current form of the IETF draft: one list of what is left, and one of the policies.
const REMAINING: &str = "ratelimit";
const POLICIES: &str = "ratelimit-policy";

/// The limit, what remains of it, and when it is reset, in one header each: the names of older drafts, and those that
/// were used before there was a draft.
const TRIPLES: [[&str; 3]; 3] = [
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"],
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
    [
        "x-rate-limit-limit",
        "x-rate-limit-remaining",
        "x-rate-limit-reset",
    ],
];

/// The latest hint about the quota, until it is taken.
#[derive(Default)]
pub(super) struct RateLimitHints(Mutex<Option<(RateLimitHint, Instant)>>);

impl RateLimitHints {
    /// An answer without quota headers does not replace the hint of an earlier one.
    pub(super) fn record(&self, headers: &HeaderMap, clock: &Clock) {
        let hint = Headers { headers, clock }.quota();
        if hint != RateLimitHint::default() {
            *self.lock() = Some((hint, Instant::now()));
        }
    }

    pub(super) fn take(&self) -> Option<RateLimitHint> {
        let (hint, at) = self.lock().take()?;
        Some(RateLimitHint {
            reset: hint.reset.map(|reset| reset.saturating_sub(at.elapsed())),
            ..hint
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<(RateLimitHint, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the headers of a 429 ask to wait. The most precise form is tried first.
pub(super) fn requested_wait(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let headers = Headers { headers, clock };
    WAITS_IN_MS
        .into_iter()
        .find_map(|name| plausible(decimal(headers.text(name)?)? / 1000))
        .or_else(|| headers.retry_after())
        .or_else(|| headers.quota().reset)
}

/// The headers of one answer.
struct Headers<'a> {
    headers: &'a HeaderMap,
    clock: &'a Clock,
}

impl<'a> Headers<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        let value = self.headers.get(name)?;
        value.to_str().ok().map(str::trim)
    }

    /// The items of a list, which may be spread over several headers with the same name.
    fn items(&self, name: &str) -> impl Iterator<Item = Item<'a>> {
        let lines = self.headers.get_all(name).into_iter();
        lines.filter_map(|line| line.to_str().ok()).flat_map(list::items)
    }

    fn retry_after(&self) -> Option<Duration> {
        let text = self.text(RETRY_AFTER.as_str())?;
        match decimal(text) {
            Some(wait) => plausible(wait),
            None => self.until(httpdate::parse_http_date(text).ok()?),
        }
    }

    /// Relative to the provider's own clock, if it is in the answer, because the worker's may be off. A time that has
    /// just passed needs no wait.
    fn until(&self, timestamp: SystemTime) -> Option<Duration> {
        let now = self
            .text(DATE.as_str())
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .unwrap_or_else(|| self.clock.now().into());
        match timestamp.duration_since(now) {
            Ok(wait) => plausible(wait),
            Err(past) => plausible(past.duration()).map(|_| Duration::ZERO),
        }
    }

    fn quota(&self) -> RateLimitHint {
        TRIPLES
            .into_iter()
            .fold(self.lists(), |hint, [limit, remaining, reset]| RateLimitHint {
                limit: hint.limit.or_else(|| self.limit(limit)),
                remaining: hint.remaining.or_else(|| calls(self.text(remaining)?)),
                reset: hint.reset.or_else(|| self.reset(self.text(reset)?)),
            })
    }

    /// What the two lists say: the policy with the fewest calls left for its time.
    fn lists(&self) -> RateLimitHint {
        let other_unit = |name| {
            self.items(POLICIES)
                .any(|policy| policy.head == name && !policy.counts_calls())
        };
        let left = self
            .items(REMAINING)
            .filter_map(Remaining::read)
            .filter(|left| !other_unit(left.policy))
            .min_by(|a, b| less_per_time(&a.share(), &b.share()));
        let policies = || self.items(POLICIES).filter(Item::counts_calls);
        let of_the_same_name = left
            .as_ref()
            .and_then(|left| policies().find(|policy| policy.head == left.policy))
            .and_then(limit_of);
        RateLimitHint {
            limit: of_the_same_name.or_else(|| strictest(policies().filter_map(limit_of))),
            // Between the older drafts and this form, `RateLimit` contained the triple: `limit=100, remaining=9, reset=3`.
            remaining: match &left {
                Some(left) => Some(left.calls),
                None => self.member("remaining").and_then(calls),
            },
            reset: match &left {
                Some(left) => left.reset,
                None => self.member("reset").and_then(|text| self.reset(text)),
            },
        }
    }

    fn member(&self, key: &str) -> Option<&'a str> {
        self.items(REMAINING)
            .find_map(|item| item.head.strip_prefix(key)?.strip_prefix('='))
    }

    /// `100, 100;w=60, 1000;w=3600`: the first number is the limit that is reached next, and the policies that follow
    /// give its window.
    fn limit(&self, name: &str) -> Option<(u64, Duration)> {
        let nearest = self.items(name).next().and_then(|first| calls(first.head));
        let limits = || self.items(name).filter_map(limit_of);
        let of_nearest = limits().filter(|(calls, _)| Some(*calls) == nearest);
        strictest(of_nearest).or_else(|| strictest(limits()))
    }

    fn reset(&self, text: &str) -> Option<Duration> {
        let value = decimal(text)?;
        let since_1970 = match value.as_secs() {
            RESET_IS_TIMESTAMP_IN_MS_FROM.. => value / 1000,
            RESET_IS_TIMESTAMP_FROM.. => value,
            _ => return plausible(value),
        };
        self.until(UNIX_EPOCH.checked_add(since_1970)?)
    }
}

/// `"default";r=50;t=30`
struct Remaining<'a> {
    policy: &'a str,
    calls: u64,
    reset: Option<Duration>,
}

impl<'a> Remaining<'a> {
    fn read(item: Item<'a>) -> Option<Self> {
        Some(Self {
            policy: item.head,
            calls: calls(item.parameter("r")?)?,
            reset: item.parameter("t").and_then(decimal).and_then(plausible),
        })
    }

    fn share(&self) -> (u64, Duration) {
        (self.calls, self.reset.unwrap_or_default())
    }
}

/// `"default";q=100;w=60`, or as the older drafts had it: `100;w=60`.
fn limit_of(policy: Item<'_>) -> Option<(u64, Duration)> {
    let calls = calls(policy.parameter("q").unwrap_or(policy.head)).filter(|calls| *calls > 0)?;
    let window = decimal(policy.parameter("w")?).and_then(plausible)?;
    (!window.is_zero()).then_some((calls, window))
}

fn strictest(limits: impl Iterator<Item = (u64, Duration)>) -> Option<(u64, Duration)> {
    limits.min_by(less_per_time)
}

/// Orders by calls per time; if they are equal, the longer time comes first.
fn less_per_time(a: &(u64, Duration), b: &(u64, Duration)) -> Ordering {
    // The product can't overflow, because CALLS_MAX and TIME_MAX bound both factors.
    let cross = |calls: u64, time: Duration| u128::from(calls) * time.as_nanos().max(1);
    cross(a.0, b.1).cmp(&cross(b.0, a.1)).then(b.1.cmp(&a.1))
}

fn plausible(time: Duration) -> Option<Duration> {
    (time <= TIME_MAX).then_some(time)
}

fn calls(text: &str) -> Option<u64> {
    let calls = digits(text)?.parse().ok()?;
    (calls <= CALLS_MAX).then_some(calls)
}

/// A number of seconds (or of another unit, as the caller knows), with or without a fraction.
fn decimal(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanos = digits(fraction)?
        .bytes()
        .chain(iter::repeat(b'0'))
        .take(9)
        .fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    Some(Duration::new(digits(whole)?.parse().ok()?, nanos))
}

/// `parse` alone would accept a sign.
fn digits(text: &str) -> Option<&str> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then_some(text)
}
