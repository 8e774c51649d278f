//! Whether this process runs: one that was frozen may have lost its leases and not know it yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// A broker that hears nothing for two heartbeats takes its deliveries back; a little less is trusted here.
const TRUSTED_HEARTBEATS: f64 = 1.5;

const BEATS_PER_HEARTBEAT: u32 = 8;

/// Of one connection.
pub(super) struct Pulse {
    began: Instant,
    /// Milliseconds after the beginning.
    trusted_until_ms: AtomicU64,
    trusted_for: Duration,
    every: Duration,
}

impl Pulse {
    pub(super) fn new(heartbeat: Duration) -> Self {
        let heartbeat = heartbeat.max(Duration::from_secs(1));
        let pulse = Self {
            began: Instant::now(),
            trusted_until_ms: AtomicU64::new(0),
            trusted_for: heartbeat.mul_f64(TRUSTED_HEARTBEATS),
            every: heartbeat / BEATS_PER_HEARTBEAT,
        };
        pulse.trust(Instant::now());
        pulse
    }

    fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn trust(&self, now: Instant) {
        self.trusted_until_ms
            .store(self.ms(now + self.trusted_for), Ordering::Release);
    }

    /// Whether what the connection brought may still be ours.
    pub(super) fn beats(&self) -> bool {
        self.ms(Instant::now()) < self.trusted_until_ms.load(Ordering::Acquire)
    }

    /// Nothing of the connection is ours any more.
    pub(super) fn stop(&self) {
        self.trusted_until_ms.store(0, Ordering::Release);
    }

    /// Beats until the process was frozen for too long.
    pub(super) async fn keep(&self) {
        let mut tick = interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !self.beats() {
                return;
            }
            self.trust(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_frozen_process_trusts_its_leases_no_more_from_the_moment_it_wakes() {
        let pulse = Pulse::new(Duration::from_secs(10));
        let kept = tokio::time::timeout(Duration::from_secs(100), pulse.keep()).await;
        assert!(kept.is_err() && pulse.beats());
        // Nobody kept it: that is what a frozen process is like.
        tokio::time::advance(Duration::from_secs(16)).await;
        assert!(!pulse.beats());
        pulse.keep().await;
        assert!(!pulse.beats());
    }
}
