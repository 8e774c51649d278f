//! Bounds the bytes of unsettled deliveries.
//!
//! The broker counts messages, not bytes: a prefetch of large ones could exceed the process's memory. So deliveries
//! beyond the bound are dropped, and no more are taken until all held ones are settled. Then the channels are closed
//! and opened again, and the broker redelivers the rest, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::in_flight::{Counted, InFlight};

/// The bytes held by all partitions together.
pub(super) struct HeldBytes {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// A delivery's bytes, counted until it is dropped.
pub(super) struct Held {
    bytes: usize,
    of: Arc<HeldBytes>,
    _counted: Counted<Arc<InFlight>>,
}

impl HeldBytes {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            bytes_max,
        })
    }

    /// `None` where there is no room. The only delivery of an epoch always fits, or a large one would never be taken.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize, epoch: &Arc<InFlight>) -> Option<Held> {
        let room = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        let fits = self
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, room)
            .is_ok();
        if !fits {
            if !epoch.is_none() {
                return None;
            }
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
        }
        Some(Held {
            bytes,
            of: self.clone(),
            _counted: InFlight::enter(epoch.clone()),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_beyond_the_byte_bound_are_dropped_until_some_are_settled() {
        let (held, epoch) = (HeldBytes::new(100), Arc::default());
        let first = held.hold(60, &epoch).unwrap();
        let second = held.hold(40, &epoch).unwrap();
        assert!(held.hold(1, &epoch).is_none());
        drop(first);
        let third = held.hold(60, &epoch).unwrap();
        drop((second, third));
        assert!(epoch.is_none());
    }

    #[test]
    fn the_only_one_of_an_epoch_always_has_room() {
        let (held, one, another) = (HeldBytes::new(100), Arc::default(), Arc::default());
        let _full = held.hold(100, &one).unwrap();
        let large = held.hold(500, &another).unwrap();
        assert!(held.hold(1, &another).is_none());
        drop(large);
        assert!(held.hold(1, &another).is_some());
    }
}
