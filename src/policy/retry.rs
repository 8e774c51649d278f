//! When to retry: the schedule of one command's retries, and the budget of all retries.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

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

/// Growing delays. The backoff crate does the arithmetic; its jitter is off, because it draws from a
/// generator that a test can't seed and adds to the ceiling instead of staying below it.
#[derive(Debug, Clone)]
pub struct Schedule {
    backoff: ExponentialBackoff,
    delay_max: Duration,
}

impl Schedule {
    pub fn new(config: &Config) -> Self {
        Self::between(config.delay_min, config.delay_max)
    }

    pub fn between(delay_min: Duration, delay_max: Duration) -> Self {
        let mut backoff = ExponentialBackoff {
            initial_interval: delay_min,
            multiplier: 2.0,
            max_interval: delay_max,
            randomization_factor: 0.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Self { backoff, delay_max }
    }

    /// The next delay with full jitter, from zero to the whole of it, so that calls that failed
    /// together are not retried together.
    pub fn next(&mut self, rng: &mut fastrand::Rng) -> Duration {
        self.whole().mul_f64(rng.f64())
    }

    /// The next delay with half jitter: from half of it to the whole.
    pub fn next_at_least_half(&mut self, rng: &mut fastrand::Rng) -> Duration {
        self.whole().mul_f64(0.5 + rng.f64() / 2.0)
    }

    /// The whole of the next delay and up to a tenth more, for calls that must stay rare.
    pub fn next_and_a_little(&mut self, rng: &mut fastrand::Rng) -> Duration {
        self.whole().mul_f64(1.0 + rng.f64() / 10.0)
    }

    /// The next delay without jitter.
    pub fn whole(&mut self) -> Duration {
        self.backoff
            .next_backoff()
            .unwrap_or(self.delay_max)
            .min(self.delay_max)
    }

    pub fn reset(&mut self) {
        self.backoff.reset();
    }

    /// Whether three delays were taken or more since the start.
    pub fn has_grown(&self) -> bool {
        self.backoff.current_interval > self.backoff.initial_interval * 4
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

    /// Takes one retry out of the budget, or says when to ask again.
    pub fn spend(&mut self, now: Instant) -> Result<(), Instant> {
        let waited = now.duration_since(self.since).as_secs_f64();
        self.saved = (self.saved + waited * Self::PER_SECOND).min(Self::SAVED_MAX);
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

    #[test]
    fn delays_double_up_to_their_ceiling_and_jitter_only_shortens() {
        let mut schedule = Schedule::new(&Config::default());
        let wholes: Vec<_> = (0..10).map(|_| schedule.whole().as_millis()).collect();
        assert_eq!(
            wholes,
            [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]
        );
        schedule.reset();
        let mut rng = fastrand::Rng::with_seed(7);
        for whole in wholes {
            assert!(schedule.next(&mut rng).as_millis() <= whole);
        }
    }

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
