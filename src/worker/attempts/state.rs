//! What may have been applied, and what follows from an answer. Pure: the tests list every pair.

use crate::contract::Fault;
use crate::provider::Comparison;

/// What the provider may have applied of the command. Each variant includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sent {
    Nothing,
    /// A write of an earlier delivery.
    Earlier,
    /// A write of this delivery that was answered, and may have been applied whatever the answer said.
    Answered,
    /// A write of this delivery that got no answer from the provider, or a 5xx.
    Unanswered,
}

impl Sent {
    /// After a write that failed. Real servers answer 429 and 5xx even after applying a write.
    pub(super) fn after(self, fault: Fault) -> Self {
        match fault {
            Fault::Throttled { .. } => self.max(Self::Answered),
            Fault::Broken | Fault::Unknown => Self::Unanswered,
            _ => self,
        }
    }

    /// Whether anything may have been applied.
    pub(super) fn maybe_applied(self) -> bool {
        self != Self::Nothing
    }

    /// Whether a write of this delivery may have been applied.
    pub(super) fn by_this_delivery(self) -> bool {
        self >= Self::Answered
    }
}

/// What is known of the provider and the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// A user can be read back.
    pub(super) reads: bool,
    /// Sending the command twice does no harm.
    pub(super) idempotent: bool,
    /// The command has an expiry, after which it is not sent again.
    pub(super) expires: bool,
}

/// How a write ended, after the delay that it called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// A success whose answer shows the user without what was asked.
    Ignored,
    /// The request did not fit the user as it is.
    Unfit,
    /// The provider refused this command. `version`: because the user has another version than expected.
    Refused { version: bool },
    /// The write is to be repeated. `doubtful`: it may have been applied; `unanswered`: no answer came.
    Again { doubtful: bool, unanswered: bool },
    /// No attempt or no time is left.
    Exhausted,
}

/// How a read after a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) shows: Comparison,
    /// Nothing was written to the user since it was read before the write.
    pub(super) untouched: bool,
    /// Reads may still show the user from before the write.
    pub(super) lags: bool,
    /// The command has a failure already, and this read decides whether it is reported.
    pub(super) failed: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Fail,
    /// End with an unknown outcome.
    GiveUp,
    Write,
    ReadFirst,
    ReadBack,
    /// Read back, and fail if the user is not as asked.
    ReadBackOrFail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterLook {
    Succeed,
    Fail,
    GiveUp,
    Write,
    /// Read again once reads can't lag any more.
    LookAgain,
}

pub(super) fn after_write(sent: Sent, write: Write, facts: Facts) -> Action {
    match write {
        Write::Ignored if facts.reads => Action::ReadBackOrFail,
        Write::Ignored => Action::Fail,
        Write::Unfit => Action::ReadFirst,
        // The refusal may be caused by an earlier write of this command.
        Write::Refused { .. } if sent.maybe_applied() && facts.reads => Action::ReadBackOrFail,
        Write::Refused { version: true } if sent.maybe_applied() => Action::GiveUp,
        Write::Refused { .. } => Action::Fail,
        Write::Exhausted if sent.maybe_applied() && facts.reads => Action::ReadBackOrFail,
        Write::Exhausted => unread(sent, facts),
        Write::Again { doubtful: false, .. } => Action::Write,
        Write::Again { unanswered, .. } if facts.reads => {
            match unanswered || !facts.idempotent || facts.expires {
                true => Action::ReadBack,
                false => Action::Write,
            }
        }
        Write::Again { .. } if facts.idempotent => Action::Write,
        Write::Again { .. } => Action::GiveUp,
    }
}

pub(super) fn after_look(sent: Sent, look: Look, facts: Facts) -> AfterLook {
    match look.shows {
        Comparison::Matches => AfterLook::Succeed,
        Comparison::Differs if look.lags && sent.maybe_applied() => AfterLook::LookAgain,
        Comparison::Unreadable if !facts.idempotent => AfterLook::GiveUp,
        Comparison::Differs | Comparison::Unreadable if look.failed => AfterLook::Fail,
        // The user was written since: by this command, or by another client after it.
        Comparison::Differs if !facts.idempotent && !look.untouched && sent.maybe_applied() => {
            AfterLook::GiveUp
        }
        Comparison::Differs | Comparison::Unreadable => AfterLook::Write,
    }
}

/// What follows when no read of the user succeeds.
pub(super) fn unread(sent: Sent, facts: Facts) -> Action {
    match sent.maybe_applied() && !facts.idempotent {
        true => Action::GiveUp,
        false => Action::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: [Sent; 4] = [Sent::Nothing, Sent::Earlier, Sent::Answered, Sent::Unanswered];

    /// Reads and idempotent, reads and not, idempotent alone, neither.
    const FACTS: [(bool, bool); 4] = [(true, true), (true, false), (false, true), (false, false)];

    fn facts((reads, idempotent): (bool, bool)) -> Facts {
        Facts {
            reads,
            idempotent,
            expires: false,
        }
    }

    #[test]
    fn every_result_of_a_write_has_its_action() {
        use Action::{Fail, GiveUp, ReadBack, ReadBackOrFail, ReadFirst, Write as Again};
        let again = |doubtful, unanswered| Write::Again { doubtful, unanswered };
        let refused = |version| Write::Refused { version };
        // Where nothing was sent before, and where something may have been.
        let table = [
            (
                Write::Ignored,
                [ReadBackOrFail, ReadBackOrFail, Fail, Fail],
                [ReadBackOrFail, ReadBackOrFail, Fail, Fail],
            ),
            (Write::Unfit, [ReadFirst; 4], [ReadFirst; 4]),
            (
                refused(false),
                [Fail; 4],
                [ReadBackOrFail, ReadBackOrFail, Fail, Fail],
            ),
            (
                refused(true),
                [Fail; 4],
                [ReadBackOrFail, ReadBackOrFail, GiveUp, GiveUp],
            ),
            (again(false, false), [Again; 4], [Again; 4]),
            (
                again(true, false),
                [Again, ReadBack, Again, GiveUp],
                [Again, ReadBack, Again, GiveUp],
            ),
            (
                again(true, true),
                [ReadBack, ReadBack, Again, GiveUp],
                [ReadBack, ReadBack, Again, GiveUp],
            ),
            (
                Write::Exhausted,
                [Fail; 4],
                [ReadBackOrFail, ReadBackOrFail, Fail, GiveUp],
            ),
        ];
        for (write, nothing, something) in table {
            for (n, of) in FACTS.into_iter().enumerate() {
                for sent in SENT {
                    let expected = if sent == Sent::Nothing {
                        nothing[n]
                    } else {
                        something[n]
                    };
                    let action = after_write(sent, write, facts(of));
                    assert_eq!(action, expected, "{write:?} {sent:?} {of:?}");
                }
            }
        }
        // What may expire is not sent again before it is known whether it was applied.
        let expires = Facts {
            expires: true,
            ..facts((true, true))
        };
        assert_eq!(after_write(Sent::Answered, again(true, false), expires), ReadBack);
    }

    #[test]
    fn every_result_of_a_read_back_has_its_action() {
        use AfterLook::{Fail, GiveUp, LookAgain, Succeed, Write};
        use Comparison::{Differs, Matches, Unreadable};
        // (shows, untouched, lags, failed): idempotent and not, where nothing was sent; the same where something may
        // be.
        let table = [
            (
                (Matches, false, true, true),
                [Succeed, Succeed],
                [Succeed, Succeed],
            ),
            (
                (Matches, false, false, false),
                [Succeed, Succeed],
                [Succeed, Succeed],
            ),
            (
                (Differs, false, true, false),
                [Write, Write],
                [LookAgain, LookAgain],
            ),
            ((Differs, true, true, true), [Fail, Fail], [LookAgain, LookAgain]),
            ((Differs, false, false, false), [Write, Write], [Write, GiveUp]),
            ((Differs, true, false, false), [Write, Write], [Write, Write]),
            ((Differs, false, false, true), [Fail, Fail], [Fail, Fail]),
            ((Unreadable, false, true, false), [Write, GiveUp], [Write, GiveUp]),
            ((Unreadable, false, false, true), [Fail, GiveUp], [Fail, GiveUp]),
        ];
        for ((shows, untouched, lags, failed), nothing, something) in table {
            let look = Look {
                shows,
                untouched,
                lags,
                failed,
            };
            for sent in SENT {
                let expected = if sent == Sent::Nothing { nothing } else { something };
                let ends = [true, false].map(|idempotent| after_look(sent, look, facts((true, idempotent))));
                assert_eq!(ends, expected, "{look:?} {sent:?}");
            }
        }
    }

    #[test]
    fn a_write_that_may_have_been_applied_is_never_forgotten() {
        let throttled = Fault::Throttled { retry_after: None };
        for sent in SENT {
            assert_eq!(sent.after(throttled), sent.max(Sent::Answered));
            assert_eq!(sent.after(Fault::Broken), Sent::Unanswered);
            assert_eq!(sent.after(Fault::Unknown), Sent::Unanswered);
            for not_applied in [
                Fault::Unreachable,
                Fault::Unprocessed,
                Fault::Denied,
                Fault::Credentials,
            ] {
                assert_eq!(sent.after(not_applied), sent);
            }
        }
    }

    #[test]
    fn without_reads_only_an_idempotent_command_ends_as_a_failure() {
        for sent in SENT {
            let ends = [true, false].map(|idempotent| unread(sent, facts((true, idempotent))));
            let harmful = if sent == Sent::Nothing {
                Action::Fail
            } else {
                Action::GiveUp
            };
            assert_eq!(ends, [Action::Fail, harmful], "{sent:?}");
        }
    }
}
