//! Rate-limit headers of answers: evidence that bounds the pace, and never stops it.

use std::time::Duration;

use tokio::time::Instant;

use super::learned::{BELOW, LEAST, MOST, growth};
use crate::contract::RateLimitHint;

/// The quota in the headers is not exceeded for this many seconds of use; after that it is tested, like a plateau.
const HELD: f64 = 60.0;

/// A quota that was exceeded by this factor without a 429 was wrong.
const WRONG: f64 = 1.25;

/// In a shorter window, the remaining calls say nothing: it has changed by the time it is read.
const LONG_WINDOW: Duration = Duration::from_secs(5);

/// The remaining calls of a window are trusted for this long.
const TRUSTED_FOR: Duration = Duration::from_secs(60);

/// One header lowers the pace to no less than this share of it, so that a wrong header can't stop calls.
const REMAINING_STEP: f64 = 0.2;

#[derive(Debug, Default)]
pub(super) struct Headers {
    /// The quota, in calls per second, and for how many seconds it has been in use.
    quota: Option<(f64, f64)>,
    /// The remaining calls of a long window, as a pace, and until when it is valid.
    remaining: Option<(f64, Instant)>,
}

impl Headers {
    /// Takes in the hint of a call that was sent at this pace.
    pub(super) fn on_hint(&mut self, hint: RateLimitHint, share: f64, pace: f64, now: Instant) {
        if let Some((calls, window)) = hint.limit.filter(|(_, window)| !window.is_zero()) {
            let quota = (calls as f64 / window.as_secs_f64() * BELOW).clamp(LEAST, MOST) * share;
            let same = self.quota.filter(|(before, _)| *before == quota);
            self.quota = same.or(Some((quota, 0.0)));
        }
        if let (Some(calls), Some(reset)) = (hint.remaining, hint.reset) {
            let remaining = calls as f64 / reset.as_secs_f64() * share;
            let slow = reset >= LONG_WINDOW && remaining < pace;
            let until = now + reset.min(TRUSTED_FOR);
            self.remaining = slow.then_some((remaining.max(pace * REMAINING_STEP).max(LEAST), until));
        }
    }

    pub(super) fn used(&mut self, seconds: f64) {
        if let Some((_, age)) = &mut self.quota {
            *age += seconds;
        }
    }

    /// A call at this pace was throttled: a quota of about that is confirmed.
    pub(super) fn throttled(&mut self, pace: f64) {
        if let Some((quota, age)) = &mut self.quota
            && pace <= *quota * WRONG
        {
            *age = 0.0;
        }
    }

    /// The highest pace that the quota allowed this many seconds of use ago.
    pub(super) fn most(&self, ago: f64) -> f64 {
        self.quota
            .map_or(MOST, |(quota, age)| quota * growth(age - ago - HELD))
    }

    /// The pace that the remaining calls of a long window allow.
    pub(super) fn remaining(&self, now: Instant) -> Option<f64> {
        self.remaining
            .filter(|(_, until)| *until > now)
            .map(|(remaining, _)| remaining)
    }
}
