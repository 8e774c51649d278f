//! The notice: what the workers of a fleet tell each other, and the marks that they leave in the outcome log.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A START event is repeated with this header when a turn ended without an outcome: the command goes back.
/// `untouched` or `called`: whether the provider may have applied it.
pub const HANDED_BACK: &str = "x-usher-handed-back";

/// An event of the log is repeated with this header, `<worker>/<number>`: whoever reads it has read all that
/// was in the log before.
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

/// A worker's turn at a command, or another act that it numbers. A START event has its turn as its `app_id`:
/// `<worker>/<number>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    pub worker: WorkerId,
    pub number: u64,
}

impl Act {
    pub fn parse(text: &str) -> Option<Self> {
        let (worker, number) = text.rsplit_once('/')?;
        Some(Self {
            worker: WorkerId::new(worker),
            number: number.parse().ok()?,
        })
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.worker, self.number)
    }
}

/// What a worker tells the others. What it doesn't know of a later version it leaves out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    pub worker: WorkerId,
    /// The partitions whose leases it holds.
    pub leases: Vec<u16>,
    /// It takes no more leases.
    #[serde(default)]
    pub leaving: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Calls per second that it believes the provider gives the whole fleet.
    pub pace: f64,
    /// How often the provider has throttled it: with each time, the pace was learned anew.
    #[serde(default)]
    pub throttled: u64,
}

/// Nobody calls. Times are spans, since clocks differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paused {
    pub cause: String,
    pub for_ms: u64,
    pub since_ms: u64,
}
