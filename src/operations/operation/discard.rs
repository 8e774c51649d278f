//! Removes dead letters for good. Their FAIL events stay.

use std::collections::HashSet;

use super::OperationError;
use super::passing::{Pass, To};
use super::plan::plan;
use super::run::{End, Work};
use crate::broker::topology::{DEAD_LETTERS, operation_queue};

pub(super) async fn discard(work: &mut Work<'_>) -> Result<End, OperationError> {
    // Others see by its consumer that somebody works on it.
    let alive = work
        .access
        .inspector
        .hold(&operation_queue(&work.spec.id))
        .await?;
    let ended = discard_all(work).await;
    alive.release().await;
    ended
}

async fn discard_all(work: &mut Work<'_>) -> Result<End, OperationError> {
    if work.resumed {
        // What an earlier process removed is what is not there any more.
        let left = plan(&work.access, &work.spec.filter).await?.plans;
        let left = left.iter().find(|plan| plan.provider == work.spec.provider);
        work.counts.done = work
            .counts
            .planned
            .saturating_sub(left.map_or(0, |plan| plan.count));
    }
    let mut again = work.passes();
    while again.next(work.counts.done, work).await {
        let (spec, access, shutdown) = (work.spec.clone(), work.access.clone(), work.shutdown);
        let pass = Pass {
            access: &access,
            from: DEAD_LETTERS,
            to: To::Nowhere,
            chooses: &|letter| spec.chooses(letter),
            copied: &HashSet::new(),
            shutdown,
        };
        let before = work.counts.done;
        let passed = pass.run(async |left| {
            work.counts.done = before + left;
            work.progress().await
        });
        let passed = passed.await?;
        work.counts.done = before + passed.left;
        if passed.interrupted {
            return Ok(End::Interrupted);
        }
    }
    match again.interrupted {
        true => Ok(End::Interrupted),
        false => Ok(End::Done),
    }
}
