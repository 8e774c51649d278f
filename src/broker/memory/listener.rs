//! The port's listener over the broker in memory: the outcome log is a queue that nobody empties.

use std::pin::pin;
use std::sync::Arc;

use super::Shared;
use super::state::ListenerId;
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{Extent, Heard, Listener, Sight};
use async_trait::async_trait;

pub(super) struct MemoryListener {
    shared: Arc<Shared>,
    id: ListenerId,
    /// How far the log is read, while it is.
    log: Option<usize>,
    /// The connection that it is said to be read on.
    said: Option<u64>,
    /// It is to be said that this is not all that was wanted.
    cut: bool,
}

impl MemoryListener {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let id = shared.state().listen();
        Self {
            shared,
            id,
            log: None,
            said: None,
            cut: false,
        }
    }

    fn heard(&mut self) -> Option<Heard> {
        let mut state = self.shared.state();
        if let Some(notice) = state.hear(self.id) {
            return Some(Heard::Notice(notice));
        }
        if state.faults.down.is_some() {
            return None;
        }
        if let Some(handed) = state.given_up(self.id) {
            return Some(Heard::GivenUp(handed.into_delivery(&self.shared)));
        }
        let next = self.log?;
        if state.faults.log_refused {
            return None;
        }
        let connection = state.faults.connection;
        if self.said != Some(connection) {
            self.said = Some(connection);
            return Some(Heard::Following);
        }
        if std::mem::take(&mut self.cut) {
            return Some(Heard::Cut);
        }
        if state.faults.log_held {
            return None;
        }
        let message = state.queue(OUTCOME_LOG)?.nth(next)?;
        self.log = Some(next + 1);
        Some(Heard::Logged(message))
    }
}

#[async_trait]
impl Listener for MemoryListener {
    async fn next(&mut self) -> Heard {
        loop {
            let shared = self.shared.clone();
            let mut changed = pin!(shared.deliverable.notified());
            changed.as_mut().enable();
            if let Some(heard) = self.heard() {
                return heard;
            }
            changed.await;
        }
    }

    fn follow(&mut self, wanted: Option<Extent>) {
        self.cut = false;
        self.log = wanted.map(|wanted| {
            let (first, count) = self.shared.state().logged_since(wanted.since);
            let latest = count.saturating_sub(wanted.messages_max);
            self.cut = latest > first;
            first.max(latest)
        });
        self.said = None;
    }

    fn sight(&self) -> Sight {
        let shared = self.shared.clone();
        Sight {
            link: shared.consume_link.subscribe(),
            log_trouble: shared.log_trouble.subscribe(),
            unroutable: shared.unroutable.subscribe(),
            ready: Arc::new(move || shared.state().ready()),
        }
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.shared.state().stop_listening(self.id);
        self.shared.deliverable.notify_waiters();
    }
}
