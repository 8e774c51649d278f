//! The steps before a call and after a failed one: permit, token, delay.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Attempts, Permit};
use crate::contract::{BatchState, Failure, Fault, Reason, TrafficClass, UserId};
use crate::metrics;
use crate::policy::health::{Call, Judgement, Trouble};
use crate::provider::{ProviderError, TokenState};
use crate::worker::in_hand;
use crate::worker::received::class;
use crate::worker::runner::cancelled;
use crate::worker::shutdown::unless_cancelled;
use crate::worker::waits::Wait;

/// Added to the detail where no other user could be tried.
const NOBODY_ELSE: &str = "; no other user could be tried meanwhile, so it is not known whether the provider failed \
                           for this user alone: check that other users' calls pass before sending the command again";

/// Added to the detail where a user has a limit of its own.
const LIMITED: &str = "; it kept throttling this user while others passed: send the command again when the user's \
                       limit allows it";

/// What a failed call leads to.
pub(super) enum After {
    Again,
    /// The last attempt is spent, or the time.
    Exhausted(Failure),
    End(Failure),
}

impl Attempts<'_> {
    /// The right to make one call, with a token to make it with.
    pub(super) async fn permit(&self) -> Option<Permit> {
        loop {
            if !self.token_at_hand().await? {
                continue;
            }
            let permit = self.next_permit(class(self.delivery)).await?;
            // The token may have been dropped in the meantime.
            if self.provider().access().token() != TokenState::Missing {
                return Some(permit);
            }
        }
    }

    /// The right to make the first call, once the command's batch is not paused. The error: the batch is cancelled.
    pub(super) async fn first_permit(&mut self) -> Option<Result<Permit, Failure>> {
        let batch = self.command.batch_id.as_ref();
        let orders = self.caller.orders.clone();
        loop {
            let state = orders.of_batch(batch);
            match state {
                Some(BatchState::Cancelled) => return Some(Err(cancelled())),
                Some(BatchState::Paused) => {
                    // Commands of other batches need it meanwhile.
                    self.slot = None;
                    let changed = self.unless_cancelled(orders.batch_changes(batch, state));
                    self.caller.waits.during(Wait::Batch, changed).await?;
                }
                None => tokio::select! {
                    biased;
                    permit = self.permit() => return permit.map(Ok),
                    () = orders.batch_changes(batch, None) => {}
                },
            }
        }
    }

    async fn next_permit(&self, class: TrafficClass) -> Option<Permit> {
        let (partition, user) = (self.delivery.partition, &self.command.user_id);
        let permit = self.caller.gate.permit(class, partition, user);
        let permit = async {
            in_hand::paused_if(|| self.caller.gate.pause().is_some());
            self.unless_cancelled(permit).await
        };
        self.caller.waits.during(Wait::Permit, permit).await
    }

    /// Fetches a token if one is needed, at the cost of one permit. One command fetches; those that can't continue
    /// without a token wait for it. False: the fetch failed.
    async fn token_at_hand(&self) -> Option<bool> {
        let access = self.provider().access();
        let fetching = match access.token() {
            TokenState::Ready => return Some(true),
            TokenState::Expiring => match self.caller.fetching.try_lock() {
                Ok(fetching) => fetching,
                Err(_) => return Some(true),
            },
            TokenState::Missing => {
                let fetching = self.unless_cancelled(self.caller.fetching.lock());
                self.caller.waits.during(Wait::Permit, fetching).await?
            }
        };
        if access.token() == TokenState::Ready {
            return Some(true);
        }
        // Interactive commands may wait for the token, too.
        let permit = self.next_permit(TrafficClass::Interactive).await?;
        let start = Instant::now();
        let answer = self.timed("token", access.fetch_token()).await;
        self.log_call("token", answer.as_ref().copied(), start, Duration::ZERO);
        let serves = access.token() != TokenState::Missing;
        let throttled = |error: &ProviderError| matches!(error.fault, Fault::Throttled { .. });
        if answer
            .as_ref()
            .err()
            .is_none_or(|error| !serves || throttled(error))
        {
            permit.report_token(answer.as_ref().copied());
        }
        drop(fetching);
        Some(serves)
    }

    /// Reads another user, which shows whether the failure is this command's or the provider's.
    pub(super) async fn probe_by(&self, control: &UserId, permit: Permit) {
        let start = Instant::now();
        let answer = self.timed("probe", self.provider().read(control)).await;
        self.log_call("probe", answer.as_ref().map(|_| ()), start, Duration::ZERO);
        permit.read_headers(self.provider());
        let answer = answer.as_ref().map(|_| ());
        permit.report(control, Call::Control, answer, &mut Trouble::default());
    }

    /// Decides what follows a failed call, and waits if it is to be repeated. `None`: abandoned.
    pub(super) async fn after_failure(
        &mut self,
        permit: Permit,
        call: Call,
        error: ProviderError,
        start: Instant,
    ) -> Option<After> {
        let fault = error.fault;
        let took = start.elapsed();
        if fault == Fault::CredentialsRenewed {
            self.log_call(kind_of(call), Err(&error), start, Duration::ZERO);
            return Some(After::Again);
        }
        let user = &self.command.user_id;
        let judgement = permit.report(user, call, Err(&error), &mut self.trouble);
        self.charges.failed();
        let late = self.may_come_late(call, fault);
        let delay = match judgement {
            Judgement::Spent { .. } | Judgement::SetAside => self.backoff.next(&mut self.rng),
            Judgement::Limited => self.limited_for(fault),
            Judgement::Plain if fault == Fault::Again => self.caller.retry.delay_min,
            _ => Duration::ZERO,
        };
        self.log_call(kind_of(call), Err(&error), start, delay);
        if late {
            // The write may still take effect. Until it can't, the user is neither written nor read, and the command is
            // not handed back: the wait is not cancelled.
            let settling = sleep(self.caller.calls.settling_time);
            self.caller.waits.during(Wait::Retry, settling).await;
        }
        self.consequence(error, judgement, took, delay).await
    }

    /// What follows a failure, by its judgement.
    async fn consequence(
        &mut self,
        error: ProviderError,
        judgement: Judgement,
        took: Duration,
        delay: Duration,
    ) -> Option<After> {
        let fault = error.fault;
        match (fault, judgement) {
            (Fault::Command(reason), _) => {
                self.charges.settle();
                Some(After::End(error.into_failure(reason)))
            }
            (_, Judgement::RefusedAlone) => {
                self.charges.settle();
                let reason = match fault {
                    Fault::Configuration => Reason::Rejected,
                    _ => Reason::Forbidden,
                };
                Some(After::End(error.into_failure(reason)))
            }
            (Fault::Again, _) => {
                let slept = self.unless_cancelled(sleep(delay));
                self.caller.waits.during(Wait::Retry, slept).await?;
                Some(After::Again)
            }
            (_, Judgement::Spent { streak }) => {
                self.take_back();
                self.charges.spend(streak, took, &self.caller.retry);
                if self.is_exhausted() {
                    return Some(exhausted(error, ""));
                }
                self.wait(delay).await?;
                let allowed = self.unless_cancelled(self.caller.gate.retry_allowed());
                self.caller.waits.during(Wait::Retry, allowed).await?;
                Some(After::Again)
            }
            (_, Judgement::Charged) => {
                self.charges.charge_all(&self.caller.retry);
                Some(match self.is_exhausted() {
                    true => exhausted(error, NOBODY_ELSE),
                    false => After::Again,
                })
            }
            (_, Judgement::Limited) if !self.charges.has_time_for(delay, &self.caller.retry) => {
                Some(exhausted(error, LIMITED))
            }
            (_, Judgement::SetAside | Judgement::Limited) => {
                self.wait(delay).await?;
                Some(After::Again)
            }
            // The gate stays closed until calls may resume.
            (_, Judgement::Plain | Judgement::Excused) => Some(After::Again),
        }
    }

    fn may_come_late(&self, call: Call, fault: Fault) -> bool {
        let late = match fault {
            Fault::Unknown => true,
            Fault::Broken | Fault::Throttled { .. } => !self.is_idempotent(),
            _ => false,
        };
        late && call == Call::Write
    }

    fn is_exhausted(&self) -> bool {
        self.charges.is_exhausted(&self.caller.retry)
    }

    /// The provider's Retry-After or the next delay of the backoff, whichever is longer.
    fn limited_for(&mut self, fault: Fault) -> Duration {
        let said = match fault {
            Fault::Throttled { retry_after } => retry_after,
            _ => None,
        };
        self.backoff.whole().max(said.unwrap_or_default())
    }

    /// Undoes attempts that were counted before their failures turned out to be an outage.
    pub(super) fn take_back(&mut self) {
        self.charges.take_back(|streak| self.caller.gate.excused(streak));
    }

    async fn wait(&mut self, delay: Duration) -> Option<()> {
        self.charges.wait(delay);
        let slept = async {
            in_hand::until(Instant::now() + delay);
            self.unless_cancelled(sleep(delay)).await
        };
        self.caller.waits.during(Wait::Retry, slept).await
    }

    /// The gap before the next read of a user, after the last attempt.
    pub(super) async fn wait_to_look(&mut self) -> Option<()> {
        let delay = self.backoff.next(&mut self.rng);
        self.wait(delay).await
    }

    /// `None`: cancelled first.
    pub(super) async fn unless_cancelled<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        unless_cancelled(self.cancel, wait).await
    }

    pub(super) async fn timed<T>(
        &self,
        kind: &'static str,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let start = Instant::now();
        let answer = self.caller.waits.during(Wait::Answer, call).await;
        let (answered, status) = match &answer {
            Ok(_) => (in_hand::OK, Some(200)),
            Err(error) => (label(error.fault), error.status),
        };
        metrics::call(kind, answered, status, start.elapsed());
        answer
    }
}

impl Attempts<'_> {
    /// Logs each call at `debug`: ids and the answer's class, nothing of the request's or the answer's content.
    /// `delay` is the command's own delay before its next call; the gate may make it wait longer.
    pub(super) fn log_call(
        &self,
        kind: &'static str,
        answer: Result<(), &ProviderError>,
        start: Instant,
        delay: Duration,
    ) {
        let answered = answer.err().map_or(in_hand::OK, |error| label(error.fault));
        let status = answer.err().and_then(|error| error.status);
        in_hand::called(kind, start, answered, status);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let error = answer.err();
        let pause = error.and_then(|_| self.caller.gate.pause()?.until);
        let pause = pause.map(|until| until.saturating_duration_since(Instant::now()));
        let wait = delay.max(pause.unwrap_or_default());
        tracing::debug!(
            command.id = %self.command.id,
            user.id = self.command.user_id.as_str(),
            batch.id = self.command.batch_id.as_ref().map(|batch| batch.as_str()),
            call.kind = kind,
            call.attempt = self.charges.attempts() + 1,
            call.answer = answered,
            provider.status = status,
            call.took_ms = millis(start.elapsed()),
            call.wait_ms = millis(wait),
            "provider: a call"
        );
    }
}

/// A 401 for one user, while calls for others succeed, is treated like a 403.
fn exhausted(error: ProviderError, remark: &str) -> After {
    let reason = match error.fault {
        Fault::Credentials => Reason::Forbidden,
        _ => Reason::RetriesExhausted,
    };
    let mut failure = error.into_failure(reason);
    failure.detail.to_mut().push_str(remark);
    After::Exhausted(failure)
}

fn kind_of(call: Call) -> &'static str {
    match call {
        Call::Read => "read",
        Call::Write => "write",
        Call::Control => "probe",
    }
}

fn label(fault: Fault) -> &'static str {
    match fault {
        Fault::Command(reason) => reason.as_str(),
        Fault::Credentials | Fault::CredentialsRenewed => "unauthorized",
        Fault::Denied => "denied",
        Fault::Configuration => "configuration",
        Fault::Again => "again",
        Fault::ReadFirst => "read_first",
        Fault::Unprocessed => "unprocessed",
        Fault::Throttled { .. } => "throttled",
        Fault::Worker => "worker",
        Fault::Unreachable => "unreachable",
        Fault::Broken => "broken",
        Fault::Unknown => "unknown",
    }
}
