//! Which other workers' commands make no progress, by their notices.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::HEARD_WITHIN;
use crate::contract::notice::{Notice, StallCause, WorkerId};

/// There are not so many workers: a partition has one, and there are at most 256. Others are forged.
const WORKERS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Stalls(HashMap<WorkerId, Stall>);

struct Stall {
    cause: StallCause,
    since: Instant,
    heard_at: Instant,
}

impl Stalls {
    pub(super) fn on_notice(&mut self, notice: &Notice, now: Instant) {
        self.forget(now);
        let Some(stalled) = notice.stalled else {
            self.0.remove(&notice.worker);
            return;
        };
        if self.0.len() >= WORKERS_MAX && !self.0.contains_key(&notice.worker) {
            return;
        }
        let stall = self.0.entry(notice.worker.clone()).or_insert(Stall {
            cause: stalled.cause,
            since: now
                .checked_sub(Duration::from_millis(stalled.since_ms))
                .unwrap_or(now),
            heard_at: now,
        });
        (stall.cause, stall.heard_at) = (stalled.cause, now);
    }

    fn forget(&mut self, now: Instant) {
        self.0
            .retain(|_, stall| now.saturating_duration_since(stall.heard_at) <= HEARD_WITHIN);
    }

    /// The one that has lasted longest.
    pub(super) fn longest(&mut self, now: Instant) -> Option<(StallCause, Instant)> {
        self.forget(now);
        let stalls = self.0.values().map(|stall| (stall.cause, stall.since));
        stalls.min_by_key(|(_, since)| *since)
    }
}
