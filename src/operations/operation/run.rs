//! An operation from its plan to its end, and again from where another process left it.

use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;
use uuid::Uuid;

use super::audit::Audit;
use super::emptiness::is_empty;
use super::passing::{Pass, To, keys};
use super::plan::Plan;
use super::records::{State, record, state};
use super::spec::{Options, Spec};
use super::{Access, OperationError, Tell, discard, redrive};
use crate::broker::topology::{DEAD_LETTERS, operation_queue};
use crate::contract::ProviderName;
use crate::contract::lifecycle::{Counts, OperationEnd, OperationKind};
use crate::operations::dead_letters::Filter;
use crate::worker::Shutdown;

/// Others may hold some of the planned dead letters for a while: they are looked for so often, with such pauses.
const PASSES_MAX: u32 = 4;
const PASS_AGAIN: Duration = Duration::from_secs(2);

/// An operation that is planned, or was interrupted.
pub struct Ready {
    access: Access,
    spec: Spec,
    counts: Counts,
    starts: u64,
    progressed: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub id: Uuid,
    pub provider: ProviderName,
    pub kind: OperationKind,
    /// `None`: it was interrupted, and can be resumed.
    pub end: Option<OperationEnd>,
    /// Why it stopped by itself.
    pub why: Option<String>,
    pub counts: Counts,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Interrupted,
    /// It stopped by itself, for this reason.
    Stopped(String),
}

/// What a running operation works with.
pub(super) struct Work<'a> {
    pub(super) access: Access,
    pub(super) spec: Spec,
    pub(super) counts: Counts,
    pub(super) audit: Audit,
    pub(super) resumed: bool,
    pub(super) progressed: bool,
    pub(super) shutdown: &'a Shutdown,
    pub(super) tell: Tell<'a>,
}

/// Tells of a new operation. It has changed nothing yet.
pub async fn start(
    access: &Access,
    kind: OperationKind,
    plan: &Plan,
    filter: &Filter,
    by: &str,
    options: &Options,
) -> Result<Ready, OperationError> {
    let spec = Spec {
        id: Uuid::new_v4(),
        provider: plan.provider.clone(),
        kind,
        by: by.to_owned(),
        filter: Filter {
            providers: vec![plan.provider.to_string()],
            ..filter.clone()
        },
        dead_until: plan.dead_until,
        options: options.clone(),
    };
    let counts = Counts {
        planned: plan.count,
        ..Counts::default()
    };
    // First: whoever lacks the permission for it is told so at once.
    let queue = operation_queue(&spec.id);
    access.inspector.declare_queue(&queue).await?;
    if let Err(error) = Audit::new(access, &spec).planned(counts).await {
        let _ = access.inspector.delete_queue(&queue).await;
        return Err(error);
    }
    Ok(Ready {
        access: access.clone(),
        spec,
        counts,
        starts: 0,
        progressed: false,
    })
}

/// An operation that another process began, or only planned.
pub async fn resume(access: &Access, id: Uuid) -> Result<Ready, OperationError> {
    let record = record(&*access.inspector, id).await?;
    match state(&*access.inspector, &record).await? {
        State::Planned | State::Interrupted => {}
        State::Running => return Err(OperationError::Runs(id)),
        State::Open => return Err(OperationError::NotOurs(id)),
        State::Done | State::Aborted | State::Stopped => return Err(OperationError::HasEnded(id)),
    }
    Ok(Ready {
        access: access.clone(),
        spec: record.spec().ok_or(OperationError::NotOurs(id))?,
        counts: record.counts,
        starts: record.starts,
        progressed: record.progressed,
    })
}

/// Ends an operation that is interrupted: what lies in its queue goes back to the dead letters.
pub async fn abort(access: &Access, id: Uuid, tell: Tell<'_>) -> Result<Report, OperationError> {
    let ready = resume(access, id).await?;
    let shutdown = Shutdown::new();
    let mut work = ready.work(&shutdown, tell);
    work.back().await?;
    work.ended(OperationEnd::Aborted, None).await
}

impl Ready {
    pub fn id(&self) -> Uuid {
        self.spec.id
    }

    fn work<'a>(self, shutdown: &'a Shutdown, tell: Tell<'a>) -> Work<'a> {
        Work {
            audit: Audit::new(&self.access, &self.spec),
            access: self.access,
            spec: self.spec,
            counts: self.counts,
            resumed: self.starts > 0,
            progressed: self.progressed,
            shutdown,
            tell,
        }
    }

    /// Runs it to its end, or until it is asked to stop. After an error it can be resumed.
    pub async fn run(self, shutdown: &Shutdown, tell: Tell<'_>) -> Result<Report, OperationError> {
        let (id, starts) = (self.spec.id, self.starts);
        let mut work = self.work(shutdown, tell);
        let queue = operation_queue(&id);
        work.access.inspector.declare_queue(&queue).await?;
        let depth = work.access.inspector.depth(&queue).await?;
        if depth.is_some_and(|depth| depth.consumers > 0) {
            return Err(OperationError::Runs(id));
        }
        work.audit.started(work.counts, starts).await?;
        let end = match work.spec.kind {
            OperationKind::Redrive => redrive::redrive(&mut work).await?,
            OperationKind::Discard => discard::discard(&mut work).await?,
            _ => return Err(OperationError::NotOurs(id)),
        };
        match end {
            End::Done => work.ended(OperationEnd::Done, None).await,
            End::Interrupted => {
                // Whoever resumes or aborts it begins with these numbers. Without them it is interrupted as well.
                let _ = work.audit.progressed(work.counts).await;
                Ok(work.report(None, None))
            }
            End::Stopped(why) => {
                (work.tell)(&format!("{why}; what is left goes back to the dead letters"));
                work.back().await?;
                work.ended(OperationEnd::Stopped, Some(why)).await
            }
        }
    }
}

impl Work<'_> {
    /// Tells how far it has got, now and then.
    pub(super) async fn progress(&mut self) -> Result<(), OperationError> {
        let counts = self.counts;
        if self.audit.progress(counts).await? {
            let Counts {
                planned,
                done,
                succeeded,
                failed,
            } = counts;
            let outcomes = match self.spec.kind {
                OperationKind::Redrive => format!("; {succeeded} succeeded, {failed} failed again"),
                _ => String::new(),
            };
            (self.tell)(&format!("{done} of {planned}{outcomes}"));
        }
        Ok(())
    }

    pub(super) fn report(&self, end: Option<OperationEnd>, why: Option<String>) -> Report {
        Report {
            id: self.spec.id,
            provider: self.spec.provider.clone(),
            kind: self.spec.kind,
            end,
            why,
            counts: self.counts,
        }
    }

    /// The queue goes first: an operation that has ended leaves nothing.
    async fn ended(&self, end: OperationEnd, why: Option<String>) -> Result<Report, OperationError> {
        // A queue with dead letters is never deleted.
        if !is_empty(&self.access, self.spec.id).await? {
            return Err(OperationError::NotEmpty(self.spec.id));
        }
        let queue = operation_queue(&self.spec.id);
        self.access.inspector.delete_queue(&queue).await?;
        self.audit.ended(end, self.counts).await?;
        Ok(self.report(Some(end), why))
    }

    /// Moves what lies in the operation's queue back to the dead letters. It is not interrupted: little is left then.
    async fn back(&mut self) -> Result<(), OperationError> {
        let queue = operation_queue(&self.spec.id);
        let shutdown = Shutdown::new();
        let mut moved = 0;
        for _ in 0..PASSES_MAX {
            if is_empty(&self.access, self.spec.id).await? {
                break;
            }
            let copied = keys(&self.access, DEAD_LETTERS).await?;
            let pass = Pass {
                access: &self.access,
                from: &queue,
                to: To::DeadLetters,
                chooses: &|_| true,
                copied: &copied,
                shutdown: &shutdown,
            };
            moved += pass.run(async |_| Ok(())).await?.left;
        }
        (self.tell)(&format!("{moved} went back to the dead letters"));
        Ok(())
    }

    pub(super) fn passes(&self) -> Passes {
        Passes {
            count: 0,
            interrupted: false,
        }
    }
}

/// Looks for the planned dead letters until all are found, a few times at most.
pub(super) struct Passes {
    count: u32,
    pub(super) interrupted: bool,
}

impl Passes {
    /// Whether to look again. `found`: how many were found so far.
    pub(super) async fn next(&mut self, found: u64, work: &Work<'_>) -> bool {
        let (planned, nth) = (work.counts.planned, self.count);
        self.count += 1;
        if nth == 0 {
            return true;
        }
        if found >= planned {
            return false;
        }
        if nth == PASSES_MAX {
            let missing = planned - found;
            (work.tell)(&format!(
                "{missing} of the {planned} that were planned are not there any more, or others hold them"
            ));
            return false;
        }
        tokio::select! {
            () = sleep(PASS_AGAIN) => true,
            () = work.shutdown.draining() => {
                self.interrupted = true;
                false
            }
        }
    }
}
