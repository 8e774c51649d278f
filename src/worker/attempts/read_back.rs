//! After a write that may have been applied, the user is read, and its state decides what follows.

use tokio::time::{Instant, sleep_until};

use super::call::After;
use super::state::{self, Action, AfterLook, Look, Sent, Write};
use super::{Attempts, Next, OnIgnored, Permit, Step};
use crate::contract::{Failure, Outcome, Reason, Version};
use crate::provider::{Comparison, User};
use crate::worker::waits::Wait;

/// The most reads after the last attempt to see whether the command was applied.
const LOOKS_MAX: u32 = 5;

impl Attempts<'_> {
    pub(super) async fn read_back(&mut self, permit: Permit, otherwise: Option<Failure>) -> Option<Next> {
        let start = Instant::now();
        let user = match self.read(permit).await? {
            Ok(user) => user,
            Err(After::Again) => return Some(Next::Step(Step::ReadBack { otherwise })),
            Err(After::Exhausted(failure)) => return self.looked_in_vain(otherwise, failure).await,
            Err(After::End(failure)) => return Some(self.unread(failure)),
        };
        let untouched =
            (self.written.before.as_ref()).is_some_and(|before| self.provider().is_unchanged(before, &user));
        let shows = match self.provider().compare(self.command, &user) {
            // If the user was not touched, a field that can't be read has not changed either.
            Comparison::Unreadable if untouched => Comparison::Differs,
            shows => shows,
        };
        let readable_at = self.written.at + self.caller.calls.read_lag;
        let look = Look {
            shows,
            untouched,
            lags: start < readable_at,
            failed: otherwise.is_some(),
        };
        Some(match state::after_look(self.written.sent, look, self.facts()) {
            AfterLook::Succeed => Next::End(Outcome::Success {
                changed: self.written.sent.by_this_delivery() && !untouched,
                version: self.provider().version(&user),
            }),
            AfterLook::LookAgain => {
                // Reads may show the write later.
                let lag = self.unless_cancelled(sleep_until(readable_at));
                self.caller.waits.during(Wait::Retry, lag).await?;
                Next::Step(Step::ReadBack { otherwise })
            }
            AfterLook::Write => {
                self.written.before = Some(user.clone());
                Next::Step(Step::Write(Some(user)))
            }
            AfterLook::Fail => self.next(Action::Fail, otherwise),
            AfterLook::GiveUp => self.next(Action::GiveUp, None),
        })
    }

    /// One failed read of the user does not make a failure of a command that may have been applied.
    pub(super) async fn looked_in_vain(
        &mut self,
        otherwise: Option<Failure>,
        failure: Failure,
    ) -> Option<Next> {
        self.written.failed_reads += 1;
        if !self.written.sent.maybe_applied() || self.written.failed_reads >= LOOKS_MAX {
            return Some(self.unread(otherwise.unwrap_or(failure)));
        }
        if self.written.failed_reads == 1 {
            // The delays of the attempts don't apply: a few reads in short succession are enough.
            self.backoff.reset();
        }
        self.wait_to_look().await?;
        Some(Next::Step(Step::ReadBack {
            otherwise: otherwise.or(Some(failure)),
        }))
    }

    /// No read of the user succeeded. If a write may have been applied and sending it again could do harm, the outcome
    /// is unknown.
    pub(super) fn unread(&self, failure: Failure) -> Next {
        self.next(state::unread(self.written.sent, self.facts()), Some(failure))
    }

    /// The first calls of a write were applied, so a failure of the next one does not mean that nothing was applied.
    pub(super) fn go_on(&mut self, current: Option<&User>) -> Next {
        let changed = !current.is_some_and(|user| self.is_as_asked(user));
        let sent = if changed { Sent::Answered } else { Sent::Earlier };
        (self.written.sent, self.written.at) = (self.written.sent.max(sent), Instant::now());
        Next::Step(Step::Write(current.cloned()))
    }

    fn is_as_asked(&self, user: &User) -> bool {
        self.provider().compare(self.command, user) == Comparison::Matches
    }

    /// The provider answered that the write was applied. If its answer lacks a change, the user's state decides.
    pub(super) fn after_success(
        &mut self,
        ignored: Option<String>,
        version: Option<Version>,
        current: Option<&User>,
    ) -> Next {
        let Some(pointer) = ignored else {
            return Next::End(Outcome::Success {
                // A user that was found as asked may be the work of this command's own earlier attempt.
                changed: self.written.sent.by_this_delivery()
                    || !current.is_some_and(|user| self.is_as_asked(user)),
                version,
            });
        };
        if self.caller.calls.on_ignored == OnIgnored::Warn {
            tracing::warn!(
                command.id = %self.command.id,
                user.id = self.command.user_id.as_str(),
                command.pointer = pointer,
                "provider: answered with a success and a user that lacks the requested change"
            );
            return Next::End(Outcome::Success {
                changed: true,
                version,
            });
        }
        self.written.sent = self.written.sent.max(Sent::Answered);
        self.written.at = Instant::now();
        let failure = Failure::new(
            Reason::Rejected,
            "the provider answered with a success, but its user lacks the requested change: it does not store the \
             field; leave the field out, or set `on_ignored = \"warn\"` under [provider]",
        );
        self.after_write(Write::Ignored, Some(failure.at(pointer)))
    }
}

pub(super) fn outcome_unknown() -> Outcome {
    Outcome::Failure(Failure::new(
        Reason::OutcomeUnknown,
        "it is unknown whether the provider applied the command, and sending it again could do harm; check the user, \
         then discard the command or send it again",
    ))
}
