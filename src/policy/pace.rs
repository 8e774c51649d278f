//! The pace: the quota that is configured, and the pauses that the provider asks for.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::retry::Schedule;

/// What the provider allows, as the operator knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Calls per second, of the whole fleet.
    pub per_second: NonZeroU32,
    /// Calls that may go out at once after a quiet moment. Default: 20 ms worth of calls, at least 1.
    #[serde(default)]
    pub burst: Option<NonZeroU32>,
}

impl Rate {
    fn quota(self) -> Quota {
        let default = NonZeroU32::new(self.per_second.get() / 50).unwrap_or(NonZeroU32::MIN);
        Quota::per_second(self.per_second).allow_burst(self.burst.unwrap_or(default))
    }
}

/// governor's arithmetic on tokio's clock, which tests can pause.
#[derive(Debug, Clone, Copy)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// Says when the next call may go out. It is asked at the moment of the call.
#[derive(Debug)]
pub struct Pace {
    clock: TokioClock,
    /// None where no rate is configured.
    limiter: Option<Limiter>,
    paused_until: Option<Instant>,
    /// Grows while the provider throttles without saying for how long.
    unsaid: Schedule,
}

impl Pace {
    pub fn new(rate: Option<Rate>, unsaid: Schedule) -> Self {
        let clock = TokioClock {
            start: Instant::now(),
        };
        Self {
            clock,
            limiter: rate.map(|rate| RateLimiter::direct_with_clock(rate.quota(), clock)),
            paused_until: None,
            unsaid,
        }
    }

    /// Takes one unit of the quota, or says when to ask again.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(until) = self.paused_until {
            if until > now {
                return Err(until);
            }
            self.paused_until = None;
        }
        match self.limiter.as_ref().map(RateLimiter::check) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(not_until)) => Err(now + not_until.wait_time_from(self.clock.now())),
        }
    }

    /// The provider throttled a call (429): nobody calls until it allows. Without a word from it the
    /// pauses grow, but the many answers that one pause gathers count once.
    pub fn throttled(&mut self, retry_after: Option<Duration>, now: Instant, rng: &mut fastrand::Rng) {
        let paused = self.paused_until.is_some_and(|until| until > now);
        let until = match retry_after {
            Some(wait) => later(now, wait),
            None if paused => return,
            None => later(now, self.unsaid.next_at_least_half(rng)),
        };
        self.paused_until = Some(self.paused_until.map_or(until, |present| present.max(until)));
    }

    /// The provider took a call.
    pub fn passed(&mut self) {
        self.unsaid.reset();
    }

    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }
}

/// A moment so far away that the clock can't hold it is as good as a year away.
fn later(now: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    now + wait.min(YEAR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::retry;

    fn pace(per_second: u32, burst: u32) -> Pace {
        let rate = Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst),
        };
        Pace::new(Some(rate), Schedule::new(&retry::Config::default()))
    }

    /// Takes as fast as it may for `seconds`, and counts.
    async fn taken_in(pace: &mut Pace, seconds: u64) -> u32 {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut taken = 0;
        while Instant::now() < end {
            match pace.take(Instant::now()) {
                Ok(()) => taken += 1,
                Err(at) => tokio::time::sleep_until(at).await,
            }
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn the_quota_is_used_and_not_exceeded() {
        let taken = taken_in(&mut pace(50, 1), 10).await;
        assert!((495..=501).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_calls_before_retry_after_is_over() {
        let mut pace = pace(50, 10);
        let now = Instant::now();
        let mut rng = fastrand::Rng::with_seed(1);
        pace.throttled(Some(Duration::from_secs(7)), now, &mut rng);
        pace.throttled(Some(Duration::from_secs(2)), now, &mut rng);
        assert_eq!(pace.take(now), Err(now + Duration::from_secs(7)));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(pace.take(Instant::now()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_without_a_word_grows_once_per_pause_and_ends_with_a_pass() {
        let mut pace = pace(1000, 1000);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            let now = Instant::now();
            for _ in 0..64 {
                pace.throttled(None, now, &mut rng);
            }
            let pause = pace.paused_until(now).unwrap() - now;
            assert!(
                pause <= Duration::from_secs(4) && pause >= last / 2,
                "{pause:?} after {last:?}"
            );
            last = pause;
            tokio::time::advance(pause).await;
        }
        pace.passed();
        let now = Instant::now();
        pace.throttled(None, now, &mut rng);
        assert!(pace.paused_until(now).unwrap() - now <= Duration::from_millis(200));
    }

    #[tokio::test(start_paused = true)]
    async fn an_absurd_retry_after_does_not_overflow() {
        let mut pace = pace(1, 1);
        let now = Instant::now();
        pace.throttled(Some(Duration::MAX), now, &mut fastrand::Rng::with_seed(1));
        assert!(pace.take(now).is_err());
    }
}
