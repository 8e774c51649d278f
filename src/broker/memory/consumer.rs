//! The port's consumer over the broker in memory.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::Shared;
use super::lease_queues::LeaseChange;
use super::routing::QueueIndex;
use super::state::{ConsumerId, DeliveryTag, Handed, Next};
use crate::broker::{Acker, Arrival, Consumer, Delivery, Lease, Limits, Link, Partition};

pub(super) struct MemoryConsumer {
    shared: Arc<Shared>,
    id: ConsumerId,
    prefetch: usize,
    limits: Limits,
}

impl MemoryConsumer {
    pub(super) fn new(shared: Arc<Shared>, prefetch: u16, limits: Limits) -> Self {
        let id = shared.state().register();
        Self {
            shared,
            id,
            prefetch: prefetch.into(),
            limits,
        }
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Option<Arrival> {
        loop {
            let mut changed = pin!(self.shared.deliverable.notified());
            changed.as_mut().enable();
            let next = self.shared.state().next(self.id, self.prefetch, self.limits);
            match next {
                Next::End => return None,
                Next::Rejected => self.shared.deliverable.notify_waiters(),
                Next::Wait => changed.await,
                Next::Lease(LeaseChange::Leased(lease)) => return Some(Arrival::Leased(lease)),
                Next::Lease(LeaseChange::Lost(lease)) => return Some(Arrival::Lost(lease)),
                Next::Delivery(handed) => {
                    return Some(Arrival::Delivery(handed.into_delivery(&self.shared)));
                }
            }
        }
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.shared.consume_link.subscribe()
    }

    fn claim(&mut self, partition: Partition) {
        self.shared.state().claim(self.id, partition);
        self.shared.deliverable.notify_waiters();
    }

    fn consume(&mut self, lease: Lease) {
        self.shared.state().consume(self.id, lease);
        self.shared.deliverable.notify_waiters();
    }

    fn release(&mut self, partition: Partition) {
        self.shared.state().release(self.id, partition);
        self.shared.deliverable.notify_waiters();
    }

    fn window(&self) -> usize {
        // A queue for each class of traffic.
        self.prefetch * 2
    }

    async fn close(self: Box<Self>) {}
}

/// A consumer that closes has the same effect as one that dies: its unsettled deliveries go back, in order.
impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.shared.state().remove_consumer(self.id);
        self.shared.deliverable.notify_waiters();
    }
}

impl Handed {
    pub(super) fn into_delivery(self, shared: &Arc<Shared>) -> Delivery {
        let acker = MemoryAcker {
            shared: shared.clone(),
            queue: self.queue,
            tag: self.tag,
        };
        Delivery::new(self.message, self.redelivered, self.from, Box::new(acker))
    }
}

struct MemoryAcker {
    shared: Arc<Shared>,
    queue: QueueIndex,
    tag: DeliveryTag,
}

#[async_trait]
impl Acker for MemoryAcker {
    fn usable(&self) -> bool {
        let state = self.shared.state();
        state
            .queues
            .get(self.queue)
            .is_some_and(|queue| queue.is_unsettled(self.tag))
    }

    async fn ack(&self) -> bool {
        let settled = {
            let mut state = self.shared.state();
            state
                .queues
                .get_mut(self.queue)
                .is_some_and(|queue| queue.settle(self.tag))
        };
        if settled {
            self.shared.deliverable.notify_waiters();
            self.shared.room.notify_waiters();
        }
        settled
    }
}
