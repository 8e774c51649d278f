//! The provider's rate limit, in the forms that real ones have, exact to the nanosecond of tokio's clock.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A second in nanoseconds. It is also what one call costs a bucket, which gains `per_second` each nanosecond.
const SECOND: u128 = 1_000_000_000;

/// A number of 0 counts as 1, and an empty window as a nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// A bucket that fills over time; `burst` calls may come at once after a quiet time.
    Bucket { per_second: u32, burst: u32 },
    /// This many calls in each window; windows follow each other from the quota's start.
    Fixed { calls: u32, window: Duration },
    /// This many calls in any window.
    Sliding { calls: u32, window: Duration },
}

impl QuotaKind {
    /// The same kind at another rate. Windows keep their length and ignore `burst`.
    #[must_use]
    pub fn at_rate(self, per_second: u32, burst: u32) -> Self {
        let calls_in = |window: Duration| {
            let calls = u128::from(per_second) * window.as_nanos() / SECOND;
            u32::try_from(calls).unwrap_or(u32::MAX)
        };
        match self {
            Self::Bucket { .. } => Self::Bucket { per_second, burst },
            Self::Fixed { window, .. } => Self::Fixed {
                calls: calls_in(window),
                window,
            },
            Self::Sliding { window, .. } => Self::Sliding {
                calls: calls_in(window),
                window,
            },
        }
    }
}

/// What a provider reports about its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaState {
    /// Calls allowed per window.
    pub calls: u32,
    pub window: Duration,
    /// Calls that may come at once.
    pub remaining: u32,
    /// The time until the bucket is full, the fixed window ends, or the oldest call leaves the sliding window.
    pub reset: Duration,
}

#[derive(Debug)]
pub struct Quota(Form);

#[derive(Debug)]
enum Form {
    Bucket(Bucket),
    Fixed(Fixed),
    Sliding(Sliding),
}

impl Quota {
    pub fn new(kind: QuotaKind) -> Self {
        let calls_in = |calls: u32, window: Duration| (calls.max(1), window.max(Duration::from_nanos(1)));
        Self(match kind {
            QuotaKind::Bucket { per_second, burst } => Form::Bucket(Bucket {
                per_second: per_second.max(1),
                capacity: u128::from(burst.max(1)) * SECOND,
                level: u128::from(burst.max(1)) * SECOND,
                filled_at: Instant::now(),
            }),
            QuotaKind::Fixed { calls, window } => Form::Fixed(Fixed {
                limit: calls_in(calls, window),
                began_at: Instant::now(),
                used: 0,
            }),
            QuotaKind::Sliding { calls, window } => Form::Sliding(Sliding {
                limit: calls_in(calls, window),
                accepted: VecDeque::new(),
            }),
        })
    }

    /// Takes one call from the quota, or returns how long until one is available.
    pub fn take(&mut self) -> Result<(), Duration> {
        self.take_at(Instant::now())
    }

    /// For callers that need the time, too. `now` never decreases.
    pub(super) fn take_at(&mut self, now: Instant) -> Result<(), Duration> {
        match &mut self.0 {
            Form::Bucket(bucket) => bucket.take(now),
            Form::Fixed(fixed) => fixed.take(now),
            Form::Sliding(sliding) => sliding.take(now),
        }
    }

    pub fn state(&mut self) -> QuotaState {
        let now = Instant::now();
        match &mut self.0 {
            Form::Bucket(bucket) => bucket.state(now),
            Form::Fixed(fixed) => fixed.state(now),
            Form::Sliding(sliding) => sliding.state(now),
        }
    }
}

/// Integers, because a rate such as 3 per second has no exact fraction of a call per nanosecond.
#[derive(Debug)]
struct Bucket {
    per_second: u32,
    /// In billionths of a call, like the level.
    capacity: u128,
    level: u128,
    filled_at: Instant,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let gained = (now - self.filled_at).as_nanos() * u128::from(self.per_second);
        self.level = (self.level + gained).min(self.capacity);
        self.filled_at = now;
    }

    fn until(&self, level: u128) -> Duration {
        nanos((level - self.level).div_ceil(u128::from(self.per_second)))
    }

    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        match self.level.checked_sub(SECOND) {
            Some(left) => {
                self.level = left;
                Ok(())
            }
            None => Err(self.until(SECOND)),
        }
    }

    fn state(&mut self, now: Instant) -> QuotaState {
        self.fill(now);
        QuotaState {
            calls: self.per_second,
            window: Duration::from_secs(1),
            remaining: u32::try_from(self.level / SECOND).unwrap_or(u32::MAX),
            reset: self.until(self.capacity),
        }
    }
}

#[derive(Debug)]
struct Fixed {
    limit: (u32, Duration),
    /// The start of the current window.
    began_at: Instant,
    used: u32,
}

impl Fixed {
    /// Begins a new window if the current one is over. Returns how long the current one still lasts.
    fn advance(&mut self, now: Instant) -> Duration {
        let (_, window) = self.limit;
        let elapsed = now - self.began_at;
        if elapsed < window {
            return window - elapsed;
        }
        let since_began = nanos(elapsed.as_nanos() % window.as_nanos());
        self.began_at = now - since_began;
        self.used = 0;
        window - since_began
    }

    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let left = self.advance(now);
        if self.used == self.limit.0 {
            return Err(left);
        }
        self.used += 1;
        Ok(())
    }

    fn state(&mut self, now: Instant) -> QuotaState {
        let reset = self.advance(now);
        let (calls, window) = self.limit;
        QuotaState {
            calls,
            window,
            remaining: calls - self.used,
            reset,
        }
    }
}

#[derive(Debug)]
struct Sliding {
    limit: (u32, Duration),
    /// When the calls within the last window were accepted; never more than the limit.
    accepted: VecDeque<Instant>,
}

impl Sliding {
    /// Drops the calls that have left the window. Returns the time until the oldest one leaves; zero if there is none.
    fn slide(&mut self, now: Instant) -> Duration {
        let (_, window) = self.limit;
        while let Some(oldest) = self.accepted.front() {
            match window.checked_sub(now - *oldest) {
                None | Some(Duration::ZERO) => drop(self.accepted.pop_front()),
                Some(left) => return left,
            }
        }
        Duration::ZERO
    }

    fn remaining(&self) -> u32 {
        let accepted = u32::try_from(self.accepted.len()).unwrap_or(u32::MAX);
        self.limit.0.saturating_sub(accepted)
    }

    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let left = self.slide(now);
        if self.remaining() == 0 {
            return Err(left);
        }
        self.accepted.push_back(now);
        Ok(())
    }

    fn state(&mut self, now: Instant) -> QuotaState {
        let reset = self.slide(now);
        let (calls, window) = self.limit;
        QuotaState {
            calls,
            window,
            remaining: self.remaining(),
            reset,
        }
    }
}

/// At most 584 years.
fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
