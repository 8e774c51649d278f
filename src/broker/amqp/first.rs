//! Reports the result of the first connection to the caller that waits for it.

use tokio::sync::oneshot;

use super::WhenUnreachable;
use super::error::ConnectError;

pub(super) struct First {
    told: Option<oneshot::Sender<Result<(), ConnectError>>>,
    when_unreachable: WhenUnreachable,
    /// A refusal of one of the addresses, which has to be fixed.
    refusal: Option<ConnectError>,
}

impl First {
    pub(super) fn new(
        told: oneshot::Sender<Result<(), ConnectError>>,
        when_unreachable: WhenUnreachable,
    ) -> Self {
        Self {
            told: Some(told),
            when_unreachable,
            refusal: None,
        }
    }

    /// Whether there was a connection before.
    pub(super) fn is_over(&self) -> bool {
        self.told.is_none()
    }

    pub(super) fn connected(&mut self) {
        if let Some(told) = self.told.take() {
            // An error means that the caller is gone, and has stopped the supervisor.
            let _ = told.send(Ok(()));
        }
    }

    /// `None`: the error was reported, and ends the attempts. Otherwise the error, after which to try again. `others`:
    /// there are untried addresses; a topology error would be the same at each of them.
    pub(super) fn refuse(&mut self, error: ConnectError, others: bool) -> Option<ConnectError> {
        let Some(told) = self.told.take() else {
            return Some(error);
        };
        let goes_on = others && !matches!(error, ConnectError::Topology(_));
        if goes_on && !error.is_out_of_reach() {
            self.refusal.get_or_insert_with(|| error.clone());
        }
        if goes_on {
            self.told = Some(told);
            return Some(error);
        }
        let refusal = match error.is_out_of_reach() {
            true => self.refusal.take(),
            false => None,
        };
        if refusal.is_none() && error.is_out_of_reach() && self.when_unreachable == WhenUnreachable::Wait {
            self.told = Some(told);
            return Some(error);
        }
        let _ = told.send(Err(refusal.unwrap_or(error)));
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
            mend: "mend it",
        }
    }

    fn first(when_unreachable: WhenUnreachable) -> (First, oneshot::Receiver<Result<(), ConnectError>>) {
        let (told, hears) = oneshot::channel();
        (First::new(told, when_unreachable), hears)
    }

    #[test]
    fn every_address_is_tried_before_it_is_given_up() {
        let (mut first, mut hears) = first(WhenUnreachable::Fail);
        assert_eq!(first.refuse(away(), true), Some(away()));
        assert!(hears.try_recv().is_err());
        assert_eq!(first.refuse(away(), false), None);
        assert_eq!(hears.try_recv(), Ok(Err(away())));
    }

    #[test]
    fn a_refusal_ends_it_when_no_other_address_answers() {
        let (mut first, mut hears) = first(WhenUnreachable::Wait);
        assert_eq!(first.refuse(refused(), true), Some(refused()));
        assert_eq!(first.refuse(away(), false), None);
        assert_eq!(hears.try_recv(), Ok(Err(refused())));
    }

    #[test]
    fn what_was_connected_once_is_waited_for_whatever_it_says() {
        let (mut first, mut hears) = first(WhenUnreachable::Fail);
        first.connected();
        assert_eq!(hears.try_recv(), Ok(Ok(())));
        assert_eq!(first.refuse(refused(), false), Some(refused()));
    }
}
