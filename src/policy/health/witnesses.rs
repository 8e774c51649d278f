//! Which users' calls passed recently, and which users have been in trouble since.

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;

use super::{Call, FEW_USERS};
use crate::contract::UserId;

/// Counts passed calls, so that "since" needs no clock.
pub type Mark = u64;

/// The most users in trouble that are remembered. Further ones are treated as untried.
const TROUBLED_MAX: usize = 1024;

/// The most users with a limit of their own that are remembered.
const LIMITED_MAX: usize = 256;

/// How often in a row a command may be throttled by the fleet's pace; each time pauses all calls and lowers the pace.
/// If it is throttled again after another user has passed, the limit is its user's own.
const THROTTLED_ALONE_AFTER: u32 = 1;

/// What one command's failures have shown so far. It is kept with the command.
#[derive(Debug, Default)]
pub struct Trouble {
    /// The count of passes at its first failure.
    since: Option<Mark>,
    /// How often in a row it was throttled, each time after another user had passed.
    throttled: u32,
    throttled_since: Mark,
}

/// The last two users that passed, with their marks: at least one of them is not the failing user.
type Latest = [Option<(UserId, Mark)>; 2];

#[derive(Debug, Default)]
pub(super) struct Witnesses {
    passes: Mark,
    /// By any call.
    answered: Latest,
    /// By a write, or by a read that counts as one.
    wrote: Latest,
    passed_at: Option<Instant>,
    /// Users that failed since a write last passed.
    troubled: HashSet<UserId>,
    limited: VecDeque<UserId>,
}

impl Witnesses {
    /// `proves`: the call shows that writes pass.
    pub(super) fn passed(&mut self, user: &UserId, proves: bool, now: Instant) {
        self.passes += 1;
        self.passed_at = Some(now);
        note(&mut self.answered, user, self.passes);
        if proves {
            note(&mut self.wrote, user, self.passes);
        }
    }

    /// A write has passed: the provider is well.
    pub(super) fn all_is_well(&mut self, user: &UserId) {
        self.troubled.clear();
        self.limited.retain(|limited| limited != user);
    }

    pub(super) fn passed_at(&self) -> Option<Instant> {
        self.passed_at
    }

    pub(super) fn in_trouble(&mut self, user: &UserId) {
        if self.troubled.len() < TROUBLED_MAX {
            self.troubled.insert(user.clone());
        }
    }

    pub(super) fn out_of_trouble(&mut self, user: &UserId) {
        self.troubled.remove(user);
    }

    pub(super) fn is_in_trouble(&self, user: &UserId) -> bool {
        self.troubled.contains(user)
    }

    /// It may be these users' own trouble, which a read of another user can show.
    pub(super) fn are_few(&self) -> bool {
        self.troubled.len() < FEW_USERS
    }

    /// A user to read as a probe: one that passed before, preferably one that is not in trouble.
    pub(super) fn control(&self) -> Option<&UserId> {
        let mut well = self.answered.iter().flatten().map(|(user, _)| user);
        let any = well.clone().next();
        well.find(|user| !self.troubled.contains(user)).or(any)
    }

    /// Whether another user's call has passed since this command's first failure: then the failure is the command's
    /// own. A read says nothing about writes.
    pub(super) fn another_passed(&self, user: &UserId, call: Call, trouble: &Trouble) -> bool {
        trouble
            .since
            .is_some_and(|since| self.another_since(user, call, since))
    }

    fn another_since(&self, user: &UserId, call: Call, since: Mark) -> bool {
        let passed = match call {
            Call::Write => &self.wrote,
            Call::Read | Call::Control => &self.answered,
        };
        passed
            .iter()
            .flatten()
            .any(|(passed, mark)| passed != user && *mark > since)
    }

    pub(super) fn has_failed(&self, trouble: &mut Trouble) {
        trouble.since.get_or_insert(self.passes);
    }

    /// The command's call was throttled. True if that is its user's own limit, and not the pace.
    pub(super) fn throttled_alone(&mut self, user: &UserId, call: Call, trouble: &mut Trouble) -> bool {
        let others_pass = trouble.throttled > 0 && self.another_since(user, call, trouble.throttled_since);
        trouble.throttled = if others_pass { trouble.throttled + 1 } else { 1 };
        trouble.throttled_since = self.passes;
        if self.limited.contains(user) {
            return true;
        }
        if trouble.throttled <= THROTTLED_ALONE_AFTER {
            return false;
        }
        if self.limited.len() >= LIMITED_MAX {
            self.limited.pop_front();
        }
        self.limited.push_back(user.clone());
        true
    }
}

fn note(latest: &mut Latest, user: &UserId, mark: Mark) {
    match latest {
        [Some((last, at)), _] if last == user => *at = mark,
        latest => {
            latest.swap(0, 1);
            latest[0] = Some((user.clone(), mark));
        }
    }
}
