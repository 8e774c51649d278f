//! What may have been applied: the user is read, and what it shows decides.

use tokio::time::{Instant, sleep_until};

use super::attempt::After;
use super::{Course, Next, OnIgnored, Permit, Step};
use crate::contract::{Failure, Outcome, Reason, Version};
use crate::provider::{Comparison, ProviderError, User};
use crate::worker::waits::Wait;

/// Reads after the last attempt that are tried to see whether the command was applied.
const LOOKS_MAX: u32 = 5;

impl Course<'_> {
    pub(super) async fn read_back(&mut self, permit: Permit, otherwise: Option<Failure>) -> Option<Next> {
        let start = Instant::now();
        let user = match self.read(permit).await? {
            Ok(user) => user,
            Err(After::Again) => return Some(Next::Step(Step::ReadBack { otherwise })),
            Err(After::Exhausted(failure)) => return self.looked_in_vain(otherwise, failure).await,
            Err(After::End(failure)) => return Some(self.unread(failure)),
        };
        let untouched = (self.before.as_ref()).is_some_and(|before| self.provider().untouched(before, &user));
        let comparison = match untouched {
            true => Comparison::Differs,
            false => self.provider().compare(self.command, &user),
        };
        if comparison == Comparison::Differs
            && self.maybe_applied
            && start < self.written_at + self.handler.calls.read_lag
        {
            // Not as asked yet: what was written may show itself later.
            let lag = self.unless_left(sleep_until(self.written_at + self.handler.calls.read_lag));
            self.handler.waits.during(Wait::Retry, lag).await?;
            return Some(Next::Step(Step::ReadBack { otherwise }));
        }
        let harmless = self.harmless();
        Some(match (comparison, otherwise) {
            (Comparison::AsAsked, _) => Next::End(Outcome::Success {
                changed: self.written,
                version: self.provider().version(&user),
            }),
            (Comparison::Unreadable, _) if !harmless => Next::End(outcome_unknown()),
            // Something was written since: by this command, or by somebody else after it.
            (Comparison::Differs, None) if !harmless && !untouched && self.maybe_applied => {
                Next::End(outcome_unknown())
            }
            (Comparison::Differs | Comparison::Unreadable, Some(failure)) => {
                Next::End(Outcome::Failure(failure))
            }
            (Comparison::Differs | Comparison::Unreadable, None) => {
                self.before = Some(user.clone());
                Next::Step(Step::Write(Some(user)))
            }
        })
    }

    /// A command that may have been applied is not called a failure because one read of its user failed.
    pub(super) async fn looked_in_vain(
        &mut self,
        otherwise: Option<Failure>,
        failure: Failure,
    ) -> Option<Next> {
        self.looks += 1;
        if !self.maybe_applied || self.looks >= LOOKS_MAX {
            return Some(self.unread(otherwise.unwrap_or(failure)));
        }
        if self.looks == 1 {
            // The gaps of what went before don't count: a few reads soon after each other are enough.
            self.schedule.reset();
        }
        self.wait_to_look().await?;
        Some(Next::Step(Step::ReadBack {
            otherwise: otherwise.or(Some(failure)),
        }))
    }

    /// The user could not be read to the last. Where a write may have been applied and sending it again
    /// could do harm, the honest answer is that nobody knows.
    pub(super) fn unread(&self, failure: Failure) -> Next {
        if self.maybe_applied && !self.harmless() {
            return Next::End(outcome_unknown());
        }
        Next::End(Outcome::Failure(failure))
    }

    /// The provider says that the write was applied. Where it shows that something was not, the user's state decides.
    pub(super) fn after_success(
        &mut self,
        ignored: Option<String>,
        version: Option<Version>,
        current: Option<&User>,
    ) -> Next {
        let Some(pointer) = ignored else {
            let as_asked = |user| self.provider().compare(self.command, user) == Comparison::AsAsked;
            return Next::End(Outcome::Success {
                // What was found as asked may be this command's own earlier try.
                changed: self.written || !current.is_some_and(as_asked),
                version,
            });
        };
        if self.handler.calls.on_ignored == OnIgnored::Warn {
            tracing::warn!(
                command.id = %self.command.id,
                user.id = self.command.user_id.as_str(),
                command.pointer = pointer,
                "provider: answered with a success and the user without what was asked"
            );
            return Next::End(Outcome::Success {
                changed: true,
                version,
            });
        }
        (self.written, self.maybe_applied, self.written_at) = (true, true, Instant::now());
        let failure = Failure::new(
            Reason::Rejected,
            "the provider answered with a success, and shows the user without what was asked: it does not keep the \
             field; leave it out, or set `on_ignored = \"warn\"` under [provider]",
        );
        Next::Step(Step::ReadBack {
            otherwise: Some(failure.at(pointer)),
        })
    }

    /// A refusal that an earlier write of ours may have caused: the user's state decides.
    pub(super) fn our_own_doing(&self, error: ProviderError, reason: Reason) -> Next {
        let failure = error.into_failure(reason);
        if self.provider().reads() {
            return Next::Step(Step::ReadBack {
                otherwise: Some(failure),
            });
        }
        Next::End(match reason {
            Reason::VersionConflict => outcome_unknown(),
            _ => Outcome::Failure(failure),
        })
    }
}

pub(super) fn outcome_unknown() -> Outcome {
    Outcome::Failure(Failure::new(
        Reason::OutcomeUnknown,
        "it can't be known whether the provider applied the command, and sending it again could do harm; \
         look at the user, then discard the command or send it again",
    ))
}
