//! Who probes while nobody calls, and when failures that nothing else explains are the commands' own.
//!
//! Those who have not failed since the last pass go first, in no order, since those that fail may stand together: one of
//! them that passes ends the pause. Where all who wait have failed, a control is read before each probe, and they take
//! turns. When that has gone on for a bounded time, one command is tried to its end, so that what waits behind it gets
//! its turn.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::witnesses::Witnesses;
use crate::contract::UserId;

/// Writes that fail for all who wait while others can be read are taken for an outage of writes for so long.
pub(super) const WRITES_OUT_MAX: Duration = Duration::from_secs(10);

/// For so long, while others can be read, those who have not failed are tried at short gaps: most likely one of them
/// passes.
pub(super) const EXPLORE_EVERY: Duration = Duration::from_millis(500);

/// A control that passed says so for this time.
const CONTROLLED_FOR: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Trial {
    /// The same where nobody can be read.
    elapsed_max: Duration,
    /// Whose probe failed in this round, of all who wait.
    round: HashSet<UserId>,
    /// Nobody else could be tried since then.
    no_other_since: Option<Instant>,
    /// A control passed last.
    controlled_at: Option<Instant>,
    /// The latest probe is of somebody who had not failed.
    untried: bool,
    /// Who is tried to the end, and how often it was charged.
    alone: Option<UserId>,
    charged: u32,
}

impl Trial {
    pub(super) fn new(elapsed_max: Duration) -> Self {
        Self {
            elapsed_max,
            round: HashSet::new(),
            no_other_since: None,
            controlled_at: None,
            untried: false,
            alone: None,
            charged: 0,
        }
    }

    /// Whose command is the next probe.
    pub(super) fn choose<'u>(
        &mut self,
        waiting: &[&'u UserId],
        witnesses: &Witnesses,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<&'u UserId> {
        let first = *waiting.first()?;
        let mut waiting = waiting.iter().copied();
        let untried = waiting.clone().filter(|user| !witnesses.is_in_trouble(user));
        if let Some(untried) = rng.choice(untried.collect::<Vec<_>>()) {
            (self.no_other_since, self.alone) = (None, None);
            self.untried = true;
            return Some(untried);
        }
        self.untried = false;
        self.no_other_since.get_or_insert(now);
        if self.is_over(now) {
            if let Some(alone) = waiting.find(|user| self.alone.as_ref() == Some(*user)) {
                return Some(alone);
            }
            (self.alone, self.charged) = (Some(first.clone()), 0);
            return Some(first);
        }
        if let Some(next) = waiting.find(|user| !self.round.contains(*user)) {
            return Some(next);
        }
        self.round.clear();
        Some(first)
    }

    /// Somebody else could be read lately.
    pub(super) fn is_controlled(&self, now: Instant) -> bool {
        self.controlled_at
            .is_some_and(|at| now.duration_since(at) < CONTROLLED_FOR)
    }

    pub(super) fn control_passed(&mut self, now: Instant) {
        self.controlled_at = Some(now);
    }

    /// Whether those who have not failed are tried at short gaps, in a pause that began then.
    pub(super) fn is_exploring(&self, since: Instant, now: Instant) -> bool {
        self.untried && self.is_controlled(now) && now.duration_since(since) < WRITES_OUT_MAX
    }

    /// It is the provider that fails, as far as is known: the time for which nobody else could be tried begins anew.
    pub(super) fn is_an_outage(&mut self) {
        self.no_other_since = None;
        self.controlled_at = None;
        self.alone = None;
    }

    /// The probe of this user's command failed. How often it has been charged for that by now, if it is.
    pub(super) fn failed(&mut self, user: &UserId) -> Option<u32> {
        let is_charged = self.alone.as_ref() == Some(user);
        self.round.insert(user.clone());
        self.charged += u32::from(is_charged);
        is_charged.then_some(self.charged)
    }

    /// The command that was tried alone has ended: the next one gets as much time.
    pub(super) fn begin_again(&mut self) {
        *self = Self::new(self.elapsed_max);
    }

    /// When one command is to be charged, if that is to come: a probe goes out then at the latest.
    pub(super) fn decides_at(&self, now: Instant) -> Option<Instant> {
        self.over_at(now).filter(|at| *at > now)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.over_at(now).is_some_and(|at| at <= now)
    }

    fn over_at(&self, now: Instant) -> Option<Instant> {
        let for_ = match self.is_controlled(now) {
            true => self.elapsed_max.min(WRITES_OUT_MAX),
            false => self.elapsed_max,
        };
        Some(self.no_other_since? + for_)
    }
}
