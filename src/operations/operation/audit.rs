//! What is told of operations: events to the audit log, each confirmed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::spec::Spec;
use super::{Access, OperationError};
use crate::contract::ProviderName;
use crate::contract::lifecycle::{
    Counts, LifecycleBody, LifecycleEvent, Operation, OperationEnd, OperationEnded, OperationKind,
    OperationProgressed,
};
use crate::worker::lifecycle;

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// An event that the broker refuses or does not confirm is published again, so often and after such a pause.
const TRIES: u32 = 3;
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Tells of one operation.
pub(super) struct Audit {
    access: Access,
    spec: Spec,
    progress_at: Option<Instant>,
}

impl Audit {
    pub(super) fn new(access: &Access, spec: &Spec) -> Self {
        Self {
            access: access.clone(),
            spec: spec.clone(),
            progress_at: None,
        }
    }

    pub(super) async fn planned(&self, counts: Counts) -> Result<(), OperationError> {
        let body = LifecycleBody::OperationPlanned(self.spec.told(counts));
        self.tell(body, 0).await
    }

    /// `nth`: how often it has started before.
    pub(super) async fn started(&self, counts: Counts, nth: u64) -> Result<(), OperationError> {
        let body = LifecycleBody::OperationStarted(self.spec.told(counts));
        self.tell(body, nth).await
    }

    pub(super) async fn progressed(&mut self, counts: Counts) -> Result<(), OperationError> {
        self.progress_at = Some(Instant::now());
        let body = LifecycleBody::OperationProgressed(OperationProgressed {
            operation_id: self.spec.id,
            kind: self.spec.kind,
            counts,
        });
        // A time tells apart what several processes tell of it.
        let now = self.access.clock.now().as_millisecond();
        self.tell(body, u64::try_from(now).unwrap_or(0)).await
    }

    /// The same, if it is due. Returns whether it was.
    pub(super) async fn progress(&mut self, counts: Counts) -> Result<bool, OperationError> {
        if self.progress_at.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
            return Ok(false);
        }
        self.progressed(counts).await?;
        Ok(true)
    }

    pub(super) async fn ended(&self, end: OperationEnd, counts: Counts) -> Result<(), OperationError> {
        let body = LifecycleBody::OperationEnded(OperationEnded {
            operation_id: self.spec.id,
            kind: self.spec.kind,
            end,
            counts,
        });
        self.tell(body, 0).await
    }

    async fn tell(&self, body: LifecycleBody, nth: u64) -> Result<(), OperationError> {
        tell(&self.access, &self.spec.provider, self.spec.id, body, nth).await
    }
}

async fn tell(
    access: &Access,
    provider: &ProviderName,
    id: Uuid,
    body: LifecycleBody,
    nth: u64,
) -> Result<(), OperationError> {
    let event = LifecycleEvent::about(provider, &id.to_string(), body, nth, access.clock.now());
    let message = lifecycle::message(provider, &event);
    // The same event may arrive twice: it has the same id.
    for _ in 1..TRIES {
        if access.publisher.publish(&message).await.is_ok() {
            return Ok(());
        }
        sleep(AGAIN_AFTER).await;
    }
    Ok(access.publisher.publish(&message).await?)
}

/// Tells that somebody is about to see the values of dead letters.
pub async fn reveal(
    access: &Access,
    provider: &ProviderName,
    by: &str,
    filter: &BTreeMap<String, String>,
    count: u64,
) -> Result<Uuid, OperationError> {
    let operation = Operation {
        operation_id: Uuid::new_v4(),
        kind: OperationKind::Reveal,
        by: by.to_owned(),
        filter: filter.clone(),
        options: BTreeMap::new(),
        counts: Counts {
            planned: count,
            ..Counts::default()
        },
    };
    let id = operation.operation_id;
    for body in at_once(operation) {
        tell(access, provider, id, body, 0).await?;
    }
    Ok(id)
}

/// The plan and the end of an operation that is over with the act itself.
pub(in crate::operations) fn at_once(operation: Operation) -> [LifecycleBody; 2] {
    let ended = OperationEnded {
        operation_id: operation.operation_id,
        kind: operation.kind,
        end: OperationEnd::Done,
        counts: Counts {
            done: operation.counts.planned,
            ..operation.counts
        },
    };
    [
        LifecycleBody::OperationPlanned(operation),
        LifecycleBody::OperationEnded(ended),
    ]
}
