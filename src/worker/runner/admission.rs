//! The steps between a command's history and its outcome: isolation, a slot, the expected version, the calls.

use std::panic::AssertUnwindSafe;
use std::pin::pin;

use futures_util::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Runner, done};
use crate::broker::Delivery;
use crate::contract::{Failure, Ident, Reason, UpdateUser, Version};
use crate::metrics;
use crate::worker::attempts::{Admission, Attempted, Done};
use crate::worker::failpoint;
use crate::worker::shutdown::unless_cancelled;
use crate::worker::waits::Wait;

impl Runner {
    /// Waits until the command may run, beside others or alone, and for a slot. `None`: cancelled, or the delivery is
    /// stale.
    pub(super) async fn admitted(
        &self,
        alone: bool,
        delivery: &Delivery,
        cancel: &CancellationToken,
    ) -> Option<(impl Sized, OwnedSemaphorePermit)> {
        let waits = &self.caller.waits;
        let isolation = unless_cancelled(cancel, waits.during(Wait::Alone, self.isolation(alone))).await?;
        let slots = self.slots.of(delivery)?.clone();
        let slot = waits.during(Wait::Slot, slots.acquire_owned());
        let slot = unless_cancelled(cancel, slot).await?.ok()?;
        delivery.usable().then_some((isolation, slot))
    }

    /// Makes the calls of a command whose START is published. The error: another delivery finishes the command, and
    /// whether the provider was called.
    pub(super) async fn call(
        &self,
        command: &UpdateUser,
        (ident, delivery): (&Ident, &Delivery),
        admission: Admission,
        isolation: impl Sized,
        cancel: &CancellationToken,
    ) -> Result<Done, bool> {
        let command_at = match self.at_known_version(command, cancel).await {
            None => return Err(false),
            Some(Err(failure)) => return Ok(done(failure)),
            Some(Ok(at_version)) => at_version,
        };
        let command = command_at.as_deref().unwrap_or(command);
        failpoint::reach("before_call", ident.user_id.as_deref());
        // Pinned here: each move of a large future enlarges every waiting command's task.
        let attempted = pin!(self.caller.attempt(command, delivery, admission, cancel));
        let attempted = AssertUnwindSafe(self.for_a_while(isolation, attempted));
        outcome(attempted.catch_unwind().await, ident)
    }

    /// The command with its expected version `previous` replaced by that of the user's last success, where it asks for it.
    /// `None`: cancelled.
    async fn at_known_version(
        &self,
        command: &UpdateUser,
        cancel: &CancellationToken,
    ) -> Option<Result<Option<Box<UpdateUser>>, Failure>> {
        if !command
            .expected_version
            .as_ref()
            .is_some_and(Version::is_previous)
        {
            return Some(Ok(None));
        }
        // Only the older part of the log may be unread: the newer part was read before the lease was used.
        self.read_all(cancel).await?;
        Some(match self.ledger.version(&command.user_id) {
            Some(version) => Ok(Some(Box::new(UpdateUser {
                expected_version: Some(version),
                ..command.clone()
            }))),
            None => Err(no_version_known()),
        })
    }

    /// Waits until the command may run beside the others, or alone.
    async fn isolation(&self, alone: bool) -> impl Sized {
        match alone {
            true => (None, Some(self.isolation.write().await)),
            false => (Some(self.isolation.read().await), None),
        }
    }

    /// Isolation ends after the time of two calls, a read and a write: a denied command waits for the calls of others,
    /// so they must not wait for its end.
    async fn for_a_while<T>(
        &self,
        isolation: impl Sized,
        mut attempted: impl Future<Output = T> + Unpin,
    ) -> T {
        tokio::select! {
            biased;
            attempted = &mut attempted => return attempted,
            () = sleep(self.caller.calls.timeout * 2) => drop(isolation),
        }
        attempted.await
    }
}

fn no_version_known() -> Failure {
    let detail = "the outcome log has no success of this user with a version; read the user, and send the command with \
                  the version itself";
    Failure::new(Reason::VersionConflict, detail).at("/expectedVersion")
}

/// The error: another delivery finishes the command, and whether the provider was called.
fn outcome(attempted: std::thread::Result<Attempted>, ident: &Ident) -> Result<Done, bool> {
    match attempted {
        Ok(Attempted::Done(done)) => Ok(done),
        Ok(Attempted::Abandoned { called }) => Err(called),
        Err(_) => {
            metrics::panic();
            tracing::error!(command.id = ident.command_id, "attempts: a command panicked");
            let detail = "applying the command panicked, which is a defect of usher: report it, and check the user \
                          before sending the command again";
            Ok(done(Failure::new(Reason::Poison, detail)))
        }
    }
}
