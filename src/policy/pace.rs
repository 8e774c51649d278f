//! The pace: how fast to call, from the configured quota, the learned pace, and the pauses that the provider
//! asks for.

mod headers;
mod hours;
mod learned;
mod rate;
mod slots;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use self::learned::PaceSearch;
use self::rate::Quotas;
use self::slots::Slots;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::contract::{Learned, RateLimitHint};

pub use rate::{Rate, Rates};

/// The first pause if the provider throttles without a Retry-After.
const UNSAID: Duration = Duration::from_secs(1);

/// How much lateness of a timer later calls may catch up with.
const CATCH_UP: Duration = Duration::from_millis(10);

/// The most jitter added to a pause, so that the workers of a fleet do not resume at the same moment.
const JITTER_MAX: Duration = Duration::from_millis(200);

/// A command that waits for the pace checks it again after this time at the latest: it may have risen.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A worker without a share of the quota asks again after this.
const NO_SHARE: Duration = Duration::from_secs(1);

/// Longer waits are cut to a year, so that the clock can represent their end.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the pace is computed from.
#[derive(Debug, Clone)]
pub struct Settings {
    pub rates: Rates,
    /// The share of the quota that the fleet uses; the rest is for the provider's other clients.
    pub share: f64,
    /// The longest gap between calls while all of them are throttled.
    pub gap_max: Duration,
    /// The wall clock, on which the workers of the fleet agree approximately.
    pub clock: Clock,
}

/// A granted call, with the search's age at that time. The call's answer is reported with it.
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

/// A pace of the whole fleet that an operator ordered, in calls per second. It replaces the learned one; the configured
/// rate and pauses still bound it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pin {
    pub per_second: f64,
    pub until: Option<Instant>,
}

/// Decides when the next call may be made. It is asked at the moment of the call.
#[derive(Debug)]
pub struct Pace {
    settings: Settings,
    /// This worker's share of the fleet's quotas and of the fleet's learned pace.
    quota_share: f64,
    /// Its slots, if it does not have the whole quota.
    slots: Option<Slots>,
    /// The configured rates that hold now, and when that was last looked up.
    rates: Rates,
    rates_at: Instant,
    quotas: Quotas,
    search: PaceSearch,
    pin: Option<Pin>,
    /// Whether only the configured quotas limited the pace when it was last asked.
    was_full: bool,
    /// The time from which the gap to the next call is counted. For a call that caught up with a late timer, the time
    /// at which it was due.
    last: Option<Instant>,
    /// The span, not counted yet, in which commands may be waiting for the pace since it last refused.
    waits: Option<(Instant, Instant)>,
    paused_until: Option<Instant>,
    /// As much of it as the provider reported to this worker itself.
    throttled_until: Option<Instant>,
    /// When the first of the pauses began since which no call has passed.
    paused_since: Option<Instant>,
    /// Calls sent before this say nothing about the pace since then.
    slowed_at: Option<Instant>,
    /// Whether a call has passed since the last pause.
    passed: bool,
    /// The pauses, which grow while no call passes.
    gaps: Backoff,
}

impl Pace {
    pub fn new(settings: &Settings) -> Self {
        let share = settings.share;
        let rates = settings.rates.at(settings.clock.now());
        Self {
            settings: settings.clone(),
            quota_share: 1.0,
            slots: None,
            quotas: Quotas::new(&rates, share, 1.0, 1),
            search: PaceSearch::new(rates.ceiling(share), share),
            rates,
            rates_at: Instant::now(),
            pin: None,
            was_full: true,
            last: None,
            waits: None,
            paused_until: None,
            throttled_until: None,
            paused_since: None,
            slowed_at: None,
            passed: true,
            gaps: Backoff::between(UNSAID, settings.gap_max),
        }
    }

    /// Sets this worker's partitions out of `of`, and so its share of the quota.
    pub fn set_quota_share(&mut self, held: &[u16], of: u16) {
        let quota_share = held.len() as f64 / f64::from(of.max(1));
        let slots = Slots::new(held, of);
        if quota_share != self.quota_share || slots != self.slots {
            (self.quota_share, self.slots) = (quota_share, slots);
            self.renew_quotas();
        }
    }

    fn renew_quotas(&mut self) {
        let share = self.settings.share;
        // Slots of neighbouring partitions follow each other directly. Higher rates have no slots.
        let has_moments = self.rates.ceiling(share).is_none_or(slots::fit);
        let slots = self.slots.as_ref().filter(|_| has_moments);
        let at_once = slots.map_or(1, Slots::held);
        self.quotas = Quotas::new(&self.rates, share, self.quota_share, at_once);
        // The latest calls of the other workers are not known.
        self.quotas.forget_savings();
    }

    /// The configured rates, or the share of them, are others from now on. What was learned stays.
    pub fn configure(&mut self, rates: Rates, share: f64) {
        (self.settings.rates, self.settings.share) = (rates, share);
        self.follow_rates();
    }

    /// Looks up which rates hold at this hour.
    fn follow_hours(&mut self, now: Instant) {
        if self.settings.rates.have_hours() && now.duration_since(self.rates_at) >= LOOK_AGAIN {
            self.rates_at = now;
            if self.settings.rates.at(self.settings.clock.now()) != self.rates {
                self.follow_rates();
            }
        }
    }

    fn follow_rates(&mut self) {
        let Settings {
            rates, share, clock, ..
        } = &self.settings;
        self.rates = rates.at(clock.now());
        self.search.configure(self.rates.ceiling(*share), *share);
        self.renew_quotas();
    }

    pub fn has_quota_share(&self) -> bool {
        self.quota_share > 0.0
    }

    /// Takes one permit, or says when to ask again.
    pub fn take(&mut self, now: Instant) -> Result<Granted, Instant> {
        if !self.has_quota_share() {
            return Err(now + NO_SHARE);
        }
        self.follow_hours(now);
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
        let is_full = self.pinned(now).is_none() && self.search.is_full(now);
        if is_full && !self.was_full {
            // Bursts were saved up while the pace was lower: a fleet would spend them all in one second.
            self.quotas.forget_savings();
        }
        self.was_full = is_full;
        match self.due(now) {
            Ok(due) => {
                self.last = Some(due);
                let age = self.search.known().age;
                Ok(Granted { at: now, age })
            }
            Err(at) => {
                // A longer wait is not caused by the pace. Waiting for a pinned pace proves nothing of the learned one.
                self.waits = self.pinned(now).is_none().then(|| (now, now + LOOK_AGAIN));
                Err(at)
            }
        }
    }

    /// The time until now in which commands waited for the pace, since it was last counted.
    fn waited(&self, now: Instant) -> Duration {
        self.waits
            .map_or(Duration::ZERO, |(from, to)| now.min(to).duration_since(from))
    }

    fn count_wait(&mut self, now: Instant) {
        self.search.used(self.waited(now));
        if let Some((from, to)) = &mut self.waits {
            *from = now.min(*to);
        }
    }

    /// The time at which a call that may be made now was due, or when to ask again: by then the pace may have grown.
    fn due(&mut self, now: Instant) -> Result<Instant, Instant> {
        if let Some((since, next)) = self.slot(now) {
            // Each slot is for one call.
            let called = self.last.is_some_and(|last| last + since >= now);
            if called || since > CATCH_UP {
                return Err(now + next.min(LOOK_AGAIN));
            }
            return self.quotas.take(now).map(|()| now);
        }
        let due = self.last.map_or(now, |last| last + self.gap(now));
        // At the full configured rate only the quotas limit calls, so that bursts are possible.
        match due.checked_sub(CATCH_UP).filter(|at| *at > now && !self.was_full) {
            Some(at) => Err(at.min(now + LOOK_AGAIN)),
            None => self.quotas.take(now).map(|()| due.max(now)),
        }
    }

    /// The time since this worker's last slot, and until its next one, if it uses slots.
    fn slot(&self, now: Instant) -> Option<(Duration, Duration)> {
        let slots = self.slots.as_ref().filter(|_| !self.rates.has_bursts())?;
        let agreed = self.pinned(now).or_else(|| self.search.agreed(now))?;
        slots.around(agreed, self.settings.clock)
    }

    /// The gap between this worker's calls. However small its share, a worker is never slower than the slowest fleet:
    /// otherwise it could not see that the provider accepts calls again.
    fn gap(&self, now: Instant) -> Duration {
        let pace = self.per_second(now).max(self.search.least(self.quota_share));
        Duration::from_secs_f64(1.0 / pace)
    }

    /// The provider throttled a call (429): calls pause until it allows them. While no call passes, the pauses grow
    /// whatever it says. All throttled answers of one pause count once.
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
            // Only here: if no call has passed, the pace is not the cause.
            self.search.throttled(granted.age);
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
        // Waiting for the end of a pause is not waiting for the pace.
        self.waits = None;
    }

    /// Another worker was throttled: calls pause until then.
    pub fn throttled_elsewhere(&mut self, until: Instant, now: Instant) {
        if self.paused_until(now).is_none() {
            self.paused_since = Some(now);
        }
        self.pause(until, now);
    }

    /// Takes in what another worker has learned of the pace.
    pub fn merge(&mut self, other: Learned, now: Instant) {
        self.count_wait(now);
        if self.search.merge(other) {
            self.slowed(now);
        }
    }

    /// What this worker's notices say of the pace.
    pub fn learned(&self, now: Instant) -> Learned {
        let known = self.search.known();
        let age = known.age + self.waited(now).as_secs_f64();
        Learned { age, ..known }
    }

    /// A call passed.
    pub fn passed(&mut self, granted: Granted) {
        if self.slowed_at.is_some_and(|slowed_at| granted.at <= slowed_at) {
            return;
        }
        if !self.passed && self.gaps.has_grown() {
            self.search.resume_gently();
        }
        self.passed = true;
    }

    /// Drops pauses that are known only from other workers.
    pub fn forget_reported(&mut self) {
        self.paused_until = self.throttled_until;
    }

    /// Takes in the hint of an answer's headers.
    pub fn on_rate_limit_hint(&mut self, hint: RateLimitHint, now: Instant) {
        self.search.on_rate_limit_hint(hint, now);
    }

    /// After an outage: returns gradually to the earlier pace.
    pub fn resume_gently(&mut self) {
        self.search.resume_gently();
    }

    /// An operator ends the pause.
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

    /// The same, as far as the provider reported it to this worker itself.
    pub fn throttled_until(&self, now: Instant) -> Option<Instant> {
        self.throttled_until.filter(|until| *until > now)
    }

    /// Calls per second that this worker may make now.
    pub fn per_second(&self, now: Instant) -> f64 {
        self.fleet_per_second(now) * self.quota_share
    }

    /// Calls per second of the whole fleet.
    pub fn fleet_per_second(&self, now: Instant) -> f64 {
        self.pinned(now).unwrap_or_else(|| self.search.per_second(now))
    }

    /// The configured quota of the whole fleet that holds now, in calls per second; `None`: none.
    pub fn quota_per_second(&self) -> Option<f64> {
        self.rates.lowest()
    }

    /// An operator orders a pace, or lifts the order.
    pub fn pin(&mut self, pin: Option<Pin>) {
        self.pin = pin;
        self.waits = None;
    }

    /// The pinned pace, within the configured rate.
    fn pinned(&self, now: Instant) -> Option<f64> {
        let Pin { per_second, until } = self.pin?;
        let ceiling = self.rates.ceiling(self.settings.share);
        until
            .is_none_or(|until| until > now)
            .then(|| ceiling.map_or(per_second, |ceiling| per_second.min(ceiling)))
    }

    /// What determines the pace.
    pub fn why(&self, now: Instant) -> &'static str {
        match self.pinned(now) {
            Some(_) => "pinned",
            None => self.search.why(now),
        }
    }
}
