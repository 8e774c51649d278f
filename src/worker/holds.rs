//! Batches in which a failure holds back the user's later commands.
//!
//! Who is held back stands among the orders, so that every worker knows it, those that start later included. A worker changes
//! the orders before it tells the outcome that is the reason: if it dies in between, the command runs again and ends the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use uuid::Uuid;

use super::lifecycle;
use super::order_book::{self, OrderBook};
use super::settle::Settler;
use crate::contract::lifecycle::{BatchOrdered, LifecycleBody, LifecycleEvent};
use crate::contract::orders::{BatchOrder, BatchState, Orders, TEXT_MAX};
use crate::contract::{BatchId, Failure, Ident, Outcome, Reason, UserId};

/// So many users of a batch are held back before it is paused.
const HELD_MAX: usize = 500;

/// A change that is not read back within this is made again.
const READ_BACK_WITHIN: Duration = Duration::from_secs(5);

/// Who orders a pause over too many users that are held back.
const BY: &str = "usher";

pub(super) struct Holds {
    orders: Arc<OrderBook>,
    stream: String,
    /// This worker's changes don't compete with each other.
    changing: Mutex<()>,
}

/// What an outcome means for the user's later commands.
struct Change<'a> {
    batch: &'a BatchId,
    user: &'a str,
    command: &'a str,
    failed: bool,
}

impl Holds {
    pub(super) fn new(orders: Arc<OrderBook>, stream: String) -> Self {
        Self {
            orders,
            stream,
            changing: Mutex::default(),
        }
    }

    /// Changes who is held back, if the outcome does. It is told only after that.
    pub(super) async fn before_outcome(&self, ident: &Ident, outcome: &Outcome, settler: &Settler) {
        let failed = match outcome {
            Outcome::Success { .. } => false,
            Outcome::Failure(failure) if is_kept_from_running(failure) => return,
            Outcome::Failure(_) => true,
        };
        let (Some(batch), Some(user), Some(command)) = (&ident.batch_id, &ident.user_id, &ident.command_id)
        else {
            return;
        };
        // Of a refused command they can be anything, and orders with longer texts are ignored.
        if UserId::parse(user).is_none() || command.chars().count() > TEXT_MAX {
            return;
        }
        let change = Change {
            batch,
            user,
            command,
            failed,
        };
        if !self.orders.would(|orders| change.is_needed(orders)) {
            return;
        }
        let _changing = self.changing.lock().await;
        let mut said = false;
        loop {
            let mut orders = self.orders.now();
            if !change.is_needed(&orders) {
                return;
            }
            let pauses = change.apply(&mut orders, settler.clock.now());
            orders.revision += 1;
            let message = order_book::message(&self.stream, &orders, &Uuid::new_v4().to_string());
            settler.until_routed(&message).await;
            let read_back = self.orders.reaches(orders.revision);
            if timeout(READ_BACK_WITHIN, read_back).await.is_err() && !std::mem::replace(&mut said, true) {
                tracing::warn!(
                    stream = self.stream,
                    "worker: can't read back whom a failure holds back; the command waits until it can"
                );
            }
            if pauses {
                tell_pause(batch, orders.revision, settler).await;
            }
        }
    }
}

impl Change<'_> {
    fn is_needed(&self, orders: &Orders) -> bool {
        let Some(hold) = orders.holds.get(self.batch.as_str()) else {
            return false;
        };
        match (hold.users.get(self.user), self.failed) {
            (None, failed) => failed && (orders.has_room() || !self.is_paused(orders)),
            (Some(command), failed) => !failed && command == self.command,
        }
    }

    /// Returns whether the batch is paused by this.
    fn apply(&self, orders: &mut Orders, now: jiff::Timestamp) -> bool {
        let (has_room, was_paused) = (orders.has_room(), self.is_paused(orders));
        let Some(hold) = orders.holds.get_mut(self.batch.as_str()) else {
            return false;
        };
        if !self.failed {
            hold.users.remove(self.user);
            return false;
        }
        if has_room {
            hold.users.insert(self.user.to_owned(), self.command.to_owned());
        }
        let pauses = !was_paused && (!has_room || hold.users.len() >= HELD_MAX);
        if pauses {
            let paused = BatchOrder {
                state: BatchState::Paused,
                by: BY.to_owned(),
                since: now,
            };
            orders.batches.insert(self.batch.as_str().to_owned(), paused);
        }
        pauses
    }

    fn is_paused(&self, orders: &Orders) -> bool {
        orders.batch(self.batch).is_some()
    }
}

/// A command that was kept from running says nothing of its user.
fn is_kept_from_running(failure: &Failure) -> bool {
    matches!(failure.reason, Reason::HeldBehind | Reason::Cancelled)
}

async fn tell_pause(batch: &BatchId, revision: u64, settler: &Settler) {
    tracing::warn!(
        batch.id = batch.as_str(),
        held = HELD_MAX,
        "worker: paused a batch, as the failures of so many users hold back their later commands; redrive or discard the \
         failed ones, then run `usher batch resume`"
    );
    let body = LifecycleBody::BatchPaused(BatchOrdered {
        batch_id: batch.clone(),
        by: BY.to_owned(),
    });
    let event = LifecycleEvent::about(
        &settler.provider,
        batch.as_str(),
        body,
        revision,
        settler.clock.now(),
    );
    settler
        .until_confirmed(&lifecycle::message(&settler.provider, &event))
        .await;
}

/// The failure of a command behind a failed one.
pub(super) fn held_behind(failed: &str) -> Failure {
    let detail = format!(
        "the command {failed} of the same user and batch failed before it; redrive or discard that one, then redrive this one"
    );
    Failure::new(Reason::HeldBehind, detail).at("/batchId")
}
