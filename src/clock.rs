//! The wall clock, read nowhere else; and log lines that appear once a minute.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The source of the times in events and dead letters, and for `expiresAt`.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    System,
    /// A clock that shows `moment` at `since` and follows tokio's time, paused or not.
    Anchored {
        moment: Timestamp,
        since: Instant,
    },
}

impl Clock {
    pub fn anchored(moment: Timestamp) -> Self {
        Self::Anchored {
            moment,
            since: Instant::now(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Anchored { moment, since } => moment
                .checked_add(
                    jiff::SignedDuration::try_from(since.elapsed()).unwrap_or(jiff::SignedDuration::MAX),
                )
                .unwrap_or(Timestamp::MAX),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Counts what happens too often to log each time.
#[derive(Debug, Default)]
pub struct OnceAMinute {
    said_at: Option<Instant>,
    /// Events since `said_at`.
    count: u64,
}

impl OnceAMinute {
    /// Counts one more. Returns the count when a line is due.
    pub fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.said_at.is_some_and(|at| now.duration_since(at) < MINUTE) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_at_once_and_the_rest_once_a_minute() {
        let mut seen = OnceAMinute::default();
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        let told: Vec<_> = [0, 1, 59, 60, 61, 200]
            .map(|second| seen.count(at(second)))
            .into();
        assert_eq!(told, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
