//! How the first connection went, told to whoever asked for it.

use tokio::sync::oneshot;

use super::WhenUnreachable;
use super::error::ConnectError;

pub(super) struct First {
    told: Option<oneshot::Sender<Result<(), ConnectError>>>,
    when_unreachable: WhenUnreachable,
}

impl First {
    pub(super) fn new(
        told: oneshot::Sender<Result<(), ConnectError>>,
        when_unreachable: WhenUnreachable,
    ) -> Self {
        Self {
            told: Some(told),
            when_unreachable,
        }
    }

    pub(super) fn connected(&mut self) {
        if let Some(told) = self.told.take() {
            // Nobody there: whoever asked went away, and has stopped the supervisor.
            let _ = told.send(Ok(()));
        }
    }

    /// None where the error ends it; otherwise the error, to be waited out.
    pub(super) fn refuse(&mut self, error: ConnectError) -> Option<ConnectError> {
        let waits = error.is_out_of_reach() && self.when_unreachable == WhenUnreachable::Wait;
        match self.told.take() {
            Some(told) if waits => self.told = Some(told),
            Some(told) => {
                let _ = told.send(Err(error));
                return None;
            }
            None => {}
        }
        Some(error)
    }
}
