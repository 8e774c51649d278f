//! What the audit log and the outcome log say of operations.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::OperationError;
use super::spec::Spec;
use crate::broker::topology::{AUDIT_LOG, OUTCOME_LOG, operation_queue};
use crate::broker::{InspectError, Inspector, Message};
use crate::contract::ProviderName;
use crate::contract::event::{Event, EventBody, EventIds, EventType};
use crate::contract::lifecycle::{
    Counts, LifecycleBody, LifecycleEvent, Operation, OperationEnd, OperationKind,
};
use crate::operations::stream::read_to_present;

/// The latest operations that are remembered.
const RECORDS_MAX: usize = 1000;

/// The most commands that failed again and are listed.
const FAILED_MAX: usize = 10_000;

/// Reading a log ends after this, wherever it has got to.
const READ_WITHIN: Duration = Duration::from_secs(30 * 60);

/// How many redrives of a command are looked for in the log.
const REDRIVES_MAX: u32 = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub provider: ProviderName,
    pub planned: Operation,
    pub planned_at: Timestamp,
    /// How often it started.
    pub starts: u64,
    /// Whether it told of progress: a redrive has all its dead letters in its own queue by then.
    pub progressed: bool,
    pub counts: Counts,
    pub last_at: Timestamp,
    pub end: Option<OperationEnd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Planned,
    Running,
    /// It has not ended, and nobody works on it.
    Interrupted,
    /// It has not ended, and is of a kind whose work can't be seen here.
    Open,
    Done,
    Aborted,
    Stopped,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Open => "open",
            Self::Done => "done",
            Self::Aborted => "aborted",
            Self::Stopped => "stopped",
        }
    }
}

impl Record {
    pub fn id(&self) -> Uuid {
        self.planned.operation_id
    }

    pub(super) fn spec(&self) -> Option<Spec> {
        Spec::of(&self.provider, &self.planned)
    }
}

#[derive(Default)]
struct Records {
    by_id: BTreeMap<Uuid, Record>,
    order: VecDeque<Uuid>,
}

impl Records {
    fn read(&mut self, message: &Message) {
        if !message.routing_key.starts_with("operation.") {
            return;
        }
        let Ok(event) = serde_json::from_slice::<LifecycleEvent>(&message.body) else {
            return;
        };
        let provider = event.source.strip_prefix("/usher/").and_then(ProviderName::parse);
        let (Some(provider), at) = (provider, event.time) else {
            return;
        };
        match event.body {
            LifecycleBody::OperationPlanned(planned) => self.add(provider, planned, at),
            LifecycleBody::OperationStarted(started) => {
                self.change(started.operation_id, at, |record| record.starts += 1);
            }
            LifecycleBody::OperationProgressed(progressed) => {
                self.change(progressed.operation_id, at, |record| {
                    record.progressed = true;
                    record.counts = progressed.counts;
                });
            }
            LifecycleBody::OperationEnded(ended) => self.change(ended.operation_id, at, |record| {
                record.end = Some(ended.end);
                record.counts = ended.counts;
            }),
            _ => {}
        }
    }

    fn add(&mut self, provider: ProviderName, planned: Operation, at: Timestamp) {
        let id = planned.operation_id;
        // An event may repeat.
        if self.by_id.contains_key(&id) {
            return;
        }
        let record = Record {
            provider,
            counts: planned.counts,
            planned,
            planned_at: at,
            starts: 0,
            progressed: false,
            last_at: at,
            end: None,
        };
        self.by_id.insert(id, record);
        self.order.push_back(id);
        if self.order.len() > RECORDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    fn change(&mut self, id: Uuid, at: Timestamp, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.by_id.get_mut(&id) {
            record.last_at = at;
            change(record);
        }
    }
}

/// Reads a stream up to the present, or as far as it says something.
async fn read(
    inspector: &dyn Inspector,
    stream: &str,
    since: Option<Timestamp>,
    take: impl FnMut(&Message),
) -> Result<(), InspectError> {
    let mut reader = inspector.read(stream, since).await?;
    read_to_present(&mut *reader, READ_WITHIN, take).await.map(drop)
}

/// The latest operations, in the order of their plans.
pub async fn records(inspector: &dyn Inspector) -> Result<Vec<Record>, OperationError> {
    let mut records = Records::default();
    read(inspector, AUDIT_LOG, None, |message| records.read(message)).await?;
    let Records { mut by_id, order } = records;
    Ok(order.iter().filter_map(|id| by_id.remove(id)).collect())
}

pub async fn record(inspector: &dyn Inspector, id: Uuid) -> Result<Record, OperationError> {
    let records = records(inspector).await?;
    let found = records.into_iter().find(|record| record.id() == id);
    found.ok_or(OperationError::Unknown(id))
}

pub async fn state(inspector: &dyn Inspector, record: &Record) -> Result<State, OperationError> {
    match record.end {
        Some(OperationEnd::Done) => return Ok(State::Done),
        Some(OperationEnd::Aborted) => return Ok(State::Aborted),
        Some(OperationEnd::Stopped) => return Ok(State::Stopped),
        None => {}
    }
    if !matches!(
        record.planned.kind,
        OperationKind::Redrive | OperationKind::Discard
    ) {
        return Ok(State::Open);
    }
    let depth = inspector.depth(&operation_queue(&record.id())).await?;
    Ok(match depth {
        Some(depth) if depth.consumers > 0 => State::Running,
        _ if record.starts == 0 => State::Planned,
        _ => State::Interrupted,
    })
}

/// A redriven command that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedAgain {
    pub id: String,
    pub user: Option<String>,
    pub reason: String,
    pub code: Option<String>,
    pub at: Timestamp,
}

/// The redriven commands of an operation's provider and filter that failed since it started, by the outcome log: each
/// command once, its latest failure. The log does not say who redrove a command.
pub async fn failed_again(
    inspector: &dyn Inspector,
    record: &Record,
) -> Result<Vec<FailedAgain>, OperationError> {
    let Some(spec) = record.spec().filter(|_| record.starts > 0) else {
        return Ok(Vec::new());
    };
    let source = format!("/usher/{}", record.provider);
    let mut failed: BTreeMap<String, FailedAgain> = BTreeMap::new();
    let since = Some(record.planned_at);
    read(inspector, OUTCOME_LOG, since, |message| {
        if message.properties.message_type() != Some(EventType::Fail.as_str()) {
            return;
        }
        let Ok(event) = serde_json::from_slice::<Event>(&message.body) else {
            return;
        };
        if event.source != source || event.time < record.planned_at {
            return;
        }
        if let Some(failure) = redriven(event, &spec)
            && (failed.len() < FAILED_MAX || failed.contains_key(&failure.id))
        {
            failed.insert(failure.id.clone(), failure);
        }
    })
    .await?;
    Ok(failed.into_values().collect())
}

/// The failure, if it is a redrive's and of a command that the operation may have chosen.
fn redriven(event: Event, spec: &Spec) -> Option<FailedAgain> {
    let EventBody::Fail(fail) = event.body else {
        return None;
    };
    let id = fail.command.command_id?;
    let key: Uuid = id.parse().ok()?;
    let is_redrive = (1..=REDRIVES_MAX).any(|n| EventIds::new(&key, n).fail() == event.id);
    let filter = &spec.filter;
    let of = |list: &[String], value: Option<&str>| {
        list.is_empty()
            || value.is_some_and(|value| list.iter().any(|wanted| wanted.eq_ignore_ascii_case(value)))
    };
    let batch = fail.command.batch_id.as_ref().map(|batch| batch.as_str());
    let chosen = of(&filter.ids, Some(&id))
        && of(&filter.users, event.subject.as_deref())
        && of(&filter.batches, batch);
    (is_redrive && chosen).then(|| FailedAgain {
        id,
        user: event.subject,
        reason: fail.error.reason.to_string(),
        code: fail.error.code,
        at: event.time,
    })
}
