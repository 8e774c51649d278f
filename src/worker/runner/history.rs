//! What happened to a command before this delivery of it.

use jiff::Timestamp;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::Runner;
use crate::broker::{Delivery, Header};
use crate::contract::{Ident, RunId};
use crate::worker::fleet::Fleet;
use crate::worker::ledger::{OpenRuns, Succeeded};
use crate::worker::shutdown::unless_cancelled;
use crate::worker::waits::Wait;

impl Runner {
    /// Moves the command on to its next redrive, and returns that redrive's earlier runs, here or in other workers; or
    /// how the command succeeded.
    pub(super) async fn history(
        &self,
        ident: &mut Ident,
        issued_at: Option<Timestamp>,
        delivery: &Delivery,
        cancel: &CancellationToken,
    ) -> Option<Result<OpenRuns, Box<Succeeded>>> {
        if delivery.redelivered {
            return self.history_elsewhere(ident, delivery, cancel).await;
        }
        if let Some(fleet) = self.fleet.as_ref().filter(|fleet| !fleet.has_read_all()) {
            if let Some(succeeded) = self.ledger.next_run(ident, &delivery.body) {
                return Some(Err(succeeded));
            }
            // Boxed: it is rarely needed, and would enlarge every waiting command's task.
            let read = Box::pin(fleet.read_since(issued_at));
            let read = self.caller.waits.during(Wait::Log, read);
            unless_cancelled(cancel, read).await?;
        }
        Some(match self.ledger.next_run(ident, &delivery.body) {
            Some(succeeded) => Err(succeeded),
            None => Ok(OpenRuns::default()),
        })
    }

    /// The same for a command that other workers may have received before.
    pub(in crate::worker) async fn history_elsewhere(
        &self,
        ident: &mut Ident,
        delivery: &Delivery,
        cancel: &CancellationToken,
    ) -> Option<Result<OpenRuns, Box<Succeeded>>> {
        if let Some(succeeded) = self.ledger.next_run(ident, &delivery.body) {
            return Some(Err(succeeded));
        }
        // The older part of the log is read last, and may hold the outcomes of other workers.
        if self.read_all(cancel).await?
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
        // Another worker may have an unanswered call or an unpublished outcome, or the log may be late.
        let calls = &self.caller.calls;
        let over = delivery.received_at + calls.timeout + calls.settling_time;
        let waited = self.caller.waits.during(Wait::Log, sleep_until(over));
        unless_cancelled(cancel, waited).await?;
        if let Some(succeeded) = self.ledger.next_run(ident, &delivery.body) {
            return Some(Err(succeeded));
        }
        let mut begun = self.ledger.begun(ident);
        begun.called |= unsure;
        Some(Ok(begun))
    }

    /// Waits until the log is read as far back as needed. Returns whether it had to wait; `None`: cancelled.
    pub(super) async fn read_all(&self, cancel: &CancellationToken) -> Option<bool> {
        let Some(fleet) = self.fleet.as_ref().filter(|fleet| !fleet.has_read_all()) else {
            return Some(false);
        };
        // Boxed: it is large and rarely needed, and would enlarge every waiting command's task.
        let read = Box::pin(fleet.read_all());
        let read = self.caller.waits.during(Wait::Log, read);
        unless_cancelled(cancel, read).await.map(|()| true)
    }

    /// The fleet, while the log is not known to be complete.
    pub(super) fn unproven(&self) -> Option<&Fleet> {
        self.fleet.as_deref().filter(|fleet| !fleet.is_log_proven())
    }

    /// The command's other runs in the log; or how the command succeeded.
    pub(super) fn history_without(
        &self,
        ident: &mut Ident,
        delivery: &Delivery,
        run: &RunId,
    ) -> Result<OpenRuns, Box<Succeeded>> {
        if let Some(succeeded) = self.ledger.next_run(ident, &delivery.body) {
            return Err(succeeded);
        }
        let mut begun = self.ledger.begun(ident);
        begun.open.retain(|open| open != run);
        Ok(begun)
    }

    /// How many workers died while they ran the command, as far as the log and the broker show.
    pub(super) fn crashes(&self, history: &OpenRuns, delivery: &Delivery) -> u32 {
        let died = u32::try_from(history.workers()).unwrap_or(u32::MAX);
        // The broker counts every delivery, including those that were only prefetched, so its count is an upper bound.
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
