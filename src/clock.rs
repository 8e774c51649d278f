//! The wall clock. The only place that asks the system what time it is.

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
