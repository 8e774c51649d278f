//! An event of the outcome log, read as cheaply as possible: from its AMQP properties. Only an event that does not fit
//! there, or whose properties have another form, is read from its body.

use jiff::Timestamp;
use uuid::Uuid;

use crate::broker::Properties;
use crate::contract::Version;
use crate::contract::event::{Event, EventBody, EventType, Summary};

pub(super) struct Logged {
    pub(super) id: Uuid,
    /// Never before the event: whole seconds are rounded up.
    pub(super) time: Timestamp,
    pub(super) what: What,
    /// The user's id and version.
    pub(super) version: Option<(String, Version)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Started,
    Succeeded(Summary),
    Failed,
}

impl Logged {
    pub(super) fn read(properties: &Properties, body: &[u8]) -> Option<Self> {
        Self::from_properties(properties).or_else(|| Self::from_body(body))
    }

    fn from_properties(properties: &Properties) -> Option<Self> {
        let id = properties.message_id()?.parse().ok()?;
        let seconds = i64::try_from(properties.timestamp()?).ok()?;
        let time = Timestamp::from_second(seconds.checked_add(1)?).ok()?;
        let what = match EventType::parse(properties.message_type()?)? {
            EventType::Start => What::Started,
            EventType::Success => What::Succeeded(Summary::parse(properties.app_id()?)?),
            EventType::Fail => What::Failed,
        };
        Some(Self {
            id,
            time,
            what,
            version: None,
        })
    }

    fn from_body(body: &[u8]) -> Option<Self> {
        let event: Event = serde_json::from_slice(body).ok()?;
        let (what, version) = match event.body {
            EventBody::Start(_) => (What::Started, None),
            EventBody::Success(success) => (What::Succeeded(Summary::of(&success)), success.version),
            EventBody::Fail(_) => (What::Failed, None),
        };
        Some(Self {
            id: event.id,
            time: event.time,
            what,
            version: event.subject.zip(version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::event::CONTENT_TYPE;

    fn properties(kind: &str) -> Properties {
        Properties::persistent("018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e", CONTENT_TYPE)
            .with_message_type(kind)
            .with_timestamp(7)
    }

    fn what(properties: &Properties) -> Option<What> {
        Some(Logged::read(properties, b"no body at all")?.what)
    }

    #[test]
    fn an_event_is_read_from_its_properties_alone() {
        let logged = Logged::read(&properties("USER_UPDATE_START"), b"").unwrap();
        assert_eq!((logged.time.as_second(), logged.what), (8, What::Started));
        assert_eq!(what(&properties("USER_UPDATE_FAIL")), Some(What::Failed));
        let succeeded = properties("USER_UPDATE_SUCCESS").with_app_id("true/3/5231//email,phone");
        let Some(What::Succeeded(success)) = what(&succeeded) else {
            panic!("a success");
        };
        assert_eq!(
            (success.changed, success.attempts, success.duration_ms),
            (true, 3, 5231)
        );
        assert_eq!(success.fields().collect::<Vec<_>>(), ["email", "phone"]);
    }

    #[test]
    fn missing_properties_are_not_invented() {
        assert_eq!(
            what(&properties("USER_UPDATE_SUCCESS")),
            None,
            "it has no summary, and no body"
        );
        assert_eq!(what(&properties("PROVIDER_PAUSED")), None);
        assert_eq!(what(&Properties::default()), None);
    }
}
