//! The one table from a command's outcome to its event and dead letter.

use std::time::Duration;

use super::checked::Version;
use super::command::CommandId;
use super::event::EventType;
use super::failure::Failure;

/// The terminal outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The user matches the command.
    Success {
        /// False if the user matched it before.
        changed: bool,
        /// The user's version after the command, if the provider returned it.
        version: Option<Version>,
    },
    /// The command failed: a FAIL event, and a dead letter with the same reason.
    Failure(Failure),
}

impl Outcome {
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Success { .. } => EventType::Success,
            Self::Failure(_) => EventType::Fail,
        }
    }

    /// The failure for the dead letter, if the command failed.
    pub fn dead_letter(&self) -> Option<&Failure> {
        match self {
            Self::Success { .. } => None,
            Self::Failure(failure) => Some(failure),
        }
    }
}

/// An outcome with its attempts and duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub outcome: Outcome,
    /// Calls that count as attempts.
    pub attempts: u32,
    /// From the start of the run to its outcome.
    pub duration: Duration,
    /// The command whose call also applied this one.
    pub merged_into: Option<CommandId>,
}
