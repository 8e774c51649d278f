//! Slots on the wall clock, so that the workers of a fleet do not call at the same moment.
//!
//! The calls of a fleet are numbered by the time at which they are due, and go to the partitions in rotation. So a
//! worker that knows the pace and its own partitions knows its slots, and all workers together call as evenly as one
//! would.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;

/// The least distance between slots: clocks and timers differ by some milliseconds, and a quota with more calls per
/// second tolerates some that coincide.
const APART_MIN: Duration = Duration::from_millis(4);

/// A tolerance, in seconds, so that no slot is missed because the clock's numbers are rounded.
const ROUNDED: f64 = 1e-6;

/// Whether slots are far enough apart at this pace.
pub(super) fn fit(per_second: f64) -> bool {
    per_second * APART_MIN.as_secs_f64() <= 1.0
}

/// The partitions of a worker, out of `of`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slots {
    held: Vec<u16>,
    of: u16,
}

impl Slots {
    /// `None` for a worker that has all of them or none: with all, it knows when the last call was.
    pub(super) fn new(held: &[u16], of: u16) -> Option<Self> {
        (held.len() < usize::from(of) && !held.is_empty()).then(|| Self {
            held: held.to_vec(),
            of,
        })
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The time since this worker's last slot, and until its next one. `None` if calls at this pace are too close for
    /// slots.
    pub(super) fn around(&self, per_second: f64, clock: Clock) -> Option<(Duration, Duration)> {
        if !fit(per_second) {
            return None;
        }
        let seconds = clock.now().duration_since(Timestamp::UNIX_EPOCH).as_secs_f64();
        let call = (seconds + ROUNDED) * per_second;
        let (number, since) = (call.floor(), call.fract());
        let is_mine = |number: f64| {
            self.held
                .contains(&(number.rem_euclid(f64::from(self.of)) as u16))
        };
        let span = |calls: f64| Duration::from_secs_f64(calls / per_second);
        let mut near = (0..=self.of).map(f64::from);
        let last = near.clone().find(|back| is_mine(number - back))?;
        let next = near.find(|ahead| *ahead > 0.0 && is_mine(number + ahead))?;
        Some((span(last + since), span(next - since)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn partitions_take_turns_at_moments_that_all_workers_agree_on() {
        let clock = Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap());
        let workers = [vec![0], vec![1], vec![2, 3]].map(|held| Slots::new(&held, 4).unwrap());
        let mut turns = [0; 3];
        for _ in 0..1000 {
            let around = workers.each_ref().map(|slots| slots.around(5.0, clock).unwrap());
            let now = Duration::from_millis(1);
            let mine: Vec<_> = (0..3).filter(|n| around[*n].0 < now).collect();
            assert_eq!(mine.len(), 1, "a moment is one worker's");
            turns[mine[0]] += 1;
            let next = around.map(|(_, next)| next).into_iter().min().unwrap();
            assert!(next <= Duration::from_millis(201));
            advance(Duration::from_millis(200)).await;
        }
        assert_eq!(turns, [250, 250, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn all_partitions_none_or_a_large_quota_need_no_time_slots() {
        assert_eq!(Slots::new(&[0, 1], 2), None);
        assert_eq!(Slots::new(&[], 2), None);
        let slots = Slots::new(&[1], 2).unwrap();
        let clock = Clock::anchored(Timestamp::UNIX_EPOCH);
        assert!(slots.around(249.0, clock).is_some());
        assert!(slots.around(251.0, clock).is_none());
    }
}
