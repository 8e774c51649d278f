//! The wall clock, in the only place that asks the system what time it is; and lines that are logged once a minute.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Where moments in events, dead letters and `expiresAt` come from.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    System,
    /// It was `moment` at `since`: a clock that follows tokio's, paused time included.
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

/// Counts what happens too often for a line each.
#[derive(Debug, Default)]
pub struct OnceAMinute {
    said_at: Option<Instant>,
    /// Since then.
    count: u64,
}

impl OnceAMinute {
    /// Counts one more. How many there are to be told of, when it is time for a line.
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
