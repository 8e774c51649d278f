//! The pace that is learned: how fast the provider really lets us call.
//!
//! The only sure sign is a 429, and it comes late: after the burst is spent, or at the end of a window.
//! So a pace is held for a while, which proves it; then raised gently until the provider throttles, which
//! bounds it from above; and the next one to hold lies between the two. Where a better pace was known
//! lately, the way back to it is tried sooner and faster.

use std::time::Duration;

use tokio::time::Instant;

use crate::contract::QuotaTold;

/// Where the search begins when nothing is known, in calls per second.
const FIRST: f64 = 5.0;

/// Slower than this it never gets, but for a configured rate that is slower. In calls per second.
const LEAST: f64 = 0.1;

/// A held pace is proven after this long, and then raised. The longer the same pace is found again and
/// again, the rarer is the trial: each costs a pause.
const HOLD_MIN: f64 = 8.0;
const HOLD_MAX: f64 = 30.0;

/// The same on the way back to a better pace that was known lately.
const HOLD_LOW: f64 = 5.5;

/// After a throttled pace that was never proven, where nothing else is proven either.
const HOLD_LOST: f64 = 1.2;

/// After a throttled pace that was not proven.
const HOLD_UNSURE: f64 = 4.0;

/// At the quota that the provider's headers tell.
const HOLD_TOLD: f64 = 60.0;

/// A pace this far below the best known one is low: the provider has less to give than it had.
const LOW: f64 = 0.8;

/// How long a better pace is remembered.
const BEST_FOR: Duration = Duration::from_secs(300);

/// So long nobody tries for what was throttled a moment ago.
const JUST: Duration = Duration::from_secs(5);

/// How long a pace that was throttled is not tried again.
const CEILING_FOR: Duration = Duration::from_secs(120);

/// Of a window that is shorter than this, what is left says nothing: it fills while it is read.
const LONG_WINDOW: Duration = Duration::from_secs(5);

/// What is left of a window is asked for anew after this.
const TRUSTED_FOR: Duration = Duration::from_secs(60);

/// Below the pace that was throttled: one call in twenty-five less.
const BELOW: f64 = 0.96;

/// In seconds: throttled sooner than this after a pause, a pace is far off.
const AT_ONCE: f64 = 0.3;

/// What most quotas count by, in seconds.
const WINDOW: f64 = 1.0;

/// The least pause that is reckoned with, in seconds.
const PAUSE_MIN: f64 = 0.5;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// At the configured rate: nothing says that the provider gives less.
    Full,
    /// Doubling each second, up to what was known or to the first throttling.
    Start {
        up_to: Option<f64>,
    },
    Hold,
    Raise,
}

/// Calls per second, as evidence has them.
#[derive(Debug)]
pub(super) struct Learned {
    /// What the configuration allows.
    configured: Option<f64>,
    /// What is left to others.
    share: f64,
    pace: f64,
    phase: Phase,
    /// What the provider is believed to give; our share of it is used.
    level: f64,
    /// Seconds in this phase, and since the last pause, while calls waited for the pace.
    in_phase: f64,
    since_pause: f64,
    last_pause: f64,
    hold: f64,
    /// The highest pace that is proven, as long as nothing speaks against it.
    proven: Option<f64>,
    /// The lowest pace that was throttled while it was held.
    throttled: Option<(f64, Instant)>,
    best: f64,
    best_at: Instant,
    /// The best is tried again: it may be the best no more.
    on_trial: bool,
    /// What was throttled last was proven before.
    doubted: bool,
    /// From the headers: the quota, and what is left of the window.
    told: Option<f64>,
    told_is_wrong: bool,
    left: Option<(f64, Instant)>,
    advanced_at: Instant,
}

impl Learned {
    pub(super) fn new(configured: Option<f64>, share: f64, now: Instant) -> Self {
        let pace = configured.unwrap_or(FIRST);
        Self {
            configured,
            share,
            pace,
            phase: match configured {
                Some(_) => Phase::Full,
                None => Phase::Start { up_to: None },
            },
            level: pace / share,
            in_phase: 0.0,
            since_pause: 0.0,
            last_pause: 0.0,
            hold: HOLD_MIN,
            proven: None,
            throttled: None,
            best: configured.unwrap_or(0.0) / share,
            best_at: now,
            on_trial: false,
            doubted: false,
            told: None,
            told_is_wrong: false,
            left: None,
            advanced_at: now,
        }
    }

    /// The pace now. It moves on only while calls wait for it: an unused pace proves nothing.
    pub(super) fn now(&mut self, now: Instant, waited_for: bool) -> f64 {
        if let Some(passed) = now.checked_duration_since(self.advanced_at) {
            self.advanced_at = now;
            // Whatever stopped all calls for longer than that was no wait for the pace.
            let passed = passed.as_secs_f64().min(1.0 + 1.0 / self.pace);
            if waited_for && passed > 0.0 {
                self.advance(passed, now);
            }
        }
        match self.left {
            Some((left, until)) if until > now => self.pace.min(left),
            _ => self.pace,
        }
    }

    fn advance(&mut self, passed: f64, now: Instant) {
        self.in_phase += passed;
        self.since_pause += passed;
        match self.phase {
            Phase::Full => self.best_at = now,
            Phase::Start { up_to } => {
                self.pace *= passed.exp2();
                let known = up_to.into_iter().chain(self.told_right()).reduce(f64::min);
                if let Some(known) = known.filter(|known| self.pace >= *known) {
                    self.hold = if up_to.is_some() { HOLD_UNSURE } else { HOLD_TOLD };
                    self.hold_at(known);
                }
            }
            Phase::Hold if self.in_phase >= self.hold => {
                self.on_trial = false;
                let long = self.hold >= HOLD_UNSURE;
                if (long && self.level >= self.best) || now.duration_since(self.best_at) >= BEST_FOR {
                    self.best = self.level;
                    self.best_at = now;
                }
                self.phase = Phase::Raise;
                self.in_phase = 0.0;
            }
            Phase::Hold => {}
            Phase::Raise if self.is_low() => {
                self.pace *= passed.exp2();
                let just_throttled = self.throttled.filter(|(_, at)| now.duration_since(*at) < JUST);
                let (stop, hold) = match just_throttled {
                    Some((ceiling, _)) if ceiling > self.level => (self.below(ceiling), HOLD_LOW),
                    _ => (self.best, HOLD_UNSURE),
                };
                if self.pace >= stop {
                    self.on_trial = stop >= self.best;
                    self.proven = Some(self.level);
                    self.hold = hold;
                    self.hold_at(stop);
                }
            }
            Phase::Raise => {
                let s = self.in_phase;
                self.pace = self.level * (self.share + 0.02 * s + 0.01 * s * s);
                self.told_is_wrong |= self.told.is_some_and(|told| self.pace > told * 1.25);
            }
        }
        if let Some(configured) = self.configured.filter(|configured| self.pace >= *configured)
            && self.phase != Phase::Full
        {
            self.best = configured / self.share;
            self.phase = Phase::Full;
            self.in_phase = 0.0;
            self.pace = configured;
        }
    }

    /// Uses the share of `level` that is ours, and sees whether the provider bears it.
    fn hold_at(&mut self, level: f64) {
        self.phase = Phase::Hold;
        self.in_phase = 0.0;
        self.level = level;
        self.pace = level * self.share;
    }

    /// Nothing says that the provider gives less than is configured.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.phase == Phase::Full && self.left.is_none_or(|(_, until)| until <= now)
    }

    fn is_low(&self) -> bool {
        self.level < LOW * self.best
    }

    fn told_right(&self) -> Option<f64> {
        self.told.filter(|_| !self.told_is_wrong)
    }

    /// A call that was sent then, at pace `at`, was throttled, and nobody calls for `pause`. `passed` says whether any
    /// call passed since the pause before.
    pub(super) fn throttled(&mut self, at: f64, sent: Instant, pause: Duration, passed: bool, now: Instant) {
        // What went out since then is not known to have been too much.
        let on_its_way = now.duration_since(sent).as_secs_f64();
        self.since_pause = (self.since_pause - on_its_way).max(0.0);
        let raised = match self.phase {
            Phase::Raise => true,
            // It has only just come to the top.
            Phase::Full => self.last_pause > 0.0 && self.in_phase < 3.0,
            Phase::Start { .. } | Phase::Hold => false,
        };
        if self
            .throttled
            .is_some_and(|(_, since)| now.duration_since(since) >= CEILING_FOR)
        {
            self.throttled = None;
        }
        let next = match self.phase {
            Phase::Start { .. } => {
                self.hold = HOLD_LOST;
                self.proven = None;
                at * 0.6
            }
            // Thrown back at once: it is the proven pace that no longer holds.
            _ if raised && at > self.level * 1.005 => self.after_raise(at),
            _ => self.after_hold(at, now),
        };
        let next = if passed { next } else { next.min(at / 2.0) };
        let least = LEAST.min(self.configured.unwrap_or(LEAST));
        self.hold_at(next.max(least));
        self.last_pause = pause.as_secs_f64();
        self.since_pause = 0.0;
        self.advanced_at = now + pause;
    }

    /// Between the level, which was borne, and a pace that was not.
    fn below(&self, ceiling: f64) -> f64 {
        self.level + (ceiling - self.level) * 0.65
    }

    /// The level was proven, and `at` is too fast.
    fn after_raise(&mut self, at: f64) -> f64 {
        let proven = self.level;
        self.proven = Some(proven);
        let step = match self.is_low() && at > proven * 1.25 {
            true => f64::midpoint(proven, at),
            false => proven * 1.05,
        };
        let below_ceiling = match self.throttled {
            Some((ceiling, _)) if ceiling > proven * 1.03 => self.below(ceiling),
            Some(_) => proven,
            None => f64::INFINITY,
        };
        self.hold = match self.is_low() {
            true => HOLD_LOW,
            false => (self.hold * 1.5).clamp(HOLD_MIN, HOLD_MAX),
        };
        (at * BELOW).min(step).min(below_ceiling).max(proven)
    }

    /// A pace was throttled while it was held.
    fn after_hold(&mut self, at: f64, now: Instant) -> f64 {
        let full = self.phase == Phase::Full;
        let lasted = self.since_pause;
        let at_once = !full && lasted < AT_ONCE;
        let within_a_window =
            self.doubted && (AT_ONCE..WINDOW).contains(&lasted) && self.last_pause >= WINDOW;
        let guess = match within_a_window {
            // Most quotas count by the second. This one was whole after the pause, and is spent.
            true => at * lasted.max(WINDOW / 2.0) / WINDOW * BELOW,
            // What was saved up in the pause hides that the pace is too high: the true one lies between
            // this share of it and the whole.
            false => {
                let pause = self.last_pause.max(PAUSE_MIN);
                let hidden = if at_once { 0.5 } else { 0.35 };
                at * (lasted + pause * hidden) / (lasted + pause)
            }
        };
        let was_proven = match full {
            true => self.last_pause == 0.0 || lasted > 10.0,
            false => !at_once && self.proven.is_some_and(|proven| self.level <= proven * 1.01),
        };
        self.doubted = was_proven;
        if std::mem::take(&mut self.on_trial) {
            self.best = at * BELOW;
        }
        let ceiling = match self.throttled {
            Some((ceiling, _)) if !at_once && !was_proven => ceiling.min(at),
            _ => at,
        };
        self.throttled = Some((ceiling, now));
        let proven = self.proven.filter(|_| !at_once && !was_proven);
        self.proven = proven;
        self.hold = match (self.is_low(), proven) {
            _ if full && was_proven => (self.hold * 1.5).clamp(HOLD_MIN, HOLD_MAX),
            (true, None) if !within_a_window => HOLD_LOST,
            (true, Some(_)) => HOLD_LOW,
            _ => HOLD_UNSURE,
        };
        match proven {
            _ if was_proven => at * BELOW,
            Some(proven) => guess.max(proven),
            None => guess.min(at * BELOW),
        }
    }

    /// Evidence from an answer's headers. It moves the pace within bounds, and never stops it.
    pub(super) fn told(&mut self, quota: QuotaTold, now: Instant) {
        if let Some((calls, window)) = quota.limit.filter(|(_, window)| !window.is_zero()) {
            let told = (calls as f64 / window.as_secs_f64() * BELOW).max(LEAST);
            self.told = Some(told);
            if self.phase == Phase::Full && !self.told_is_wrong && told * self.share < self.pace {
                self.hold = HOLD_TOLD;
                self.best = told;
                self.hold_at(told);
            }
        }
        if let (Some(remaining), Some(reset)) = (quota.remaining, quota.reset) {
            let left = remaining as f64 / reset.as_secs_f64() * self.share;
            let slow = reset >= LONG_WINDOW && left < self.pace;
            let until = now + reset.min(TRUSTED_FOR);
            self.left = slow.then_some((left.max(self.pace / 5.0).max(LEAST), until));
        }
    }

    /// After an outage, or after throttling that nobody passed: slowly back to what was known.
    pub(super) fn resume_gently(&mut self, now: Instant) {
        let known = self.best.max(self.level);
        self.pace = (known / 10.0).clamp(LEAST.min(known), FIRST.min(known));
        self.phase = Phase::Start { up_to: Some(known) };
        self.in_phase = 0.0;
        self.since_pause = 0.0;
        self.advanced_at = now;
    }
}
