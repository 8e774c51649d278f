//! The learned pace: how fast the provider really lets the fleet call.
//!
//! All workers share the same few numbers (`Learned`), and the pace is a pure function of them. A throttled call
//! lowers it: first to a floor that certainly held, and after a few seconds to a plateau between that and the pace
//! that was too high. The plateau is held for half a minute, and then raised gradually until the provider throttles
//! again; if a far higher pace held recently, that is tried after a few seconds. A worker that knows nothing, or
//! resumes after an outage, doubles the pace each second until it meets one of these bounds.
//!
//! Time is counted only while calls wait for the pace: an unused pace proves nothing. Reading the pace does not
//! change it.

#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use super::headers::Headers;
use crate::contract::{Learned, RateLimitHint};

/// Where the search begins, in calls per second: slow enough for any provider for a second, and eight seconds from a
/// thousand.
const FIRST: f64 = 5.0;

/// The slowest pace, in calls per second, unless a slower rate is configured: one call in ten seconds still shows when
/// the provider allows more.
pub(super) const LEAST: f64 = 0.1;

/// The highest pace, in calls per second, where nothing bounds it: faster than any provider.
pub(super) const MOST: f64 = 1e6;

/// The window of most quotas, in seconds: a 429 is about the calls in it, and a pause saves up that much.
const WINDOW: f64 = 1.0;

/// Evidence comes from calls: with fewer calls per second than this, the search is stretched in proportion, so that at
/// most one call in fifty is throttled. It is stretched by `SLOWEST` at most, or the pace would not recover.
const CALLS_PER_SECOND: f64 = 2.5;
const SLOWEST: f64 = 2.5;

/// A pace is proven once it has held for this long, in seconds of use: longer than a window, and short enough to
/// follow a quota that halves within ten seconds. Then a higher one is tried, if a far higher pace was proven recently.
const PROVEN: f64 = 4.0;

/// After this, in seconds of use, more is tried in any case: a pause of a second in half a minute costs 3 % of the
/// quota.
const HOLD: f64 = 30.0;

/// On the way to a far higher pace, the pace doubles in this time, in seconds: with the pause and `PROVEN` before it,
/// that is nine seconds to a quota that doubled, and slow enough to find a lower one.
const DOUBLING: f64 = 4.0;

/// From this factor on a higher pace is far higher: the gradual growth finds less than that within seconds.
const FAR_BETTER: f64 = 1.25;

/// Each trial of a far higher pace costs a pause, so a quota that stays lower must be accepted in the end: in this many
/// seconds of use the best earlier pace halves.
const HALF_FORGOTTEN: f64 = 600.0;

/// The factor below a pace that was too high: 3 % less, since calls overtake each other on the network.
pub(super) const BELOW: f64 = 0.97;

/// A single 429 lowers the pace to no less than this share of it, since it may be accidental.
const STEP: f64 = 0.7;

/// Other workers' notices lower the pace to no less than this share of the pace before them. Only the provider's
/// answers to this worker lower it further.
const OTHERS_LOWEST: f64 = 0.25;

/// A notice may not be further ahead than this in slowdowns: no fleet has that many, and a count at its maximum could
/// not be raised any more.
const AHEAD_MAX: u64 = u32::MAX as u64;

/// The search for the provider's quota: the fleet's pace over time, as known to this worker.
#[derive(Debug)]
pub(super) struct PaceSearch {
    /// The configured rate.
    configured: Option<f64>,
    /// The fleet's share of the provider's quota.
    share: f64,
    known: Learned,
    /// A climb: the pace it started from and its age in seconds of use. The pace doubles each second until something
    /// else bounds it.
    climb: Option<(f64, f64)>,
    /// The pace before other workers' notices lowered it, while no answer to this worker has confirmed it.
    own_before: Option<f64>,
    headers: Headers,
}

impl PaceSearch {
    pub(super) fn new(configured: Option<f64>, share: f64) -> Self {
        let first = configured.unwrap_or(FIRST);
        Self {
            configured,
            share,
            known: Learned {
                slowdowns: 0,
                floor: first,
                plateau: first,
                best: configured.unwrap_or(LEAST),
                age: 0.0,
            },
            climb: configured.is_none().then_some((FIRST, 0.0)),
            own_before: None,
            headers: Headers::default(),
        }
    }

    /// Another rate is configured. Where none was, the pace that was learned stays.
    pub(super) fn configure(&mut self, configured: Option<f64>, share: f64) {
        if self.known.slowdowns == 0 && self.configured.is_some() && configured.is_none() {
            // Nothing is known beyond the rate that was configured.
            self.climb = self.configured.map(|pace| (pace, 0.0));
        }
        (self.configured, self.share) = (configured, share);
    }

    pub(super) fn known(&self) -> Learned {
        self.known
    }

    /// Calls per second of the whole fleet.
    pub(super) fn per_second(&self, now: Instant) -> f64 {
        let pace = self.ago(0.0);
        self.headers
            .remaining(now)
            .map_or(pace, |remaining| pace.min(remaining))
    }

    /// The pace this many seconds of use ago, or at the beginning of the search.
    fn ago(&self, seconds: f64) -> f64 {
        let climb = |(from, age): (f64, f64)| from * (age - seconds).max(0.0).exp2();
        self.curve((self.known.age - seconds).max(0.0))
            .min(self.climb.map_or(MOST, climb))
            .min(self.headers.most(seconds))
            .clamp(self.least(1.0), self.configured.unwrap_or(MOST))
    }

    /// The pace that the provider is known to accept, at this age of the search. It never falls with the age, and
    /// rises in steps, so that workers whose ages differ a little nearly always have the same pace.
    fn curve(&self, age: f64) -> f64 {
        let Learned {
            slowdowns,
            floor,
            plateau,
            best,
            ..
        } = self.known;
        let age = (age / self.scale()).floor();
        if slowdowns == 0 {
            return MOST;
        }
        if age < PROVEN {
            return floor;
        }
        let again = match self.is_low() {
            true => (plateau * ((age - PROVEN) / DOUBLING).exp2()).min(best),
            false => plateau,
        };
        again.max(plateau * growth(age - HOLD)).min(MOST)
    }

    /// The length of a second of the search, in seconds of use.
    fn scale(&self) -> f64 {
        (CALLS_PER_SECOND / self.known.plateau).clamp(1.0, SLOWEST)
    }

    fn is_low(&self) -> bool {
        self.known.best >= self.known.plateau * FAR_BETTER
    }

    /// The slowest pace of a fleet, or of a worker with this share of the configured rate.
    pub(super) fn least(&self, quota_share: f64) -> f64 {
        self.configured
            .map_or(LEAST, |configured| LEAST.min(configured * quota_share))
    }

    /// Whether the pace is at the configured rate.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.configured
            .is_some_and(|configured| self.per_second(now) >= configured)
    }

    /// The pace, if all workers compute the same one.
    pub(super) fn agreed(&self, now: Instant) -> Option<f64> {
        let pace = self.per_second(now);
        (self.is_full(now) || pace == self.curve(self.known.age)).then_some(pace)
    }

    /// Calls have waited for the pace for this long.
    pub(super) fn used(&mut self, span: Duration) {
        let seconds = span.as_secs_f64();
        self.known.age += seconds;
        if let Some((_, age)) = &mut self.climb {
            *age += seconds;
        }
        self.headers.used(seconds);
        if self.own_before.is_some_and(|before| self.ago(0.0) >= before) {
            self.own_before = None;
        }
    }

    /// A call that was sent at this age of the search was throttled, after calls had passed.
    pub(super) fn throttled(&mut self, age: f64) {
        let since = (self.known.age - age).max(0.0);
        let (window, long) = (WINDOW * self.scale(), PROVEN * self.scale());
        let (at, before) = (self.ago(since), self.ago(since + window));
        let climbs = self.climb.is_some() && at < self.curve(age);
        let proven = (age >= long && !climbs).then(|| self.ago(since + long));
        let sure = proven.unwrap_or(at * STEP);
        let (floor, plateau) = match before < at {
            // The pace rose, and a window earlier it was accepted.
            true => {
                let between = (before * 3.0 + at) / 4.0;
                ((sure + before) / 2.0, (between * BELOW).max(sure))
            }
            // The calls since the pause were too many, although the provider had saved up for them.
            false => {
                let on_plateau = self.known.slowdowns > 0 && age >= long;
                let span = if on_plateau { age - long } else { age };
                let floor = sure.max(at * span / (span + window));
                // A pace that held for a window was not much too high.
                let close = (span / window).min(1.0);
                (
                    floor,
                    at * BELOW - (at * BELOW - floor).max(0.0) * (1.0 - close) / 2.0,
                )
            }
        };
        let plateau = (plateau * self.share).clamp(self.least(1.0), MOST);
        self.headers.throttled(at);
        self.known = Learned {
            slowdowns: self.known.slowdowns.saturating_add(1),
            floor: floor.clamp(self.least(1.0), plateau),
            plateau,
            // A pace that did not hold is not the best.
            best: self.best_by_now().max(proven.unwrap_or(LEAST)),
            age: 0.0,
        };
        self.climb = None;
        self.own_before = None;
    }

    fn best_by_now(&self) -> f64 {
        self.known.best * (-self.known.age / HALF_FORGOTTEN).exp2()
    }

    /// Merges what another worker has learned: the later slowdown wins; for the same one, the lower pace and the
    /// longer use. It raises the pace no faster than a search does, and lowers it within bounds. Returns whether the
    /// slowdown is new.
    pub(super) fn merge(&mut self, other: Learned) -> bool {
        let pace = self.ago(0.0);
        let known = self.known;
        let ahead = other.slowdowns.checked_sub(known.slowdowns);
        self.known = match ahead {
            Some(0) => Learned {
                slowdowns: known.slowdowns,
                floor: known.floor.min(other.floor),
                plateau: known.plateau.min(other.plateau),
                best: known.best.max(other.best),
                age: known.age.max(other.age),
            },
            Some(1..=AHEAD_MAX) => Learned {
                best: self.best_by_now().max(other.best),
                ..other
            },
            _ => return false,
        };
        if self.ago(0.0) > pace {
            self.climb = Some((pace, 0.0));
        }
        let own = *self.own_before.get_or_insert(pace);
        let least = own * OTHERS_LOWEST;
        self.known.plateau = self.known.plateau.max(least);
        self.known.floor = self.known.floor.max(least);
        if self.ago(0.0) >= own {
            self.own_before = None;
        }
        ahead != Some(0)
    }

    /// After an outage, or after throttling without a passed call: starts at a tenth, which takes four seconds to
    /// recover.
    pub(super) fn resume_gently(&mut self) {
        self.climb = Some(((self.ago(0.0) / 10.0).max(FIRST), 0.0));
    }

    /// Takes in the hint of an answer's headers.
    pub(super) fn on_rate_limit_hint(&mut self, hint: RateLimitHint, now: Instant) {
        let pace = self.ago(0.0);
        self.headers.on_hint(hint, self.share, pace, now);
    }

    /// What determines the pace.
    pub(super) fn why(&self, now: Instant) -> &'static str {
        let (pace, age) = (self.ago(0.0), self.known.age / self.scale());
        let held = if self.is_low() { PROVEN } else { HOLD };
        match () {
            () if self.is_full(now) => "no evidence against the configured rate",
            () if self.per_second(now) < pace => "the provider's headers show what is left",
            () if pace >= self.headers.most(0.0) => "the provider's headers show its quota",
            () if self.known.slowdowns == 0 => "searching for the provider's limit",
            () if pace < self.curve(self.known.age) => "returning to the known pace",
            () if self.own_before.is_some() => "the provider throttled another worker",
            () if age >= held => "the pace held, so more is tried",
            () => "the provider throttled",
        }
    }
}

/// The factor by which a pace grows in this many seconds, once it has held for long enough: slowly at first, since it
/// is probably just below the quota, and to more than double in a quarter of a minute, since otherwise it is far
/// below.
pub(super) fn growth(seconds: f64) -> f64 {
    let seconds = seconds.max(0.0);
    1.0 + 0.01 * seconds + 0.005 * seconds * seconds
}
