//! The event: CloudEvents 1.0 in structured mode. A repeated event has the same id.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::checked::{BatchId, ProviderName, Version};
use super::command::CommandId;
use super::decode::Ident;
use super::failure::Reason;
use super::outcome::{Outcome, Settlement};
use super::schema::{closed, tagged};

pub const CONTENT_TYPE: &str = "application/cloudevents+json";
pub const SCHEMA_ID: &str = "urn:usher:schemas/user-update-event.v1.json";

/// The parts of a SUCCESS without a version that a worker needs to publish it again. The AMQP property `app_id` repeats
/// them, so that a worker that reads many events parses no bodies: `<changed>/<attempts>/<milliseconds>/<command or
/// nothing>/<field,field>`. It contains no value.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    pub changed: bool,
    pub attempts: u32,
    pub duration_ms: u64,
    pub merged_into: Option<CommandId>,
    /// Field names, separated by commas.
    names: String,
}

impl Summary {
    pub fn of(success: &Succeeded) -> Self {
        Self {
            changed: success.changed,
            attempts: success.attempts,
            duration_ms: success.duration_ms,
            merged_into: success.merged_into,
            names: success.command.fields.join(","),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '/');
        Some(Self {
            changed: parts.next()?.parse().ok()?,
            attempts: parts.next()?.parse().ok()?,
            duration_ms: parts.next()?.parse().ok()?,
            merged_into: match parts.next()? {
                "" => None,
                id => Some(id.parse().ok()?),
            },
            names: parts.next()?.to_owned(),
        })
    }

    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.names.split(',').filter(|name| !name.is_empty())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            changed,
            attempts,
            duration_ms,
            merged_into,
            names,
        } = self;
        let merged_into = merged_into.map(|id| id.to_string()).unwrap_or_default();
        write!(f, "{changed}/{attempts}/{duration_ms}/{merged_into}/{names}")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    Start,
    Success,
    Fail,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "USER_UPDATE_START",
            Self::Success => "USER_UPDATE_SUCCESS",
            Self::Fail => "USER_UPDATE_FAIL",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Start, Self::Success, Self::Fail];
        all.into_iter().find(|known| known.as_str() == text)
    }

    /// The middle of the event's routing key.
    pub fn routing_word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Fail => "fail",
        }
    }

    /// The same command, type and number of redrives give the same id, no matter which worker publishes the event and
    /// how often.
    pub fn id(self, ident: &Ident) -> Uuid {
        match self {
            Self::Start => ident.event_ids.start,
            Self::Success => ident.event_ids.success,
            Self::Fail => ident.event_ids.fail,
        }
    }
}

/// The ids of a command's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventIds {
    start: Uuid,
    success: Uuid,
    fail: Uuid,
}

impl EventIds {
    pub fn new(key: &Uuid, redrives: u32) -> Self {
        let id = |event_type: EventType| {
            let name = format!("{}:{redrives}", event_type.as_str());
            Uuid::new_v5(key, name.as_bytes())
        };
        Self {
            start: id(EventType::Start),
            success: id(EventType::Success),
            fail: id(EventType::Fail),
        }
    }

    pub fn fail(&self) -> Uuid {
        self.fail
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(
    title = "UserUpdateEvent",
    description = "The progress and outcome of a command: a CloudEvent 1.0 in structured mode. Events may repeat, with the same id.",
    extend("$id" = SCHEMA_ID),
    transform = tagged
)]
pub struct Event {
    #[schemars(extend("const" = "1.0"))]
    pub specversion: Cow<'static, str>,
    /// Repeats of an event carry the same id.
    pub id: Uuid,
    /// `/usher/<provider>`
    #[schemars(extend("pattern" = "^/usher/[a-z0-9-]{1,40}$"))]
    pub source: String,
    /// The user's id at the provider, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub subject: Option<String>,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: Timestamp,
    #[schemars(extend("const" = "application/json"))]
    pub datacontenttype: Cow<'static, str>,
    #[schemars(extend("const" = SCHEMA_ID))]
    pub dataschema: Cow<'static, str>,
    #[serde(flatten)]
    pub body: EventBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum EventBody {
    /// The command is about to run.
    #[serde(rename = "USER_UPDATE_START")]
    Start(Started),
    /// The user matches the command.
    #[serde(rename = "USER_UPDATE_SUCCESS")]
    Success(Succeeded),
    /// The command failed and has a dead letter.
    #[serde(rename = "USER_UPDATE_FAIL")]
    Fail(Failed),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct Started {
    /// The command's id; for a command that could not be decoded, the AMQP `message_id` or null.
    pub command_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BatchId")]
    pub batch_id: Option<BatchId>,
    /// Names of the fields that the command changes, never their values.
    pub fields: Vec<Cow<'static, str>>,
    /// Whether the broker had delivered the command before.
    pub redelivered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct Succeeded {
    #[serde(flatten)]
    pub command: Started,
    /// Calls that count as attempts.
    pub attempts: u32,
    /// From the start of the run to its outcome.
    pub duration_ms: u64,
    /// False if the user is known to have matched the command already. A write without a read before it can't know
    /// this.
    pub changed: bool,
    /// If one call applied several commands of a user: the command that the call was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub merged_into: Option<CommandId>,
    /// The user's version after the command, if the provider checks versions and returned it. The next command may use
    /// it as `expectedVersion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Version")]
    pub version: Option<Version>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct Failed {
    #[serde(flatten)]
    pub command: Started,
    /// Calls that count as attempts.
    pub attempts: u32,
    /// From the start of the run to its outcome.
    pub duration_ms: u64,
    pub error: EventError,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = closed)]
pub struct EventError {
    pub reason: Reason,
    /// The provider's HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// The provider's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub code: Option<String>,
    /// Where in the command, as a JSON pointer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "json-pointer"))]
    pub pointer: Option<String>,
    /// What is wrong and how to fix it. It contains no value.
    pub detail: Cow<'static, str>,
}

impl Event {
    pub fn start(provider: &ProviderName, ident: &Ident, redelivered: bool, now: Timestamp) -> Self {
        let body = EventBody::Start(started(ident, redelivered));
        Self::new(provider, ident, EventType::Start, body, now)
    }

    pub fn terminal(
        provider: &ProviderName,
        ident: &Ident,
        redelivered: bool,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Self {
        let command = started(ident, redelivered);
        let attempts = settlement.attempts;
        let duration_ms = millis(settlement.duration);
        let body = match &settlement.outcome {
            Outcome::Success { changed, version } => EventBody::Success(Succeeded {
                command,
                attempts,
                duration_ms,
                changed: *changed,
                merged_into: settlement.merged_into,
                version: version.clone(),
            }),
            Outcome::Failure(failure) => EventBody::Fail(Failed {
                command,
                attempts,
                duration_ms,
                error: EventError {
                    reason: failure.reason,
                    status: failure.status,
                    code: failure.code.clone(),
                    pointer: failure.pointer.clone(),
                    detail: failure.detail.clone(),
                },
            }),
        };
        Self::new(provider, ident, settlement.outcome.event_type(), body, now)
    }

    fn new(
        provider: &ProviderName,
        ident: &Ident,
        event_type: EventType,
        body: EventBody,
        now: Timestamp,
    ) -> Self {
        Self {
            specversion: "1.0".into(),
            id: event_type.id(ident),
            source: format!("/usher/{provider}"),
            subject: ident.user_id.clone(),
            time: now.round(jiff::Unit::Millisecond).unwrap_or(now),
            datacontenttype: "application/json".into(),
            dataschema: SCHEMA_ID.into(),
            body,
        }
    }

    pub fn event_type(&self) -> EventType {
        match self.body {
            EventBody::Start(_) => EventType::Start,
            EventBody::Success(_) => EventType::Success,
            EventBody::Fail(_) => EventType::Fail,
        }
    }
}

fn started(ident: &Ident, redelivered: bool) -> Started {
    Started {
        command_id: ident.command_id.clone(),
        batch_id: ident.batch_id.clone(),
        fields: ident.fields.iter().copied().map(Cow::Borrowed).collect(),
        redelivered,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Failure;

    fn ident(redrives: u32) -> Ident {
        Ident::of_refused(
            br#"{"id":"018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e","userId":"u"}"#,
            None,
            redrives,
        )
    }

    #[test]
    fn event_id_depends_on_command_type_and_redrives() {
        assert_eq!(EventType::Fail.id(&ident(0)), EventType::Fail.id(&ident(0)));
        assert_ne!(EventType::Fail.id(&ident(0)), EventType::Success.id(&ident(0)));
        assert_ne!(EventType::Fail.id(&ident(0)), EventType::Fail.id(&ident(1)));
    }

    #[test]
    fn fail_event_is_written_and_read_in_the_documented_form() {
        let settlement = Settlement {
            outcome: Outcome::Failure(Failure::new(Reason::Conflict, "detail").at("/update/email")),
            attempts: 3,
            duration: Duration::from_millis(5231),
            merged_into: None,
        };
        let provider = ProviderName::parse("zitadel-eu").unwrap();
        let event = Event::terminal(&provider, &ident(0), false, &settlement, Timestamp::UNIX_EPOCH);
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], "USER_UPDATE_FAIL");
        assert_eq!(json["source"], "/usher/zitadel-eu");
        assert_eq!(json["subject"], "u");
        assert_eq!(json["data"]["durationMs"], 5231);
        assert_eq!(
            json["data"]["error"],
            serde_json::json!({ "reason": "conflict", "pointer": "/update/email", "detail": "detail" })
        );
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }

    #[test]
    fn summary_round_trips() {
        let summary = Summary {
            changed: true,
            attempts: 3,
            duration_ms: 5231,
            merged_into: None,
            names: "email,claims/x".to_owned(),
        };
        assert_eq!(summary.to_string(), "true/3/5231//email,claims/x");
        assert_eq!(Summary::parse(&summary.to_string()).unwrap(), summary);
        assert_eq!(summary.fields().collect::<Vec<_>>(), ["email", "claims/x"]);
        assert_eq!(Summary::parse("true/3/email"), None);
        let id = "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e";
        let merged = Summary::parse(&format!("false/0/1/{id}/")).unwrap();
        assert_eq!(
            (merged.fields().count(), merged.merged_into),
            (0, id.parse().ok())
        );
    }
}
