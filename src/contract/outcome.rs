//! The one table: what became of a command, and what the world is told of it.

use std::time::Duration;

use super::checked::Version;
use super::command::CommandId;
use super::event::EventType;
use super::failure::Failure;

/// The terminal outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The user is as asked.
    Success {
        /// False where the user already was.
        changed: bool,
        /// The user's version since then, where the provider told it.
        version: Option<Version>,
    },
    /// The command ended badly: a FAIL event, and a dead letter with the same reason.
    Failure(Failure),
}

impl Outcome {
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Success { .. } => EventType::Success,
            Self::Failure(_) => EventType::Fail,
        }
    }

    /// What the dead letter says, where there is one.
    pub fn dead_letter(&self) -> Option<&Failure> {
        match self {
            Self::Success { .. } => None,
            Self::Failure(failure) => Some(failure),
        }
    }
}

/// An outcome with what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub outcome: Outcome,
    /// Calls that were spent on the command.
    pub attempts: u32,
    /// From the command's turn to its outcome.
    pub duration: Duration,
    /// The command whose call applied this one, too.
    pub merged_into: Option<CommandId>,
}
