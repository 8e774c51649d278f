//! The claimants and holders of each partition's lease, and the arrivals that consumers have not read yet.

use std::collections::{BTreeMap, VecDeque};

use super::state::ConsumerId;
use crate::broker::{Lease, Partition};

/// A change of a lease that its consumer has to be given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    Leased(Lease),
    Lost(Lease),
}

pub(super) struct Lines {
    lines: Vec<Line>,
    pub(super) leases_given: u64,
    untold: BTreeMap<ConsumerId, VecDeque<Told>>,
}

/// The first consumer holds the lease, if there is one; the others follow in order of their claims.
#[derive(Default, Clone)]
struct Line {
    consumers: VecDeque<ConsumerId>,
    lease: Option<Lease>,
    consumed: bool,
}

impl Lines {
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            lines: vec![Line::default(); partitions.into()],
            leases_given: 0,
            untold: BTreeMap::new(),
        }
    }

    pub(super) fn partitions(&self) -> std::ops::Range<Partition> {
        0..Partition::try_from(self.lines.len()).unwrap_or(Partition::MAX)
    }

    fn line(&mut self, partition: Partition) -> Option<&mut Line> {
        self.lines.get_mut(usize::from(partition))
    }

    /// Adds the consumer at the end, unless it is in the line already.
    pub(super) fn join(&mut self, id: ConsumerId, partition: Partition) {
        if let Some(line) = self.line(partition).filter(|line| !line.consumers.contains(&id)) {
            line.consumers.push_back(id);
        }
    }

    /// Removes the consumer. True if it held the lease.
    pub(super) fn leave(&mut self, id: ConsumerId, partition: Partition) -> bool {
        let Some(line) = self.line(partition) else {
            return false;
        };
        let lease = match line.consumers.front() == Some(&id) {
            true => line.lease.take(),
            false => None,
        };
        line.consumers.retain(|consumer| *consumer != id);
        if let Some(lease) = lease {
            self.untold.entry(id).or_default().push_back(Told::Lost(lease));
        }
        lease.is_some()
    }

    pub(super) fn forget(&mut self, id: ConsumerId) {
        self.untold.remove(&id);
    }

    /// The holder loses the lease and goes to the end of the line.
    pub(super) fn lose(&mut self, partition: Partition) {
        let Some(line) = self.line(partition) else { return };
        let Some(lease) = line.lease.take() else { return };
        let holder = line.consumers.front().copied();
        line.consumers.rotate_left(1);
        if let Some(holder) = holder {
            self.untold
                .entry(holder)
                .or_default()
                .push_back(Told::Lost(lease));
        }
    }

    pub(super) fn lead(&mut self) {
        for (partition, line) in (0..).zip(&mut self.lines) {
            if line.lease.is_some() {
                continue;
            }
            let Some(first) = line.consumers.front() else {
                continue;
            };
            self.leases_given += 1;
            let lease = Lease {
                partition,
                number: self.leases_given,
            };
            line.lease = Some(lease);
            line.consumed = false;
            self.untold
                .entry(*first)
                .or_default()
                .push_back(Told::Leased(lease));
        }
    }

    pub(super) fn consume(&mut self, id: ConsumerId, lease: Lease) {
        if let Some(line) = self.line(lease.partition)
            && line.lease == Some(lease)
            && line.consumers.front() == Some(&id)
        {
            line.consumed = true;
        }
    }

    pub(super) fn consumes(&self, id: ConsumerId, partition: Partition) -> bool {
        self.lines
            .get(usize::from(partition))
            .is_some_and(|line| line.lease.is_some() && line.consumed && line.consumers.front() == Some(&id))
    }

    pub(super) fn told(&mut self, id: ConsumerId) -> Option<Told> {
        self.untold.get_mut(&id)?.pop_front()
    }
}
