//! How long a batch still takes: what is left, divided by the pace.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::tally::Tally;
use crate::contract::orders::PaceOrder;

const MINUTE: i64 = 60;

/// A pinned pace that is younger than this does not show yet in what has ended.
const PIN_SHOWS_AFTER: SignedDuration = SignedDuration::from_secs(MINUTE);

/// Commands that ended a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pace {
    pub last_minute: f64,
    pub last_ten_minutes: f64,
    /// Calls per second of the whole fleet, as an operator ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<f64>,
}

/// How many seconds are left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// At the pace of the last minute, or at one that was pinned within it.
    pub seconds: f64,
    /// At the fastest and at the slowest of the paces that are known.
    pub least_seconds: f64,
    pub most_seconds: f64,
    pub ends_at: Timestamp,
}

impl Pace {
    pub(super) fn of(tally: &Tally, pinned: Option<&PaceOrder>, now: Timestamp) -> Self {
        let Some(begun) = tally.first_at else {
            return Self {
                pinned: pinned.map(|pace| pace.per_second),
                ..Self::default()
            };
        };
        Self {
            last_minute: tally.recent.per_second(MINUTE, begun, now),
            last_ten_minutes: tally.recent.per_second(10 * MINUTE, begun, now),
            pinned: pinned.map(|pace| pace.per_second),
        }
    }

    /// Whether the two paces differ so that both are worth telling.
    pub fn varies(&self) -> bool {
        (self.last_minute - self.last_ten_minutes).abs() > 0.1 * self.last_minute.max(self.last_ten_minutes)
    }

    /// `None`: at this pace it has no end.
    pub(super) fn left(self, remaining: u64, pinned: Option<&PaceOrder>, now: Timestamp) -> Option<Left> {
        let new_pin = pinned.filter(|pace| now.duration_since(pace.since) < PIN_SHOWS_AFTER);
        let likely = new_pin.map_or(self.last_minute, |pace| pace.per_second);
        if likely <= 0.0 {
            return None;
        }
        let paces = [likely, self.last_minute, self.last_ten_minutes];
        let known = || paces.into_iter().filter(|pace| *pace > 0.0);
        let seconds = |pace: f64| remaining as f64 / pace;
        let seconds_left = seconds(likely);
        let ends_at = SignedDuration::try_from_secs_f64(seconds_left)
            .ok()
            .and_then(|left| now.checked_add(left).ok())?;
        Some(Left {
            seconds: seconds_left,
            least_seconds: seconds(known().fold(likely, f64::max)),
            most_seconds: seconds(known().fold(likely, f64::min)),
            ends_at,
        })
    }
}
