//! The types of the health's interface.

use tokio::time::Instant;

use crate::contract::UserId;

/// Why calls are paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Outage,
    Credentials,
    /// The provider refuses the form of the worker's requests.
    Configuration,
    /// The worker itself lacks what a call needs.
    Worker,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Credentials => "credentials",
            Self::Configuration => "configuration",
            Self::Worker => "worker",
        }
    }
}

/// Unique to each probe: only its own answer or loss ends it.
pub type ProbeId = u64;

/// Whether a call may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallDecision {
    Call,
    /// As the one probe: by reading this user, whose call passed before, or else with the command itself.
    Probe(ProbeId, Option<UserId>),
    /// Not yet: ask again at this time.
    NotBefore(Instant),
    /// A probe is in flight, and its answer decides.
    ProbeIsOut,
}

/// What a call was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A read of the command's user. It shows that reads work, not that writes do.
    Read,
    Write,
    /// A read of another user, as a probe.
    Control,
}

/// What an answer means for the command that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The answer is judged by itself.
    Plain,
    /// It counts as an attempt: because other users passed, or, with a streak, because no other user has passed yet.
    /// The latter is undone if the streak of failures turns out to be an outage.
    Spent { streak: Option<Streak> },
    /// No other user could be tried for long enough: it counts as the command's fault.
    Charged,
    /// Not the command's fault: it does not count as an attempt.
    Excused,
    /// Refused for this user alone or for every user: others have to be tried.
    SetAside,
    /// Refused for this user, while others pass.
    RefusedAlone,
    /// 429 for this user, while others pass: it waits alone.
    Limited,
}

/// Failures between two passes.
pub type Streak = u64;
