//! One command's calls to the provider: the one loop that owns the policy.
//!
//! Permit, call, classify; then done, or wait and call again. The contract's table decides whether an answer is the
//! command's fault; `health` judges whether it counts as an attempt.

mod call;
mod charges;
mod read_back;
mod state;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::call::After;
use self::charges::{Charges, Uncharged};
use self::read_back::outcome_unknown;
use self::state::{Action, Facts, Sent};
use super::gate::{Gate, Permit};
use super::order_book::OrderBook;
use super::runner::Merge;
use super::waits::Waits;
use crate::backoff::Backoff;
use crate::broker::Delivery;
use crate::clock::Clock;
use crate::contract::{CommandId, Failure, Fault, Outcome, Reason, UpdateUser};
use crate::policy::health::{Call, Trouble};
use crate::policy::retry;
use crate::provider::{Codes, Comparison, Provider, User};

/// What the attempts need from outside.
pub struct Caller {
    pub provider: Arc<dyn Provider>,
    pub gate: Arc<Gate>,
    pub retry: retry::Config,
    pub calls: Calls,
    pub clock: Clock,
    pub waits: Arc<Waits>,
    pub orders: Arc<OrderBook>,
    /// Held by the command that fetches a token.
    pub fetching: Mutex<()>,
}

/// Settings of the calls themselves.
#[derive(Debug, Clone, Copy)]
pub struct Calls {
    /// The time limit of a call.
    pub timeout: Duration,
    /// How long a call may still take effect after it was abandoned.
    pub settling_time: Duration,
    /// How long after a write a read may still show the user from before it.
    pub read_lag: Duration,
    /// Whether to read first, and to write only if the user differs from what the command asks.
    pub skip_unchanged: bool,
    /// Which commands of a user may share a call.
    pub merge: Merge,
    pub on_ignored: OnIgnored,
}

/// What to do with a command whose write is answered with a success and a user that lacks the requested change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnIgnored {
    /// The user is read; if it still lacks the change, the command becomes a dead letter (`rejected`).
    #[default]
    Fail,
    /// The command succeeds, and a warning is logged.
    Warn,
}

/// How the attempts ended.
#[derive(Debug)]
pub enum Attempted {
    Done(Done),
    /// The worker stops or rests, or the delivery turned stale: it is redelivered. `called`: the provider may have
    /// applied a write.
    Abandoned {
        called: bool,
    },
}

#[derive(Debug)]
pub struct Done {
    pub outcome: Outcome,
    pub attempts: u32,
    pub first_attempt_at: Option<Timestamp>,
    /// When the last call began.
    pub last_call: Instant,
    pub codes: Codes,
    /// The command whose call applied this one.
    pub merged_into: Option<CommandId>,
}

/// What must be known of a command before its first call.
pub struct Admission {
    /// An earlier run may have applied it.
    pub maybe_applied: bool,
    /// Held until the first call goes out.
    pub slot: OwnedSemaphorePermit,
}

/// The next call.
#[derive(Debug)]
enum Step {
    /// Read whether the user is as asked. If not: end with this failure, or write.
    ReadBack {
        otherwise: Option<Failure>,
    },
    /// Read the user before the write.
    ReadFirst,
    Write(Option<User>),
}

/// What an answer leads to.
enum Next {
    Step(Step),
    End(Outcome),
}

impl Caller {
    /// Runs until `cancel` is cancelled: a call in flight is then finished, and no other is made.
    pub async fn attempt(
        &self,
        command: &UpdateUser,
        delivery: &Delivery,
        admission: Admission,
        cancel: &CancellationToken,
    ) -> Attempted {
        let mut attempts = Attempts {
            caller: self,
            command,
            delivery,
            cancel,
            backoff: self.retry.backoff(),
            rng: self.gate.rng(),
            charges: Charges::default(),
            uncharged: Uncharged::default(),
            written: Written {
                sent: match admission.maybe_applied {
                    true => Sent::Earlier,
                    false => Sent::Nothing,
                },
                at: Instant::now(),
                calls: 0,
                before: None,
                failed_reads: 0,
            },
            first_attempt_at: None,
            slot: Some(admission.slot),
            has_called: false,
            last_call: Instant::now(),
            trouble: Trouble::default(),
            codes: Codes::default(),
        };
        let ended = attempts.run().await;
        if attempts.charges.was_charged() {
            self.gate.charged_one_ended(&command.user_id);
        }
        match ended {
            None => Attempted::Abandoned {
                called: attempts.written.sent.maybe_applied(),
            },
            Some(outcome) => Attempted::Done(Done {
                outcome,
                attempts: attempts.charges.attempts(),
                first_attempt_at: attempts.first_attempt_at,
                last_call: attempts.last_call,
                codes: attempts.codes,
                merged_into: None,
            }),
        }
    }
}

/// The state of one command's attempts.
struct Attempts<'a> {
    caller: &'a Caller,
    command: &'a UpdateUser,
    delivery: &'a Delivery,
    cancel: &'a CancellationToken,
    backoff: Backoff,
    rng: fastrand::Rng,
    charges: Charges,
    uncharged: Uncharged,
    written: Written,
    first_attempt_at: Option<Timestamp>,
    slot: Option<OwnedSemaphorePermit>,
    has_called: bool,
    last_call: Instant,
    trouble: Trouble,
    codes: Codes,
}

/// What is known of the command's write.
struct Written {
    sent: Sent,
    /// When the last write that may have been applied ended; for a write of an earlier delivery, when this one began.
    at: Instant,
    /// Calls of the write that succeeded.
    calls: usize,
    /// The user before the first write, where it is needed to see whether a write was applied.
    before: Option<User>,
    /// Reads that failed after the last attempt.
    failed_reads: u32,
}

impl Attempts<'_> {
    /// `None` when the command is abandoned.
    async fn run(&mut self) -> Option<Outcome> {
        let mut step = self.first_step();
        loop {
            if !matches!(step, Step::ReadBack { .. })
                && let Some(failure) = self.expired()
            {
                return Some(Outcome::Failure(failure));
            }
            let permit = match self.has_begun() {
                true => self.permit().await?,
                false => match self.first_permit().await? {
                    Ok(permit) => permit,
                    Err(cancelled) => return Some(Outcome::Failure(cancelled)),
                },
            };
            if let Some(control) = permit.control().cloned() {
                self.probe_by(&control, permit).await;
                continue;
            }
            if !self.delivery.usable() {
                return None;
            }
            self.take_back();
            self.slot = None;
            self.has_called = true;
            self.last_call = Instant::now();
            let next = match step {
                Step::ReadBack { otherwise } => self.read_back(permit, otherwise).await?,
                Step::ReadFirst => self.read_first(permit).await?,
                Step::Write(current) => self.write(permit, current.as_ref()).await?,
            };
            match next {
                Next::Step(next) => step = next,
                Next::End(outcome) => return Some(outcome),
            }
        }
    }

    /// Whether a call was made, or may have been made by an earlier run. A batch's orders no longer matter then.
    fn has_begun(&self) -> bool {
        self.has_called || self.written.sent.maybe_applied()
    }

    fn provider(&self) -> &dyn Provider {
        &*self.caller.provider
    }

    fn is_idempotent(&self) -> bool {
        self.provider().is_idempotent(self.command)
    }

    fn first_step(&self) -> Step {
        if self.written.sent.maybe_applied() && self.provider().reads() {
            return Step::ReadBack { otherwise: None };
        }
        if self.caller.calls.skip_unchanged && self.provider().reads() {
            return Step::ReadFirst;
        }
        self.write_step()
    }

    fn write_step(&self) -> Step {
        // For a command that can't be sent twice, the state before the write shows whether it was applied.
        let must_know_before =
            self.written.before.is_none() && !self.is_idempotent() && self.provider().reads();
        if must_know_before || self.provider().reads_before_write(self.command) {
            return Step::ReadFirst;
        }
        Step::Write(None)
    }

    fn expired(&self) -> Option<Failure> {
        let expires_at = self.command.expires_at?;
        // A command whose write may have been applied does not expire.
        let open =
            self.written.calls > 0 || (self.written.sent == Sent::Unanswered && !self.provider().reads());
        (!open && self.caller.clock.now() >= expires_at).then(|| {
            let detail = "its time had passed before the first call; publish it again with a later expiresAt";
            Failure::new(Reason::Expired, detail).at("/expiresAt")
        })
    }

    async fn read_first(&mut self, permit: Permit) -> Option<Next> {
        let user = match self.read(permit).await? {
            Ok(user) => user,
            Err(After::Again) => return Some(Next::Step(Step::ReadFirst)),
            Err(After::Exhausted(failure)) => return self.looked_in_vain(None, failure).await,
            Err(After::End(failure)) => return Some(Next::End(Outcome::Failure(failure))),
        };
        let unchanged = self.caller.calls.skip_unchanged
            && !self.written.sent.maybe_applied()
            && self.provider().compare(self.command, &user) == Comparison::Matches;
        if unchanged {
            return Some(Next::End(Outcome::Success {
                changed: false,
                version: self.provider().version(&user),
            }));
        }
        self.written.before.get_or_insert_with(|| user.clone());
        Some(Next::Step(Step::Write(Some(user))))
    }

    async fn read(&mut self, permit: Permit) -> Option<Result<User, After>> {
        let start = Instant::now();
        let answer = self
            .timed("read", self.provider().read(&self.command.user_id))
            .await;
        permit.read_headers(self.provider());
        match answer {
            Ok(user) => {
                self.log_call("read", Ok(()), start, Duration::ZERO);
                permit.report(&self.command.user_id, Call::Read, Ok(()), &mut self.trouble);
                Some(Ok(user))
            }
            Err(error) => {
                let error = self.uncharged.count(error);
                Some(Err(self.after_failure(permit, Call::Read, error, start).await?))
            }
        }
    }

    async fn write(&mut self, permit: Permit, current: Option<&User>) -> Option<Next> {
        self.first_attempt_at.get_or_insert(self.caller.clock.now());
        let start = Instant::now();
        let call = match self.written.calls {
            0 => self.provider().update(self.command, current),
            done => self.provider().update_further(self.command, current, done),
        };
        let answer = self.timed("write", call).await;
        permit.read_headers(self.provider());
        let error = match answer {
            Ok(updated) => {
                self.log_call("write", Ok(()), start, Duration::ZERO);
                permit.report(&self.command.user_id, Call::Write, Ok(()), &mut self.trouble);
                self.written.calls += 1;
                if self.written.calls < self.provider().calls_of_write(self.command) {
                    return Some(self.go_on(current));
                }
                self.charges.settle();
                self.codes = updated.codes;
                return Some(self.after_success(updated.ignored, updated.version, current));
            }
            Err(error) => self.uncharged.count(error),
        };
        let fault = error.fault;
        if fault == Fault::ReadFirst {
            self.log_call("write", Err(&error), start, Duration::ZERO);
            permit.report(&self.command.user_id, Call::Read, Ok(()), &mut self.trouble);
            return Some(self.after_write(state::Write::Unfit, None));
        }
        let ended = Instant::now();
        self.written.sent = self.written.sent.after(fault);
        let after = self.after_failure(permit, Call::Write, error, start).await?;
        let doubtful = Sent::Nothing.after(fault).maybe_applied();
        if doubtful {
            self.written.at = ended;
        }
        Some(match after {
            After::Again => {
                let unanswered = fault == Fault::Unknown;
                self.after_write(state::Write::Again { doubtful, unanswered }, None)
            }
            After::Exhausted(failure) => self.after_write(state::Write::Exhausted, Some(failure)),
            After::End(failure) => {
                let version = failure.reason == Reason::VersionConflict;
                self.after_write(state::Write::Refused { version }, Some(failure))
            }
        })
    }

    fn after_write(&self, write: state::Write, failure: Option<Failure>) -> Next {
        self.next(
            state::after_write(self.written.sent, write, self.facts()),
            failure,
        )
    }

    fn next(&self, action: Action, failure: Option<Failure>) -> Next {
        match action {
            Action::Fail => Next::End(failure.map_or_else(outcome_unknown, Outcome::Failure)),
            Action::GiveUp => Next::End(outcome_unknown()),
            Action::Write => Next::Step(self.write_step()),
            Action::ReadFirst => Next::Step(Step::ReadFirst),
            Action::ReadBack => Next::Step(Step::ReadBack { otherwise: None }),
            Action::ReadBackOrFail => Next::Step(Step::ReadBack { otherwise: failure }),
        }
    }

    fn facts(&self) -> Facts {
        Facts {
            reads: self.provider().reads(),
            idempotent: self.is_idempotent(),
            expires: self.command.expires_at.is_some(),
        }
    }
}
