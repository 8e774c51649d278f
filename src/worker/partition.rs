//! One partition in this process: its lease, its users' lanes, and its running commands.

use tokio_util::sync::CancellationToken;

use super::lane::Lanes;
use super::received::{Received, class};
use super::runner::{MERGED_MAX, Runner};
use crate::broker::Lease;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The lease is held. The outcome log is read before any command is taken.
    Entering,
    Serving,
    /// The lease is to be released: no command is begun, calls in flight are finished.
    Releasing,
    /// Nothing is in flight any more, and the lease is released to the broker.
    Released,
    /// The lease is gone. Running commands still have to end.
    Lost,
}

pub(super) struct Partition {
    pub(super) lease: Lease,
    pub(super) stage: Stage,
    /// Cancels the partition's commands, between two calls at the latest.
    pub(super) cancel: CancellationToken,
    pub(super) lanes: Lanes<Received>,
    pub(super) running: usize,
}

impl Partition {
    pub(super) fn new(lease: Lease, cancel: CancellationToken) -> Self {
        Self {
            lease,
            stage: Stage::Entering,
            cancel,
            lanes: Lanes::default(),
            running: 0,
        }
    }

    /// The lease came back while earlier commands still run: their users' commands wait for them.
    pub(super) fn again(&mut self, lease: Lease, cancel: CancellationToken) {
        self.lease = lease;
        self.stage = Stage::Entering;
        self.cancel = cancel;
    }

    /// Whether this worker holds the lease and keeps it.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Entering | Stage::Serving)
    }

    /// The commands of the same user queued directly behind this one that may share its call.
    pub(super) fn merged(&mut self, received: &Received, runner: &Runner) -> Vec<Received> {
        let Some(user) = received.user.as_ref().filter(|_| runner.may_merge(received)) else {
            return Vec::new();
        };
        let mut room = MERGED_MAX - 1;
        self.lanes.take_while(user, class(&received.delivery), |next| {
            let fits = room > 0 && runner.may_merge(next);
            room -= usize::from(fits);
            fits
        })
    }

    /// Begins no more commands, and hands back the queued ones. Returns their number.
    pub(super) fn release(&mut self, stage: Stage) -> u64 {
        self.stage = stage;
        self.cancel.cancel();
        let mut count = 0;
        for received in self.lanes.drain() {
            received.delivery.hand_back();
            count += 1;
        }
        count
    }
}
