//! Operations: changes of many dead letters that somebody decided on. Each has an id, is told in the audit log, and keeps
//! its state on the broker, so that another process can go on with it.

mod audit;
mod discard;
mod emptiness;
mod lanes;
mod outcomes;
mod passing;
mod plan;
mod records;
mod redrive;
mod run;
mod spec;

use std::sync::Arc;

use uuid::Uuid;

use crate::broker::{InspectError, Inspector, PublishError, Publisher};
use crate::clock::Clock;
use crate::operations::steering::SteeringError;

pub(super) use audit::at_once;
pub use audit::reveal;
pub use plan::{Plan, Plans, plan};
pub use records::{FailedAgain, Record, State, failed_again, record, records, state};
pub use run::{Ready, Report, abort, resume, start};
pub use spec::{Options, Rate};

/// Dead letters are sent again at this pace, unless another one is asked for: slow enough to notice a mistake.
pub const DEFAULT_RATE_PER_SECOND: u32 = 5;

/// What an operation reaches the broker with.
#[derive(Clone)]
pub struct Access {
    pub inspector: Arc<dyn Inspector>,
    pub publisher: Arc<dyn Publisher>,
    pub clock: Clock,
}

/// Takes sentences about what goes on.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Why an operation could not begin or go on. What it had done so far stays done, and it can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Steering(#[from] SteeringError),
    #[error("the connection to the broker was lost")]
    Stale,
    #[error("the audit log has no operation {0}: see `usher operations list`")]
    Unknown(Uuid),
    #[error("operation {0} has ended: see `usher operations show {0}`")]
    HasEnded(Uuid),
    #[error("operation {0} runs: stop it where it runs (Ctrl-C), or wait for its end")]
    Runs(Uuid),
    #[error("the queue of operation {0} is not known to be empty: resume it")]
    NotEmpty(Uuid),
    #[error("operation {0} is of a kind, or has options, that this version can't go on with")]
    NotOurs(Uuid),
}

impl OperationError {
    /// Whether the broker is to blame, and not what was asked for.
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Inspect(error) => matches!(error, InspectError::Lost { .. }),
            Self::Steering(error) => error.is_out_of_reach(),
            Self::Publish(_) | Self::Stale | Self::NotEmpty(_) => true,
            Self::Unknown(_) | Self::HasEnded(_) | Self::Runs(_) | Self::NotOurs(_) => false,
        }
    }
}
