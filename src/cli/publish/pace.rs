//! `--rate`: how many commands a second are published at most.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How much may be caught up after a wait: timers are not exact to less than this.
const CATCH_UP: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(NonZeroU32);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix("/s").unwrap_or(text);
        let rate = number.trim().parse().map(Self);
        rate.map_err(|_| "a whole number of commands a second from 1 on, such as 20 or 20/s")
    }
}

/// Spaces publishes evenly.
pub struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    pub fn new(rate: Rate) -> Self {
        Self {
            interval: Duration::from_secs(1) / rate.0.get(),
            next: Instant::now(),
        }
    }

    /// Returns when the next one may be published. It counts it only then.
    pub async fn wait(&mut self) {
        let now = Instant::now();
        self.next = self.next.max(now.checked_sub(CATCH_UP).unwrap_or(now));
        if self.next > now {
            sleep_until(self.next).await;
        }
        self.next += self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_with_or_without_its_unit() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| rate.0.get());
        assert_eq!(rate("20"), Ok(20));
        assert_eq!(rate("20/s"), Ok(20));
        for wrong in ["0", "-1", "20/m", "", "1.5", "fast"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept_and_not_caught_up_after_a_wait() {
        for rate in ["20", "5000"] {
            let number: u32 = rate.parse().unwrap();
            let mut pace = Pace::new(rate.parse().unwrap());
            let begun = Instant::now();
            for _ in 0..number * 2 {
                pace.wait().await;
            }
            let seconds = begun.elapsed().as_secs_f64();
            assert!((1.8..2.2).contains(&seconds), "{rate}: {seconds}");
            tokio::time::advance(Duration::from_secs(60)).await;
            let begun = Instant::now();
            for _ in 0..number {
                pace.wait().await;
            }
            assert!(begun.elapsed() >= Duration::from_millis(900), "{rate}");
        }
    }
}
