//! What comes before a call and after one that failed: the permit, the token, the delay.

use tokio::time::{Instant, sleep};

use super::{Course, Permit};
use crate::contract::{Failure, Fault, Reason, UserId};
use crate::metrics;
use crate::policy::health::{Call, Judgement};
use crate::provider::{ProviderError, TokenState};

/// What a failed call leads to.
pub(super) enum After {
    Again,
    /// The last attempt is spent, or the time.
    Exhausted(Failure),
    End(Failure),
}

impl Course<'_> {
    /// The right to make one call, with a token to make it with.
    pub(super) async fn permit(&self) -> Option<Permit> {
        loop {
            if !self.token_at_hand().await? {
                continue;
            }
            let permit = self.next_permit().await?;
            // It may have been dropped in the meantime.
            if self.provider().access().token() != TokenState::Missing {
                return Some(permit);
            }
        }
    }

    async fn next_permit(&self) -> Option<Permit> {
        let (class, user) = (self.held.class(), &self.command.user_id);
        self.unless_left(self.handler.gate.permit(class, user)).await
    }

    /// Fetches a token where one is needed: one command does, at a call's cost, and those that can't go on
    /// without one wait for it. False where the fetch failed.
    async fn token_at_hand(&self) -> Option<bool> {
        let access = self.provider().access();
        let fetching = match access.token() {
            TokenState::Ready => return Some(true),
            TokenState::Expiring => match self.handler.fetching.try_lock() {
                Ok(fetching) => fetching,
                Err(_) => return Some(true),
            },
            TokenState::Missing => self.unless_left(self.handler.fetching.lock()).await?,
        };
        if access.token() == TokenState::Ready {
            return Some(true);
        }
        let permit = self.next_permit().await?;
        let answer = self.timed("token", access.fetch_token()).await;
        permit.report_token(answer.as_ref().copied());
        drop(fetching);
        Some(answer.is_ok() || access.token() != TokenState::Missing)
    }

    /// Somebody else's read shows whether the trouble is this command's or the provider's.
    pub(super) async fn probe_by(&self, control: &UserId, permit: Permit) {
        let answer = self.timed("probe", self.provider().read(control)).await;
        permit.tell(self.provider());
        permit.report(control, Call::Control, answer.as_ref().map(|_| ()), None);
    }

    /// Decides about a call that failed, and waits if it is to be made again. `None`: abandoned.
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
            return Some(After::Again);
        }
        let denied_since = match fault {
            Fault::Denied => Some(*self.denied_since.get_or_insert_with(|| self.handler.gate.mark())),
            _ => None,
        };
        let judgement = permit.report(&self.command.user_id, call, Err(&error), denied_since);
        let late = match fault {
            Fault::Unknown => true,
            Fault::Broken | Fault::Throttled { .. } => !self.harmless(),
            _ => false,
        };
        if call == Call::Write && late {
            // It may still take effect: until it can't, nobody writes to this user, and nobody draws
            // conclusions from reading it.
            self.unless_left(sleep(self.handler.calls.settling_time)).await?;
        }
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
                let retry = &self.handler.retry;
                self.attempts = (self.attempts + 1).min(retry.attempts);
                self.elapsed += took;
                if self.attempts == retry.attempts || self.elapsed >= retry.elapsed_max {
                    return Some(After::Exhausted(error.into_failure(Reason::RetriesExhausted)));
                }
                self.wait().await?;
                self.unless_left(self.handler.gate.retry_allowed()).await?;
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
        self.elapsed += delay;
        self.unless_left(sleep(delay)).await
    }

    /// `None` where the command is to be left first.
    pub(super) async fn unless_left<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.leave.cancelled() => None,
            done = wait => Some(done),
        }
    }

    pub(super) async fn timed<T>(
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
