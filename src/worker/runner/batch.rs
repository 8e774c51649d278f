//! What operators ordered for the command's batch.

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Runner;
use crate::broker::Delivery;
use crate::contract::{BatchId, BatchState, Failure, Reason, UpdateUser};
use crate::worker::holds::held_behind;
use crate::worker::shutdown::unless_cancelled;
use crate::worker::waits::Wait;

impl Runner {
    /// Waits for whatever is ordered for the command's batch, and for a slot. The error: it may not run. `None`: cancelled, or
    /// the delivery is stale.
    pub(super) async fn ordered(
        &self,
        command: &UpdateUser,
        is_fresh: bool,
        alone: bool,
        delivery: &Delivery,
        cancel: &CancellationToken,
    ) -> Option<Result<(impl Sized, OwnedSemaphorePermit), Failure>> {
        // What may have been called before is finished, whatever is ordered.
        let batch = command.batch_id.as_ref().filter(|_| is_fresh);
        match self.caller.orders.held_behind(command).filter(|_| is_fresh) {
            Some(failed) => Some(Err(held_behind(&failed))),
            None => self.admitted_by_batch(batch, alone, delivery, cancel).await,
        }
    }

    /// Waits until the command may run and its batch is not paused, and for a slot: while it is paused, the slots are for
    /// others. The error: the batch is cancelled. `None`: cancelled, or the delivery is stale.
    async fn admitted_by_batch(
        &self,
        batch: Option<&BatchId>,
        alone: bool,
        delivery: &Delivery,
        cancel: &CancellationToken,
    ) -> Option<Result<(impl Sized, OwnedSemaphorePermit), Failure>> {
        loop {
            if let Err(cancelled) = self.batch_allows(batch, cancel).await? {
                return Some(Err(cancelled));
            }
            let admitted = self.admitted(alone, delivery, cancel).await?;
            if self.caller.orders.of_batch(batch).is_none() {
                return Some(Ok(admitted));
            }
        }
    }

    /// Waits while the batch is paused. The error: it is cancelled. `None`: the worker stops or rests.
    async fn batch_allows(
        &self,
        batch: Option<&BatchId>,
        cancel: &CancellationToken,
    ) -> Option<Result<(), Failure>> {
        let orders = &self.caller.orders;
        loop {
            match orders.of_batch(batch) {
                None => return Some(Ok(())),
                Some(BatchState::Cancelled) => return Some(Err(cancelled())),
                Some(paused) => {
                    // Boxed: it is rarely needed, and would enlarge every command's task.
                    let changed = Box::pin(orders.batch_changes(batch, Some(paused)));
                    let changed = self.caller.waits.during(Wait::Batch, changed);
                    unless_cancelled(cancel, changed).await?;
                }
            }
        }
    }
}

pub(in crate::worker) fn cancelled() -> Failure {
    let detail = "its batch was cancelled before the first call; to apply it, lift that with `usher batch resume`, and send \
                  it again";
    Failure::new(Reason::Cancelled, detail).at("/batchId")
}
