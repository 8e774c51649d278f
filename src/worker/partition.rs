//! One partition in this process: its lease, its users' lanes, and what runs.

use tokio_util::sync::CancellationToken;

use super::lane::Lanes;
use super::received::{Received, class};
use super::runner::{MERGED_MAX, Runner};
use crate::broker::Lease;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The lease is held. The outcome log is read before anything is taken.
    Entering,
    Serving,
    /// To be given up: nothing is begun, calls that are out are finished.
    Leaving,
    /// Nothing is in flight any more; the broker is told.
    Released,
    /// Not held any more. What runs still ends.
    Lost,
}

pub(super) struct Partition {
    pub(super) lease: Lease,
    pub(super) stage: Stage,
    /// When it is cancelled, commands are left where they stand between two calls.
    pub(super) leave: CancellationToken,
    pub(super) lanes: Lanes<Received>,
    pub(super) running: usize,
}

impl Partition {
    pub(super) fn new(lease: Lease, leave: CancellationToken) -> Self {
        Self {
            lease,
            stage: Stage::Entering,
            leave,
            lanes: Lanes::default(),
            running: 0,
        }
    }

    /// The lease came again while commands from before still run: their users wait for them.
    pub(super) fn again(&mut self, lease: Lease, leave: CancellationToken) {
        self.lease = lease;
        self.stage = Stage::Entering;
        self.leave = leave;
    }

    /// Whether this worker counts it as its own.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Entering | Stage::Serving)
    }

    /// What waits right behind this received of its user and may share its call.
    pub(super) fn merged(&mut self, received: &Received, runner: &Runner) -> Vec<Received> {
        let Some(user) = received.user().filter(|_| runner.may_merge(received)) else {
            return Vec::new();
        };
        let mut room = MERGED_MAX - 1;
        self.lanes.take_while(user, class(&received.delivery), |next| {
            let fits = room > 0 && runner.may_merge(next);
            room -= usize::from(fits);
            fits
        })
    }

    /// Begins nothing more, and gives up what waits. Answers how much that was.
    pub(super) fn leave(&mut self, stage: Stage) -> u64 {
        self.stage = stage;
        self.leave.cancel();
        let mut count = 0;
        for received in self.lanes.drain() {
            received.delivery.hand_back();
            count += 1;
        }
        count
    }
}
