//! How far other workers' notices of a pause are believed.
//!
//! Any client that may publish notices can send anything. So notices stop calls only for a bounded time, from whichever
//! client and however often; then this worker makes a call. If that passes before the reported end of the
//! pause, the notices were wrong, and for a while no notice stops this worker.

use std::time::Duration;

use tokio::time::Instant;

/// If calls were possible for this long, a later pause is a new one.
const CALM: Duration = Duration::from_secs(30);

/// How long notices are ignored after a call of this worker has disproved one.
const DISTRUST: Duration = Duration::from_secs(60 * 60);

/// Longer waits are cut to a year, so that the clock can represent their end.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug)]
pub struct ReportedPauses {
    /// The longest time that notices alone can stop calls.
    stop_max: Duration,
    present: Option<Stop>,
    /// Calls sent since then were sent before the reported end of the pause.
    early_since: Option<Instant>,
    distrusted_until: Option<Instant>,
}

/// A span in which calls were stopped by notices alone, without a call of this worker in between, whatever the reasons.
#[derive(Debug, Clone, Copy)]
struct Stop {
    since: Instant,
    /// The reported end, and the end that is believed.
    reported_until: Instant,
    until: Instant,
}

impl ReportedPauses {
    pub fn new(stop_max: Duration) -> Self {
        Self {
            stop_max,
            present: None,
            early_since: None,
            distrusted_until: None,
        }
    }

    /// A notice says that no calls are possible for `wait`. Returns until when that is believed, if it is.
    pub fn report(&mut self, wait: Duration, now: Instant) -> Option<Instant> {
        if self.distrusted_until.is_some_and(|until| until > now) {
            return None;
        }
        let reported_until = now + wait.min(YEAR);
        let before = self.present.filter(|stop| now <= stop.until + CALM);
        let since = before.map_or(now, |stop| stop.since);
        let until = reported_until.min(since + self.stop_max);
        if until <= now {
            return None;
        }
        self.present = Some(Stop {
            since,
            reported_until: before.map_or(reported_until, |stop| stop.reported_until.max(reported_until)),
            until: before.map_or(until, |stop| stop.until.max(until)),
        });
        Some(until)
    }

    /// When this worker makes a call at the latest.
    pub fn ends_by(&self, now: Instant) -> Instant {
        self.present.map_or(now, |stop| stop.since) + self.stop_max
    }

    /// This worker makes a call. If that is before the reported end, its answer shows whether the notices were right.
    pub fn call_goes_out(&mut self, now: Instant) {
        if self.present.take().is_some_and(|stop| stop.reported_until > now) {
            self.early_since.get_or_insert(now);
        }
    }

    /// A call that was sent at `sent` has passed. Returns whether that disproves the notices.
    pub fn passed(&mut self, sent: Instant, now: Instant) -> bool {
        let wrong = self.early_since.is_some_and(|since| sent >= since);
        if wrong {
            self.present = None;
            self.early_since = None;
            self.distrusted_until = Some(now + DISTRUST);
        }
        wrong
    }

    /// A call has failed: the notices may be right.
    pub fn failed(&mut self) {
        self.early_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP_MAX: Duration = Duration::from_secs(600);
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn notices_stop_calls_no_longer_than_the_bound() {
        let mut reported = ReportedPauses::new(STOP_MAX);
        let start = Instant::now();
        let (mut stopped_until, mut stopped) = (start, 0);
        for second in 0..3000 {
            let now = start + SECOND * second;
            if let Some(until) = reported.report(YEAR * 10, now) {
                stopped_until = stopped_until.max(until);
            }
            match stopped_until > now {
                true => stopped += 1,
                false => stopped = 0,
            }
            assert!(SECOND * stopped <= STOP_MAX, "after {second} s");
        }
        // In between, calls could go out for a while.
        assert!(stopped_until > start + STOP_MAX + CALM);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_call_disproves_a_notice_all_notices_are_ignored_for_an_hour() {
        let mut reported = ReportedPauses::new(STOP_MAX);
        let start = Instant::now();
        reported.report(YEAR, start);
        let due = start + STOP_MAX;
        reported.call_goes_out(due);
        assert!(
            !reported.passed(start, due),
            "one that was in flight when it was said"
        );
        assert!(reported.passed(due, due));
        assert_eq!(reported.report(SECOND, due + DISTRUST - SECOND), None);
        assert!(reported.report(SECOND, due + DISTRUST).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_after_the_reported_end_disproves_nothing() {
        let mut reported = ReportedPauses::new(STOP_MAX);
        let start = Instant::now();
        assert_eq!(reported.report(SECOND, start), Some(start + SECOND));
        reported.call_goes_out(start + SECOND);
        assert!(!reported.passed(start + SECOND, start + SECOND));
        // A later pause is another one, and lasts as long as it is said to.
        let later = start + STOP_MAX * 2;
        assert_eq!(reported.report(SECOND, later), Some(later + SECOND));
    }
}
