//! Reports the result of the first connection to the caller that waits for it.

use tokio::sync::oneshot;

use super::WhenUnreachable;
use super::error::ConnectError;

pub(super) struct FirstConnection {
    result: Option<oneshot::Sender<Result<(), ConnectError>>>,
    when_unreachable: WhenUnreachable,
    /// A refusal of one of the addresses, which has to be fixed.
    refusal: Option<ConnectError>,
}

impl FirstConnection {
    pub(super) fn new(
        result: oneshot::Sender<Result<(), ConnectError>>,
        when_unreachable: WhenUnreachable,
    ) -> Self {
        Self {
            result: Some(result),
            when_unreachable,
            refusal: None,
        }
    }

    /// Whether there was a connection before.
    pub(super) fn is_over(&self) -> bool {
        self.result.is_none()
    }

    pub(super) fn connected(&mut self) {
        if let Some(result) = self.result.take() {
            // An error means that the caller is gone, and has stopped the supervisor.
            let _ = result.send(Ok(()));
        }
    }

    /// `None`: the error was reported, and ends the attempts. Otherwise the error, after which to try again. `others`:
    /// there are untried addresses; a topology error would be the same at each of them.
    pub(super) fn refuse(&mut self, error: ConnectError, others: bool) -> Option<ConnectError> {
        let Some(result) = self.result.take() else {
            return Some(error);
        };
        let goes_on = others && !matches!(error, ConnectError::Topology(_));
        if goes_on && !error.is_out_of_reach() {
            self.refusal.get_or_insert_with(|| error.clone());
        }
        if goes_on {
            self.result = Some(result);
            return Some(error);
        }
        let refusal = match error.is_out_of_reach() {
            true => self.refusal.take(),
            false => None,
        };
        if refusal.is_none() && error.is_out_of_reach() && self.when_unreachable == WhenUnreachable::Wait {
            self.result = Some(result);
            return Some(error);
        }
        let _ = result.send(Err(refusal.unwrap_or(error)));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> ConnectError {
        ConnectError::unreachable(&"away")
    }

    fn refused() -> ConnectError {
        ConnectError::Refused {
            reason: "refused".to_owned(),
            remedy: "fix it",
        }
    }

    fn first(
        when_unreachable: WhenUnreachable,
    ) -> (FirstConnection, oneshot::Receiver<Result<(), ConnectError>>) {
        let (sender, receiver) = oneshot::channel();
        (FirstConnection::new(sender, when_unreachable), receiver)
    }

    #[test]
    fn every_address_is_tried_before_an_error_is_reported() {
        let (mut first, mut receiver) = first(WhenUnreachable::Fail);
        assert_eq!(first.refuse(away(), true), Some(away()));
        assert!(receiver.try_recv().is_err());
        assert_eq!(first.refuse(away(), false), None);
        assert_eq!(receiver.try_recv(), Ok(Err(away())));
    }

    #[test]
    fn a_refusal_is_reported_if_no_other_address_answers() {
        let (mut first, mut receiver) = first(WhenUnreachable::Wait);
        assert_eq!(first.refuse(refused(), true), Some(refused()));
        assert_eq!(first.refuse(away(), false), None);
        assert_eq!(receiver.try_recv(), Ok(Err(refused())));
    }

    #[test]
    fn after_the_first_connection_every_refusal_is_waited_out() {
        let (mut first, mut receiver) = first(WhenUnreachable::Fail);
        first.connected();
        assert_eq!(receiver.try_recv(), Ok(Ok(())));
        assert_eq!(first.refuse(refused(), false), Some(refused()));
    }
}
