//! The claimants and holders of each partition's lease, and the arrivals that consumers have not read yet.

use std::collections::{BTreeMap, VecDeque};

use super::state::ConsumerId;
use crate::broker::{Lease, Partition};

/// A change of a lease that its consumer has to be given.
#[derive(Debug, Clone, Copy)]
pub(super) enum LeaseChange {
    Leased(Lease),
    Lost(Lease),
}

pub(super) struct LeaseQueues {
    queues: Vec<LeaseQueue>,
    pub(super) leases_given: u64,
    unread: BTreeMap<ConsumerId, VecDeque<LeaseChange>>,
}

/// The first consumer holds the lease, if there is one; the others follow in order of their claims.
#[derive(Default, Clone)]
struct LeaseQueue {
    consumers: VecDeque<ConsumerId>,
    lease: Option<Lease>,
    consumed: bool,
}

impl LeaseQueues {
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            queues: vec![LeaseQueue::default(); partitions.into()],
            leases_given: 0,
            unread: BTreeMap::new(),
        }
    }

    pub(super) fn partitions(&self) -> std::ops::Range<Partition> {
        0..Partition::try_from(self.queues.len()).unwrap_or(Partition::MAX)
    }

    fn queue(&mut self, partition: Partition) -> Option<&mut LeaseQueue> {
        self.queues.get_mut(usize::from(partition))
    }

    /// Adds the consumer at the end, unless it is in the queue already.
    pub(super) fn join(&mut self, id: ConsumerId, partition: Partition) {
        if let Some(queue) = self
            .queue(partition)
            .filter(|queue| !queue.consumers.contains(&id))
        {
            queue.consumers.push_back(id);
        }
    }

    /// Removes the consumer. True if it held the lease.
    pub(super) fn remove(&mut self, id: ConsumerId, partition: Partition) -> bool {
        let Some(queue) = self.queue(partition) else {
            return false;
        };
        let lease = match queue.consumers.front() == Some(&id) {
            true => queue.lease.take(),
            false => None,
        };
        queue.consumers.retain(|consumer| *consumer != id);
        if let Some(lease) = lease {
            self.unread
                .entry(id)
                .or_default()
                .push_back(LeaseChange::Lost(lease));
        }
        lease.is_some()
    }

    pub(super) fn forget(&mut self, id: ConsumerId) {
        self.unread.remove(&id);
    }

    /// The holder loses the lease and goes to the end of the queue.
    pub(super) fn lose(&mut self, partition: Partition) {
        let Some(queue) = self.queue(partition) else {
            return;
        };
        let Some(lease) = queue.lease.take() else { return };
        let holder = queue.consumers.front().copied();
        queue.consumers.rotate_left(1);
        if let Some(holder) = holder {
            self.unread
                .entry(holder)
                .or_default()
                .push_back(LeaseChange::Lost(lease));
        }
    }

    pub(super) fn grant(&mut self) {
        for (partition, queue) in (0..).zip(&mut self.queues) {
            if queue.lease.is_some() {
                continue;
            }
            let Some(first) = queue.consumers.front() else {
                continue;
            };
            self.leases_given += 1;
            let lease = Lease {
                partition,
                number: self.leases_given,
            };
            queue.lease = Some(lease);
            queue.consumed = false;
            self.unread
                .entry(*first)
                .or_default()
                .push_back(LeaseChange::Leased(lease));
        }
    }

    pub(super) fn consume(&mut self, id: ConsumerId, lease: Lease) {
        if let Some(queue) = self.queue(lease.partition)
            && queue.lease == Some(lease)
            && queue.consumers.front() == Some(&id)
        {
            queue.consumed = true;
        }
    }

    pub(super) fn consumes(&self, id: ConsumerId, partition: Partition) -> bool {
        self.queues.get(usize::from(partition)).is_some_and(|queue| {
            queue.lease.is_some() && queue.consumed && queue.consumers.front() == Some(&id)
        })
    }

    pub(super) fn next_change(&mut self, id: ConsumerId) -> Option<LeaseChange> {
        self.unread.get_mut(&id)?.pop_front()
    }
}
