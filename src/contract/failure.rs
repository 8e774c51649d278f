//! Why a command failed, and whose fault a provider's answer is.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The closed list of reasons for a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The body is not JSON.
    Undecodable,
    /// The body is JSON, but not a valid command.
    Invalid,
    /// The configured provider can't set, or can't clear, a field of the command.
    UnsupportedField,
    /// The body is larger than 256 KiB.
    Oversized,
    /// `expiresAt` had passed before the first call, or the message's time to live in the queue ran out.
    Expired,
    /// A command with the same id and another body has already succeeded.
    IdReused,
    /// Its batch was cancelled before the first call.
    Cancelled,
    /// An earlier command of its user and batch failed, and the batch holds back what comes after a failure.
    HeldBehind,
    /// The provider refused the values.
    Rejected,
    /// The provider lets the worker change other users, but not this one.
    Forbidden,
    /// The provider has no such user.
    NotFound,
    /// A value belongs to another user, or the user's state forbids the change.
    Conflict,
    /// The user has another version than `expectedVersion`.
    VersionConflict,
    /// The provider kept failing on this command while it answered others.
    RetriesExhausted,
    /// It is unknown whether the provider applied the command, and sending it again could do harm.
    OutcomeUnknown,
    /// Running the command crashed workers, or the broker dead-lettered it.
    Poison,
}

impl Reason {
    pub const ALL: [Self; 16] = [
        Self::Undecodable,
        Self::Invalid,
        Self::UnsupportedField,
        Self::Oversized,
        Self::Expired,
        Self::IdReused,
        Self::Cancelled,
        Self::HeldBehind,
        Self::Rejected,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::VersionConflict,
        Self::RetriesExhausted,
        Self::OutcomeUnknown,
        Self::Poison,
    ];

    /// Whether the command alone causes it, whatever the provider answers.
    pub fn is_publisher_error(self) -> bool {
        matches!(
            self,
            Self::Undecodable
                | Self::Invalid
                | Self::UnsupportedField
                | Self::Oversized
                | Self::Expired
                | Self::IdReused
        )
    }

    /// Whether it is the provider's answer to the command's own call.
    pub fn is_provider_refusal(self) -> bool {
        matches!(
            self,
            Self::Rejected | Self::NotFound | Self::Conflict | Self::VersionConflict
        )
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Invalid => "invalid",
            Self::UnsupportedField => "unsupported_field",
            Self::Oversized => "oversized",
            Self::Expired => "expired",
            Self::IdReused => "id_reused",
            Self::Cancelled => "cancelled",
            Self::HeldBehind => "held_behind",
            Self::Rejected => "rejected",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::VersionConflict => "version_conflict",
            Self::RetriesExhausted => "retries_exhausted",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Poison => "poison",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    /// What somebody does about it, in a sentence.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Undecodable => "Fix the publisher.",
            Self::Invalid => "Fix what the pointer names.",
            Self::UnsupportedField => "Leave the field out, or configure it where its name is configuration.",
            Self::Oversized => "Send less.",
            Self::Expired => "If it still matters, publish it again with a later `expiresAt`, or none.",
            Self::IdReused => "Publish it under an id of its own.",
            Self::Cancelled => "If it is to be applied after all: `usher batch resume`, then send it again.",
            Self::HeldBehind => "Redrive or discard the command that failed first, then redrive this one.",
            Self::Rejected => "Look at status and code, and correct the values.",
            Self::Forbidden => "Grant the permission, or leave the user alone.",
            Self::NotFound => "Check the id.",
            Self::Conflict => "Decide which of the two keeps the value.",
            Self::VersionConflict => "Read the user, and publish with its present version.",
            Self::RetriesExhausted => "Report it to the provider, and send it again later.",
            Self::OutcomeUnknown => "Look at the user, then decide.",
            Self::Poison => "Report it, or do as the detail says.",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a command failed, for the FAIL event and the dead letter. It quotes no value of the command, and nothing of the
/// provider's body but a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// What is wrong and how to fix it.
    pub detail: Cow<'static, str>,
    /// Where in the command, as a JSON pointer.
    pub pointer: Option<String>,
    /// The provider's HTTP status.
    pub status: Option<u16>,
    /// The provider's own code.
    pub code: Option<String>,
}

impl Failure {
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            pointer: None,
            status: None,
            code: None,
        }
    }

    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(pointer) = &self.pointer {
            write!(f, " at {pointer}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// What caused a call to fail. The decision about the next attempt starts from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The command's: it ends with this reason.
    Command(Reason),
    /// The worker's: the provider does not accept its credentials (401).
    Credentials,
    /// The same, but the credentials have changed since, or a new token can be fetched: the call may be repeated at
    /// once.
    CredentialsRenewed,
    /// Undecided: it may concern this user, or every user (403).
    Denied,
    /// Undecided: it may be the command's, or the configuration's, which gives all requests the same form (405, 415).
    Configuration,
    /// Nobody's: the request was not processed this time (408, 423). It may be repeated once without counting as an
    /// attempt.
    Again,
    /// Nobody's: the connection was closed before the request was processed. It may be sent on the next one.
    Unprocessed,
    /// Nobody's: nothing was applied, because the request did not fit the user's state. The user has to be read, and a
    /// request made that fits.
    ReadFirst,
    /// Nobody's: the pace is too high (429). The provider may say how long to wait.
    Throttled { retry_after: Option<Duration> },
    /// The worker's: it lacks what a call needs, such as a file descriptor. Nothing was sent.
    Worker,
    /// The provider's: the request never reached it.
    Unreachable,
    /// The provider's: 5xx or an answer that cannot be read. The request may have been applied.
    Broken,
    /// The request was sent and the provider did not answer (a time-out, 502, 504): it may have been applied.
    Unknown,
}

impl Fault {
    /// Whether the answer is conclusive by itself, regardless of the calls of other users.
    pub fn is_conclusive(self) -> bool {
        matches!(
            self,
            Self::Command(_)
                | Self::Throttled { .. }
                | Self::CredentialsRenewed
                | Self::ReadFirst
                | Self::Again
                | Self::Unprocessed
        )
    }
}
