//! Messages that the broker refused, said once a minute at most: they are published again until it takes them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const SAY_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Refused(Mutex<State>);

#[derive(Default)]
struct State {
    said_at: Option<Instant>,
    /// Since then.
    count: u64,
}

impl Refused {
    pub(super) fn count(&self, exchange: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        let now = Instant::now();
        if state.said_at.is_some_and(|at| now.duration_since(at) < SAY_EVERY) {
            return;
        }
        tracing::warn!(
            exchange,
            messages.refused = state.count,
            "the broker refuses messages, which are published again until it takes them; see whether a queue behind this \
             exchange is full and rejects what comes (a length limit with reject-publish)"
        );
        *state = State {
            said_at: Some(now),
            count: 0,
        };
    }
}
