//! One command at the provider: the one loop that owns the policy.
//!
//! Permit, call, classify; then done, or wait and again. Whether an answer is the command's fault is
//! the contract's table, whether it is spent as an attempt is the health's judgement.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::gate::{Gate, Permit};
use super::shutdown::Shutdown;
use crate::clock::Clock;
use crate::contract::{Failure, Fault, Outcome, Reason, TrafficClass, UpdateUser, UserId};
use crate::metrics;
use crate::policy::health::{Call, Judgement, Mark};
use crate::policy::retry::{self, Schedule};
use crate::provider::{Codes, Comparison, Provider, ProviderError, User};

/// What handling needs of the world.
pub struct Handler {
    pub provider: Arc<dyn Provider>,
    pub gate: Arc<Gate>,
    pub retry: retry::Config,
    pub clock: Clock,
    pub shutdown: Shutdown,
}

/// What became of a command at the provider.
#[derive(Debug)]
pub enum Handled {
    Done(Done),
    /// The worker stops, or the delivery turned stale: somebody else finishes it.
    Abandoned,
}

#[derive(Debug)]
pub struct Done {
    pub outcome: Outcome,
    pub attempts: u32,
    pub first_attempt_at: Option<Timestamp>,
    pub codes: Codes,
}

/// What the handler must know of the delivery.
pub trait Held: Sync {
    /// False once the delivery belongs to somebody else.
    fn usable(&self) -> bool;
    fn redelivered(&self) -> bool;
    fn class(&self) -> TrafficClass;
}

/// The next call.
#[derive(Debug)]
enum Step {
    /// Is the user already as asked? If not: this failure, or the write.
    ReadBack {
        otherwise: Option<Failure>,
    },
    /// The write needs the user as it is.
    ReadFirst,
    Write(Option<User>),
}

/// What an answer leads to.
enum Next {
    Step(Step),
    End(Outcome),
}

/// What a failed call leads to.
enum After {
    Again,
    /// The last attempt is spent.
    Exhausted(Failure),
    End(Failure),
}

impl Handler {
    pub async fn handle(&self, command: &UpdateUser, held: &dyn Held) -> Handled {
        let mut course = Course {
            handler: self,
            command,
            held,
            schedule: Schedule::new(&self.retry),
            rng: self.gate.rng(),
            attempts: 0,
            written: false,
            first_attempt_at: None,
            maybe_applied: held.redelivered(),
            denied_since: None,
            codes: Codes::default(),
        };
        match course.run().await {
            None => Handled::Abandoned,
            Some(outcome) => Handled::Done(Done {
                outcome,
                attempts: course.attempts,
                first_attempt_at: course.first_attempt_at,
                codes: course.codes,
            }),
        }
    }
}

/// One command's way to its outcome.
struct Course<'a> {
    handler: &'a Handler,
    command: &'a UpdateUser,
    held: &'a dyn Held,
    schedule: Schedule,
    rng: fastrand::Rng,
    /// Calls that were spent on the command. Those that failed through no fault of its own are not.
    attempts: u32,
    /// This delivery sent a write that reached the provider, as far as can be told.
    written: bool,
    first_attempt_at: Option<Timestamp>,
    /// An earlier write, of this delivery or of one before, may have been applied.
    maybe_applied: bool,
    denied_since: Option<Mark>,
    codes: Codes,
}

impl Course<'_> {
    /// `None` when the command is abandoned.
    async fn run(&mut self) -> Option<Outcome> {
        let mut step = self.first_step();
        loop {
            if !matches!(step, Step::ReadBack { .. })
                && let Some(failure) = self.expired()
            {
                return Some(Outcome::Failure(failure));
            }
            let permit = self.permit().await?;
            if let Some(control) = permit.control().cloned() {
                self.probe_by(&control, permit).await;
                continue;
            }
            if !self.held.usable() {
                return None;
            }
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

    fn provider(&self) -> &dyn Provider {
        &*self.handler.provider
    }

    fn first_step(&self) -> Step {
        if self.maybe_applied && self.provider().reads() {
            return Step::ReadBack { otherwise: None };
        }
        self.write_step()
    }

    fn write_step(&self) -> Step {
        if self.provider().reads_before_write(self.command) {
            return Step::ReadFirst;
        }
        Step::Write(None)
    }

    async fn permit(&self) -> Option<Permit> {
        tokio::select! {
            biased;
            () = self.handler.shutdown.draining() => None,
            permit = self.handler.gate.permit(self.held.class()) => Some(permit),
        }
    }

    fn expired(&self) -> Option<Failure> {
        let expires_at = self.command.expires_at?;
        (!self.written && self.handler.clock.now() >= expires_at).then(|| {
            let detail = "its time had passed before the first call; publish it again with a later expiresAt";
            Failure::new(Reason::Expired, detail).at("/expiresAt")
        })
    }

    /// Somebody else's read shows whether the trouble is this command's or the provider's.
    async fn probe_by(&self, control: &UserId, permit: Permit) {
        let answer = self.timed("probe", self.provider().read(control)).await;
        permit.report(
            control,
            Call::Control,
            answer.map(drop).map_err(|error| error.fault),
            None,
        );
    }

    async fn read_back(&mut self, permit: Permit, otherwise: Option<Failure>) -> Option<Next> {
        let user = match self.read(permit).await? {
            Ok(user) => user,
            Err(After::Again) => return Some(Next::Step(Step::ReadBack { otherwise })),
            Err(After::Exhausted(failure)) => return Some(self.unread(otherwise.unwrap_or(failure))),
            Err(After::End(failure)) => return Some(Next::End(Outcome::Failure(failure))),
        };
        let harmless = self.provider().harmless_to_repeat(self.command);
        Some(match (self.provider().compare(self.command, &user), otherwise) {
            (Comparison::AsAsked, _) => Next::End(Outcome::Success {
                changed: self.written,
            }),
            (Comparison::Unreadable, _) if !harmless => Next::End(outcome_unknown()),
            (Comparison::Differs | Comparison::Unreadable, Some(failure)) => {
                Next::End(Outcome::Failure(failure))
            }
            (Comparison::Differs | Comparison::Unreadable, None) => Next::Step(Step::Write(Some(user))),
        })
    }

    async fn read_first(&mut self, permit: Permit) -> Option<Next> {
        Some(match self.read(permit).await? {
            Ok(user) => Next::Step(Step::Write(Some(user))),
            Err(After::Again) => Next::Step(Step::ReadFirst),
            Err(After::Exhausted(failure)) => self.unread(failure),
            Err(After::End(failure)) => Next::End(Outcome::Failure(failure)),
        })
    }

    async fn read(&mut self, permit: Permit) -> Option<Result<User, After>> {
        match self
            .timed("read", self.provider().read(&self.command.user_id))
            .await
        {
            Ok(user) => {
                permit.report(&self.command.user_id, Call::Read, Ok(()), None);
                Some(Ok(user))
            }
            Err(error) => Some(Err(self.after_failure(permit, Call::Read, error).await?)),
        }
    }

    /// The user could not be read to the last. Where a write may have been applied and sending it again
    /// could do harm, the honest answer is that nobody knows.
    fn unread(&self, failure: Failure) -> Next {
        if self.maybe_applied && !self.provider().harmless_to_repeat(self.command) {
            return Next::End(outcome_unknown());
        }
        Next::End(Outcome::Failure(failure))
    }

    async fn write(&mut self, permit: Permit, current: Option<&User>) -> Option<Next> {
        self.first_attempt_at.get_or_insert(self.handler.clock.now());
        let call = self.provider().update(self.command, current);
        let error = match self.timed("write", call).await {
            Ok(updated) => {
                permit.report(&self.command.user_id, Call::Write, Ok(()), None);
                self.attempts += 1;
                self.codes = updated.codes;
                return Some(Next::End(Outcome::Success { changed: true }));
            }
            Err(error) => error,
        };
        let fault = error.fault;
        let unsure = matches!(fault, Fault::Broken | Fault::Unknown);
        self.written |= unsure;
        if let (true, Fault::Command(reason @ (Reason::Conflict | Reason::VersionConflict))) =
            (self.maybe_applied, fault)
        {
            permit.report(&self.command.user_id, Call::Write, Err(fault), None);
            self.attempts += 1;
            return Some(self.our_own_doing(error, reason));
        }
        let after = self.after_failure(permit, Call::Write, error).await?;
        self.maybe_applied |= unsure;
        let harmless = self.provider().harmless_to_repeat(self.command);
        Some(match (after, self.provider().reads()) {
            (After::End(failure), _) => Next::End(Outcome::Failure(failure)),
            (After::Exhausted(failure), true) => Next::Step(Step::ReadBack {
                otherwise: Some(failure),
            }),
            (After::Exhausted(failure), false) => self.unread(failure),
            (After::Again, true) if fault == Fault::Unknown || (unsure && !harmless) => {
                Next::Step(Step::ReadBack { otherwise: None })
            }
            (After::Again, false) if unsure && !harmless => Next::End(outcome_unknown()),
            (After::Again, _) => Next::Step(self.write_step()),
        })
    }

    /// A conflict that an earlier write of ours may have caused: the user's state decides.
    fn our_own_doing(&self, error: ProviderError, reason: Reason) -> Next {
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

    /// Decides about a failed call, and waits if it is to be made again. `None`: abandoned.
    async fn after_failure(&mut self, permit: Permit, call: Call, error: ProviderError) -> Option<After> {
        let fault = error.fault;
        if fault == Fault::CredentialsRenewed {
            return Some(After::Again);
        }
        let denied_since = match fault {
            Fault::Denied => Some(*self.denied_since.get_or_insert_with(|| self.handler.gate.mark())),
            _ => None,
        };
        let judgement = permit.report(&self.command.user_id, call, Err(fault), denied_since);
        match (fault, judgement) {
            (Fault::Command(reason), _) => {
                self.attempts += 1;
                Some(After::End(error.into_failure(reason)))
            }
            (_, Judgement::Forbidden) => {
                self.attempts += 1;
                Some(After::End(error.into_failure(Reason::Forbidden)))
            }
            (_, Judgement::Spent) => {
                let attempts_max = self.handler.retry.attempts;
                self.attempts = (self.attempts + 1).min(attempts_max);
                if self.attempts == attempts_max {
                    return Some(After::Exhausted(error.into_failure(Reason::RetriesExhausted)));
                }
                self.wait().await?;
                self.until_drained(self.handler.gate.retry_allowed()).await?;
                Some(After::Again)
            }
            (_, Judgement::SetAside) => {
                self.wait().await?;
                Some(After::Again)
            }
            // The gate stays shut until it makes sense to call again.
            (_, Judgement::Plain | Judgement::Excused) => Some(After::Again),
        }
    }

    async fn wait(&mut self) -> Option<()> {
        let delay = self.schedule.next(&mut self.rng);
        self.until_drained(tokio::time::sleep(delay)).await
    }

    async fn until_drained(&self, wait: impl Future<Output = ()>) -> Option<()> {
        tokio::select! {
            biased;
            () = self.handler.shutdown.draining() => None,
            () = wait => Some(()),
        }
    }

    async fn timed<T>(
        &self,
        kind: &'static str,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let start = Instant::now();
        let answer = call.await;
        metrics::call(
            kind,
            answer.as_ref().map_or_else(|error| label(error.fault), |_| "ok"),
            start.elapsed(),
        );
        answer
    }
}

fn outcome_unknown() -> Outcome {
    Outcome::Failure(Failure::new(
        Reason::OutcomeUnknown,
        "it can't be known whether the provider applied the command, and sending it again could do harm; \
         look at the user, then discard the command or send it again",
    ))
}

fn label(fault: Fault) -> &'static str {
    match fault {
        Fault::Command(reason) => reason.as_str(),
        Fault::Credentials | Fault::CredentialsRenewed => "unauthorized",
        Fault::Denied => "denied",
        Fault::Throttled { .. } => "throttled",
        Fault::Unreachable => "unreachable",
        Fault::Broken => "broken",
        Fault::Unknown => "unknown",
    }
}
