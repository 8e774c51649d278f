//! What was done about a command before its turn came here.

use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::Hands;
use crate::broker::{Delivery, Header};
use crate::contract::{Act, Ident};
use crate::worker::fleet::Fleet;
use crate::worker::ledger::{Begun, Succeeded};
use crate::worker::shutdown::unless_left;
use crate::worker::waits::Wait;

impl Hands {
    /// Moves the command on to its next run, and tells what was done in it before, here or elsewhere; or how the
    /// command succeeded.
    pub(super) async fn past(
        &self,
        ident: &mut Ident,
        delivery: &Delivery,
        leave: &CancellationToken,
    ) -> Option<Result<Begun, Box<Succeeded>>> {
        if delivery.redelivered {
            return self.past_elsewhere(ident, delivery, leave).await;
        }
        Some(match self.ledger.next_run(ident, &delivery.body) {
            Some(succeeded) => Err(succeeded),
            None => Ok(Begun::default()),
        })
    }

    /// The same of a command that others may have had before it was received here.
    pub(in crate::worker) async fn past_elsewhere(
        &self,
        ident: &mut Ident,
        delivery: &Delivery,
        leave: &CancellationToken,
    ) -> Option<Result<Begun, Box<Succeeded>>> {
        if let Some(succeeded) = self.ledger.next_run(ident, &delivery.body) {
            return Some(Err(succeeded));
        }
        // Whoever had it may have told of it in the part of the log that is read last.
        if self.read_all(leave).await?
            && let Some(succeeded) = self.ledger.next_run(ident, &delivery.body)
        {
            return Some(Err(succeeded));
        }
        let window = self.clock.now() - self.ledger_window;
        let unsure = !self.ledger.is_complete_since(window);
        let begun = self.ledger.begun(ident);
        if begun.open.is_empty() && !unsure && self.unproven().is_none() {
            return Some(Ok(begun));
        }
        // Whoever had it may have a call out that is not yet answered, or an outcome that is not yet told; or the
        // log is slow to tell.
        let calls = &self.handler.calls;
        let over = delivery.received_at + calls.timeout + calls.settling_time;
        let waited = self.handler.waits.during(Wait::Log, sleep_until(over));
        unless_left(leave, waited).await?;
        if let Some(succeeded) = self.ledger.next_run(ident, &delivery.body) {
            return Some(Err(succeeded));
        }
        let mut begun = self.ledger.begun(ident);
        begun.called |= unsure;
        Some(Ok(begun))
    }

    /// Waits until the log is read as far back as it is of use. Whether it had to wait; `None`: left.
    pub(super) async fn read_all(&self, leave: &CancellationToken) -> Option<bool> {
        let Some(fleet) = self.fleet.as_ref().filter(|fleet| !fleet.has_read_all()) else {
            return Some(false);
        };
        // Large, and seldom needed: so it takes no room in every command that waits.
        let read = Box::pin(fleet.read_all());
        let read = self.handler.waits.during(Wait::Log, read);
        unless_left(leave, read).await.map(|()| true)
    }

    /// The fleet, while its log is not known to be read.
    pub(super) fn unproven(&self) -> Option<&Fleet> {
        self.fleet.as_deref().filter(|fleet| !fleet.is_log_proven())
    }

    /// What the log has of the command besides this turn; or how it succeeded.
    pub(super) fn found(
        &self,
        ident: &mut Ident,
        delivery: &Delivery,
        turn: &Act,
    ) -> Result<Begun, Box<Succeeded>> {
        if let Some(succeeded) = self.ledger.next_run(ident, &delivery.body) {
            return Err(succeeded);
        }
        let mut begun = self.ledger.begun(ident);
        begun.open.retain(|open| open != turn);
        Ok(begun)
    }

    /// How many workers died while they ran the command, as far as the log and the broker can tell.
    pub(super) fn broken_by(&self, past: &Begun, delivery: &Delivery) -> u32 {
        let died = u32::try_from(past.workers()).unwrap_or(u32::MAX);
        // What the broker counts are deliveries: of the innocent, too, that were only held. Never fewer.
        let counted = ["x-acquired-count", "x-delivery-count"]
            .into_iter()
            .filter_map(|header| match delivery.properties.header(header) {
                Some(Header::Number(n)) => u32::try_from(n).ok(),
                _ => None,
            })
            .max();
        counted.map_or(died, |counted| died.min(counted))
    }
}
