//! What the simulation reports about the calls that it received.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::Method;
use serde::Serialize;
use serde_json::Value;

use crate::provider::shape::Op;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    Pending,
    Answered(u16),
    /// The connection was cut, or the client closed it.
    Dropped,
}

/// One call, as `/__calls` lists it.
#[derive(Debug, Clone)]
pub struct Call {
    pub seq: u64,
    /// Since the simulation's start.
    pub at: Duration,
    /// When the answer was ready or the connection cut, on the same clock. None while the call is pending.
    pub ended: Option<Duration>,
    pub method: Method,
    /// Empty for a token request and a search.
    pub user: String,
    pub op: Op,
    pub end: CallEnd,
    /// Whether it is a write that took effect.
    pub applied: bool,
    /// The exhausted quota or the fault that it met.
    pub trouble: Option<Trouble>,
    /// The call's bearer token. A test that gives each client its own token can tell the clients apart. `/__calls`
    /// doesn't show it.
    pub token: Box<str>,
    /// Empty for a token request, because it may contain the client's secret.
    pub body: Box<[u8]>,
}

impl Call {
    /// The JSON that was written; null for a read, or if the body was not JSON.
    pub fn body(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub calls: u64,
    /// Calls that were not answered 429: those that the quota let pass, without those that met the fault of that name.
    pub accepted: u64,
    /// Calls that were answered 429.
    pub throttled: u64,
    pub reads: u64,
    pub writes: u64,
    pub token_requests: u64,
    pub searches: u64,
    /// Writes that took effect, answered or not.
    pub applied: u64,
    pub dropped: u64,
    /// Calls that began while another call for the same user was running; for a token request, while another one was.
    pub overlapping: u64,
    /// By the status of the answer.
    pub statuses: BTreeMap<u16, u64>,
    pub users: u64,
    pub mails: u64,
    pub texts: u64,
}

/// What goes wrong with one call: the quota is exhausted for this long, or one of the faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Throttled(Duration),
    Broken,
    DropBefore,
    DropAfter,
    Slow(Duration),
    Garbage,
    ThrottleAfter,
    BrokenAfter,
}
