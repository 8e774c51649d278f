//! The pace that is learned: how fast the provider really lets us call.
//!
//! The only sure sign is a 429, and it comes late: after the burst is spent, or at the end of a window.
//! So a pace is held for a while, which proves it; then raised gently until the provider throttles, which
//! bounds it from above; and the next one to hold lies between the two. A proven pace that is throttled is
//! lowered a little, and once it is in doubt, to what the provider surely bears. Where a better pace was
//! known lately, the way back to it is tried sooner and faster.

use std::time::Duration;

use tokio::time::Instant;

use crate::contract::QuotaTold;

/// Where the search begins when nothing is known, in calls per second.
const FIRST: f64 = 5.0;

/// Slower than this it never gets, but for a configured rate that is slower. In calls per second.
const LEAST: f64 = 0.1;

/// In seconds: a held pace is proven after this long, and then raised. The longer the same pace is found
/// again and again, the rarer is the trial: each costs a pause.
const HOLD_MIN: f64 = 8.0;
const HOLD_MAX: f64 = 30.0;

/// After a throttled pace, and on the way back to a better one.
const HOLD_UNSURE: f64 = 5.0;

/// After a throttled pace where nothing is proven: likely it is now too low. And for the trial of a better
/// one: most quotas count by the second, so that it takes two to see a whole one.
const HOLD_SHORT: f64 = 2.2;

/// At the quota that the provider's headers tell.
const HOLD_TOLD: f64 = 60.0;

/// A pace this far below the best known one is low: the provider has less to give than it had.
const LOW: f64 = 0.75;

/// How long a better pace is remembered.
const BEST_FOR: Duration = Duration::from_secs(300);

/// How long a pace that was throttled is not tried again.
const CEILING_FOR: Duration = Duration::from_secs(120);

/// Of a window that is shorter than this, what is left says nothing: it fills while it is read.
const LONG_WINDOW: Duration = Duration::from_secs(5);

/// What is left of a window is asked for anew after this.
const TRUSTED_FOR: Duration = Duration::from_secs(60);

/// Below the pace that was throttled: one call in twenty-five less.
const BELOW: f64 = 0.96;

/// A worker that was throttled elsewhere lowers the pace to no less than this share of what it is, and no less than
/// that of what it was before anybody spoke of it: the rest, the provider has to say to this worker itself.
const HEARD_STEP: f64 = 0.5;
const HEARD_SHARE: f64 = 0.25;

/// In seconds: throttled sooner than this after a pause, a pace is far off.
const AT_ONCE: f64 = 0.3;

/// What most quotas count by, in seconds. So much of what was not called is saved up, whatever the pause.
const WINDOW: f64 = 1.0;

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
    /// How long the level is held, in seconds, and why.
    hold: f64,
    held_because: &'static str,
    /// The level before other workers' word lowered it, while no answer of our own has settled what is true.
    unheard: Option<f64>,
    /// The highest pace that is proven, as long as nothing speaks against it.
    proven: Option<f64>,
    /// The lowest pace that was throttled while it was held.
    throttled: Option<(f64, Instant)>,
    /// The highest level lately, and when it was last seen.
    best: f64,
    best_at: Instant,
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
            held_because: "the provider throttled",
            unheard: None,
            proven: None,
            throttled: None,
            best: configured.unwrap_or(0.0) / share,
            best_at: now,
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
        self.per_second(now)
    }

    /// The slowest pace of a fleet, or of a worker that has this part of the configured rate.
    pub(super) fn least(&self, part: f64) -> f64 {
        self.configured
            .map_or(LEAST, |configured| LEAST.min(configured * part))
    }

    /// The pace, for whoever only looks.
    pub(super) fn per_second(&self, now: Instant) -> f64 {
        match self.left {
            Some((left, until)) if until > now => self.pace.min(left),
            _ => self.pace,
        }
    }

    pub(super) fn why(&self) -> &'static str {
        match self.phase {
            Phase::Full => "nothing speaks against the configured rate",
            Phase::Start { up_to: None } => "finding out what the provider bears",
            Phase::Start { up_to: Some(_) } => "back to what is known",
            Phase::Hold => self.held_because,
            Phase::Raise => "it held, so more is tried",
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
                    self.hold_at(known, if up_to.is_some() { HOLD_UNSURE } else { HOLD_TOLD });
                    self.held_because = "what is known is reached";
                }
            }
            Phase::Hold if self.in_phase >= self.hold => {
                // A shorter one may have lived on what was saved up.
                let long = self.hold >= HOLD_UNSURE;
                if (long && self.level >= self.best) || now.duration_since(self.best_at) >= BEST_FOR {
                    self.best = self.level;
                    self.best_at = now;
                }
                self.phase = Phase::Raise;
                self.in_phase = 0.0;
            }
            Phase::Hold => {}
            Phase::Raise => self.raise(passed),
        }
        if let Some(configured) = self.configured.filter(|configured| self.pace >= *configured)
            && self.phase != Phase::Full
        {
            self.best = configured / self.share;
            self.phase = Phase::Full;
            self.in_phase = 0.0;
            self.pace = configured;
        }
        if self.phase == Phase::Full || self.unheard.is_some_and(|before| self.level >= before) {
            self.unheard = None;
        }
    }

    fn raise(&mut self, passed: f64) {
        // Doubles each second, and stays at the best for a trial. What was held only shortly is a guess: more
        // likely a little below what the provider bears than far below.
        if self.is_low() && self.hold >= HOLD_UNSURE {
            self.pace = (self.pace * passed.exp2()).min(self.best * self.share);
            if self.in_phase >= (self.best / self.level).log2() + HOLD_SHORT {
                self.level = self.best;
                self.in_phase = 0.0;
            }
            return;
        }
        let s = self.in_phase;
        self.pace = self.level * (self.share + 0.02 * s + 0.01 * s * s);
        self.told_is_wrong |= self.told.is_some_and(|told| self.pace > told * 1.25);
    }

    /// Uses the share of `level` that is ours, and sees whether the provider bears it.
    fn hold_at(&mut self, level: f64, hold: f64) {
        self.phase = Phase::Hold;
        self.hold = hold;
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

    /// A call that was sent then, at pace `at`, was throttled, and nobody calls for `pause`. Calls have passed since the
    /// pause before.
    pub(super) fn throttled(&mut self, at: f64, sent: Instant, pause: Duration, now: Instant) {
        // What went out since then is not known to have been too much.
        let on_its_way = now.duration_since(sent).as_secs_f64();
        self.since_pause = (self.since_pause - on_its_way).max(0.0);
        let raised = match self.phase {
            Phase::Raise => true,
            // It has only just come to the top: that is no more proven than a raise.
            Phase::Full => self.in_phase < HOLD_MIN,
            Phase::Start { .. } | Phase::Hold => false,
        };
        self.throttled = self
            .throttled
            .filter(|(_, since)| now.duration_since(*since) < CEILING_FOR);
        let (next, hold) = match self.phase {
            Phase::Start { .. } => {
                self.proven = None;
                (at * 0.6, HOLD_SHORT)
            }
            _ if raised && at > self.level * 1.005 => self.after_raise(at),
            // Thrown back at once: it is the proven pace that no longer holds.
            _ => self.after_hold(at, now),
        };
        self.hold_at(next.max(self.least(1.0)), hold);
        self.held_because = "the provider throttled";
        self.unheard = None;
        self.last_pause = pause.as_secs_f64();
        self.since_pause = 0.0;
        self.advanced_at = now;
    }

    /// The level was proven, and `at` is too fast: what to hold next, and for how long.
    fn after_raise(&mut self, at: f64) -> (f64, f64) {
        let proven = self.level;
        self.proven = Some(proven);
        let between = match self.throttled {
            Some((ceiling, _)) if ceiling > proven * 1.03 => proven + (ceiling - proven) * 0.65,
            Some(_) => proven,
            // More than what a burst explains.
            None if at > proven * 1.5 => f64::midpoint(proven, at),
            None => proven * 1.05,
        };
        let hold = match self.is_low() {
            true => HOLD_UNSURE,
            false => self.longer(),
        };
        (between.min(at * BELOW).max(proven), hold)
    }

    fn longer(&self) -> f64 {
        (self.hold * 1.5).clamp(HOLD_MIN, HOLD_MAX)
    }

    /// A pace was throttled while it was held: what to hold next, and for how long.
    fn after_hold(&mut self, at: f64, now: Instant) -> (f64, f64) {
        let full = self.phase == Phase::Full;
        // What the operator says holds as well as a proof, until it is in doubt.
        let was_proven = self.in_phase >= HOLD_MIN
            || full && !self.doubted
            || !full && self.proven.is_some_and(|proven| self.level <= proven * 1.01);
        let doubted = std::mem::replace(&mut self.doubted, was_proven);
        if was_proven {
            // May be chance. If it is not, the next throttling comes soon, and is believed.
            self.throttled = Some((at, now));
            self.proven = None;
            return (at * BELOW, if full { self.longer() } else { HOLD_UNSURE });
        }
        let ceiling = self.throttled.map_or(at, |(ceiling, _)| ceiling.min(at));
        self.throttled = Some((ceiling, now));
        let guess = self.guess(at, doubted).min(at * BELOW);
        match self.proven {
            Some(proven) => (guess.max(proven), HOLD_UNSURE),
            None => (guess, HOLD_SHORT),
        }
    }

    /// What the provider bears, from how long it bore `at` after the last pause.
    fn guess(&self, at: f64, doubted: bool) -> f64 {
        let lasted = self.since_pause;
        // Hardly less than this share of it: the rest was saved up in the pause.
        let sure = lasted / (lasted + self.last_pause.max(WINDOW));
        match doubted {
            _ if lasted < AT_ONCE => at / 2.0,
            // A window that was whole after the pause is spent. Later than that, it may be the next one.
            true if lasted < 0.75 * WINDOW => at * lasted / WINDOW * BELOW,
            // A little more: a quota that is halved is to be met, not just missed.
            true => at * (sure + 0.02),
            // No proof was broken, so the pace is not far off: between that and the whole.
            false => at * (sure + 0.3 * (1.0 - sure)),
        }
    }

    /// Another worker of the fleet was throttled, and goes on at this pace: a step towards it.
    pub(super) fn adopt_lower(&mut self, pace: f64, now: Instant) {
        let present = match self.phase {
            // What it was held at before says nothing any more.
            Phase::Full | Phase::Start { .. } => self.pace / self.share,
            Phase::Hold | Phase::Raise => self.level,
        };
        let before = *self.unheard.get_or_insert(present);
        let least = (present * HEARD_STEP).max(before * HEARD_SHARE).max(LEAST);
        let level = (pace / self.share).max(least);
        if level < present {
            self.hold_at(level, HOLD_UNSURE);
            self.held_because = "the provider throttled another worker";
        }
        self.since_pause = 0.0;
        self.advanced_at = now;
    }

    /// Another worker of the fleet has found this pace, and this one knows nothing yet: it goes on until there, no
    /// faster than it would without.
    pub(super) fn adopt_first(&mut self, pace: f64) {
        if matches!(self.phase, Phase::Start { up_to: None }) && pace > self.pace {
            self.phase = Phase::Start {
                up_to: Some(pace / self.share),
            };
        }
    }

    /// Evidence from an answer's headers. It moves the pace within bounds, and never stops it.
    pub(super) fn told(&mut self, quota: QuotaTold, now: Instant) {
        if let Some((calls, window)) = quota.limit.filter(|(_, window)| !window.is_zero()) {
            let told = (calls as f64 / window.as_secs_f64() * BELOW).max(LEAST);
            self.told = Some(told);
            if self.phase == Phase::Full && !self.told_is_wrong && told * self.share < self.pace {
                self.best = told;
                self.hold_at(told, HOLD_TOLD);
                self.held_because = "the provider's headers tell its quota";
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
        // Doubling each second, it is there in four seconds.
        self.pace = (known / 10.0).max(LEAST.min(known));
        self.phase = Phase::Start { up_to: Some(known) };
        self.in_phase = 0.0;
        self.since_pause = 0.0;
        self.advanced_at = now;
    }
}
