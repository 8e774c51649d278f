//! Which command probes during a pause, and when unexplained failures count as the commands' own.
//!
//! Users that have not failed since the last pass go first, in random order, since failing ones may be next to each
//! other: one that passes ends the pause. If all waiting users have failed, a control is read before each probe, and
//! they probe in rotation. After a bounded time one command is tried until it ends, so that the commands behind it can
//! run.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::witnesses::Witnesses;
use crate::contract::UserId;

/// How long writes that fail for all waiting users, while others can be read, are treated as an outage of writes.
pub(super) const WRITES_OUT_MAX: Duration = Duration::from_secs(10);

/// The gap between probes of users that have not failed, while others can be read: most likely one of them
/// passes.
pub(super) const EXPLORE_EVERY: Duration = Duration::from_millis(500);

/// How long a passed control is valid.
const CONTROLLED_FOR: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Trial {
    /// The bound that replaces `WRITES_OUT_MAX` where no user can be read.
    elapsed_max: Duration,
    /// The waiting users whose probe failed in this round.
    round: HashSet<UserId>,
    /// Since when no other user could be tried.
    no_other_since: Option<Instant>,
    /// When a control last passed.
    controlled_at: Option<Instant>,
    /// Whether the latest probe is of a user that had not failed.
    untried: bool,
    /// The user whose command is tried until it ends, and how often it was charged.
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

    /// Chooses the user whose command is the next probe.
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

    /// Whether another user could be read recently.
    pub(super) fn is_controlled(&self, now: Instant) -> bool {
        self.controlled_at
            .is_some_and(|at| now.duration_since(at) < CONTROLLED_FOR)
    }

    pub(super) fn control_passed(&mut self, now: Instant) {
        self.controlled_at = Some(now);
    }

    /// Whether users that have not failed are tried at short gaps, in a pause that began at `since`.
    pub(super) fn is_exploring(&self, since: Instant, now: Instant) -> bool {
        self.untried && self.is_controlled(now) && now.duration_since(since) < WRITES_OUT_MAX
    }

    /// The provider fails, as far as is known: the time in which no other user could be tried starts again.
    pub(super) fn is_an_outage(&mut self) {
        self.no_other_since = None;
        self.controlled_at = None;
        self.alone = None;
    }

    /// The probe of this user's command failed. Returns how often the command has been charged by now, if it is
    /// charged.
    pub(super) fn failed(&mut self, user: &UserId) -> Option<u32> {
        let is_charged = self.alone.as_ref() == Some(user);
        self.round.insert(user.clone());
        self.charged += u32::from(is_charged);
        is_charged.then_some(self.charged)
    }

    /// The command that was tried alone has ended, or a call has passed: the trial starts again.
    pub(super) fn begin_again(&mut self) {
        *self = Self::new(self.elapsed_max);
    }

    /// When a command will be charged, if that is still to come: a probe is sent then at the latest.
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
