//! The provider's own rate limit: a bucket that fills by time, and the ways to say how long to wait.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::clock::Clock;

/// How a 429 says how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetryAfterStyle {
    Seconds,
    /// An HTTP date.
    Date,
    /// Not at all.
    None,
}

impl RetryAfterStyle {
    /// The header's value, rounded up to whole seconds.
    pub(super) fn value(self, wait: Duration) -> Option<String> {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        match self {
            Self::Seconds => Some(seconds.to_string()),
            Self::Date => {
                let now: std::time::SystemTime = Clock::System.now().into();
                // One second more: a date has no fractions, and `now` loses its own.
                Some(httpdate::fmt_http_date(now + Duration::from_secs(seconds + 1)))
            }
            Self::None => None,
        }
    }
}

pub(super) struct Quota {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

impl Quota {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            per_second: f64::from(per_second.max(1)),
            burst,
            tokens: burst,
            filled_at: Instant::now(),
        }
    }

    /// Takes one call from the quota, or says how long until there is one.
    pub(super) fn take(&mut self) -> Result<(), Duration> {
        let now = Instant::now();
        let filled = now.duration_since(self.filled_at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + filled).min(self.burst);
        self.filled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let mut quota = Quota::new(10, 3);
        for _ in 0..3 {
            assert_eq!(quota.take(), Ok(()));
        }
        assert_eq!(quota.take(), Err(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(quota.take(), Ok(()));
        assert!(quota.take().is_err());
    }

    #[test]
    fn waits_are_rounded_up_to_whole_seconds() {
        let value = |style: RetryAfterStyle, ms| style.value(Duration::from_millis(ms));
        assert_eq!(value(RetryAfterStyle::Seconds, 20).as_deref(), Some("1"));
        assert_eq!(value(RetryAfterStyle::Seconds, 1001).as_deref(), Some("2"));
        assert_eq!(value(RetryAfterStyle::None, 20), None);
        assert!(value(RetryAfterStyle::Date, 20).unwrap().ends_with(" GMT"));
    }
}
