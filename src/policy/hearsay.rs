//! What other workers say of the provider, and how far it is believed.
//!
//! Whoever may publish notices can say anything. So the word of others stops calls for a bounded time only, whoever
//! says it and however often; then a call of our own goes out. Where that passes although nobody was to call yet,
//! the word was wrong, and for a while nobody's word stops us.

use std::time::Duration;

use tokio::time::Instant;

/// Calls could go out for so long: a pause after that is another one.
const CALM: Duration = Duration::from_secs(30);

/// After a pause that a call of our own has disproved.
const DISTRUST: Duration = Duration::from_secs(60 * 60);

/// A wait that the clock can't hold is as good as a year.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug)]
pub struct Hearsay {
    /// The longest time without a call for which others' word is enough.
    stop_max: Duration,
    present: Option<Stop>,
    /// Calls that went out since then did so earlier than others said.
    early_since: Option<Instant>,
    distrusted_until: Option<Instant>,
}

/// Calls stopped by others' word alone, without one of our own in between, whatever the reasons that were given.
#[derive(Debug, Clone, Copy)]
struct Stop {
    since: Instant,
    /// As it was said, and as it was believed.
    said_until: Instant,
    until: Instant,
}

impl Hearsay {
    pub fn new(stop_max: Duration) -> Self {
        Self {
            stop_max,
            present: None,
            early_since: None,
            distrusted_until: None,
        }
    }

    /// Somebody says that nobody may call for `wait`. Answers until when that is believed, if it is.
    pub fn hear(&mut self, wait: Duration, now: Instant) -> Option<Instant> {
        if self.distrusted_until.is_some_and(|until| until > now) {
            return None;
        }
        let said_until = now + wait.min(YEAR);
        let before = self.present.filter(|stop| now <= stop.until + CALM);
        let since = before.map_or(now, |stop| stop.since);
        let until = said_until.min(since + self.stop_max);
        if until <= now {
            return None;
        }
        self.present = Some(Stop {
            since,
            said_until: before.map_or(said_until, |stop| stop.said_until.max(said_until)),
            until: before.map_or(until, |stop| stop.until.max(until)),
        });
        Some(until)
    }

    /// When a call of our own is due at the latest.
    pub fn ends_by(&self, now: Instant) -> Instant {
        self.present.map_or(now, |stop| stop.since) + self.stop_max
    }

    /// A call of our own goes out. Where that is earlier than others said, its answer tells whether they were right.
    pub fn call_goes_out(&mut self, now: Instant) {
        if self.present.take().is_some_and(|stop| stop.said_until > now) {
            self.early_since.get_or_insert(now);
        }
    }

    /// A call that went out then has passed. Answers whether what others said is wrong.
    pub fn passed(&mut self, sent: Instant, now: Instant) -> bool {
        let wrong = self.early_since.is_some_and(|since| sent >= since);
        if wrong {
            self.present = None;
            self.early_since = None;
            self.distrusted_until = Some(now + DISTRUST);
        }
        wrong
    }

    /// One has failed: there is something in what others said.
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
    async fn no_number_of_notices_stops_calls_for_longer_than_the_bound() {
        let mut hearsay = Hearsay::new(STOP_MAX);
        let start = Instant::now();
        let (mut stopped_until, mut stopped) = (start, 0);
        for second in 0..3000 {
            let now = start + SECOND * second;
            if let Some(until) = hearsay.hear(YEAR * 10, now) {
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
    async fn a_pause_that_a_call_disproved_is_believed_of_nobody_for_an_hour() {
        let mut hearsay = Hearsay::new(STOP_MAX);
        let start = Instant::now();
        hearsay.hear(YEAR, start);
        let due = start + STOP_MAX;
        hearsay.call_goes_out(due);
        assert!(
            !hearsay.passed(start, due),
            "one that was in flight when it was said"
        );
        assert!(hearsay.passed(due, due));
        assert_eq!(hearsay.hear(SECOND, due + DISTRUST - SECOND), None);
        assert!(hearsay.hear(SECOND, due + DISTRUST).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_after_the_end_that_was_said_disproves_nothing() {
        let mut hearsay = Hearsay::new(STOP_MAX);
        let start = Instant::now();
        assert_eq!(hearsay.hear(SECOND, start), Some(start + SECOND));
        hearsay.call_goes_out(start + SECOND);
        assert!(!hearsay.passed(start + SECOND, start + SECOND));
        // A later pause is another one, and lasts as long as it is said to.
        let later = start + STOP_MAX * 2;
        assert_eq!(hearsay.hear(SECOND, later), Some(later + SECOND));
    }
}
