//! The lifecycle event: a provider's pauses, published once for the whole fleet. A CloudEvent 1.0 in structured mode,
//! under its own routing keys, so that bindings to `user.update.#` don't receive it.

use std::borrow::Cow;

use jiff::{Timestamp, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::checked::ProviderName;
use super::notice::PauseCause;
use super::schema::{closed, tagged};

pub const SCHEMA_ID: &str = "urn:usher:schemas/lifecycle-event.v1.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(
    title = "LifecycleEvent",
    description = "A pause of a provider or its end: a CloudEvent 1.0 in structured mode, once for the whole fleet. Events may repeat, with the same id.",
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct ProviderPaused {
    pub cause: PauseCause,
    /// When the pause began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    /// When the next call is due, as known when the event was published.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub next_probe: Timestamp,
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

impl LifecycleEvent {
    /// The same provider, cause and start give the same id.
    pub fn paused(provider: &ProviderName, paused: ProviderPaused, now: Timestamp) -> Self {
        let paused = ProviderPaused {
            since: rounded(paused.since),
            next_probe: rounded(paused.next_probe),
            ..paused
        };
        let name = format!(
            "PROVIDER_PAUSED:{provider}:{}:{}",
            paused.cause.as_str(),
            paused.since.as_millisecond()
        );
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        Self::new(provider, id, LifecycleBody::Paused(paused), now)
    }

    /// The end of the pause that the event `paused` reported.
    pub fn resumed(provider: &ProviderName, paused: Uuid, resumed: ProviderResumed, now: Timestamp) -> Self {
        let id = Uuid::new_v5(&paused, b"PROVIDER_RESUMED");
        Self::new(provider, id, LifecycleBody::Resumed(resumed), now)
    }

    fn new(provider: &ProviderName, id: Uuid, body: LifecycleBody, now: Timestamp) -> Self {
        Self {
            specversion: "1.0".into(),
            id,
            source: format!("/usher/{provider}"),
            time: rounded(now),
            datacontenttype: "application/json".into(),
            dataschema: SCHEMA_ID.into(),
            body,
        }
    }

    pub fn kind(&self) -> LifecycleKind {
        match self.body {
            LifecycleBody::Paused(_) => LifecycleKind::Paused,
            LifecycleBody::Resumed(_) => LifecycleKind::Resumed,
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
}

impl LifecycleKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "PROVIDER_PAUSED",
            Self::Resumed => "PROVIDER_RESUMED",
        }
    }

    /// The event's routing key without its last word, the provider's name.
    pub fn topic(self) -> &'static str {
        match self {
            Self::Paused => "provider.paused",
            Self::Resumed => "provider.resumed",
        }
    }
}
