//! A worker's progress, for readiness, the progress bar and the closing summary.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::broker::Partition;
use crate::contract::{Outcome, Reason};

/// Counts since the start. They add up: received = settled + in flight + queued + handed back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Settled with SUCCESS after a write.
    pub changed: u64,
    /// Settled with SUCCESS; the user already was as asked.
    pub unchanged: u64,
    /// Redelivered after it was settled: only the event was repeated.
    pub repeated: u64,
    /// Dead letters.
    pub failed: BTreeMap<Reason, u64>,
    /// Lost with their connection, or handed back: they are redelivered.
    pub returned: u64,
    pub running: usize,
    pub queued: usize,
    /// Partitions whose lease this worker holds, and the number of all partitions.
    pub held: Vec<Partition>,
    pub partitions: usize,
    /// The most unsettled commands of one partition.
    pub window_of_each: usize,
    /// The last delivery, and the last settlement.
    pub delivered_at: Instant,
    pub settled_at: Instant,
}

impl Progress {
    pub fn new(partitions: u16, window_of_each: usize) -> Self {
        Self {
            changed: 0,
            unchanged: 0,
            repeated: 0,
            failed: BTreeMap::new(),
            returned: 0,
            running: 0,
            queued: 0,
            held: Vec::new(),
            partitions: partitions.into(),
            window_of_each,
            delivered_at: Instant::now(),
            settled_at: Instant::now(),
        }
    }

    /// How many leases the worker holds.
    pub fn leases(&self) -> usize {
        self.held.len()
    }

    /// The most commands that the worker can hold unsettled.
    pub fn window(&self) -> usize {
        self.leases() * self.window_of_each
    }

    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    pub fn successes(&self) -> u64 {
        self.changed + self.unchanged
    }

    pub fn settled(&self) -> u64 {
        self.successes() + self.failures() + self.repeated
    }

    pub(super) fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Success { changed: true, .. } => self.changed += 1,
            Outcome::Success { changed: false, .. } => self.unchanged += 1,
            Outcome::Failure(failure) => *self.failed.entry(failure.reason).or_default() += 1,
        }
    }
}
