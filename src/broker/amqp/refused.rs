//! Messages that the broker refused, logged at most once a minute: they are published again until it takes them.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::clock::OnceAMinute;

#[derive(Default)]
pub(super) struct Refused(Mutex<OnceAMinute>);

impl Refused {
    pub(super) fn count(&self, exchange: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = seen.count(Instant::now()) {
            tracing::warn!(
                exchange,
                messages.refused = refused,
                "the broker refuses messages, which are published again until it takes them; check whether a queue \
                 behind this exchange is full and rejects messages (a length limit with reject-publish)"
            );
        }
    }
}
