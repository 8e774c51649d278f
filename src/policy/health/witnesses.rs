//! Who passed lately, and who has been in trouble since.

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;

use super::{Call, FEW_USERS};
use crate::contract::UserId;

/// Counts passed calls, so that "since" can be said without a clock.
pub type Mark = u64;

/// So many users in trouble are known by name. Of more, the rest are tried as if they were in none.
const TROUBLED_MAX: usize = 1024;

/// So many users are known to be throttled by themselves.
const LIMITED_MAX: usize = 256;

/// A command may be throttled this many times as part of the whole; each one pauses everybody and lowers the pace. If it
/// is throttled again after another user has passed, the limit is its user's own.
const THROTTLED_ALONE_AFTER: u32 = 1;

/// What the failures of one command have shown so far. The command keeps it.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Where the passes stood at its first failure.
    since: Option<Mark>,
    /// Throttled so often in a row, each time after another user had passed.
    throttled: u32,
    throttled_since: Mark,
}

/// The two users that passed last, with the mark of each: one of them is another than whoever fails.
type Latest = [Option<(UserId, Mark)>; 2];

#[derive(Debug, Default)]
pub(super) struct Witnesses {
    passes: Mark,
    /// By any call.
    answered: Latest,
    /// By a write, or by a read that stood for one.
    wrote: Latest,
    passed_at: Option<Instant>,
    /// Users that failed since a write passed.
    troubled: HashSet<UserId>,
    limited: VecDeque<UserId>,
}

impl Witnesses {
    /// `proves` that writes pass, too.
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

    /// It may be these users' own trouble, and a read of somebody else can show it.
    pub(super) fn are_few(&self) -> bool {
        self.troubled.len() < FEW_USERS
    }

    /// Somebody to read as a probe: one that passed before, and that is in no trouble where there is one.
    pub(super) fn control(&self) -> Option<&UserId> {
        let mut well = self.answered.iter().flatten().map(|(user, _)| user);
        let any = well.clone().next();
        well.find(|user| !self.troubled.contains(user)).or(any)
    }

    /// Whether another user's call has passed since this command failed first: then it fails by itself. A read says
    /// nothing of writes.
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

    /// The command's call was throttled. True where that is its user's own limit, and not the pace.
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
