//! Notices that no worker sends: counted, and said once a minute at most.

use std::time::Duration;

use tokio::time::Instant;

use crate::contract::notice::Unusable;
use crate::metrics;

const SAY_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Ignored {
    said_at: Option<Instant>,
    /// Since then.
    count: u64,
}

impl Ignored {
    pub(super) fn count(&mut self, why: Unusable, now: Instant) {
        metrics::notice_ignored(why.as_str());
        self.count += 1;
        if self.said_at.is_some_and(|at| now.duration_since(at) < SAY_EVERY) {
            return;
        }
        tracing::warn!(
            notices.ignored = self.count,
            notice.fault = why.as_str(),
            "fleet: notices that no worker sends are ignored; see who may write to the usher.fleet exchange"
        );
        self.said_at = Some(now);
        self.count = 0;
    }
}
