//! Rest: a worker that can't go on for long holds nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::dispatch::Worker;

/// Nothing is handed back for less.
const SHORT_REST: Duration = Duration::from_secs(60);

impl Worker {
    /// A long pause must not hold deliveries until the broker takes them away.
    pub(super) fn rest_or_go_on(&mut self) {
        let now = Instant::now();
        let pause = self.gate().pause();
        // A probe that is due needs a command to go out with.
        let pause = pause.filter(|pause| pause.until.is_none_or(|until| until > now));
        if self.resting {
            let others = self.fleet.as_ref().is_some_and(|fleet| fleet.others_hold_some());
            let goes_on = pause.is_none_or(|pause| {
                // While the guard is shut, what is no dead letter goes on, slowly; but what is held goes back in between.
                pause.until.is_none() && !others && now.duration_since(self.turned_at) >= SHORT_REST
            });
            if goes_on {
                tracing::info!("worker: takes commands again");
                (self.resting, self.turned_at) = (false, now);
                self.claim_all();
            }
            return;
        }
        let long = pause.is_some_and(|pause| {
            let old = now.duration_since(pause.since.max(self.turned_at)) >= self.hold_max;
            // For a short while it is not worth it: what comes again waits before its first call.
            pause.until.map_or(old, |until| {
                until - now > self.hold_max || (old && until - now > SHORT_REST)
            })
        });
        if long {
            (self.resting, self.turned_at) = (true, now);
            self.leave_all("worker: a long pause; what is held goes back to the broker");
        }
    }
}
