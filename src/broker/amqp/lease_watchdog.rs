//! Detects that the process was frozen: it may have lost its leases without having noticed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::clock::Clock;

/// A broker that receives nothing for two heartbeats takes its deliveries back; leases are trusted for a little less.
const TRUSTED_HEARTBEATS: f64 = 1.5;

const BEATS_PER_HEARTBEAT: u32 = 8;

/// The watchdog of one connection. It uses two clocks: the monotonic one stops while a virtual machine is paused, and
/// the wall clock may be set. A leap of either counts as a freeze; a new connection starts from the current time of
/// both.
pub(super) struct LeaseWatchdog {
    began: Instant,
    wall: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Milliseconds since `began`.
    trusted_until_ms: AtomicU64,
    /// By the wall clock, in milliseconds.
    trusted_until_wall_ms: AtomicI64,
    trusted_for: Duration,
    every: Duration,
}

impl LeaseWatchdog {
    pub(super) fn new(heartbeat: Duration) -> Self {
        Self::with_wall(heartbeat, || Clock::System.now())
    }

    fn with_wall(heartbeat: Duration, wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let heartbeat = heartbeat.max(Duration::from_secs(1));
        let lease_watchdog = Self {
            began: Instant::now(),
            wall: Box::new(wall),
            trusted_until_ms: AtomicU64::new(0),
            trusted_until_wall_ms: AtomicI64::new(0),
            trusted_for: heartbeat.mul_f64(TRUSTED_HEARTBEATS),
            every: heartbeat / BEATS_PER_HEARTBEAT,
        };
        lease_watchdog.trust(Instant::now());
        lease_watchdog
    }

    fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn trust(&self, now: Instant) {
        let trusted_for = i64::try_from(self.trusted_for.as_millis()).unwrap_or(i64::MAX);
        let until_wall = (self.wall)().as_millisecond().saturating_add(trusted_for);
        self.trusted_until_wall_ms.store(until_wall, Ordering::Release);
        self.trusted_until_ms
            .store(self.ms(now + self.trusted_for), Ordering::Release);
    }

    /// Whether the connection's leases and deliveries may still be this worker's.
    pub(super) fn is_trusted(&self) -> bool {
        self.ms(Instant::now()) < self.trusted_until_ms.load(Ordering::Acquire)
            && (self.wall)().as_millisecond() < self.trusted_until_wall_ms.load(Ordering::Acquire)
    }

    /// Ends the trust: nothing of the connection belongs to this worker any more.
    pub(super) fn stop(&self) {
        self.trusted_until_ms.store(0, Ordering::Release);
    }

    /// Renews the trust until the process was frozen for too long.
    pub(super) async fn keep(&self) {
        let mut tick = interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !self.is_trusted() {
                return;
            }
            self.trust(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(10);
    const HOUR_MS: i64 = 3600 * 1000;

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_frozen_distrusts_its_leases_at_once() {
        let lease_watchdog = LeaseWatchdog::new(HEARTBEAT);
        let kept = tokio::time::timeout(Duration::from_secs(100), lease_watchdog.keep()).await;
        assert!(kept.is_err() && lease_watchdog.is_trusted());
        // Nobody kept it: that is what a frozen process is like.
        tokio::time::advance(Duration::from_secs(16)).await;
        assert!(!lease_watchdog.is_trusted());
        lease_watchdog.keep().await;
        assert!(!lease_watchdog.is_trusted());
    }

    /// A wall clock that runs with tokio's, and how far it was set, in milliseconds.
    fn wall() -> (
        impl Fn() -> Timestamp + Clone + Send + Sync + 'static,
        Arc<AtomicI64>,
    ) {
        let clock = Clock::anchored(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(1000));
        let set = Arc::new(AtomicI64::new(0));
        let by = set.clone();
        let wall = move || clock.now() + jiff::SignedDuration::from_millis(by.load(Ordering::Acquire));
        (wall, set)
    }

    async fn beats_on(lease_watchdog: &LeaseWatchdog) -> bool {
        let kept = tokio::time::timeout(Duration::from_secs(100), lease_watchdog.keep()).await;
        kept.is_err() && lease_watchdog.is_trusted()
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_machine_distrusts_its_leases_although_its_clock_was_paused_too() {
        let (wall, set) = wall();
        let lease_watchdog = LeaseWatchdog::with_wall(HEARTBEAT, wall.clone());
        assert!(beats_on(&lease_watchdog).await);
        // Within what is trusted, a leap is none.
        set.store(13_000, Ordering::Release);
        assert!(beats_on(&lease_watchdog).await);
        set.store(13_000 + 16_000, Ordering::Release);
        assert!(!lease_watchdog.is_trusted(), "at once, before any call");
        lease_watchdog.keep().await;
        assert!(!lease_watchdog.is_trusted(), "for good");
        // The next connection is as good as any.
        assert!(beats_on(&LeaseWatchdog::with_wall(HEARTBEAT, wall)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_wall_clock_costs_one_connection_at_most() {
        for by in [5 * HOUR_MS, -5 * HOUR_MS] {
            let (wall, set) = wall();
            let mut connections = 1;
            let mut lease_watchdog = LeaseWatchdog::with_wall(HEARTBEAT, wall.clone());
            assert!(beats_on(&lease_watchdog).await);
            set.store(by, Ordering::Release);
            while !beats_on(&lease_watchdog).await {
                connections += 1;
                lease_watchdog = LeaseWatchdog::with_wall(HEARTBEAT, wall.clone());
            }
            assert!(connections <= 2, "{by}: {connections} connections");
        }
    }
}
