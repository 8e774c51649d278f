//! Between lapin's thread and the worker: arrivals in one direction, what is desired of each partition in the other.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::broker::{Arrival, Delivery, Lease, Partition};

/// Its deliveries are bounded by the prefetch, because those of an ended lease are stale and dropped.
pub(super) struct Inbox {
    arrivals: Mutex<VecDeque<Arrival>>,
    arrived: Notify,
    desired: watch::Sender<Vec<Desired>>,
    leases: Mutex<Leases>,
}

/// What the worker wants for a partition.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Desired {
    pub(super) wanted: bool,
    /// Counts releases, so that one that is directly followed by a claim is not missed.
    pub(super) releases: u64,
    /// The number of the lease to consume under.
    pub(super) consume: u64,
}

struct Leases {
    held: Vec<Option<Lease>>,
    made: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    pub(super) fn new(partitions: u16) -> Self {
        let count = usize::from(partitions);
        Self {
            arrivals: Mutex::default(),
            arrived: Notify::new(),
            desired: watch::Sender::new(vec![Desired::default(); count]),
            leases: Mutex::new(Leases {
                held: vec![None; count],
                made: 0,
            }),
        }
    }

    fn push(&self, arrival: Arrival) {
        lock(&self.arrivals).push_back(arrival);
        self.arrived.notify_one();
    }

    pub(super) fn deliver(&self, delivery: Delivery) {
        self.push(Arrival::Delivery(delivery));
    }

    pub(super) async fn next(&self) -> Arrival {
        loop {
            let popped = lock(&self.arrivals).pop_front();
            match popped {
                Some(Arrival::Delivery(delivery)) if !delivery.usable() => drop(delivery),
                Some(arrival) => return arrival,
                None => self.arrived.notified().await,
            }
        }
    }

    fn desire(&self, partition: Partition, change: impl FnOnce(&mut Desired)) {
        self.desired.send_modify(|desired| {
            if let Some(one) = desired.get_mut(usize::from(partition)) {
                change(one);
            }
        });
    }

    pub(super) fn claim(&self, partition: Partition) {
        self.desire(partition, |one| one.wanted = true);
    }

    pub(super) fn consume(&self, lease: Lease) {
        self.desire(lease.partition, |one| one.consume = lease.number);
    }

    pub(super) fn release(&self, partition: Partition) {
        self.desire(partition, |one| {
            one.wanted = false;
            one.releases += 1;
        });
    }

    /// Waits until what is desired satisfies `like`, and returns it.
    pub(super) async fn until_desired(
        &self,
        partition: Partition,
        like: impl Fn(&Desired) -> bool,
    ) -> Desired {
        let mut desired = self.desired.subscribe();
        let changed = desired.wait_for(|desired| desired.get(usize::from(partition)).is_some_and(&like));
        // The sender lives as long as this does.
        let desired = changed.await;
        let found = desired
            .ok()
            .and_then(|desired| desired.get(usize::from(partition)).copied());
        found.unwrap_or_default()
    }

    /// Records that the lease is held.
    pub(super) fn leased(&self, partition: Partition) -> Lease {
        let mut leases = lock(&self.leases);
        leases.made += 1;
        let lease = Lease {
            partition,
            number: leases.made,
        };
        if let Some(held) = leases.held.get_mut(usize::from(partition)) {
            *held = Some(lease);
        }
        self.push(Arrival::Leased(lease));
        lease
    }

    /// Records that the lease is gone, if it was held.
    pub(super) fn lost(&self, partition: Partition) {
        let held = lock(&self.leases)
            .held
            .get_mut(usize::from(partition))
            .and_then(Option::take);
        if let Some(lease) = held {
            self.push(Arrival::Lost(lease));
        }
    }

    pub(super) fn holds_any(&self) -> bool {
        lock(&self.leases).held.iter().any(Option::is_some)
    }
}
