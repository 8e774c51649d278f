//! Counts what is in flight.

use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct InFlight {
    count: AtomicUsize,
    none: Notify,
}

/// Counts one until it is dropped.
pub(super) struct Counted<F: Deref<Target = InFlight>>(F);

impl InFlight {
    pub(super) fn enter<F: Deref<Target = Self>>(of: F) -> Counted<F> {
        of.count.fetch_add(1, Ordering::AcqRel);
        Counted(of)
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn is_none(&self) -> bool {
        self.count() == 0
    }

    pub(super) async fn none(&self) {
        loop {
            let mut none = pin!(self.none.notified());
            none.as_mut().enable();
            if self.is_none() {
                return;
            }
            none.await;
        }
    }
}

impl<F: Deref<Target = InFlight>> Drop for Counted<F> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
