//! The pace: how fast to call, from the quota that is configured, the pace that is learned, and the pauses
//! that the provider asks for.

mod headers;
mod learned;
mod rate;
mod slots;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use self::learned::Course;
use self::rate::Quotas;
use self::slots::Slots;
use super::retry::Schedule;
use crate::clock::Clock;
use crate::contract::{Learned, RateLimitHint};

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
    /// All workers of the fleet agree on it, more or less.
    pub clock: Clock,
}

/// A call that may go out now, and how old the course of the pace was then: its answer is reported with it.
#[derive(Debug, Clone, Copy)]
pub struct Granted {
    at: Instant,
    age: f64,
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
    /// Its moments, where it does not have the whole.
    slots: Option<Slots>,
    quotas: Quotas,
    course: Course,
    /// The last time that it was asked, the configured quotas alone had a say.
    was_full: bool,
    /// What the next call is a gap away from, at the pace of the moment that it asks in. A call that made up for a
    /// timer that was late counts from when it was due.
    last: Option<Instant>,
    /// From when to when at most somebody waits for the pace since it refused, as far as that is not counted yet.
    waits: Option<(Instant, Instant)>,
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
}

impl Pace {
    pub fn new(settings: &Settings) -> Self {
        let share = settings.share;
        Self {
            settings: settings.clone(),
            part: 1.0,
            slots: None,
            quotas: Quotas::new(&settings.rates, share, 1.0, 1),
            course: Course::new(settings.rates.ceiling(share), share),
            was_full: true,
            last: None,
            waits: None,
            paused_until: None,
            throttled_until: None,
            paused_since: None,
            slowed_at: None,
            passed: true,
            gaps: Schedule::between(UNSAID, settings.gap_max),
        }
    }

    /// This worker has these partitions of so many from now on, and may use that much of the whole.
    pub fn set_quota_share(&mut self, held: &[u16], of: u16) {
        let part = held.len() as f64 / f64::from(of.max(1));
        let slots = Slots::new(held, of);
        if part != self.part || slots != self.slots {
            let Settings { rates, share, .. } = &self.settings;
            // Where it calls at moments, those of neighbouring partitions follow each other. A higher rate has no moments.
            let has_moments = rates.ceiling(*share).is_none_or(slots::fit);
            let at_once = slots.as_ref().filter(|_| has_moments).map_or(1, Slots::held);
            self.quotas = Quotas::new(rates, *share, part, at_once);
            // What the others have called just now is not known.
            self.quotas.forget_savings();
            (self.part, self.slots) = (part, slots);
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
        self.count_wait(now);
        self.waits = None;
        let is_full = self.course.is_full(now);
        if is_full && !self.was_full {
            // They were saved up on the way: the workers of a fleet would spend them all in one second.
            self.quotas.forget_savings();
        }
        self.was_full = is_full;
        match self.due(now) {
            Ok(due) => {
                self.last = Some(due);
                let age = self.course.known().age;
                Ok(Granted { at: now, age })
            }
            Err(at) => {
                // Whatever stops all calls for longer is no wait for the pace.
                self.waits = Some((now, now + LOOK_AGAIN));
                Err(at)
            }
        }
    }

    /// The time until now in which somebody waited for the pace, since that was counted last.
    fn waited(&self, now: Instant) -> Duration {
        self.waits
            .map_or(Duration::ZERO, |(from, to)| now.min(to).duration_since(from))
    }

    fn count_wait(&mut self, now: Instant) {
        self.course.used(self.waited(now));
        if let Some((from, to)) = &mut self.waits {
            *from = now.min(*to);
        }
    }

    /// What the call that may go out now counts as, or when to ask again: by then the pace may have grown.
    fn due(&mut self, now: Instant) -> Result<Instant, Instant> {
        if let Some((since, next)) = self.slot(now) {
            // Each moment is for one call.
            let called = self.last.is_some_and(|last| last + since >= now);
            if called || since > CATCH_UP {
                return Err(now + next.min(LOOK_AGAIN));
            }
            return self.quotas.take(now).map(|()| now);
        }
        let due = self.last.map_or(now, |last| last + self.gap(now));
        // At the whole of the configured rate the quotas alone have a say, their bursts included.
        match due.checked_sub(CATCH_UP).filter(|at| *at > now && !self.was_full) {
            Some(at) => Err(at.min(now + LOOK_AGAIN)),
            None => self.quotas.take(now).map(|()| due.max(now)),
        }
    }

    /// Since the last moment of this worker, and until its next one, where it calls at moments.
    fn slot(&self, now: Instant) -> Option<(Duration, Duration)> {
        let slots = self
            .slots
            .as_ref()
            .filter(|_| !self.settings.rates.has_bursts())?;
        slots.around(self.course.agreed(now)?, self.settings.clock)
    }

    /// Between this worker's calls. However small its part, a worker is never slower than the slowest fleet: it could not
    /// see that the provider takes calls again.
    fn gap(&self, now: Instant) -> Duration {
        let pace = self.per_second(now).max(self.course.least(self.part));
        Duration::from_secs_f64(1.0 / pace)
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
                self.pause(now + wait.min(YEAR), now);
                self.throttled_until = self.paused_until;
            }
            return;
        }
        if self.passed {
            self.gaps.reset();
            self.paused_since = Some(now);
            // Where nobody passes, it is not the pace that is too high.
            self.course.throttled(granted.age);
        }
        let gap = self.gaps.whole();
        let wait = retry_after.map_or(gap, |wait| if self.passed { wait } else { wait.max(gap) });
        let wait = wait.min(YEAR);
        let jitter = (wait / 50).min(JITTER_MAX).mul_f64(rng.f64());
        self.pause(now + wait + jitter, now);
        self.throttled_until = self.paused_until;
        self.passed = false;
    }

    fn pause(&mut self, until: Instant, now: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
        self.slowed(now);
    }

    fn slowed(&mut self, now: Instant) {
        self.slowed_at = Some(now);
        // A wait for the end of the pause is none for the pace.
        self.waits = None;
    }

    /// Another worker was throttled: nobody calls until then.
    pub fn throttled_elsewhere(&mut self, until: Instant, now: Instant) {
        if self.paused_until(now).is_none() {
            self.paused_since = Some(now);
        }
        self.pause(until, now);
    }

    /// What another worker knows of the pace.
    pub fn hear(&mut self, heard: Learned, now: Instant) {
        self.count_wait(now);
        if self.course.hear(heard) {
            self.slowed(now);
        }
    }

    /// What the others are to know of it.
    pub fn learned(&self, now: Instant) -> Learned {
        let known = self.course.known();
        let age = known.age + self.waited(now).as_secs_f64();
        Learned { age, ..known }
    }

    /// The provider took a call.
    pub fn passed(&mut self, granted: Granted) {
        if self.slowed_at.is_some_and(|slowed_at| granted.at <= slowed_at) {
            return;
        }
        if !self.passed && self.gaps.has_grown() {
            self.course.resume_gently();
        }
        self.passed = true;
    }

    /// What others said of a pause is wrong.
    pub fn forget_hearsay(&mut self) {
        self.paused_until = self.throttled_until;
    }

    /// What the provider's headers tell.
    pub fn told(&mut self, told: RateLimitHint, now: Instant) {
        self.course.told(told, now);
    }

    /// After an outage: slowly back to the pace from before.
    pub fn resume_gently(&mut self) {
        self.course.resume_gently();
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
        self.course.per_second(now)
    }

    /// What the pace comes from.
    pub fn why(&self, now: Instant) -> &'static str {
        self.course.why(now)
    }
}
