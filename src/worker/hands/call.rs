//! What stands between a command that was read and its outcome at the provider: company, a slot, and the calls.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use futures_util::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Hands, done};
use crate::broker::Delivery;
use crate::contract::{Failure, Ident, Reason, UpdateUser, Version};
use crate::metrics;
use crate::worker::failpoint;
use crate::worker::handler::{Before, Done, Handled};
use crate::worker::shutdown::unless_left;
use crate::worker::waits::Wait;

impl Hands {
    /// Waits for its company, and for a slot. `None` where it is left first, or is somebody else's by then.
    pub(super) async fn admitted(
        &self,
        alone: bool,
        delivery: &Delivery,
        leave: &CancellationToken,
    ) -> Option<(impl Sized, OwnedSemaphorePermit)> {
        let waits = &self.handler.waits;
        let company = unless_left(leave, waits.during(Wait::Alone, self.company(alone))).await?;
        let slots = self.slots.of(delivery)?.clone();
        let slot = waits.during(Wait::Slot, slots.acquire_owned());
        let slot = unless_left(leave, slot).await?.ok()?;
        delivery.usable().then_some((company, slot))
    }

    /// Calls for what was announced, until it is done. The error: somebody else finishes it; whether the provider was
    /// called.
    pub(super) async fn call(
        &self,
        command: &UpdateUser,
        (ident, delivery): (&Ident, &Delivery),
        before: Before,
        company: impl Sized,
        leave: &CancellationToken,
    ) -> Result<Done, bool> {
        let command = match self.at_known_version(command, leave).await {
            None => return Err(false),
            Some(Err(failure)) => return Ok(done(failure)),
            Some(Ok(command)) => command,
        };
        failpoint::reach("before_call", ident.user_id.as_deref());
        // Large futures stay where they are made: each move of one is room that every waiting command takes.
        let handled = pin!(self.handler.handle(&command, delivery, before, leave));
        let handled = AssertUnwindSafe(self.for_a_while(company, handled));
        outcome(handled.catch_unwind().await, ident)
    }

    /// The command with the version that its user's last success told, where it asks for that. `None`: left.
    async fn at_known_version<'c>(
        &self,
        command: &'c UpdateUser,
        leave: &CancellationToken,
    ) -> Option<Result<Cow<'c, UpdateUser>, Failure>> {
        if !command
            .expected_version
            .as_ref()
            .is_some_and(Version::is_previous)
        {
            return Some(Ok(Cow::Borrowed(command)));
        }
        // What others told was read before the lease was used, but for the older part of the log.
        self.read_all(leave).await?;
        Some(match self.ledger.version(&command.user_id) {
            Some(version) => Ok(Cow::Owned(UpdateUser {
                expected_version: Some(version),
                ..command.clone()
            })),
            None => Err(no_version_known()),
        })
    }

    /// Waits until it may run beside the others, or alone.
    async fn company(&self, alone: bool) -> impl Sized {
        match alone {
            true => (None, Some(self.alone.write().await)),
            false => (Some(self.alone.read().await), None),
        }
    }

    /// A command that is denied waits for others to be tried: they must not wait for it. Held for two calls, a look
    /// and a write.
    async fn for_a_while<T>(&self, company: impl Sized, mut handled: impl Future<Output = T> + Unpin) -> T {
        tokio::select! {
            biased;
            handled = &mut handled => return handled,
            () = sleep(self.handler.calls.timeout * 2) => drop(company),
        }
        handled.await
    }
}

fn no_version_known() -> Failure {
    let detail = "the outcome log has no success of this user that told a version; read the user, and send the command \
                  with the version itself";
    Failure::new(Reason::VersionConflict, detail).at("/expectedVersion")
}

/// The error: somebody else finishes the command; whether the provider was called.
fn outcome(handled: std::thread::Result<Handled>, ident: &Ident) -> Result<Done, bool> {
    match handled {
        Ok(Handled::Done(done)) => Ok(done),
        Ok(Handled::Abandoned { called }) => Err(called),
        Err(_) => {
            metrics::panic();
            tracing::error!(
                command.id = ident.command_id,
                "handler: a command's handling panicked"
            );
            let detail = "handling it panicked, which is a defect of usher: report it, and look at the user \
                          before sending the command again";
            Ok(done(Failure::new(Reason::Poison, detail)))
        }
    }
}
