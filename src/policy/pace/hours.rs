//! Hours of the day in which a quota holds.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// From one time of the day to another, over midnight if the second is the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Between {
    from: Time,
    to: Time,
}

/// A time zone of the IANA database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Between {
    /// `08:00-18:00`.
    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (time(from.trim())?, time(to.trim())?);
        (from != to).then_some(Self { from, to })
    }

    pub(super) fn contains(self, at: Timestamp, zone: &Zone) -> bool {
        let time = at.to_zoned(zone.0.clone()).time();
        match self.from < self.to {
            true => self.from <= time && time < self.to,
            false => time >= self.from || time < self.to,
        }
    }
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| text.parse::<i8>().ok()).flatten()
    };
    match (number(hour)?, number(minute)?) {
        // The end of the day is the beginning of the next.
        (24, 0) => Some(Time::midnight()),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
    }
}

impl<'de> Deserialize<'de> for Between {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom("two different times of the day are needed, such as \"08:00-18:00\"")
        })
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        TimeZone::get(&name).map(Self).map_err(|_| {
            de::Error::custom(
                "there is no such time zone; write its name in the IANA database, such as \"Europe/Berlin\"",
            )
        })
    }
}

impl JsonSchema for Between {
    fn schema_name() -> Cow<'static, str> {
        "Between".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([01][0-9]|2[0-4]):[0-5][0-9] ?- ?([01][0-9]|2[0-4]):[0-5][0-9]$",
            "examples": ["08:00-18:00"]
        })
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 60, "examples": ["Europe/Berlin"] })
    }
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from.hour(),
            from.minute(),
            to.hour(),
            to.minute()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_within(between: &str, zone: &str, at: &str) -> bool {
        let zone = Zone(TimeZone::get(zone).unwrap());
        Between::parse(between)
            .unwrap()
            .contains(at.parse().unwrap(), &zone)
    }

    #[test]
    fn hours_are_those_of_the_time_zone_and_may_pass_midnight() {
        for (between, zone, at, expected) in [
            ("08:00-18:00", "UTC", "2026-11-21T08:00:00Z", true),
            ("08:00-18:00", "UTC", "2026-11-21T18:00:00Z", false),
            ("08:00-18:00", "UTC", "2026-11-21T07:59:59Z", false),
            ("18:00-08:00", "UTC", "2026-11-21T23:00:00Z", true),
            ("18:00-08:00", "UTC", "2026-11-21T07:59:59Z", true),
            ("18:00-08:00", "UTC", "2026-11-21T12:00:00Z", false),
            ("18:00-24:00", "UTC", "2026-11-21T23:59:59Z", true),
            // One hour ahead in winter, two in summer.
            ("08:00-18:00", "Europe/Berlin", "2026-11-21T07:30:00Z", true),
            ("08:00-18:00", "Europe/Berlin", "2026-07-21T16:30:00Z", false),
        ] {
            assert_eq!(is_within(between, zone, at), expected, "{between} {zone} {at}");
        }
    }

    #[test]
    fn what_is_no_span_of_the_day_is_refused() {
        for text in [
            "",
            "08:00",
            "8-18",
            "08:00-08:00",
            "25:00-26:00",
            "08:60-09:00",
            "00:00-24:00",
        ] {
            assert_eq!(Between::parse(text), None, "{text}");
        }
    }
}
