//! The port's listener over the broker in memory: the outcome log is a queue that nobody empties.

use std::pin::pin;
use std::sync::Arc;

use super::Shared;
use super::state::{ListenerId, State};
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{Extent, FleetMessage, Listener, ListenerStatus, Message};
use async_trait::async_trait;

pub(super) struct MemoryListener {
    shared: Arc<Shared>,
    id: ListenerId,
    wish: Option<Extent>,
    /// The reading for it, once it has begun.
    reading: Option<Reading>,
}

/// How far the log is read.
struct Reading {
    /// Another connection begins anew.
    connection: u64,
    /// The log said nothing: as soon as it does, it is read anew.
    silent: bool,
    next: usize,
    /// What was there when it began ends here; `None`: that was said.
    present: Option<usize>,
    /// `None`: it was read.
    earlier: Option<Earlier>,
}

/// The older part: from where it goes on to its end.
struct Earlier {
    next: usize,
    end: usize,
    /// It is to be said that this is not all that was wanted.
    cut: bool,
}

impl MemoryListener {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let id = shared.state().listen();
        Self {
            shared,
            id,
            wish: None,
            reading: None,
        }
    }

    fn heard(&mut self) -> Option<FleetMessage> {
        let mut state = self.shared.state();
        if let Some(notice) = state.hear(self.id) {
            return Some(FleetMessage::Notice(notice));
        }
        if state.faults.down.is_some() {
            return None;
        }
        if let Some(handed) = state.given_up(self.id) {
            return Some(FleetMessage::GivenUp(handed.into_delivery(&self.shared)));
        }
        let wish = self.wish?;
        if state.faults.log_refused {
            return None;
        }
        match &mut self.reading {
            Some(reading) if !reading.is_over(&mut state) => reading.heard(&mut state),
            _ => {
                self.reading = Some(Reading::new(wish, &state));
                Some(FleetMessage::Begins(wish))
            }
        }
    }
}

impl Reading {
    fn new(wish: Extent, state: &State) -> Self {
        let (first, count) = state.logged_since(wish.since);
        let silent = state.faults.log_held || count == 0;
        let end = first
            .max(count.saturating_sub(wish.end_max))
            .min(count.saturating_sub(1));
        let start = first.max(count.saturating_sub(wish.messages_max));
        Self {
            connection: state.faults.connection,
            silent,
            next: end,
            present: Some(count),
            earlier: Some(Earlier {
                next: start,
                end,
                cut: start > first && start < end,
            }),
        }
    }

    fn is_over(&self, state: &mut State) -> bool {
        let speaks = |state: &mut State| !state.faults.log_held && logged(state, 0).is_some();
        self.connection != state.faults.connection || self.silent && speaks(state)
    }

    fn heard(&mut self, state: &mut State) -> Option<FleetMessage> {
        if self
            .present
            .is_some_and(|count| self.silent || self.next >= count)
        {
            self.present = None;
            return Some(FleetMessage::Present);
        }
        if self.silent {
            return self.earlier.take().map(|_| FleetMessage::Complete);
        }
        if state.faults.log_held {
            return None;
        }
        if let Some(message) = logged(state, self.next) {
            self.next += 1;
            return Some(FleetMessage::Logged(message));
        }
        let earlier = self.earlier.as_mut().filter(|_| !state.faults.earlier_held)?;
        if std::mem::take(&mut earlier.cut) {
            return Some(FleetMessage::Cut);
        }
        if earlier.next >= earlier.end {
            self.earlier = None;
            return Some(FleetMessage::Complete);
        }
        let message = logged(state, earlier.next)?;
        earlier.next += 1;
        Some(FleetMessage::Earlier(message))
    }
}

fn logged(state: &mut State, n: usize) -> Option<Message> {
    state.queue(OUTCOME_LOG)?.nth(n)
}

#[async_trait]
impl Listener for MemoryListener {
    async fn next(&mut self) -> FleetMessage {
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
        self.wish = wanted;
        self.reading = None;
    }

    fn status(&self) -> ListenerStatus {
        let shared = self.shared.clone();
        ListenerStatus {
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
