//! The pace: how fast to call, from the quota that is configured, the pace that is learned, and the pauses
//! that the provider asks for.

mod learned;
mod rate;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use self::learned::Learned;
use self::rate::Quotas;
use super::retry::Schedule;
use crate::contract::QuotaTold;

pub use rate::{Rate, Rates};

/// The first pause where the provider throttles and does not say for how long.
const UNSAID: Duration = Duration::from_secs(1);

/// Calls that may catch up with a timer that was late.
const CATCH_UP: Duration = Duration::from_millis(10);

/// What adds to a pause, so that the workers of a fleet do not come back at the same moment.
const JITTER_MAX: Duration = Duration::from_millis(200);

/// A command that waits for the pace reads it again after this time at the latest: it may have risen.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Whoever has no part of the quota asks again after this.
const NO_PART: Duration = Duration::from_secs(1);

/// A wait so long that the clock can't hold its end is as good as a year.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the pace is made from.
#[derive(Debug, Clone)]
pub struct Settings {
    pub rates: Rates,
    /// The share of the quota that the fleet uses; the rest is for the provider's other clients.
    pub share: f64,
    /// The longest gap between calls while all of them are throttled.
    pub gap_max: Duration,
}

/// A call that may go out now, and at which pace of the whole fleet: its answer is reported with it.
#[derive(Debug, Clone, Copy)]
pub struct Granted {
    at: Instant,
    pace: f64,
}

impl Granted {
    pub fn at(self) -> Instant {
        self.at
    }
}

/// Says when the next call may go out. It is asked at the moment of the call.
#[derive(Debug)]
pub struct Pace {
    settings: Settings,
    /// This worker's part of the fleet: of the quotas, and of the pace that is learned, which is the fleet's.
    part: f64,
    quotas: Quotas,
    learned: Learned,
    /// What the next call is a gap away from, at the pace of the moment that it asks in. A call that made up for a
    /// timer that was late counts from when it was due.
    last: Option<Instant>,
    /// The last time that it was asked, it refused: somebody waits for the pace.
    waited_for: bool,
    /// When somebody waited for it last, since the last pause.
    waited_at: Option<Instant>,
    paused_until: Option<Instant>,
    /// As far as the provider said it to this worker itself.
    throttled_until: Option<Instant>,
    /// When the first of the pauses began that no call has passed since.
    paused_since: Option<Instant>,
    /// What went out before says nothing of the pace since.
    slowed_at: Option<Instant>,
    /// A call has passed since the last pause.
    passed: bool,
    /// Grows while nobody passes.
    gaps: Schedule,
    recent: Recent,
    /// How often the provider slowed this worker down.
    times_throttled: u64,
}

impl Pace {
    pub fn new(settings: &Settings) -> Self {
        let now = Instant::now();
        let share = settings.share;
        Self {
            settings: settings.clone(),
            part: 1.0,
            quotas: Quotas::new(&settings.rates, share, 1.0),
            learned: Learned::new(settings.rates.ceiling(share), share, now),
            last: None,
            waited_for: false,
            waited_at: None,
            paused_until: None,
            throttled_until: None,
            paused_since: None,
            slowed_at: None,
            passed: true,
            gaps: Schedule::between(UNSAID, settings.gap_max),
            recent: Recent::default(),
            times_throttled: 0,
        }
    }

    /// This worker may use so much of the whole from now on.
    pub fn set_part(&mut self, part: f64) {
        if part != self.part {
            self.part = part;
            self.quotas = Quotas::new(&self.settings.rates, self.settings.share, part);
            // What the others have called just now is not known.
            self.quotas.forget_savings();
        }
    }

    pub fn has_part(&self) -> bool {
        self.part > 0.0
    }

    /// Takes one permit, or says when to ask again.
    pub fn take(&mut self, now: Instant) -> Result<Granted, Instant> {
        if !self.has_part() {
            return Err(now + NO_PART);
        }
        if let Some(until) = self.paused_until {
            if until > now {
                return Err(until);
            }
            self.paused_until = None;
            self.quotas.forget_savings();
            self.last = None;
        }
        let was_full = self.learned.is_full(now);
        let pace = self.learned.now(now, self.waited_for);
        if self.learned.is_full(now) && !was_full {
            // They were saved up on the way: the workers of a fleet would spend them all in one second.
            self.quotas.forget_savings();
        }
        let due = self.last.map_or(now, |last| last + self.gap(pace));
        // At the whole of the configured rate the quotas alone have a say, their bursts included.
        let too_early = due.checked_sub(CATCH_UP).filter(|at| *at > now);
        let refused = match too_early.filter(|_| !self.learned.is_full(now)) {
            None => self.quotas.take(now).err(),
            // By then the pace may have grown.
            Some(at) => Some(at.min(now + LOOK_AGAIN)),
        };
        self.waited_for = refused.is_some();
        if let Some(at) = refused {
            self.waited_at = Some(now);
            return Err(at);
        }
        self.last = Some(due.max(now));
        self.recent.count(now);
        Ok(Granted { at: now, pace })
    }

    /// Between this worker's calls, at this pace of the fleet. However small its part, a worker is never slower
    /// than the slowest fleet: it could not see that the provider takes calls again.
    fn gap(&self, pace: f64) -> Duration {
        Duration::from_secs_f64(1.0 / (pace * self.part).max(self.learned.least(self.part)))
    }

    /// The provider throttled a call (429): nobody calls until it allows. While nobody passes, the pauses grow
    /// whatever it says. The many answers that one pause gathers count once.
    pub fn throttled(
        &mut self,
        granted: Granted,
        retry_after: Option<Duration>,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        if self.slowed_at.is_some_and(|slowed_at| granted.at <= slowed_at) {
            if let Some(wait) = retry_after {
                self.pause(now + wait.min(YEAR));
                self.throttled_until = self.paused_until;
            }
            return;
        }
        if self.passed {
            self.gaps.reset();
            self.paused_since = Some(now);
        }
        let gap = self.gaps.whole();
        let wait = retry_after.map_or(gap, |wait| if self.passed { wait } else { wait.max(gap) });
        let wait = wait.min(YEAR);
        let jitter = (wait / 50).min(JITTER_MAX).mul_f64(rng.f64());
        let until = now + wait + jitter;
        let waited = self
            .waited_at
            .is_some_and(|at| now.duration_since(at) < Recent::WINDOW);
        let pace = match waited {
            true => granted.pace,
            // Others share the quota: what we really called is what was too much.
            false => granted
                .pace
                .min(self.recent.per_second(now) * 1.2 / self.part.max(f64::MIN_POSITIVE))
                .max(granted.pace / 4.0),
        };
        // Where nobody passes, it is not the pace that is too high.
        if self.passed {
            self.learned.throttled(pace, granted.at, until - now, now);
        }
        self.pause(until);
        self.throttled_until = self.paused_until;
        // A wait for the end of the pause is none for the pace.
        self.waited_for = false;
        self.waited_at = None;
        self.slowed_at = Some(now);
        self.passed = false;
        self.times_throttled += 1;
    }

    /// Another worker was throttled: nobody calls until then, and what it makes of the pace holds for all, within
    /// bounds.
    pub fn throttled_elsewhere(&mut self, until: Instant, pace: f64, now: Instant) {
        if self.paused_until.is_none_or(|present| present <= now) {
            self.paused_since = Some(now);
        }
        self.pause(until);
        self.learned.adopt_lower(pace, now);
        self.waited_for = false;
        self.waited_at = None;
        self.slowed_at = Some(now);
    }

    /// What another worker knows already.
    pub fn learned_elsewhere(&mut self, pace: f64) {
        if self.times_throttled == 0 {
            self.learned.adopt_first(pace);
        }
    }

    pub fn times_throttled(&self) -> u64 {
        self.times_throttled
    }

    fn pause(&mut self, until: Instant) {
        self.paused_until = Some(self.paused_until.map_or(until, |present| present.max(until)));
    }

    /// The provider took a call.
    pub fn passed(&mut self, granted: Granted, now: Instant) {
        if self.slowed_at.is_some_and(|slowed_at| granted.at <= slowed_at) {
            return;
        }
        if !self.passed && self.gaps.has_grown() {
            self.learned.resume_gently(now);
        }
        self.passed = true;
    }

    /// What others said of a pause is wrong.
    pub fn forget_hearsay(&mut self) {
        self.paused_until = self.throttled_until;
    }

    /// What the provider's headers tell.
    pub fn told(&mut self, told: QuotaTold, now: Instant) {
        self.learned.told(told, now);
    }

    /// After an outage: slowly back to the pace from before.
    pub fn resume_gently(&mut self, now: Instant) {
        self.learned.resume_gently(now);
    }

    /// An operator says that the pause is over.
    pub fn end_pause(&mut self) {
        self.paused_until = None;
        self.throttled_until = None;
    }

    pub fn paused_since(&self) -> Option<Instant> {
        self.paused_since
    }

    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    /// The same, as far as the provider said it to this worker itself.
    pub fn throttled_until(&self, now: Instant) -> Option<Instant> {
        self.throttled_until.filter(|until| *until > now)
    }

    /// Calls per second of this worker, as they may go out now.
    pub fn per_second(&self, now: Instant) -> f64 {
        self.fleet_per_second(now) * self.part
    }

    /// Calls per second of the whole fleet.
    pub fn fleet_per_second(&self, now: Instant) -> f64 {
        self.learned.per_second(now)
    }

    /// What the pace comes from.
    pub fn why(&self) -> &'static str {
        self.learned.why()
    }
}

/// How many calls went out lately.
#[derive(Debug, Default)]
struct Recent {
    window: Option<Instant>,
    calls: u32,
    calls_before: u32,
}

impl Recent {
    const WINDOW: Duration = Duration::from_secs(2);

    fn count(&mut self, now: Instant) {
        self.roll(now);
        self.calls += 1;
    }

    fn roll(&mut self, now: Instant) {
        let window = *self.window.get_or_insert(now);
        let age = now.duration_since(window);
        if age >= Self::WINDOW {
            self.calls_before = if age < Self::WINDOW * 2 { self.calls } else { 0 };
            self.calls = 0;
            self.window = Some(now);
        }
    }

    fn per_second(&mut self, now: Instant) -> f64 {
        self.roll(now);
        let age = self
            .window
            .map_or(Duration::ZERO, |window| now.duration_since(window));
        f64::from(self.calls + self.calls_before) / (age + Self::WINDOW).as_secs_f64()
    }
}
