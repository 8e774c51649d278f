//! What operators order the provider's workers to do. Each message of the stream of orders holds all orders in force;
//! the one with the highest revision counts, and of two with the same revision the earlier one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::checked::BatchId;
use super::notice::PACE_MAX;

/// The largest message that is read.
const BYTES_MAX: usize = 256 * 1024;

/// The most batches under orders.
pub const BATCHES_MAX: usize = 1000;

/// The most batches that hold back what comes after a failure.
pub const HOLDS_MAX: usize = 100;

/// Room that is left to operators: workers add to the orders no more beyond it.
const BYTES_LEFT: usize = 64 * 1024;

/// The longest name or reason, in characters.
pub const TEXT_MAX: usize = 200;

/// All orders in force. Members that a later version adds are ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Orders {
    /// One more than that of the orders they replace.
    pub revision: u64,
    /// How often an operator ordered the workers to try again.
    #[serde(default)]
    pub resumes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseOrder>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<PaceOrder>,
    /// By the batch's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub batches: BTreeMap<String, BatchOrder>,
    /// The batches in which a failure holds back the user's later commands, by the batch's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<String, HoldOrder>,
}

/// No calls to the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseOrder {
    /// Interactive commands continue.
    #[serde(default)]
    pub bulk_only: bool,
    pub by: String,
    pub reason: String,
    pub since: Timestamp,
    /// `None`: until an operator resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The fleet's pace, instead of the learned one. The configured rate stays the upper bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaceOrder {
    /// Calls per second.
    pub per_second: f64,
    pub by: String,
    pub since: Timestamp,
    /// `None`: until an operator unpins it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchOrder {
    pub state: BatchState,
    pub by: String,
    pub since: Timestamp,
}

/// Once a command of the batch fails, its user's later commands of the batch are not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldOrder {
    pub by: String,
    pub since: Timestamp,
    /// The users whose commands are held back, each with the id of the command that failed. Workers write them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchState {
    /// Its commands that have not begun wait.
    Paused,
    /// Its commands that have not begun fail.
    Cancelled,
}

impl BatchState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a message of the stream is ignored. Any client that may write there can send anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableOrders {
    #[error("it is too large")]
    Oversized,
    #[error("it is not in the form of orders")]
    Unreadable,
    #[error("its pace is not a number of calls per second")]
    Pace,
    #[error("a name or a reason is too long")]
    Text,
}

impl Orders {
    pub fn read(bytes: &[u8]) -> Result<Self, UnusableOrders> {
        if bytes.len() > BYTES_MAX {
            return Err(UnusableOrders::Oversized);
        }
        let orders: Self = serde_json::from_slice(bytes).map_err(|_| UnusableOrders::Unreadable)?;
        let is_pace = |pace: &PaceOrder| pace.per_second > 0.0 && pace.per_second <= PACE_MAX;
        if !orders.pace.as_ref().is_none_or(is_pace) {
            return Err(UnusableOrders::Pace);
        }
        if orders.batches.len() > BATCHES_MAX
            || orders.holds.len() > HOLDS_MAX
            || orders.batches.keys().any(|id| BatchId::parse(id).is_none())
            || orders.holds.keys().any(|id| BatchId::parse(id).is_none())
            || orders.texts().any(|text| text.chars().count() > TEXT_MAX)
        {
            return Err(UnusableOrders::Text);
        }
        Ok(orders)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let pause = self.pause.iter().flat_map(|pause| [&pause.by, &pause.reason]);
        let pace = self.pace.iter().map(|pace| &pace.by);
        let batches = self.batches.values().map(|batch| &batch.by);
        let holds = self.holds.values();
        let held = holds.flat_map(|hold| hold.users.iter().flat_map(<[_; 2]>::from).chain([&hold.by]));
        pause.chain(pace).chain(batches).chain(held).map(String::as_str)
    }

    /// The pause, if it is not over.
    pub fn pause_at(&self, now: Timestamp) -> Option<&PauseOrder> {
        let pause = self.pause.as_ref()?;
        pause.until.is_none_or(|until| until > now).then_some(pause)
    }

    /// The pinned pace, if its time is not over.
    pub fn pace_at(&self, now: Timestamp) -> Option<&PaceOrder> {
        let pace = self.pace.as_ref()?;
        pace.until.is_none_or(|until| until > now).then_some(pace)
    }

    /// Without those whose time is over.
    pub fn in_force(self, now: Timestamp) -> Self {
        Self {
            pause: self.pause_at(now).cloned(),
            pace: self.pace_at(now).cloned(),
            ..self
        }
    }

    pub fn order_something(&self) -> bool {
        self.pause.is_some() || self.pace.is_some() || !self.batches.is_empty()
    }

    /// Whether another user that is held back fits in.
    pub fn has_room(&self) -> bool {
        // Each takes its text and a few signs.
        let held = |hold: &HoldOrder| -> usize {
            hold.users
                .iter()
                .map(|(user, id)| user.len() + id.len() + 8)
                .sum()
        };
        self.holds.values().map(held).sum::<usize>() < BYTES_MAX - 2 * BYTES_LEFT
    }

    /// The command behind which the user's other commands of the batch are held back.
    pub fn held_behind(&self, batch: &BatchId, user: &str) -> Option<&str> {
        let hold = self.holds.get(batch.as_str())?;
        hold.users.get(user).map(String::as_str)
    }

    /// How many batches are in this state.
    pub fn batches_that_are(&self, state: BatchState) -> usize {
        let in_state = self.batches.values().filter(|batch| batch.state == state);
        in_state.count()
    }

    pub fn batch(&self, id: &BatchId) -> Option<&BatchOrder> {
        self.batches.get(id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_orders_are_ignored_with_a_reason() {
        let good = r#"{"revision":3,"resumes":1,"pause":{"by":"al","reason":"x","since":"2026-11-21T10:00:00Z"},"pace":{"perSecond":20.0,"by":"al","since":"2026-11-21T10:00:00Z"},"batches":{"b1":{"state":"paused","by":"al","since":"2026-11-21T10:00:00Z"}},"later":1}"#;
        let read = Orders::read(good.as_bytes()).unwrap();
        assert_eq!(read.batches["b1"].state, BatchState::Paused);
        let again = serde_json::to_vec(&read).unwrap();
        assert_eq!(Orders::read(&again), Ok(read));
        let long = format!("\"reason\":\"{}\"", "x".repeat(TEXT_MAX + 1));
        for (from, to, why) in [
            ("20.0", "0", UnusableOrders::Pace),
            ("20.0", "-1", UnusableOrders::Pace),
            ("20.0", "1e9", UnusableOrders::Pace),
            ("20.0", "1e999", UnusableOrders::Unreadable),
            ("\"revision\":3", "\"revision\":-3", UnusableOrders::Unreadable),
            ("\"paused\"", "\"gone\"", UnusableOrders::Unreadable),
            ("\"reason\":\"x\"", &long, UnusableOrders::Text),
            ("\"b1\"", "\"\"", UnusableOrders::Text),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_eq!(Orders::read(bad.as_bytes()), Err(why), "{bad}");
        }
        let padded = format!("{good}{}", " ".repeat(BYTES_MAX));
        assert_eq!(Orders::read(padded.as_bytes()), Err(UnusableOrders::Oversized));
    }

    #[test]
    fn an_order_ends_at_its_time() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let orders = |until| Orders {
            pause: Some(PauseOrder {
                bulk_only: false,
                by: "al".into(),
                reason: "x".into(),
                since: at("2026-11-21T10:00:00Z"),
                until,
            }),
            ..Orders::default()
        };
        let ends = orders(Some(at("2026-11-21T11:00:00Z")));
        assert!(ends.pause_at(at("2026-11-21T10:59:59Z")).is_some());
        assert!(ends.pause_at(at("2026-11-21T11:00:00Z")).is_none());
        assert!(orders(None).pause_at(at("2036-11-21T11:00:00Z")).is_some());
    }
}
