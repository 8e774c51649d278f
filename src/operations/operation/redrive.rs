//! Sends dead letters again. First all of them move to the operation's own queue; from there they are sent at a pace, a few
//! first, and no more when too many fail again.

mod sending;

use std::collections::HashSet;

use uuid::Uuid;

use self::sending::Sending;
use super::OperationError;
use super::outcomes::Outcomes;
use super::passing::{Pass, To, keys};
use super::run::{End, Work};
use crate::broker::topology::{DEAD_LETTERS, operation_queue};

pub(super) async fn redrive(work: &mut Work<'_>) -> Result<End, OperationError> {
    let queue = operation_queue(&work.spec.id);
    // Progress is told only when all are in the operation's queue. What failed again since then is not its business.
    if work.progressed {
        let left = keys(&work.access, &queue).await?.len() as u64;
        work.counts.done = work.counts.planned.saturating_sub(left);
    } else {
        let Some(found) = collect(work, &queue).await? else {
            return Ok(End::Interrupted);
        };
        work.counts.planned = found;
        (work.tell)(&format!("{found} are in {queue}"));
        work.audit.progressed(work.counts).await?;
    }
    let outcomes = Outcomes::read(&work.access).await?;
    Sending::new(work, outcomes).send_all(&queue).await
}

/// Moves the chosen ones to the operation's queue, user by user in order. Returns how many lie there; `None`: it was
/// interrupted.
async fn collect(work: &Work<'_>, queue: &str) -> Result<Option<u64>, OperationError> {
    let copied = match work.resumed {
        true => keys(&work.access, queue).await?,
        false => HashSet::new(),
    };
    // Others see by its consumer that somebody works on it.
    let alive = work.access.inspector.hold(queue).await?;
    let collected = collect_all(work, &copied).await;
    alive.release().await;
    collected
}

async fn collect_all(work: &Work<'_>, copied: &HashSet<Uuid>) -> Result<Option<u64>, OperationError> {
    let mut found = copied.len() as u64;
    let mut again = work.passes();
    while again.next(found, work).await {
        let pass = Pass {
            access: &work.access,
            from: DEAD_LETTERS,
            to: To::Operation(work.spec.id),
            chooses: &|letter| work.spec.chooses(letter),
            copied,
            shutdown: work.shutdown,
        };
        let passed = pass.run(async |_| Ok(())).await?;
        found += passed.left - passed.copied_before;
        if passed.interrupted {
            return Ok(None);
        }
    }
    Ok((!again.interrupted).then_some(found))
}
