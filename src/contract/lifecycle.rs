//! The lifecycle event: what happens to a provider, a batch or an operation, not to one command. Published once for the
//! whole fleet. A CloudEvent 1.0 in structured mode, under its own routing keys, so that bindings to `user.update.#` don't
//! receive it.

mod batch;
mod operation;

use std::borrow::Cow;

use jiff::{Timestamp, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::checked::ProviderName;
use super::notice::{PauseCause, StallCause};
use super::schema::{closed, tagged};
pub use batch::{BatchClosed, BatchOpened, BatchOrdered, Digest};
pub use operation::{Counts, Operation, OperationEnd, OperationEnded, OperationKind, OperationProgressed};

pub const SCHEMA_ID: &str = "urn:usher:schemas/lifecycle-event.v1.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(
    title = "LifecycleEvent",
    description = "What happens to a provider, a batch or an operation: a CloudEvent 1.0 in structured mode, once for the whole fleet. Events may repeat, with the same id.",
    extend("$id" = SCHEMA_ID),
    transform = tagged
)]
pub struct LifecycleEvent {
    #[schemars(extend("const" = "1.0"))]
    pub specversion: Cow<'static, str>,
    /// Repeats of an event carry the same id.
    pub id: Uuid,
    /// `/usher/<provider>`
    #[schemars(extend("pattern" = "^/usher/[a-z0-9-]{1,40}$"))]
    pub source: String,
    /// The batch's or the operation's id. Absent where the event concerns the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: Timestamp,
    #[schemars(extend("const" = "application/json"))]
    pub datacontenttype: Cow<'static, str>,
    #[schemars(extend("const" = SCHEMA_ID))]
    pub dataschema: Cow<'static, str>,
    #[serde(flatten)]
    pub body: LifecycleBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum LifecycleBody {
    /// Calls to the provider are paused for longer than a moment, or the cause of the pause has changed.
    #[serde(rename = "PROVIDER_PAUSED")]
    Paused(ProviderPaused),
    /// Calls have resumed.
    #[serde(rename = "PROVIDER_RESUMED")]
    Resumed(ProviderResumed),
    /// The provider refuses the workers' credentials.
    #[serde(rename = "CREDENTIALS_REFUSED")]
    CredentialsRefused(CredentialsRefused),
    /// A call has passed again.
    #[serde(rename = "CREDENTIALS_ACCEPTED")]
    CredentialsAccepted(CredentialsAccepted),
    /// Commands of a worker or more make no progress, or the cause has changed.
    #[serde(rename = "INTAKE_STALLED")]
    IntakeStalled(Intake),
    /// Commands progress again, or wait for something that is known.
    #[serde(rename = "INTAKE_RESUMED")]
    IntakeResumed(Intake),
    /// The first command of a batch is about to be published.
    #[serde(rename = "BATCH_OPENED")]
    BatchOpened(BatchOpened),
    /// All commands of a batch are published.
    #[serde(rename = "BATCH_CLOSED")]
    BatchClosed(BatchClosed),
    /// The batch's commands wait from now on.
    #[serde(rename = "BATCH_PAUSED")]
    BatchPaused(BatchOrdered),
    /// The batch's commands run again.
    #[serde(rename = "BATCH_RESUMED")]
    BatchResumed(BatchOrdered),
    /// The batch's commands that have not begun fail from now on.
    #[serde(rename = "BATCH_CANCELLED")]
    BatchCancelled(BatchOrdered),
    /// Somebody decided on an operation; nothing has changed yet.
    #[serde(rename = "OPERATION_PLANNED")]
    OperationPlanned(Operation),
    /// The operation changes things from now on; also when it goes on after it was interrupted.
    #[serde(rename = "OPERATION_STARTED")]
    OperationStarted(Operation),
    #[serde(rename = "OPERATION_PROGRESSED")]
    OperationProgressed(OperationProgressed),
    #[serde(rename = "OPERATION_ENDED")]
    OperationEnded(OperationEnded),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct ProviderPaused {
    pub cause: PauseCause,
    /// When the pause began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    /// When the next call is due, as known when the event was published. Absent where an operator has to resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub next_probe: Option<Timestamp>,
    /// Who paused it and why, where an operator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct ProviderResumed {
    /// The cause of the pause.
    pub cause: PauseCause,
    /// When the pause began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct CredentialsRefused {
    /// Since when they are refused.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    /// When the next call is due, as known when the event was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub next_probe: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct CredentialsAccepted {
    /// Since when they had been refused.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct Intake {
    pub cause: StallCause,
    /// Since when nothing has progressed.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
}

impl LifecycleEvent {
    /// The same provider, cause and start give the same id.
    pub fn paused(provider: &ProviderName, paused: ProviderPaused, now: Timestamp) -> Self {
        let paused = ProviderPaused {
            since: rounded(paused.since),
            next_probe: paused.next_probe.map(rounded),
            ..paused
        };
        let name = format!(
            "PROVIDER_PAUSED:{provider}:{}:{}",
            paused.cause.as_str(),
            paused.since.as_millisecond()
        );
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        Self::new(provider, id, None, LifecycleBody::Paused(paused), now)
    }

    /// The end of the pause that the event `paused` reported.
    pub fn resumed(provider: &ProviderName, paused: Uuid, resumed: ProviderResumed, now: Timestamp) -> Self {
        let id = Uuid::new_v5(&paused, b"PROVIDER_RESUMED");
        Self::new(provider, id, None, LifecycleBody::Resumed(resumed), now)
    }

    pub fn refused(provider: &ProviderName, refused: CredentialsRefused, now: Timestamp) -> Self {
        let refused = CredentialsRefused {
            since: rounded(refused.since),
            next_probe: refused.next_probe.map(rounded),
        };
        let name = format!(
            "CREDENTIALS_REFUSED:{provider}:{}",
            refused.since.as_millisecond()
        );
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        Self::new(
            provider,
            id,
            None,
            LifecycleBody::CredentialsRefused(refused),
            now,
        )
    }

    /// The end of what the event `refused` reported.
    pub fn accepted(provider: &ProviderName, refused: Uuid, since: Timestamp, now: Timestamp) -> Self {
        let id = Uuid::new_v5(&refused, b"CREDENTIALS_ACCEPTED");
        let accepted = CredentialsAccepted { since };
        Self::new(
            provider,
            id,
            None,
            LifecycleBody::CredentialsAccepted(accepted),
            now,
        )
    }

    pub fn stalled(provider: &ProviderName, stalled: Intake, now: Timestamp) -> Self {
        let stalled = Intake {
            since: rounded(stalled.since),
            ..stalled
        };
        let (cause, since) = (stalled.cause.as_str(), stalled.since.as_millisecond());
        let name = format!("INTAKE_STALLED:{provider}:{cause}:{since}");
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        Self::new(provider, id, None, LifecycleBody::IntakeStalled(stalled), now)
    }

    /// The end of what the event `stalled` reported.
    pub fn progresses(provider: &ProviderName, stalled: Uuid, was: Intake, now: Timestamp) -> Self {
        let id = Uuid::new_v5(&stalled, b"INTAKE_RESUMED");
        Self::new(provider, id, None, LifecycleBody::IntakeResumed(was), now)
    }

    /// What happened to a batch or an operation. `nth` tells apart events of one type about the same subject: the same
    /// arguments give the same id.
    pub fn about(
        provider: &ProviderName,
        subject: &str,
        body: LifecycleBody,
        nth: u64,
        now: Timestamp,
    ) -> Self {
        let name = format!("{}:{provider}:{subject}:{nth}", body.kind().as_str());
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        Self::new(provider, id, Some(subject.to_owned()), body, now)
    }

    fn new(
        provider: &ProviderName,
        id: Uuid,
        subject: Option<String>,
        body: LifecycleBody,
        now: Timestamp,
    ) -> Self {
        Self {
            specversion: "1.0".into(),
            id,
            source: format!("/usher/{provider}"),
            subject,
            time: rounded(now),
            datacontenttype: "application/json".into(),
            dataschema: SCHEMA_ID.into(),
            body,
        }
    }

    pub fn kind(&self) -> LifecycleKind {
        self.body.kind()
    }

    /// The routing key under which it is published.
    pub fn routing_key(&self, provider: &ProviderName) -> String {
        format!("{}.{provider}", self.kind().topic())
    }
}

impl LifecycleBody {
    pub fn kind(&self) -> LifecycleKind {
        match self {
            Self::Paused(_) => LifecycleKind::Paused,
            Self::Resumed(_) => LifecycleKind::Resumed,
            Self::CredentialsRefused(_) => LifecycleKind::CredentialsRefused,
            Self::CredentialsAccepted(_) => LifecycleKind::CredentialsAccepted,
            Self::IntakeStalled(_) => LifecycleKind::IntakeStalled,
            Self::IntakeResumed(_) => LifecycleKind::IntakeResumed,
            Self::BatchOpened(_) => LifecycleKind::BatchOpened,
            Self::BatchClosed(_) => LifecycleKind::BatchClosed,
            Self::BatchPaused(_) => LifecycleKind::BatchPaused,
            Self::BatchResumed(_) => LifecycleKind::BatchResumed,
            Self::BatchCancelled(_) => LifecycleKind::BatchCancelled,
            Self::OperationPlanned(_) => LifecycleKind::OperationPlanned,
            Self::OperationStarted(_) => LifecycleKind::OperationStarted,
            Self::OperationProgressed(_) => LifecycleKind::OperationProgressed,
            Self::OperationEnded(_) => LifecycleKind::OperationEnded,
        }
    }
}

fn rounded(moment: Timestamp) -> Timestamp {
    moment.round(Unit::Millisecond).unwrap_or(moment)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleKind {
    Paused,
    Resumed,
    CredentialsRefused,
    CredentialsAccepted,
    IntakeStalled,
    IntakeResumed,
    BatchOpened,
    BatchClosed,
    BatchPaused,
    BatchResumed,
    BatchCancelled,
    OperationPlanned,
    OperationStarted,
    OperationProgressed,
    OperationEnded,
}

impl LifecycleKind {
    pub const ALL: [Self; 15] = [
        Self::Paused,
        Self::Resumed,
        Self::CredentialsRefused,
        Self::CredentialsAccepted,
        Self::IntakeStalled,
        Self::IntakeResumed,
        Self::BatchOpened,
        Self::BatchClosed,
        Self::BatchPaused,
        Self::BatchResumed,
        Self::BatchCancelled,
        Self::OperationPlanned,
        Self::OperationStarted,
        Self::OperationProgressed,
        Self::OperationEnded,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "PROVIDER_PAUSED",
            Self::Resumed => "PROVIDER_RESUMED",
            Self::CredentialsRefused => "CREDENTIALS_REFUSED",
            Self::CredentialsAccepted => "CREDENTIALS_ACCEPTED",
            Self::IntakeStalled => "INTAKE_STALLED",
            Self::IntakeResumed => "INTAKE_RESUMED",
            Self::BatchOpened => "BATCH_OPENED",
            Self::BatchClosed => "BATCH_CLOSED",
            Self::BatchPaused => "BATCH_PAUSED",
            Self::BatchResumed => "BATCH_RESUMED",
            Self::BatchCancelled => "BATCH_CANCELLED",
            Self::OperationPlanned => "OPERATION_PLANNED",
            Self::OperationStarted => "OPERATION_STARTED",
            Self::OperationProgressed => "OPERATION_PROGRESSED",
            Self::OperationEnded => "OPERATION_ENDED",
        }
    }

    /// The event's routing key without its last word, the provider's name.
    pub fn topic(self) -> &'static str {
        match self {
            Self::Paused => "provider.paused",
            Self::Resumed => "provider.resumed",
            Self::CredentialsRefused => "provider.credentials-refused",
            Self::CredentialsAccepted => "provider.credentials-accepted",
            Self::IntakeStalled => "intake.stalled",
            Self::IntakeResumed => "intake.resumed",
            Self::BatchOpened => "batch.opened",
            Self::BatchClosed => "batch.closed",
            Self::BatchPaused => "batch.paused",
            Self::BatchResumed => "batch.resumed",
            Self::BatchCancelled => "batch.cancelled",
            Self::OperationPlanned => "operation.planned",
            Self::OperationStarted => "operation.started",
            Self::OperationProgressed => "operation.progressed",
            Self::OperationEnded => "operation.ended",
        }
    }

    /// What it means, in a sentence.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Paused => "Calls to the provider are paused for longer than a moment.",
            Self::Resumed => "Calls have resumed.",
            Self::CredentialsRefused => "The provider refuses the workers' credentials.",
            Self::CredentialsAccepted => "A call has passed again.",
            Self::IntakeStalled => "Commands make no progress, or the cause has changed.",
            Self::IntakeResumed => "Commands progress again, or wait for something that is known.",
            Self::BatchOpened => "The first command of a batch is about to be published.",
            Self::BatchClosed => "All commands of a batch are published.",
            Self::BatchPaused => "The batch's commands wait from now on.",
            Self::BatchResumed => "The batch's commands run again.",
            Self::BatchCancelled => "The batch's commands that have not begun fail from now on.",
            Self::OperationPlanned => "Somebody decided on an operation, which has changed nothing yet.",
            Self::OperationStarted => "The operation changes things from now on.",
            Self::OperationProgressed => "The operation has got this far.",
            Self::OperationEnded => "The operation changes nothing more.",
        }
    }
}
