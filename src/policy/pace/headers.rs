//! What the answers' headers tell of the quota: evidence that bounds the pace, and never stops it.

use std::time::Duration;

use tokio::time::Instant;

use super::learned::{BELOW, LEAST, MOST, growth};
use crate::contract::RateLimitHint;

/// The quota that is told is not exceeded for so many seconds of use; after that it is put to the test, as a plateau is.
const HELD: f64 = 60.0;

/// What was exceeded by so much without a 429 was wrong.
const WRONG: f64 = 1.25;

/// Of a window that is shorter than this, what is left says nothing: it fills while it is read.
const LONG_WINDOW: Duration = Duration::from_secs(5);

/// What is left of a window is asked for anew after this.
const TRUSTED_FOR: Duration = Duration::from_secs(60);

/// Of what a header says is left, the pace is lowered to this share of itself at most: a wrong one stops nobody.
const LEFT_STEP: f64 = 0.2;

#[derive(Debug, Default)]
pub(super) struct Headers {
    /// The quota, in calls per second, and for how many seconds it has been in use.
    quota: Option<(f64, f64)>,
    /// What is left of a long window, as a pace, and until when.
    left: Option<(f64, Instant)>,
}

impl Headers {
    /// Takes in what came while calls went out at this pace.
    pub(super) fn told(&mut self, told: RateLimitHint, share: f64, pace: f64, now: Instant) {
        if let Some((calls, window)) = told.limit.filter(|(_, window)| !window.is_zero()) {
            let quota = (calls as f64 / window.as_secs_f64() * BELOW).clamp(LEAST, MOST) * share;
            let same = self.quota.filter(|(before, _)| *before == quota);
            self.quota = same.or(Some((quota, 0.0)));
        }
        if let (Some(remaining), Some(reset)) = (told.remaining, told.reset) {
            let left = remaining as f64 / reset.as_secs_f64() * share;
            let slow = reset >= LONG_WINDOW && left < pace;
            let until = now + reset.min(TRUSTED_FOR);
            self.left = slow.then_some((left.max(pace * LEFT_STEP).max(LEAST), until));
        }
    }

    pub(super) fn used(&mut self, seconds: f64) {
        if let Some((_, age)) = &mut self.quota {
            *age += seconds;
        }
    }

    /// A call at this pace was throttled: a quota that is about that is right.
    pub(super) fn throttled(&mut self, pace: f64) {
        if let Some((quota, age)) = &mut self.quota
            && pace <= *quota * WRONG
        {
            *age = 0.0;
        }
    }

    /// The most that the quota allowed so many seconds of use ago.
    pub(super) fn most(&self, ago: f64) -> f64 {
        self.quota
            .map_or(MOST, |(quota, age)| quota * growth(age - ago - HELD))
    }

    /// The most that is left of a long window.
    pub(super) fn left(&self, now: Instant) -> Option<f64> {
        self.left.filter(|(_, until)| *until > now).map(|(left, _)| left)
    }
}
