//! The notices that the workers of a fleet send each other, and the headers that they add to repeated events in the
//! outcome log.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A START event is published again with this header when a run ended without an outcome and the command was handed
/// back. The value, `untouched` or `called`, says whether the provider may have applied the command.
pub const HANDED_BACK: &str = "x-usher-handed-back";

/// An event of the log is published again with this header, `<worker>/<number>`. A worker that reads it has read all
/// earlier events of the log.
pub const BARRIER: &str = "x-usher-barrier";

/// One worker process.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A worker's run of a command, or a barrier of the worker. A START event has its run as its `app_id`:
/// `<worker>/<number>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId {
    pub worker: WorkerId,
    pub number: u64,
}

impl RunId {
    pub fn parse(text: &str) -> Option<Self> {
        let (worker, number) = text.rsplit_once('/')?;
        Some(Self {
            worker: WorkerId::new(worker),
            number: number.parse().ok()?,
        })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.worker, self.number)
    }
}

/// What a worker reports to the others. Members that a later version adds are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    pub worker: WorkerId,
    /// The partitions whose leases the worker holds.
    pub leases: Vec<u16>,
    /// The worker takes no more leases.
    #[serde(default)]
    pub leaving: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// What the worker knows of the fleet's pace.
    pub pace: Learned,
    /// The revision of the operators' orders that the worker follows.
    #[serde(default)]
    pub orders: u64,
    /// Its commands make no progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<Stalled>,
}

/// Commands make no progress. The time is a duration, since clocks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stalled {
    pub cause: StallCause,
    pub since_ms: u64,
}

/// Why commands make no progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StallCause {
    /// Nothing ends, and nothing explains it.
    Stalled,
    /// The commands in flight fill the window, and none of them can call; others wait behind them.
    WindowFull,
}

impl StallCause {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::WindowFull => "window_full",
        }
    }
}

/// The fleet's pace, as learned from the provider's answers. All workers share it. Paces are in calls per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    /// How often the provider has slowed the fleet down. The other members cover the time since the last slowdown.
    pub slowdowns: u64,
    /// The pace right after the slowdown: one that certainly held.
    pub floor: f64,
    /// The pace a few seconds later: between the floor and the pace that was too high.
    pub plateau: f64,
    /// The highest recent pace that the provider accepted.
    pub best: f64,
    /// Seconds during which calls waited for the pace.
    pub age: f64,
}

impl Learned {
    /// Whether a worker could have learned these values.
    fn is_sound(&self) -> bool {
        let is_pace = |pace: f64| pace > 0.0 && pace <= PACE_MAX;
        let paces = [self.floor, self.plateau, self.best];
        paces.into_iter().all(is_pace) && self.floor <= self.plateau && (0.0..=AGE_MAX).contains(&self.age)
    }
}

/// Calls are paused. Times are durations, since clocks differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paused {
    pub cause: PauseCause,
    pub for_ms: u64,
    pub since_ms: u64,
}

/// Why calls are paused, if the cause concerns the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PauseCause {
    /// The provider asked to wait (429).
    Throttled,
    /// The provider fails for every user, or can't be reached.
    Outage,
    /// The provider refuses the workers' credentials.
    Credentials,
    /// The provider refuses the form of the workers' requests.
    Configuration,
    /// An operator paused the provider.
    Operator,
}

impl PauseCause {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Outage => "outage",
            Self::Credentials => "credentials",
            Self::Configuration => "configuration",
            Self::Operator => "operator",
        }
    }
}

/// Workers choose no longer id.
const WORKER_ID_BYTES_MAX: usize = 64;

/// The most bytes of a notice without its leases, and of each lease.
const NOTICE_BYTES_MAX: usize = 1024;
const LEASE_BYTES_MAX: usize = 8;

/// In calls per second. No provider allows this many.
pub const PACE_MAX: f64 = 1e6;

/// In seconds, a hundred years: no worker runs that long.
const AGE_MAX: f64 = 3.2e9;

/// Why a notice is ignored. Any client that may write to the exchange can send anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    Oversized,
    /// Not JSON, a missing member, or a value of another type.
    Unreadable,
    Worker,
    Leases,
    Pace,
}

impl Unusable {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Unreadable => "unreadable",
            Self::Worker => "worker",
            Self::Leases => "leases",
            Self::Pace => "pace",
        }
    }
}

impl Notice {
    /// Reads and checks a notice in a fleet with this many partitions.
    pub fn read(bytes: &[u8], partitions: u16) -> Result<Self, Unusable> {
        if bytes.len() > NOTICE_BYTES_MAX + LEASE_BYTES_MAX * usize::from(partitions) {
            return Err(Unusable::Oversized);
        }
        let notice: Self = serde_json::from_slice(bytes).map_err(|_| Unusable::Unreadable)?;
        let id = notice.worker.0.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        if id.is_empty() || id.len() > WORKER_ID_BYTES_MAX || !id.iter().all(plain) {
            return Err(Unusable::Worker);
        }
        let leases: HashSet<_> = notice
            .leases
            .iter()
            .filter(|lease| **lease < partitions)
            .collect();
        if leases.len() != notice.leases.len() {
            return Err(Unusable::Leases);
        }
        if !notice.pace.is_sound() {
            return Err(Unusable::Pace);
        }
        Ok(notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Notice, Unusable> {
        Notice::read(text.as_bytes(), 4)
    }

    #[test]
    fn invalid_notices_are_ignored_with_a_reason() {
        let good = r#"{"worker":"a1","leases":[0,3],"pace":{"slowdowns":7,"floor":4.0,"plateau":5.0,"best":6.0,"age":1.5},"paused":{"cause":"outage","forMs":1,"sinceMs":0},"later":1}"#;
        assert_eq!(read(good).unwrap().leases, [0, 3]);
        let long = "x".repeat(WORKER_ID_BYTES_MAX + 1);
        for (from, to, why) in [
            ("a1", "", Unusable::Worker),
            ("a1", "a/1", Unusable::Worker),
            ("a1", &*long, Unusable::Worker),
            ("[0,3]", "[4]", Unusable::Leases),
            ("[0,3]", "[0,0]", Unusable::Leases),
            ("[0,3]", "[-1]", Unusable::Unreadable),
            ("[0,3]", "[65536]", Unusable::Unreadable),
            ("5.0", "0", Unusable::Pace),
            ("5.0", "-1", Unusable::Pace),
            ("5.0", "3.9", Unusable::Pace),
            ("4.0", "0", Unusable::Pace),
            ("6.0", "1e7", Unusable::Pace),
            ("1.5", "-0.1", Unusable::Pace),
            ("1.5", "1e10", Unusable::Pace),
            ("5.0", "1e308", Unusable::Pace),
            ("5.0", "1e999", Unusable::Unreadable),
            ("5.0", "NaN", Unusable::Unreadable),
            ("5.0", "null", Unusable::Unreadable),
            ("outage", "dead_letters", Unusable::Unreadable),
            ("outage", "boredom", Unusable::Unreadable),
            ("\"forMs\":1", "\"forMs\":-1", Unusable::Unreadable),
            ("7", "1e30", Unusable::Unreadable),
            ("{\"worker", "", Unusable::Unreadable),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert_eq!(read(&bad).unwrap_err(), why, "{bad}");
        }
        let padded = format!("{good}{}", " ".repeat(2000));
        assert_eq!(read(&padded).unwrap_err(), Unusable::Oversized);
    }

    #[test]
    fn notice_with_every_lease_is_accepted() {
        let notice = Notice {
            worker: WorkerId::new("0123456789ab"),
            leases: (0..u16::MAX).collect(),
            leaving: false,
            paused: None,
            pace: Learned {
                slowdowns: u64::MAX,
                floor: 1.0 / 3.0,
                plateau: 2.0 / 3.0,
                best: 1e6,
                age: 1e9 / 3.0,
            },
            orders: u64::MAX,
            stalled: Some(Stalled {
                cause: StallCause::WindowFull,
                since_ms: u64::MAX,
            }),
        };
        let body = serde_json::to_vec(&notice).unwrap();
        assert_eq!(Notice::read(&body, u16::MAX), Ok(notice));
    }
}
