//! Barriers: how a worker knows that it has read the outcome log up to a point.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::{Fleet, Read};
use crate::broker::{Header, Message, Properties};
use crate::contract::RunId;
use crate::contract::notice::BARRIER;
use crate::worker::carried;

/// A barrier that was not read by then is published again.
const BARRIER_AGAIN: Duration = Duration::from_secs(5);

impl Fleet {
    pub fn has_caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }

    /// Waits until the log was read up to the present for the first time.
    pub async fn caught_up(&self) {
        // The sender lives as long as this does.
        let _ = self.caught_up.subscribe().wait_for(|caught_up| *caught_up).await;
    }

    /// Sets whether the outcome log is followed. A worker that holds all leases needs no log once it has read the past.
    pub fn follow(&self, wanted: bool) {
        let wanted = wanted || !self.has_read_all();
        self.follow.send_if_modified(|follow| {
            let changed = *follow != wanted;
            *follow = wanted;
            changed
        });
    }

    /// Whether the log is read as far back as needed.
    pub fn has_read_all(&self) -> bool {
        *self.read.borrow() == Read::All
    }

    pub(super) async fn has_read(&self, far: Read) {
        // The sender lives as long as this does.
        let _ = self.read.subscribe().wait_for(|read| *read >= far).await;
    }

    /// Waits until the log is read as far back as needed and, if it holds any event, is known to be read completely.
    pub async fn read_all(&self) {
        self.has_read(Read::All).await;
        if !self.is_log_proven() {
            self.barrier().await;
        }
    }

    /// Waits until every event that was published before now is read, except for the older part of the log: an event
    /// that was read is published again behind them, and waited for. If none was read, there is nothing to publish.
    pub async fn barrier(&self) {
        self.follow(true);
        self.has_read(Read::ToPresent).await;
        let Some(latest) = self.ledger.latest() else {
            return;
        };
        self.read_behind(latest).await;
        // Another task may have set it at the same time, which is harmless.
        let _ = self.proven.set(());
    }

    /// Whether the log is known to be read. One that delivers nothing may be empty, or its nodes are away or busy.
    pub fn is_log_proven(&self) -> bool {
        self.proven.initialized()
    }

    /// Waits until the log is known to be read. Called only when the log certainly holds an event: one that is not
    /// found once that is read was never in it.
    pub async fn prove_log(&self) {
        let proven = self.proven.get_or_init(|| async {
            self.follow(true);
            self.read_behind(self.ledger.any().await).await;
        });
        proven.await;
    }

    /// Publishes this event again behind all others in the log, and waits until it is read.
    async fn read_behind(&self, latest: Message) {
        let number = self.barriers.fetch_add(1, Ordering::AcqRel) + 1;
        let barrier = RunId {
            worker: self.me.clone(),
            number,
        };
        let mut properties = Properties::persistent(
            latest.properties.message_id().unwrap_or_default(),
            latest.properties.content_type().unwrap_or_default(),
        );
        if let Some(kind) = latest.properties.message_type() {
            properties = properties.with_message_type(kind);
        }
        if let Some(id) = latest.properties.correlation_id() {
            properties = properties.with_correlation_id(id);
        }
        // Whoever reads it again finds it in the trace of the first.
        let context = carried::handed_on(&latest.properties);
        let mark = (BARRIER.to_owned(), Header::Text(barrier.to_string()));
        let repeat = Message {
            properties: properties.with_headers(carried::by(context.as_ref()).chain([mark])),
            mandatory: false,
            ..latest
        };
        loop {
            let read = async {
                let _ = self.publisher.publish(&repeat).await;
                self.ledger.barrier(number).await;
            };
            if timeout(BARRIER_AGAIN, read).await.is_ok() {
                return;
            }
        }
    }
}
