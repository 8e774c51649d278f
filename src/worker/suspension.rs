//! Rest: during a long pause a worker holds no deliveries and no leases.

use std::time::Duration;

use tokio::time::Instant;

use super::dispatch::Worker;
use super::waits::Wait;

/// Nothing is handed back for a shorter rest.
const SHORT_REST: Duration = Duration::from_secs(60);

impl Worker {
    /// Deliveries must not be held during a long pause: the broker would take them away.
    pub(super) fn rest_or_go_on(&mut self) {
        let now = Instant::now();
        let pause = self.gate().pause();
        // A due probe needs a command to be sent with.
        let pause = pause.filter(|pause| pause.until.is_none_or(|until| until > now));
        if self.resting {
            let others = self.fleet.as_ref().is_some_and(|fleet| fleet.others_hold_some());
            let goes_on = pause.is_none_or(|pause| {
                // While the guard is shut, commands that don't fail continue slowly; the deliveries go back in between.
                pause.until.is_none() && !others && now.duration_since(self.turned_at) >= SHORT_REST
            });
            if goes_on {
                tracing::info!("worker: takes commands again");
                (self.resting, self.turned_at) = (false, now);
                self.claim_all();
            }
            return;
        }
        let held_long = self
            .hold_batches_since(now)
            .is_some_and(|since| now.duration_since(since.max(self.turned_at)) >= self.hold_max);
        let long = held_long
            || pause.is_some_and(|pause| {
                let old = now.duration_since(pause.since.max(self.turned_at)) >= self.hold_max;
                // Not worth it for a short pause: a redelivered command waits before its first call.
                pause.until.map_or(old, |until| {
                    until - now > self.hold_max || (old && until - now > SHORT_REST)
                })
            });
        if long {
            (self.resting, self.turned_at) = (true, now);
            self.release_all("worker: a long pause; unsettled deliveries go back to the broker");
        }
    }
    /// Since when commands have been held for a paused batch, or bulk commands while only they are paused.
    fn hold_batches_since(&mut self, now: Instant) -> Option<Instant> {
        let bulk_paused = self.gate().steering().pause.is_some_and(|pause| pause.bulk_only);
        let holds = bulk_paused || self.waits().count(Wait::Batch) > 0;
        self.holds_since = holds.then(|| self.holds_since.unwrap_or(now));
        self.holds_since
    }
}
