//! The port's listener over the broker in memory: the outcome log is a queue that is never emptied.

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
    wanted: Option<Extent>,
    /// The reading for the wanted extent, once it has begun.
    reading: Option<Reading>,
    orders: Option<OrdersReading>,
}

/// How far the orders are read.
struct OrdersReading {
    /// A new connection starts a new reading.
    connection: u64,
    next: usize,
    /// `None`: `OrdersPresent` was sent.
    present: Option<usize>,
}

/// How far the log is read.
struct Reading {
    /// A new connection starts a new reading.
    connection: u64,
    /// The log delivered nothing: as soon as it does, a new reading starts.
    silent: bool,
    next: usize,
    /// Where the messages end that were there at the start; `None`: `Present` was sent.
    present: Option<usize>,
    /// `None`: the older part was read.
    earlier: Option<Earlier>,
}

/// The older part: the next message and its end.
struct Earlier {
    next: usize,
    end: usize,
    /// `Cut` has to be sent: not all of the extent is read.
    cut: bool,
}

impl MemoryListener {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let id = shared.state().listen();
        Self {
            shared,
            id,
            wanted: None,
            reading: None,
            orders: None,
        }
    }

    fn next_order(&mut self, state: &mut State, stream: &str) -> Option<FleetMessage> {
        let connection = state.faults.connection;
        let queue = state.queue(stream)?;
        let Some(orders) = self
            .orders
            .as_mut()
            .filter(|orders| orders.connection == connection)
        else {
            self.orders = Some(OrdersReading {
                connection,
                next: 0,
                present: Some(queue.depth()),
            });
            return Some(FleetMessage::OrdersBegin);
        };
        if orders.present.is_some_and(|present| orders.next >= present) {
            orders.present = None;
            return Some(FleetMessage::OrdersPresent);
        }
        let message = queue.nth(orders.next)?;
        orders.next += 1;
        Some(FleetMessage::Order(message.body))
    }

    fn next_message(&mut self) -> Option<FleetMessage> {
        let shared = self.shared.clone();
        let mut state = shared.state();
        if let Some(notice) = state.next_notice(self.id) {
            return Some(FleetMessage::Notice(notice));
        }
        if state.faults.down.is_some() {
            return None;
        }
        if let Some(handed) = state.broker_dead_letter(self.id) {
            return Some(FleetMessage::BrokerDeadLetter(handed.into_delivery(&self.shared)));
        }
        if let Some(order) = self.next_order(&mut state, &shared.orders) {
            return Some(order);
        }
        let extent = self.wanted?;
        if state.faults.log_refused {
            return None;
        }
        match &mut self.reading {
            Some(reading) if !reading.is_over(&mut state) => reading.next_message(&mut state),
            _ => {
                self.reading = Some(Reading::new(extent, &state));
                Some(FleetMessage::Begins(extent))
            }
        }
    }
}

impl Reading {
    fn new(extent: Extent, state: &State) -> Self {
        let (first, count) = state.logged_since(extent.since);
        let silent = state.faults.log_held || count == 0;
        let end = first
            .max(count.saturating_sub(extent.end_max))
            .min(count.saturating_sub(1));
        let start = first.max(count.saturating_sub(extent.messages_max));
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

    fn next_message(&mut self, state: &mut State) -> Option<FleetMessage> {
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
            if let Some(message) = self.next_message() {
                return message;
            }
            changed.await;
        }
    }

    fn follow(&mut self, wanted: Option<Extent>) {
        self.wanted = wanted;
        self.reading = None;
    }

    fn status(&self) -> ListenerStatus {
        let shared = self.shared.clone();
        ListenerStatus {
            link: shared.consume_link.subscribe(),
            log_trouble: shared.log_trouble.subscribe(),
            unroutable: shared.unroutable.subscribe(),
            dead_letters: shared.dead_letters.subscribe(),
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
