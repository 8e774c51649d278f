//! The operators' orders, as this worker knows them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::{Message, Properties};
use crate::clock::OnceAMinute;
use crate::contract::orders::UnusableOrders;
use crate::contract::{BatchId, BatchState, Orders, UpdateUser};

/// The orders in force. All tasks of the worker share one.
pub struct OrderBook {
    orders: watch::Sender<Orders>,
    reading: Mutex<Reading>,
    /// Whether all orders that were there at the start are known.
    known: watch::Sender<bool>,
}

/// The current reading of the stream.
#[derive(Default)]
struct Reading {
    /// What was read before the present is reached. `None`: it was reached.
    earlier: Option<Orders>,
    ignored: OnceAMinute,
}

impl Default for OrderBook {
    fn default() -> Self {
        Self {
            orders: watch::Sender::new(Orders::default()),
            reading: Mutex::default(),
            known: watch::Sender::new(false),
        }
    }
}

impl OrderBook {
    /// The orders are read again from the beginning: those before stay in force until the present is reached.
    pub(super) fn begins(&self) {
        self.reading().earlier = Some(Orders::default());
    }

    /// Takes in the next orders of the stream.
    pub(super) fn read(&self, bytes: &[u8]) {
        let mut reading = self.reading();
        let orders = match Orders::read(bytes) {
            Ok(orders) => orders,
            Err(why) => return reading.ignore(why),
        };
        match &mut reading.earlier {
            Some(latest) if orders.revision > latest.revision => *latest = orders,
            Some(_) => {}
            None => {
                self.orders.send_if_modified(|latest| {
                    let is_later = orders.revision > latest.revision;
                    if is_later {
                        *latest = orders;
                    }
                    is_later
                });
            }
        }
    }

    pub(super) fn present(&self) {
        if let Some(latest) = self.reading().earlier.take() {
            self.orders
                .send_if_modified(|known| std::mem::replace(known, latest.clone()) != latest);
        }
        self.known.send_replace(true);
    }

    /// Waits until the orders are known.
    pub(super) async fn known(&self) {
        // The sender lives as long as this does.
        let _ = self.known.subscribe().wait_for(|known| *known).await;
    }

    pub fn subscribe(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    pub(super) fn revision(&self) -> u64 {
        self.orders.borrow().revision
    }

    pub fn now(&self) -> Orders {
        self.orders.borrow().clone()
    }

    /// What was ordered for this batch.
    pub(super) fn of_batch(&self, batch: Option<&BatchId>) -> Option<BatchState> {
        Some(self.orders.borrow().batch(batch?)?.state)
    }

    /// The command behind which this one is held back.
    pub(super) fn held_behind(&self, command: &UpdateUser) -> Option<String> {
        let orders = self.orders.borrow();
        let failed = orders.held_behind(command.batch_id.as_ref()?, command.user_id.as_str())?;
        (failed != command.id.to_string()).then(|| failed.to_owned())
    }

    /// Whether a failure holds back the user's later commands of this batch.
    pub(super) fn holds(&self, batch: Option<&BatchId>) -> bool {
        batch.is_some_and(|batch| self.orders.borrow().holds.contains_key(batch.as_str()))
    }

    /// Whether this is so of the orders in force.
    pub(super) fn would(&self, so: impl FnOnce(&Orders) -> bool) -> bool {
        so(&self.orders.borrow())
    }

    /// Waits until orders of this revision or a later one are known.
    pub(super) async fn reaches(&self, revision: u64) {
        // The sender lives as long as this does.
        let _ = self
            .orders
            .subscribe()
            .wait_for(|orders| orders.revision >= revision)
            .await;
    }

    /// Waits for other orders for this batch than `before`.
    pub(super) async fn batch_changes(&self, batch: Option<&BatchId>, before: Option<BatchState>) {
        let Some(batch) = batch else {
            return std::future::pending().await;
        };
        let state = |orders: &Orders| orders.batch(batch).map(|order| order.state);
        // The sender lives as long as this does.
        let _ = self
            .orders
            .subscribe()
            .wait_for(|orders| state(orders) != before)
            .await;
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders as a message of their stream.
pub fn message(stream: &str, orders: &Orders, id: &str) -> Message {
    Message {
        exchange: String::new(),
        routing_key: stream.to_owned(),
        properties: Properties::persistent(id, "application/json"),
        // They hold strings, numbers and times.
        body: Bytes::from(serde_json::to_vec(orders).unwrap_or_default()),
        mandatory: true,
    }
}

impl Reading {
    fn ignore(&mut self, why: UnusableOrders) {
        if let Some(ignored) = self.ignored.count(Instant::now()) {
            tracing::warn!(
                orders.ignored = ignored,
                orders.fault = %why,
                "worker: ignored orders that no operator's command writes; check who may write to the usher.orders stream"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(revision: u64, resumes: u64) -> Vec<u8> {
        serde_json::to_vec(&Orders {
            revision,
            resumes,
            ..Orders::default()
        })
        .unwrap()
    }

    #[test]
    fn the_highest_revision_counts_and_of_two_the_earlier() {
        let book = OrderBook::default();
        book.begins();
        for (revision, resumes) in [(1, 10), (3, 30), (2, 20), (3, 31)] {
            book.read(&orders(revision, resumes));
        }
        assert_eq!(book.now(), Orders::default(), "not before all are read");
        book.present();
        assert_eq!(book.now().resumes, 30);
        book.read(&orders(3, 32));
        assert_eq!(book.now().resumes, 30);
        book.read(b"nonsense");
        book.read(&orders(4, 40));
        assert_eq!(book.now().resumes, 40);
    }

    #[test]
    fn orders_that_are_gone_are_no_longer_in_force_once_the_stream_is_read_again() {
        let book = OrderBook::default();
        book.begins();
        book.read(&orders(5, 50));
        book.present();
        book.begins();
        book.read(&orders(1, 1));
        assert_eq!(book.now().resumes, 50);
        book.present();
        assert_eq!(book.now().resumes, 1);
    }
}
