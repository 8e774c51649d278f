//! A broker in the process, over the same topology data as RabbitMQ. It starts no thread, uses no randomness
//! and waits only on tokio's clock, so that a test on paused time is reproducible.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use super::topology::{DEAD_LETTERS, UNROUTABLE};
use super::{Consumer, Inspector, Limits, Link, Listener, Message, PublishError, Publisher, Topology};
use crate::clock::Clock;

mod consumer;
mod faults;
mod inspector;
mod lease_queues;
mod listener;
mod publisher;
mod routing;
mod state;
#[cfg(test)]
mod tests;

use consumer::MemoryConsumer;
use inspector::MemoryInspector;
use listener::MemoryListener;
use publisher::MemoryPublisher;
use routing::QueueIndex;
use state::State;

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// A handle; clones share one broker.
#[derive(Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

/// Takes a queue's messages instead of storing them, before their publisher gets a confirm.
#[async_trait]
pub trait Sink: Send + Sync {
    /// An error refuses the message: its publisher gets a nack. A publisher that stops waiting doesn't know whether it
    /// was taken.
    async fn accept(&self, message: &Message) -> io::Result<()>;
}

type Sinks = Vec<Arc<dyn Sink>>;

struct Shared {
    /// The exchange for the fleet's notices.
    fleet: String,
    /// The stream of operators' orders.
    orders: String,
    state: Mutex<State>,
    /// A consumer or a listener may find something new: a message, room under its prefetch, a lease, the end.
    deliverable: Notify,
    /// A queue became shorter.
    room: Notify,
    /// A publisher may continue: connected, unblocked, confirms released, or its connection lost.
    publishable: Notify,
    consume_link: watch::Sender<Link>,
    publish_link: watch::Sender<Link>,
    /// How many messages no queue took.
    unroutable: watch::Sender<Option<u64>>,
    /// How many dead letters there are.
    dead_letters: watch::Sender<Option<u64>>,
    log_trouble: watch::Sender<Option<String>>,
}

impl Shared {
    /// Never held across an await. The data stays consistent if a task panics.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, message: &Message) -> Result<(), PublishError> {
        if message.exchange == self.fleet {
            self.broadcast(message);
            return Ok(());
        }
        let (queues, sinks) = self.route(message)?;
        for sink in &sinks {
            sink.accept(message).await.map_err(|_| PublishError::Nacked)?;
        }
        if sinks.len() < queues.len() {
            self.store(&queues, message);
        }
        Ok(())
    }

    fn broadcast(&self, notice: &Message) {
        self.state().broadcast(notice);
        self.deliverable.notify_waiters();
    }

    /// The queues that the message goes to, and the sinks of those that are diverted.
    fn route(&self, message: &Message) -> Result<(Vec<QueueIndex>, Sinks), PublishError> {
        let state = self.state();
        // A broker closes the channel over a missing exchange; the publisher only sees a missing confirm.
        let queues = state.route(message).map_err(|_| PublishError::Unconfirmed)?;
        if queues.is_empty() && message.mandatory {
            return Err(PublishError::Returned);
        }
        let sinks = queues
            .iter()
            .filter_map(|index| state.queues[*index].sink.clone())
            .collect();
        Ok((queues, sinks))
    }

    fn store(&self, queues: &[QueueIndex], message: &Message) {
        self.state().store(queues, message);
        self.deliverable.notify_waiters();
        self.count_depths();
    }

    fn count_depths(&self) {
        for (queue, known) in [(UNROUTABLE, &self.unroutable), (DEAD_LETTERS, &self.dead_letters)] {
            let depth = self.state().queue(queue).map(|queue| queue.depth());
            let depth = depth.and_then(|depth| u64::try_from(depth).ok());
            known.send_if_modified(|known| std::mem::replace(known, depth) != depth);
        }
    }
}

impl MemoryBroker {
    pub fn new(topology: &Topology) -> Self {
        Self::at(topology, Clock::System)
    }

    /// With another clock than the system's.
    pub fn at(topology: &Topology, clock: Clock) -> Self {
        Self {
            shared: Arc::new(Shared {
                fleet: topology.fleet_exchange(),
                orders: topology.orders_stream(),
                state: Mutex::new(State::new(topology, clock)),
                deliverable: Notify::new(),
                room: Notify::new(),
                publishable: Notify::new(),
                consume_link: watch::Sender::new(Link::Up),
                publish_link: watch::Sender::new(Link::Up),
                unroutable: watch::Sender::new(Some(0)),
                dead_letters: watch::Sender::new(Some(0)),
                log_trouble: watch::Sender::new(None),
            }),
        }
    }

    /// Consumes with this many unsettled deliveries for each queue.
    pub fn consumer(&self, prefetch: u16) -> Box<dyn Consumer> {
        self.consumer_within(prefetch, Limits::NONE)
    }

    /// The same, and holds no more than the limits.
    pub fn consumer_within(&self, prefetch: u16, limits: Limits) -> Box<dyn Consumer> {
        Box::new(MemoryConsumer::new(self.shared.clone(), prefetch, limits))
    }

    pub fn listener(&self) -> Box<dyn Listener> {
        Box::new(MemoryListener::new(self.shared.clone()))
    }

    pub fn inspector(&self) -> Arc<dyn Inspector> {
        Arc::new(MemoryInspector::new(self.shared.clone()))
    }

    pub fn publisher(&self) -> Arc<dyn Publisher> {
        self.publisher_with(CONFIRM_TIMEOUT)
    }

    pub fn publisher_with(&self, confirm_timeout: Duration) -> Arc<dyn Publisher> {
        Arc::new(MemoryPublisher::new(self.shared.clone(), confirm_timeout))
    }

    /// Publishes as another client, which no fault affects. Sinks of diverted queues don't get it.
    pub fn publish(&self, message: &Message) -> Result<(), PublishError> {
        if message.exchange == self.shared.fleet {
            self.shared.broadcast(message);
            return Ok(());
        }
        let (queues, _) = self.shared.route(message)?;
        self.shared.store(&queues, message);
        Ok(())
    }

    /// Waits until the queue that the message goes to is shorter than this, unsettled deliveries included.
    pub async fn publish_when_room(
        &self,
        message: &Message,
        queue_depth_max: usize,
    ) -> Result<(), PublishError> {
        loop {
            let mut shorter = pin!(self.shared.room.notified());
            shorter.as_mut().enable();
            if self.shared.state().depth_ahead(message) < queue_depth_max {
                return self.shared.take(message).await;
            }
            shorter.await;
        }
    }

    /// Nothing more will be published to the command queues: once they are empty and all commands are settled,
    /// consumers end.
    pub fn finish_input(&self) {
        self.shared.state().input_finished = true;
        self.shared.deliverable.notify_waiters();
    }

    /// Adds a queue that is reached only by the default exchange.
    pub fn add_queue(&self, name: &str) {
        self.shared.state().add_queue(name);
    }

    /// From now on sends messages routed to this queue to a sink. Messages already in the queue stay there.
    pub fn divert(&self, queue: &str, sink: Arc<dyn Sink>) {
        if let Some(queue) = self.shared.state().queue(queue) {
            queue.sink = Some(sink);
        }
    }

    /// The queue's messages, unsettled deliveries first, without removing them.
    pub fn messages(&self, queue: &str) -> Vec<Message> {
        self.shared
            .state()
            .queue(queue)
            .map(|queue| queue.messages())
            .unwrap_or_default()
    }

    /// How many of the queue's messages are unsettled.
    pub fn unsettled(&self, queue: &str) -> usize {
        self.shared
            .state()
            .queue(queue)
            .map_or(0, |queue| queue.unsettled())
    }

    /// How many messages are in the queue, unsettled deliveries included.
    pub fn depth(&self, queue: &str) -> usize {
        self.shared.state().queue(queue).map_or(0, |queue| queue.depth())
    }

    /// How many leases were granted so far. It stays the same while none moves.
    pub fn leases_given(&self) -> u64 {
        self.shared.state().lease_queues.leases_given
    }

    /// Removes the first message that is not with a consumer.
    pub fn take(&self, queue: &str) -> Option<Message> {
        let taken = self.shared.state().queue(queue)?.take();
        self.shared.room.notify_waiters();
        self.shared.count_depths();
        taken
    }
}
