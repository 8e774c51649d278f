//! What commands wait for: a closed list, counted.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::in_hand::{self, Noted};
use crate::metrics::WaitSeconds;

/// What a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// An earlier command of its user, or another delivery of its own.
    Order,
    /// The outcome log, or the outcome of an earlier run elsewhere. A lease that is not used yet waits for the log,
    /// too.
    Log,
    /// Its batch, which an operator paused.
    Batch,
    /// To run alone, or for a command that does.
    Alone,
    /// A slot: a place among the commands with a START and no call yet.
    Slot,
    /// The broker's confirm of an event, a dead letter or a reply.
    Confirm,
    /// A permit for its next call: the pace, or the end of another call.
    Permit,
    /// A permit while calls are paused.
    Pause,
    /// The delay before its next call.
    Retry,
    /// The provider's answer.
    Answer,
    /// The dead-letter guard.
    Guard,
}

impl Wait {
    pub const ALL: [Self; 11] = [
        Self::Order,
        Self::Log,
        Self::Batch,
        Self::Alone,
        Self::Slot,
        Self::Confirm,
        Self::Permit,
        Self::Pause,
        Self::Retry,
        Self::Answer,
        Self::Guard,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Log => "log",
            Self::Batch => "batch",
            Self::Alone => "alone",
            Self::Slot => "slot",
            Self::Confirm => "confirm",
            Self::Permit => "permit",
            Self::Pause => "pause",
            Self::Retry => "retry",
            Self::Answer => "answer",
            Self::Guard => "guard",
        }
    }
}

/// How many commands wait, by what they wait for.
#[derive(Debug)]
pub struct Waits([Kind; Wait::ALL.len()]);

#[derive(Debug)]
struct Kind {
    count: AtomicUsize,
    seconds: WaitSeconds,
}

/// Counts a waiting command for as long as this value lives, and notes what the task's command waits for.
pub struct Waiting<'w> {
    of: &'w Kind,
    since: Instant,
    _note: Noted,
}

impl Default for Waits {
    fn default() -> Self {
        Self(Wait::ALL.map(|wait| Kind {
            count: AtomicUsize::new(0),
            seconds: WaitSeconds::of(wait.as_str()),
        }))
    }
}

impl Waits {
    pub fn begin(&self, wait: Wait) -> Waiting<'_> {
        let (of, since) = (&self.0[wait as usize], Instant::now());
        of.count.fetch_add(1, Ordering::AcqRel);
        Waiting {
            of,
            since,
            _note: in_hand::waits(wait, since),
        }
    }

    pub async fn during<T>(&self, wait: Wait, waited_for: impl Future<Output = T>) -> T {
        let _waiting = self.begin(wait);
        waited_for.await
    }

    pub fn count(&self, wait: Wait) -> usize {
        self.0[wait as usize].count.load(Ordering::Acquire)
    }

    /// The count of each kind. `queued` commands, which wait behind others of their user, count as `Order`; while calls are
    /// `paused`, those that wait for a permit count as `Pause`.
    pub fn counts(&self, queued: usize, paused: bool) -> [(Wait, usize); Wait::ALL.len()] {
        Wait::ALL.map(|wait| {
            let count = match wait {
                Wait::Order => self.count(wait) + queued,
                Wait::Permit if paused => 0,
                Wait::Pause if paused => self.count(Wait::Permit),
                _ => self.count(wait),
            };
            (wait, count)
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.of.count.fetch_sub(1, Ordering::AcqRel);
        self.of.seconds.record(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_counted_for_as_long_as_it_lasts_and_a_permit_in_a_pause_is_one() {
        let waits = Waits::default();
        let (_slot, permit) = (waits.begin(Wait::Slot), waits.begin(Wait::Permit));
        let of = |paused, wait: Wait| waits.counts(3, paused)[wait as usize];
        assert_eq!(of(false, Wait::Order), (Wait::Order, 3));
        assert_eq!((of(false, Wait::Permit).1, of(false, Wait::Pause).1), (1, 0));
        assert_eq!((of(true, Wait::Permit).1, of(true, Wait::Pause).1), (0, 1));
        drop(permit);
        assert_eq!((waits.count(Wait::Permit), waits.count(Wait::Slot)), (0, 1));
    }

    #[test]
    fn each_wait_is_at_its_index_in_the_list() {
        for (place, wait) in Wait::ALL.into_iter().enumerate() {
            assert_eq!(wait as usize, place);
        }
    }
}
