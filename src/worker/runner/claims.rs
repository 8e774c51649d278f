//! At most one delivery of a command runs at a time in this process, whichever user it names: two at the same time
//! could end the same run twice.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

#[derive(Default)]
pub(in crate::worker) struct Claims {
    held: Mutex<HashSet<Uuid>>,
    freed: Notify,
}

/// Releases the command on drop.
pub(in crate::worker) struct Claim<'c> {
    claims: &'c Claims,
    key: Uuid,
}

impl Claims {
    /// Waits until no other delivery of the command is running.
    pub(in crate::worker) async fn claim(&self, key: Uuid) -> Claim<'_> {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.held().insert(key) {
                return Claim { claims: self, key };
            }
            freed.await;
        }
    }

    /// `None` where another delivery of the command is running.
    pub(in crate::worker) fn claim_now(&self, key: Uuid) -> Option<Claim<'_>> {
        self.held().insert(key).then(|| Claim { claims: self, key })
    }

    fn held(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.held().remove(&self.key);
        self.claims.freed.notify_waiters();
    }
}
