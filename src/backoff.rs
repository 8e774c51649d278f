//! Growing delays between attempts, with jitter: for retries, probes and reconnections alike.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// Delays that double up to a ceiling. The backoff crate does the arithmetic; its jitter is off, because it draws from
/// a generator that a test can't seed and adds to the ceiling instead of staying below it.
#[derive(Debug, Clone)]
pub struct Backoff {
    delays: ExponentialBackoff,
    delay_max: Duration,
}

impl Backoff {
    pub fn between(delay_min: Duration, delay_max: Duration) -> Self {
        let mut delays = ExponentialBackoff {
            initial_interval: delay_min,
            multiplier: 2.0,
            max_interval: delay_max,
            randomization_factor: 0.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        delays.reset();
        Self { delays, delay_max }
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

    /// The first delay with full jitter, without growth: for an attempt that is as good as a first one.
    pub fn first(&self, rng: &mut fastrand::Rng) -> Duration {
        self.delays.initial_interval.mul_f64(rng.f64())
    }

    /// The next delay without jitter.
    pub fn whole(&mut self) -> Duration {
        self.delays
            .next_backoff()
            .unwrap_or(self.delay_max)
            .min(self.delay_max)
    }

    pub fn reset(&mut self) {
        self.delays.reset();
    }

    /// Whether three delays were taken or more since the start.
    pub fn has_grown(&self) -> bool {
        self.delays.current_interval > self.delays.initial_interval * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_ceiling_and_jitter_only_shortens() {
        let mut backoff = Backoff::between(Duration::from_millis(200), Duration::from_secs(30));
        let wholes: Vec<_> = (0..10).map(|_| backoff.whole().as_millis()).collect();
        assert_eq!(
            wholes,
            [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]
        );
        backoff.reset();
        let mut rng = fastrand::Rng::with_seed(7);
        for whole in wholes {
            assert!(backoff.first(&mut rng).as_millis() <= 200);
            assert!(backoff.next(&mut rng).as_millis() <= whole);
        }
    }
}
