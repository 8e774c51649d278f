//! When to retry: the limits of one command's retries, and the budget of all retries.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// `[retry]`
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RetryConfig")]
pub struct Config {
    /// Attempts of one command before it ends as `retries_exhausted`. Calls that fail by throttling, an
    /// outage, refused credentials or a shutdown don't count.
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: u32,
    /// The first retry waits up to this long; each further one up to twice as long as the one before.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "1ms", "maximum": "10m" }))]
    pub delay_min: Duration,
    /// The longest delay before a retry.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "1ms", "maximum": "24h" }))]
    pub delay_max: Duration,
    /// The longest time of one command's attempts and the delays between them, before it ends as
    /// `retries_exhausted`. Calls that don't count as attempts don't count here.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "1ms", "maximum": "24h" }))]
    pub elapsed_max: Duration,
    /// The longest gap between two probes of a provider that is down, that throttles all calls, or that
    /// refuses the credentials. Gaps grow up to it.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "1ms", "maximum": "24h" }))]
    pub probe_gap_max: Duration,
    /// Retries may be at most this share of all calls, plus ten per second; further retries wait.
    #[schemars(range(min = 0, max = 1))]
    pub budget: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            attempts: 5,
            delay_min: Duration::from_millis(200),
            delay_max: Duration::from_secs(30),
            elapsed_max: Duration::from_secs(5 * 60),
            probe_gap_max: Duration::from_secs(10 * 60),
            budget: 0.2,
        }
    }
}

impl Config {
    /// The delays between one command's attempts.
    pub fn backoff(&self) -> Backoff {
        Backoff::between(self.delay_min, self.delay_max)
    }
}

/// Limits retries to a share of all calls, so that they can't overload a struggling provider.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    /// Retries that may be made now.
    saved: f64,
    since: Instant,
}

impl Budget {
    /// The most that is saved up, which an idle worker may spend at once.
    const SAVED_MAX: f64 = 100.0;
    /// Earned over time, so that a worker with few calls can retry, too.
    const PER_SECOND: f64 = 10.0;

    pub fn new(share: f64) -> Self {
        Self {
            share,
            saved: Self::SAVED_MAX,
            since: Instant::now(),
        }
    }

    /// A call was made.
    pub fn earn(&mut self) {
        self.saved = (self.saved + self.share).min(Self::SAVED_MAX);
    }

    /// The retries that may be made at once.
    pub fn available(&self, now: Instant) -> f64 {
        let waited = now.duration_since(self.since).as_secs_f64();
        (self.saved + waited * Self::PER_SECOND).min(Self::SAVED_MAX)
    }

    /// Takes one retry out of the budget, or says when to ask again.
    pub fn spend(&mut self, now: Instant) -> Result<(), Instant> {
        self.saved = self.available(now);
        self.since = now;
        if self.saved >= 1.0 {
            self.saved -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.saved) / Self::PER_SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn beyond_the_budget_a_retry_waits() {
        let mut budget = Budget::new(0.2);
        let now = Instant::now();
        let at_once = (0..1000).take_while(|_| budget.spend(now).is_ok()).count();
        assert_eq!(at_once, 100);
        let at = budget.spend(now).unwrap_err();
        assert!(at > now && at <= now + Duration::from_secs(1));
        for _ in 0..11 {
            budget.earn();
        }
        let earned = (0..1000).take_while(|_| budget.spend(now).is_ok()).count();
        assert_eq!(earned, 2);
    }
}
