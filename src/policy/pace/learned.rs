//! The pace that is learned: how fast the provider really lets the fleet call.
//!
//! All workers hold the same few numbers (`Learned`), and the pace is a pure function of them. A throttled call lowers
//! it: to a floor that was surely borne, and after a few seconds to a plateau between that and what was too much. The
//! plateau is held for half a minute, and then raised gently until the provider throttles again; where a far better pace
//! was borne lately, that is tried after a few seconds. Who knows nothing, or comes back from an outage, doubles the pace
//! each second until it meets one of these bounds.
//!
//! The one clock of all this is the time in which calls waited for the pace: what was not used proves nothing, and
//! reading changes nothing.

#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use super::headers::Headers;
use crate::contract::{Learned, RateLimitHint};

/// Where the search begins, in calls per second: slow enough for any provider to bear it for a second, and eight seconds
/// from a thousand.
const FIRST: f64 = 5.0;

/// Slower than this it never gets, but for a configured rate that is slower: one call in ten seconds still finds out that
/// the provider takes more. In calls per second.
pub(super) const LEAST: f64 = 0.1;

/// What nothing bounds still is a number: faster than any provider, in calls per second.
pub(super) const MOST: f64 = 1e6;

/// What most quotas count by, in seconds: a 429 tells of the calls in it, and so much is saved up in a pause.
const WINDOW: f64 = 1.0;

/// Evidence comes by calls: with fewer per second than this, the seconds of a course are longer in proportion, so that one
/// call in fifty at most is throttled. Not beyond `SLOWEST` times as long, or nothing would come back.
const CALLS_PER_SECOND: f64 = 2.5;
const SLOWEST: f64 = 2.5;

/// A pace is borne that was held for so long, in seconds of use: longer than a window, and short enough to follow a quota
/// that halves within ten seconds. Then more is tried, if a far better one was borne lately.
const BORNE: f64 = 4.0;

/// After this more is tried in any case: a pause of a second in half a minute is 3 % of the quota.
const HOLD: f64 = 30.0;

/// The way to a far better pace doubles it in this time, in seconds: with the pause and what is `BORNE` before it, nine
/// seconds to a quota that doubled, and slow enough to tell where a lower one is.
const DOUBLING: f64 = 4.0;

/// From here on a better pace is far better: less is found by the gentle growth within seconds.
const FAR_BETTER: f64 = 1.25;

/// Each trial of the far better pace costs a pause, so a quota that stays lower is believed in the end: in so many seconds
/// of use what was borne before counts for half as much.
const HALF_FORGOTTEN: f64 = 600.0;

/// Below what was too much: three calls in a hundred less, as calls overtake each other on their way.
pub(super) const BELOW: f64 = 0.97;

/// No 429 alone lowers the pace to less than this share of it, or one of bad luck would cost too much.
const STEP: f64 = 0.7;

/// No fellow's word lowers it to less than this share of what it was before anybody spoke: the rest, the provider has to
/// say to this worker itself.
const HEARD: f64 = 0.25;

/// So many slowdowns more than are known here nobody has seen. A count that stood at its end could not be raised.
const AHEAD_MAX: u64 = u32::MAX as u64;

/// The course of the fleet's pace, as this worker knows it.
#[derive(Debug)]
pub(super) struct Course {
    /// What the configuration allows.
    configured: Option<f64>,
    /// What is ours of what the provider gives.
    share: f64,
    known: Learned,
    /// From this pace on it doubles each second, and has for so many seconds of use, until something else bounds it.
    climb: Option<(f64, f64)>,
    /// The pace before other workers' word lowered it, while no answer of our own has settled what is true.
    unheard: Option<f64>,
    headers: Headers,
}

impl Course {
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
            unheard: None,
            headers: Headers::default(),
        }
    }

    pub(super) fn known(&self) -> Learned {
        self.known
    }

    /// Calls per second of the whole fleet.
    pub(super) fn per_second(&self, now: Instant) -> f64 {
        let pace = self.ago(0.0);
        self.headers.left(now).map_or(pace, |left| pace.min(left))
    }

    /// The pace so many seconds of use ago, or where its course began.
    fn ago(&self, seconds: f64) -> f64 {
        let climb = |(from, age): (f64, f64)| from * (age - seconds).max(0.0).exp2();
        self.curve((self.known.age - seconds).max(0.0))
            .min(self.climb.map_or(MOST, climb))
            .min(self.headers.most(seconds))
            .clamp(self.least(1.0), self.configured.unwrap_or(MOST))
    }

    /// What the provider is known to bear, at this age of the course: it never falls with the age, and rises in steps, so
    /// that workers whose ages differ a little are nearly always at the same pace.
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
        if age < BORNE {
            return floor;
        }
        let again = match self.is_low() {
            true => (plateau * ((age - BORNE) / DOUBLING).exp2()).min(best),
            false => plateau,
        };
        again.max(plateau * growth(age - HOLD)).min(MOST)
    }

    /// A second of the course, in seconds.
    fn scale(&self) -> f64 {
        (CALLS_PER_SECOND / self.known.plateau).clamp(1.0, SLOWEST)
    }

    fn is_low(&self) -> bool {
        self.known.best >= self.known.plateau * FAR_BETTER
    }

    /// The slowest pace of a fleet, or of a worker that has this part of the configured rate.
    pub(super) fn least(&self, part: f64) -> f64 {
        self.configured
            .map_or(LEAST, |configured| LEAST.min(configured * part))
    }

    /// Nothing says that the provider gives less than is configured.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.configured
            .is_some_and(|configured| self.per_second(now) >= configured)
    }

    /// The pace, where all workers come to the same one.
    pub(super) fn agreed(&self, now: Instant) -> Option<f64> {
        let pace = self.per_second(now);
        (self.is_full(now) || pace == self.curve(self.known.age)).then_some(pace)
    }

    /// Calls have waited for the pace for so long.
    pub(super) fn used(&mut self, span: Duration) {
        let seconds = span.as_secs_f64();
        self.known.age += seconds;
        if let Some((_, age)) = &mut self.climb {
            *age += seconds;
        }
        self.headers.used(seconds);
        if self.unheard.is_some_and(|before| self.ago(0.0) >= before) {
            self.unheard = None;
        }
    }

    /// A call that was sent at this age of the course was throttled, and calls had passed before.
    pub(super) fn throttled(&mut self, age: f64) {
        let since = (self.known.age - age).max(0.0);
        let (window, long) = (WINDOW * self.scale(), BORNE * self.scale());
        let (at, before) = (self.ago(since), self.ago(since + window));
        let climbs = self.climb.is_some() && at < self.curve(age);
        let borne = (age >= long && !climbs).then(|| self.ago(since + long));
        let sure = borne.unwrap_or(at * STEP);
        let (floor, plateau) = match before < at {
            // It rose, and a window earlier it was borne.
            true => {
                let between = (before * 3.0 + at) / 4.0;
                ((sure + before) / 2.0, (between * BELOW).max(sure))
            }
            // What was saved up in the pause and what came in this span were enough for it.
            false => {
                let on_plateau = self.known.slowdowns > 0 && age >= long;
                let span = if on_plateau { age - long } else { age };
                let floor = sure.max(at * span / (span + window));
                // What lasted for a window was not much too fast.
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
            // What was not borne is none.
            best: self.best_by_now().max(borne.unwrap_or(LEAST)),
            age: 0.0,
        };
        self.climb = None;
        self.unheard = None;
    }

    fn best_by_now(&self) -> f64 {
        self.known.best * (-self.known.age / HALF_FORGOTTEN).exp2()
    }

    /// What another worker knows: the later slowdown holds, and of the same one the lower pace and the longer use. It
    /// raises the pace no faster than a search does, and lowers it within bounds. Answers whether the slowdown is news.
    pub(super) fn hear(&mut self, heard: Learned) -> bool {
        let pace = self.ago(0.0);
        let known = self.known;
        let ahead = heard.slowdowns.checked_sub(known.slowdowns);
        self.known = match ahead {
            Some(0) => Learned {
                slowdowns: known.slowdowns,
                floor: known.floor.min(heard.floor),
                plateau: known.plateau.min(heard.plateau),
                best: known.best.max(heard.best),
                age: known.age.max(heard.age),
            },
            Some(1..=AHEAD_MAX) => Learned {
                best: self.best_by_now().max(heard.best),
                ..heard
            },
            _ => return false,
        };
        if self.ago(0.0) > pace {
            self.climb = Some((pace, 0.0));
        }
        let own = *self.unheard.get_or_insert(pace);
        let least = own * HEARD;
        self.known.plateau = self.known.plateau.max(least);
        self.known.floor = self.known.floor.max(least);
        if self.ago(0.0) >= own {
            self.unheard = None;
        }
        ahead != Some(0)
    }

    /// After an outage, or after throttling that nobody passed: from a tenth it is there in four seconds.
    pub(super) fn resume_gently(&mut self) {
        self.climb = Some(((self.ago(0.0) / 10.0).max(FIRST), 0.0));
    }

    /// Evidence from an answer's headers.
    pub(super) fn told(&mut self, told: RateLimitHint, now: Instant) {
        let pace = self.ago(0.0);
        self.headers.told(told, self.share, pace, now);
    }

    /// What the pace comes from.
    pub(super) fn why(&self, now: Instant) -> &'static str {
        let (pace, age) = (self.ago(0.0), self.known.age / self.scale());
        let held = if self.is_low() { BORNE } else { HOLD };
        match () {
            () if self.is_full(now) => "nothing speaks against the configured rate",
            () if self.per_second(now) < pace => "the provider's headers tell what is left",
            () if pace >= self.headers.most(0.0) => "the provider's headers tell its quota",
            () if self.known.slowdowns == 0 => "finding out what the provider bears",
            () if pace < self.curve(self.known.age) => "back to what is known",
            () if self.unheard.is_some() => "the provider throttled another worker",
            () if age >= held => "it held, so more is tried",
            () => "the provider throttled",
        }
    }
}

/// What a pace grows to in so many seconds, once it was held for long enough: gently first, since likely it is just below
/// the quota, and to more than twice as much in a quarter of a minute, since else it is far below.
pub(super) fn growth(seconds: f64) -> f64 {
    let seconds = seconds.max(0.0);
    1.0 + 0.01 * seconds + 0.005 * seconds * seconds
}
