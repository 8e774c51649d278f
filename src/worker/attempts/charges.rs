//! What a command's failed calls have cost it so far. Pure.

use std::time::Duration;

use crate::contract::Fault;
use crate::policy::health::Streak;
use crate::policy::retry;
use crate::provider::ProviderError;

/// Uncounted calls of a command that the provider did not process (408, 423).
const NOT_TAKEN_UP_MAX: u32 = 1;

/// Uncounted calls of a command on connections that were closed before the request was processed. Servers close a
/// connection after a thousand or more requests, so more than a few for one command show that something is wrong.
const UNPROCESSED_MAX: u32 = 5;

/// Uncounted writes of a command that did not fit the user, which was then read again. Another client may change the
/// user in between; if it happens more often, the provider accepts no write of this form.
const UNFIT_MAX: u32 = 5;

/// A command's attempts, and the time of those calls and of the delays after them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Spent {
    attempts: u32,
    elapsed: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Charges {
    spent: Spent,
    /// What was spent before the latest streak of failures.
    before_streak: Option<(Streak, Spent)>,
    /// All calls that failed, including those that don't count as attempts.
    failures: u32,
    /// Failures were counted because no other user could be tried.
    charged: bool,
}

impl Charges {
    /// Calls that count as attempts. Those that failed through no fault of the command don't.
    pub(super) fn attempts(&self) -> u32 {
        self.spent.attempts
    }

    pub(super) fn was_charged(&self) -> bool {
        self.charged
    }

    pub(super) fn failed(&mut self) {
        self.failures += 1;
    }

    /// A call whose answer is the command's own result.
    pub(super) fn settle(&mut self) {
        self.spent.attempts += 1;
    }

    /// Counts an attempt. `take_back` undoes it if the streak turns out to be an outage.
    pub(super) fn spend(&mut self, streak: Option<Streak>, took: Duration, retry: &retry::Config) {
        if let Some(streak) = streak
            && self.before_streak.is_none_or(|(before, _)| before != streak)
        {
            self.before_streak = Some((streak, self.spent));
        }
        // A read after the last attempt is not counted.
        self.spent.attempts = (self.spent.attempts + 1).min(retry.attempts);
        self.spent.elapsed += took;
    }

    /// Undoes attempts that were counted before their failures turned out to be an outage.
    pub(super) fn take_back(&mut self, excused: impl Fn(Streak) -> bool) {
        if let Some((_, before)) = self.before_streak.take_if(|(streak, _)| excused(*streak)) {
            self.spent = before;
        }
    }

    /// No other user could be tried: every failure counts.
    pub(super) fn charge_all(&mut self, retry: &retry::Config) {
        self.charged = true;
        self.spent.attempts = self.failures.min(retry.attempts);
    }

    pub(super) fn wait(&mut self, delay: Duration) {
        self.spent.elapsed = self.spent.elapsed.saturating_add(delay);
    }

    pub(super) fn has_time_for(&self, delay: Duration, retry: &retry::Config) -> bool {
        self.spent.elapsed.saturating_add(delay) <= retry.elapsed_max
    }

    pub(super) fn is_exhausted(&self, retry: &retry::Config) -> bool {
        self.spent.attempts >= retry.attempts || self.spent.elapsed >= retry.elapsed_max
    }
}

/// Calls that are repeated without counting as attempts, each kind up to a limit.
#[derive(Debug, Default)]
pub(super) struct Uncharged {
    /// Answers that said so (408, 423).
    not_taken_up: u32,
    /// Connections that were closed before the call was processed.
    unprocessed: u32,
    /// Writes that did not fit the user's current state.
    unfit: u32,
}

impl Uncharged {
    /// Beyond its limit such a call counts as the provider's failure.
    pub(super) fn count(&mut self, error: ProviderError) -> ProviderError {
        let (count, max, otherwise) = match error.fault {
            Fault::Again => (&mut self.not_taken_up, NOT_TAKEN_UP_MAX, Fault::Broken),
            Fault::Unprocessed => (&mut self.unprocessed, UNPROCESSED_MAX, Fault::Unreachable),
            Fault::ReadFirst => (&mut self.unfit, UNFIT_MAX, Fault::Broken),
            _ => return error,
        };
        *count += 1;
        match *count > max {
            true => ProviderError {
                fault: otherwise,
                ..error
            },
            false => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_of_a_streak_are_taken_back_if_it_is_excused() {
        let retry = retry::Config::default();
        let mut charges = Charges::default();
        let second = Duration::from_secs(1);
        charges.spend(None, second, &retry);
        let before = charges.spent;
        charges.spend(Some(7), second, &retry);
        charges.wait(second);
        charges.spend(Some(7), second, &retry);
        charges.take_back(|_| false);
        assert_eq!(charges.attempts(), 3);
        charges.take_back(|streak| streak == 7);
        assert_eq!(charges.spent, before);
        charges.take_back(|_| true);
        assert_eq!(charges.spent, before, "nothing is taken back twice");
    }

    #[test]
    fn attempts_and_time_are_limits_of_their_own() {
        let retry = retry::Config::default();
        let mut by_attempts = Charges::default();
        for _ in 0..retry.attempts {
            assert!(!by_attempts.is_exhausted(&retry));
            by_attempts.spend(None, Duration::ZERO, &retry);
        }
        assert!(by_attempts.is_exhausted(&retry));
        let mut by_time = Charges::default();
        assert!(by_time.has_time_for(retry.elapsed_max, &retry));
        by_time.wait(retry.elapsed_max);
        assert!(by_time.is_exhausted(&retry));
        assert!(!by_time.has_time_for(Duration::from_millis(1), &retry));
    }

    #[test]
    fn without_other_users_every_failure_counts() {
        let retry = retry::Config::default();
        let mut charges = Charges::default();
        for _ in 0..3 {
            charges.failed();
        }
        assert_eq!(charges.attempts(), 0);
        charges.charge_all(&retry);
        assert_eq!((charges.attempts(), charges.was_charged()), (3, true));
    }
}
