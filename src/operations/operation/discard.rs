//! Removes dead letters for good. Their FAIL events stay.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use super::OperationError;
use super::passing::{Pass, To};
use super::plan::plan;
use super::run::{End, Work};
use crate::broker::topology::{DEAD_LETTERS, operation_queue};
use crate::contract::Orders;
use crate::operations::dead_letters::look;
use crate::operations::steering::Steering;

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
    lift_holds(work).await?;
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

/// Users whose later commands are held back behind one that is discarded go on. Before it is removed: whoever goes on with an
/// interrupted discard finds what is left.
async fn lift_holds(work: &Work<'_>) -> Result<(), OperationError> {
    let (inspector, publisher) = (work.access.inspector.clone(), work.access.publisher.clone());
    let steering = Steering::new(inspector, publisher, &work.spec.provider);
    let orders = steering.orders().await?;
    if orders.holds.values().all(|hold| hold.users.is_empty()) {
        return Ok(());
    }
    let mut discarded = BTreeSet::new();
    let looked = look(&*work.access.inspector, |letter, _| {
        if work.spec.chooses(&letter)
            && let Some(id) = letter.id.filter(|id| is_behind(&orders, id))
        {
            discarded.insert(id);
        }
        ControlFlow::Continue(())
    });
    looked.await?;
    let lift = |orders: &mut Orders| {
        for hold in orders.holds.values_mut() {
            hold.users.retain(|_, failed| !discarded.contains(failed));
        }
        Ok(())
    };
    if !discarded.is_empty() {
        steering.change(lift).await?;
    }
    Ok(())
}

fn is_behind(orders: &Orders, id: &str) -> bool {
    let mut holds = orders.holds.values();
    holds.any(|hold| hold.users.values().any(|failed| failed == id))
}
