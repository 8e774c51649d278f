//! How many publishes are on their way.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct InFlight {
    count: AtomicUsize,
    none: Notify,
}

/// Counts one publish until it is confirmed, given up, or its caller goes away.
pub(super) struct Counted<'f>(&'f InFlight);

impl InFlight {
    pub(super) fn enter(&self) -> Counted<'_> {
        self.count.fetch_add(1, Ordering::AcqRel);
        Counted(self)
    }

    pub(super) async fn none(&self) {
        loop {
            let mut none = pin!(self.none.notified());
            none.as_mut().enable();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
