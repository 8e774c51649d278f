//! Applies several queued updates of one user with one call.
//!
//! Each has its own START, outcome and ack, in order. The last one's call sets the last value of each field. Where they
//! can't share a call, or the call fails, they run one after another.

use std::iter;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::claims::Claim;
use super::{End, Finished, Runner, returned};
use crate::broker::Delivery;
use crate::contract::{Ident, Outcome, RunId, UpdateUser};
use crate::metrics;
use crate::provider::Codes;
use crate::worker::attempts::{Admission, Done};
use crate::worker::in_hand::Entry;
use crate::worker::received::Received;
use crate::worker::waits::Wait;

/// Which commands may share a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// None.
    #[default]
    Off,
    /// Bulk commands.
    Bulk,
    /// All, but interactive ones not with bulk ones.
    All,
}

/// The most commands that share a call. Their outcomes are published one by one, while their user waits.
pub(in crate::worker) const MERGED_MAX: usize = 32;

/// One of several commands that share a call.
struct Member<'h> {
    delivery: Delivery,
    ident: Ident,
    command: Box<UpdateUser>,
    run_id: RunId,
    entry: Option<Entry>,
    _claim: Claim<'h>,
}

/// The result of trying to share a call.
enum Together {
    Ended(Vec<End>),
    /// They run one after another.
    Each(Vec<Received>),
}

/// Runs a command, with those behind it that may share its call.
pub(in crate::worker) async fn run_received(
    runner: Arc<Runner>,
    received: Received,
    merged: Vec<Received>,
    cancel: CancellationToken,
) -> Finished {
    let partition = received.delivery.partition;
    let user = received.user.clone();
    let mut received = received;
    let entry = received.entry.take();
    let running = async {
        match merged.is_empty() {
            true => vec![runner.run_one(received, &cancel).await],
            false => {
                let received = iter::once(received).chain(merged).collect();
                Box::pin(runner.take_merged(received, &cancel)).await
            }
        }
    };
    let ends = match &entry {
        Some(entry) => entry.run(running).await,
        None => running.await,
    };
    Finished {
        partition,
        user,
        ends,
    }
}

impl Runner {
    /// Whether the command may share a call. A redelivered or redriven one may have been applied already, and an
    /// expected version or an expiry holds for one command alone. Passwords and codes are in provider blocks, which
    /// don't merge.
    pub(in crate::worker) fn may_merge(&self, received: &Received) -> bool {
        let class = match self.caller.calls.merge {
            Merge::Off => false,
            Merge::Bulk => received.delivery.bulk,
            Merge::All => true,
        };
        let Ok(command) = &received.command else {
            return false;
        };
        class
            && !received.delivery.redelivered
            && received.ident.redrives == 0
            && command.expected_version.is_none()
            && command.expires_at.is_none()
            && command.update.is_shared()
            && self.caller.provider.merges_updates()
            && self.caller.provider.is_idempotent(command)
    }

    pub(super) async fn take_merged(
        self: &Arc<Self>,
        received: Vec<Received>,
        cancel: &CancellationToken,
    ) -> Vec<End> {
        let received = match self.together(received, cancel).await {
            Together::Ended(ends) => return ends,
            Together::Each(received) => received,
        };
        let mut ends = Vec::with_capacity(received.len());
        for mut received in received {
            // Its waits and calls are its own again.
            let entry = received.entry.take();
            let running = self.run_one(received, cancel);
            ends.push(match &entry {
                Some(entry) => entry.run(running).await,
                None => running.await,
            });
        }
        ends
    }

    async fn together(self: &Arc<Self>, received: Vec<Received>, cancel: &CancellationToken) -> Together {
        let began = Instant::now();
        let members = match self.members(received) {
            Ok(members) => members,
            Err(received) => return Together::Each(received),
        };
        let Some(command) = self.merged(&members) else {
            return Together::Each(into_received(members));
        };
        let called = match self.call_once(&command, &members, cancel).await {
            Some(Ok(done)) => match done.outcome {
                Outcome::Success { .. } => {
                    return Together::Ended(self.settle_all(members, &done, began).await);
                }
                Outcome::Failure(failure) => {
                    tracing::debug!(
                        commands = members.len(),
                        failure.reason = failure.reason.as_str(),
                        "command: a call for several failed; they run one by one"
                    );
                    self.hand_all_back(&members, true).await;
                    return Together::Each(into_received(members));
                }
            },
            Some(Err(called)) => Some(called),
            None => None,
        };
        if let Some(called) = called {
            self.hand_all_back(&members, called).await;
        }
        let returned = |member: Member<'_>| returned(member.delivery);
        Together::Ended(members.into_iter().map(returned).collect())
    }

    /// The last command, with the last value of each field. `None` where they have to run one by one. They are
    /// claimed, so the outcome of any other delivery of one of them is known by now.
    fn merged(&self, members: &[Member<'_>]) -> Option<UpdateUser> {
        // A command that may have run before is handled by itself.
        let is_fresh = |member: &Member<'_>| {
            let mut ident = member.ident.clone();
            self.ledger.next_run(&mut ident, &member.delivery.body).is_none() && ident.redrives == 0
        };
        let under_orders = |member: &Member<'_>| {
            let batch = member.command.batch_id.as_ref();
            self.caller.orders.of_batch(batch).is_some() || self.caller.orders.holds(batch)
        };
        if self.unproven().is_some() || !members.iter().all(is_fresh) || members.iter().any(under_orders) {
            return None;
        }
        let mut commands = members.iter().map(|member| &member.command);
        let first = UpdateUser::clone(commands.next()?);
        let merged = commands.fold(first, |merged, next| UpdateUser {
            update: merged.update.followed_by(&next.update),
            ..UpdateUser::clone(next)
        });
        self.caller.provider.check(&merged).is_ok().then_some(merged)
    }

    /// Claims all or none, without waiting: two groups that wait while they hold claims could deadlock.
    fn members(&self, received: Vec<Received>) -> Result<Vec<Member<'_>>, Vec<Received>> {
        let claims: Option<Vec<_>> = received
            .iter()
            .map(|received| self.claims.claim_now(received.ident.key))
            .collect();
        let Some(claims) = claims.filter(|_| received.iter().all(|received| received.command.is_ok())) else {
            return Err(received);
        };
        let members = received.into_iter().zip(claims).filter_map(|(received, claim)| {
            Some(Member {
                delivery: received.delivery,
                ident: received.ident,
                command: received.command.ok()?,
                run_id: self.next_run_id(),
                entry: received.entry,
                _claim: claim,
            })
        });
        Ok(members.collect())
    }

    /// Publishes START for each, and makes one call. `None`: cancelled before the call. The error: abandoned later, and
    /// whether the provider was called.
    async fn call_once(
        self: &Arc<Self>,
        command: &UpdateUser,
        members: &[Member<'_>],
        cancel: &CancellationToken,
    ) -> Option<Result<Done, bool>> {
        let last = members.last()?;
        let (isolation, slot) = self.admitted(false, &last.delivery, cancel).await?;
        for (n, member) in members.iter().enumerate() {
            let started = self.start(&member.ident, &member.delivery, &member.run_id, cancel);
            if started.await.is_none() {
                // `start` has handed this one back already, if START may have been sent.
                self.hand_all_back(&members[..n], false).await;
                return None;
            }
        }
        metrics::merged(members.len() - 1);
        let admission = Admission {
            maybe_applied: false,
            slot,
        };
        let its_own = (&last.ident, &last.delivery);
        Some(self.call(command, its_own, admission, isolation, cancel).await)
    }

    async fn hand_all_back(self: &Arc<Self>, members: &[Member<'_>], called: bool) {
        for member in members {
            self.hand_back(&member.ident, &member.delivery, &member.run_id, called)
                .await;
        }
    }

    /// Settles them in order: commands without an outcome when the worker dies are redelivered.
    async fn settle_all(&self, members: Vec<Member<'_>>, done: &Done, began: Instant) -> Vec<End> {
        let last = members.last().map(|last| last.command.id);
        let mut ends = Vec::with_capacity(members.len());
        for member in members {
            let is_last = Some(member.command.id) == last;
            let its_own = Done {
                outcome: done.outcome.clone(),
                attempts: if is_last { done.attempts } else { 0 },
                first_attempt_at: done.first_attempt_at,
                last_call: done.last_call,
                codes: Codes::default(),
                merged_into: last.filter(|_| !is_last),
            };
            let allowed = self.caller.gate.outcome_allowed(None);
            self.caller.waits.during(Wait::Guard, allowed).await;
            ends.push(self.settle(member.delivery, &member.ident, its_own, began).await);
        }
        ends
    }
}

/// Drops the claims.
fn into_received(members: Vec<Member<'_>>) -> Vec<Received> {
    let received = |member: Member<'_>| Received {
        delivery: member.delivery,
        ident: member.ident,
        user: Some(member.command.user_id.clone()),
        command: Ok(member.command),
        entry: member.entry,
    };
    members.into_iter().map(received).collect()
}
