//! One log line and one metric per change of the gate's state.

use std::time::Duration;

use tokio::time::Instant;

use super::Pause;
use super::state::{DEAD_LETTERS, OPERATOR, State, THROTTLED};
use crate::metrics;
use crate::policy::health::Cause;

/// Shorter throttling is logged at `debug`.
const WORTH_A_LINE: Duration = Duration::from_secs(5);

/// The pace is logged at most this often: it may double each second.
const SAY_PACE_EVERY: Duration = Duration::from_secs(2);

impl State {
    pub(super) fn announce(&mut self, now: Instant) {
        self.announce_pace(now);
        let pause = self.pause(now);
        let cause = pause.as_ref().map(|pause| pause.cause);
        if cause == self.announced {
            return;
        }
        let ended = std::mem::replace(&mut self.announced, cause);
        if let Some(ended) = ended {
            metrics::paused(ended, false);
        }
        match pause {
            Some(pause) => {
                metrics::paused(pause.cause, true);
                began(&pause, now);
            }
            None if ended == Some(THROTTLED) => tracing::debug!("provider: calls resume"),
            None => tracing::info!("provider: calls resume"),
        }
    }
}

/// The pace as last logged.
#[derive(Debug, Clone, Copy)]
pub(super) struct SaidPace {
    per_second: f64,
    at: Instant,
}

impl State {
    /// Changes of less than a fifth are normal while the pace is learned, and are not logged.
    fn announce_pace(&mut self, now: Instant) {
        let per_second = self.pace.fleet_per_second(now);
        let Some(said) = self.said_pace else {
            self.said_pace = Some(SaidPace { per_second, at: now });
            return;
        };
        let moved = (per_second - said.per_second).abs() > said.per_second / 5.0;
        if moved && now.duration_since(said.at) >= SAY_PACE_EVERY {
            tracing::info!(
                pace.from = rounded(said.per_second),
                pace.to = rounded(per_second),
                pace.why = self.pace.why(now),
                "provider: the pace changed (calls per second of the whole fleet)"
            );
            self.said_pace = Some(SaidPace { per_second, at: now });
        }
    }
}

fn rounded(per_second: f64) -> f64 {
    (per_second * 1000.0).round() / 1000.0
}

fn began(pause: &Pause, now: Instant) {
    let wait = pause.until.map(|until| until.saturating_duration_since(now));
    let wait_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    let why = pause.why.as_deref();
    let cause = pause.cause;
    if cause == THROTTLED {
        // Short pauses are normal when a quota is used in full.
        match wait.is_some_and(|wait| wait < WORTH_A_LINE) {
            true => tracing::debug!(
                pause.wait_ms = wait_ms,
                "provider: throttled; calls wait until it allows them"
            ),
            false => tracing::info!(
                pause.wait_ms = wait_ms,
                "provider: throttled; calls wait until it allows them"
            ),
        }
    } else if cause == OPERATOR {
        tracing::warn!(
            pause.why = why,
            pause.wait_ms = wait_ms,
            "provider: an operator paused it; commands wait"
        );
    } else if cause == DEAD_LETTERS {
        tracing::error!(
            pause.why = why,
            "worker: commands that would be dead letters wait, and the others run slowly, until `usher resume`"
        );
    } else if cause == Cause::Outage.as_str() {
        tracing::warn!(
            pause.why = why,
            pause.wait_ms = wait_ms,
            "provider: fails for every user; commands wait, one probe at a time is sent"
        );
    } else if cause == Cause::Worker.as_str() {
        tracing::error!(
            pause.why = why,
            pause.wait_ms = wait_ms,
            "worker: lacks what a call needs; commands wait, one probe at a time is sent"
        );
    } else if cause == Cause::Configuration.as_str() {
        tracing::error!(
            pause.why = why,
            pause.wait_ms = wait_ms,
            "provider: refuses the form of the worker's requests; commands wait. Correct [provider], or the proxy in \
             front of the provider"
        );
    } else {
        tracing::error!(
            pause.why = why,
            pause.wait_ms = wait_ms,
            "provider: refuses the worker's credentials; commands wait. Rotate the token, or grant it the \
             permission to update users"
        );
    }
}
