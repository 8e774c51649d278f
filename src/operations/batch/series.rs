//! How many commands ended when: over the whole run in a bounded number of buckets, and by the second for the last minutes.

use std::collections::VecDeque;

use jiff::Timestamp;

/// The most buckets of a run. When it takes longer, two become one.
pub const BUCKETS_MAX: usize = 120;

/// How long the last seconds are kept apart.
const RECENT_SECONDS: i64 = 660;

/// What ended within a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Commands that ended for the first time.
    pub first: u64,
    /// All outcomes, those of redrives included.
    pub ended: u64,
    /// The failures among these.
    pub failed: u64,
}

/// The whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// In seconds since 1970.
    from: i64,
    pub bucket_seconds: i64,
    pub buckets: Vec<Bucket>,
}

impl Series {
    pub(super) fn beginning(at: Timestamp) -> Self {
        Self {
            from: at.as_second(),
            bucket_seconds: 1,
            buckets: Vec::new(),
        }
    }

    pub fn from(&self) -> Timestamp {
        Timestamp::from_second(self.from).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    pub fn until(&self) -> Timestamp {
        let seconds = self.bucket_seconds.saturating_mul(self.buckets.len() as i64);
        Timestamp::from_second(self.from.saturating_add(seconds)).unwrap_or(Timestamp::MAX)
    }

    pub(super) fn take(&mut self, at: Timestamp, is_first: bool, failed: bool) {
        // Clocks differ: what seems to be earlier than the beginning counts there.
        let seconds = at.as_second().saturating_sub(self.from).max(0);
        while seconds / self.bucket_seconds >= BUCKETS_MAX as i64 {
            self.bucket_seconds *= 2;
            self.buckets = self.buckets.chunks(2).map(sum).collect();
        }
        let place = usize::try_from(seconds / self.bucket_seconds).unwrap_or(0);
        if self.buckets.len() <= place {
            self.buckets.resize(place + 1, Bucket::default());
        }
        let bucket = &mut self.buckets[place];
        bucket.first += u64::from(is_first);
        bucket.ended += 1;
        bucket.failed += u64::from(failed);
    }
}

fn sum(two: &[Bucket]) -> Bucket {
    two.iter().fold(Bucket::default(), |sum, one| Bucket {
        first: sum.first + one.first,
        ended: sum.ended + one.ended,
        failed: sum.failed + one.failed,
    })
}

/// The last minutes.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    /// The second, and how many ended in it.
    seconds: VecDeque<(i64, u64)>,
}

impl Recent {
    pub(super) fn take(&mut self, at: Timestamp) {
        let second = at.as_second();
        let latest = self.seconds.back().map_or(second, |(latest, _)| *latest);
        if second < latest - RECENT_SECONDS {
            return;
        }
        let place = self.seconds.partition_point(|(known, _)| *known < second);
        match self.seconds.get_mut(place) {
            Some((known, count)) if *known == second => *count += 1,
            _ => self.seconds.insert(place, (second, 1)),
        }
        while self
            .seconds
            .front()
            .is_some_and(|(oldest, _)| *oldest < second - RECENT_SECONDS)
        {
            self.seconds.pop_front();
        }
    }

    /// How many ended a second, within so many seconds until now, or since `begun` if that is later. The present second is
    /// left out: it is not over.
    pub(super) fn per_second(&self, seconds: i64, begun: Timestamp, now: Timestamp) -> f64 {
        let until = now.as_second();
        let from = until - seconds;
        let in_span = |(second, _): &&(i64, u64)| (from..until).contains(second);
        let ended: u64 = self.seconds.iter().filter(in_span).map(|(_, count)| count).sum();
        let since_begun = until as f64 - begun.as_millisecond() as f64 / 1000.0;
        ended as f64 / since_begun.clamp(1.0, seconds as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_long_run_has_a_bounded_number_of_buckets_and_loses_no_outcome() {
        let mut series = Series::beginning(at(0));
        for second in 0..100_000 {
            series.take(at(second), second % 2 == 0, second % 10 == 0);
        }
        series.take(at(-5), false, false);
        assert!(series.buckets.len() <= BUCKETS_MAX && series.buckets.len() > BUCKETS_MAX / 3);
        assert_eq!(
            sum(&series.buckets),
            Bucket {
                first: 50_000,
                ended: 100_001,
                failed: 10_000
            }
        );
        assert!(series.until() >= at(100_000));
    }

    #[test]
    fn the_pace_is_that_of_full_seconds_and_not_of_the_time_before_the_beginning() {
        let mut recent = Recent::default();
        for second in 0..1000 {
            for _ in 0..if second < 900 { 20 } else { 10 } {
                recent.take(at(second));
            }
        }
        let per_second = |seconds, begun, now| recent.per_second(seconds, at(begun), at(now));
        assert!((per_second(60, 0, 1000) - 10.0).abs() < 0.01);
        assert!((per_second(600, 0, 1000) - (500.0 * 20.0 + 1000.0) / 600.0).abs() < 0.01);
        assert!((per_second(600, 990, 1000) - 1100.0).abs() < 0.01);
        assert!(per_second(60, 0, 2000) < 0.01);
        assert!(recent.seconds.len() as i64 <= RECENT_SECONDS + 1);
    }
}
