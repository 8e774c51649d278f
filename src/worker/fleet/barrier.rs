//! How a worker knows that it has read the outcome log, and what it waits for before it does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::{Fleet, Read};
use crate::broker::{Header, Message, Properties};
use crate::contract::RunId;
use crate::contract::notice::BARRIER;

/// A barrier that was not read by then is put up again.
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

    /// Whether the outcome log is to be read. A worker that does everything itself knows it all, once it has read what
    /// was before.
    pub fn follow(&self, wanted: bool) {
        let wanted = wanted || !self.has_read_all();
        self.follow.send_if_modified(|follow| {
            let changed = *follow != wanted;
            *follow = wanted;
            changed
        });
    }

    /// Whether the log is read as far back as it is wanted.
    pub fn has_read_all(&self) -> bool {
        *self.read.borrow() == Read::All
    }

    async fn has_read(&self, far: Read) {
        // The sender lives as long as this does.
        let _ = self.read.subscribe().wait_for(|read| *read >= far).await;
    }

    /// Waits until the log is read as far back as it is wanted, and is known to be, if anything is in it.
    pub async fn read_all(&self) {
        self.has_read(Read::All).await;
        if !self.is_log_proven() {
            self.barrier().await;
        }
    }

    /// Waits until all that happened before now has been read, but for the older part of the log: an event that was
    /// read before is put behind everything once more, and waited for. Where none was read there is nothing to put up.
    pub async fn barrier(&self) {
        self.follow(true);
        self.has_read(Read::ToPresent).await;
        let Some(latest) = self.ledger.latest() else {
            return;
        };
        self.read_behind(latest).await;
        // Where somebody does the same at this moment, that is as good.
        let _ = self.proven.set(());
    }

    /// Whether the log is known to be read. A silent one may be empty; or its nodes are away, or busy.
    pub fn is_log_proven(&self) -> bool {
        self.proven.initialized()
    }

    /// Waits until the log is known to be read. To be called when something is in it for sure: what is not found
    /// when that is read was never in it.
    pub async fn prove_log(&self) {
        let proven = self.proven.get_or_init(|| async {
            self.follow(true);
            self.read_behind(self.ledger.any().await).await;
        });
        proven.await;
    }

    /// Puts this event behind all that is in the log, and waits until it is read.
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
        let repeat = Message {
            properties: properties.with_headers([(BARRIER.to_owned(), Header::Text(barrier.to_string()))]),
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
