//! What is asked of the health, and what it answers.

use tokio::time::Instant;

use crate::contract::UserId;

/// Why nobody calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Outage,
    Credentials,
    /// The form of the worker's requests is refused.
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

/// Another number for each probe: only its own answer or loss ends it.
pub type ProbeId = u64;

/// May a call go out?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    Call,
    /// As the one probe: by reading this user, who passed before, or else with the command itself.
    Probe(ProbeId, Option<UserId>),
    /// Ask again then.
    NotBefore(Instant),
    /// A probe is out; its answer decides.
    ProbeIsOut,
}

/// What a call was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A read of the command's user. It shows that the provider reads, not that it writes.
    Read,
    Write,
    /// A read of another user, as a probe.
    Control,
}

/// What an answer means for the command that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The answer speaks for itself.
    Plain,
    /// An attempt is spent: while others passed, or, where nobody else has passed yet, unless this streak of failures
    /// turns out to be an outage.
    Spent { streak: Option<Streak> },
    /// Nobody else can be tried, and that has gone on for long enough: it counts as the command's fault.
    Charged,
    /// Not the command's fault: nothing is spent.
    Excused,
    /// Refused so far for this user alone, or for everybody: others have to be tried.
    SetAside,
    /// Refused for this user, while others pass.
    RefusedAlone,
    /// 429 for this user, while others pass: it waits alone.
    Limited,
}

/// Failures between two passes.
pub type Streak = u64;
