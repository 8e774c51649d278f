//! One turn of a command, from its delivery to the ack: what a task of the worker does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handler::{Done, Handled, Handler, Held};
use super::settle::Settler;
use super::turn::Turn;
use crate::broker::Delivery;
use crate::contract::outcome::Settlement;
use crate::contract::{Failure, Ident, Outcome, ProviderName, Reason, UserId};
use crate::metrics;
use crate::provider::Codes;

/// What the tasks share.
pub(super) struct Hands {
    pub(super) handler: Handler,
    pub(super) settler: Settler,
    pub(super) name: ProviderName,
}

/// What a task leaves behind.
pub(super) struct Finished {
    pub(super) user: Option<UserId>,
    pub(super) ident: Ident,
    pub(super) end: End,
}

pub(super) enum End {
    Settled(Settlement),
    /// The outcome was known from before.
    Repeated,
    /// A refused command: nothing to remember.
    Refused(Settlement),
    Returned,
}

/// Until `leave` is cancelled: then the command is left where it stands between two calls.
pub(super) async fn take_turn(
    hands: Arc<Hands>,
    turn: Turn,
    known: Option<Settlement>,
    leave: CancellationToken,
) -> Finished {
    let user = turn.user().cloned();
    let ident = turn.ident.clone();
    let end = hands.take_turn(turn, known, &leave).await;
    Finished { user, ident, end }
}

impl Hands {
    async fn take_turn(&self, turn: Turn, known: Option<Settlement>, leave: &CancellationToken) -> End {
        let Turn {
            delivery,
            ident,
            command,
        } = turn;
        if !delivery.usable() {
            return returned(delivery);
        }
        if let Some(settlement) = known {
            self.settler.terminal(&ident, &delivery, &settlement).await;
            acked(delivery, &ident).await;
            return End::Repeated;
        }
        let began = Instant::now();
        let (refused, done) = match command {
            Err(failure) => {
                self.settler.start(&ident, &delivery).await;
                (true, Some(done(failure)))
            }
            Ok(command) => {
                // START is on its way before the call, and confirmed while the call runs.
                let handled = self.handler.handle(&command, &delivery, leave);
                let handled = AssertUnwindSafe(handled).catch_unwind();
                let start = self.settler.start(&ident, &delivery);
                let ((), handled) = tokio::join!(biased; start, handled);
                (false, outcome(handled, &ident))
            }
        };
        let Some(done) = done else {
            return returned(delivery);
        };
        let settlement = Settlement {
            outcome: done.outcome,
            attempts: done.attempts,
            duration: began.elapsed(),
        };
        let is_dead_letter = settlement.outcome.dead_letter().is_some();
        let allowed = self.handler.gate.outcome_allowed(is_dead_letter);
        tokio::select! {
            biased;
            () = allowed => {}
            () = leave.cancelled() => return returned(delivery),
        }
        self.settler.reply(&ident, &delivery, &done.codes).await;
        if let Some(failure) = settlement.outcome.dead_letter() {
            log_failure(&ident, failure, done.attempts);
            let (attempts, at) = (done.attempts, done.first_attempt_at);
            self.settler
                .dead_letter(&ident, &delivery, failure, attempts, at)
                .await;
        }
        self.settler.terminal(&ident, &delivery, &settlement).await;
        metrics::command_settled(&settlement.outcome, Held::class(&delivery), settlement.duration);
        acked(delivery, &ident).await;
        match refused {
            true => End::Refused(settlement),
            false => End::Settled(settlement),
        }
    }
}

fn done(failure: Failure) -> Done {
    Done {
        outcome: Outcome::Failure(failure),
        attempts: 0,
        first_attempt_at: None,
        codes: Codes::default(),
    }
}

/// `None` where somebody else finishes the command.
fn outcome(handled: std::thread::Result<Handled>, ident: &Ident) -> Option<Done> {
    match handled {
        Ok(Handled::Done(done)) => Some(done),
        Ok(Handled::Abandoned) => None,
        Err(_) => {
            metrics::panic();
            tracing::error!(
                command.id = ident.command_id,
                "handler: a command's handling panicked"
            );
            let detail = "handling it panicked, which is a defect of usher: report it, and look at the user \
                          before sending the command again";
            Some(done(Failure::new(Reason::Poison, detail)))
        }
    }
}

fn returned(delivery: Delivery) -> End {
    delivery.hand_back();
    End::Returned
}

/// A stale delivery comes again; its outcome is known by then.
async fn acked(delivery: Delivery, ident: &Ident) {
    if delivery.ack().await.is_err() {
        metrics::stale_delivery();
        tracing::debug!(
            command.id = ident.command_id,
            "settle: the delivery was stale, it comes again"
        );
    }
}

fn log_failure(ident: &Ident, failure: &Failure, attempts: u32) {
    tracing::warn!(
        command.id = ident.command_id,
        failure.reason = failure.reason.as_str(),
        failure.pointer = failure.pointer,
        failure.detail = %failure.detail,
        provider.status = failure.status,
        provider.code = failure.code,
        command.attempts = attempts,
        "command: dead letter"
    );
}
