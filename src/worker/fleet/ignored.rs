//! Notices that no worker would send: counted, and logged at most once a minute.

use tokio::time::Instant;

use crate::clock::OnceAMinute;
use crate::contract::notice::Unusable;
use crate::metrics;

#[derive(Default)]
pub(super) struct Ignored(OnceAMinute);

impl Ignored {
    pub(super) fn count(&mut self, why: Unusable, now: Instant) {
        metrics::notice_ignored(why.as_str());
        if let Some(ignored) = self.0.count(now) {
            tracing::warn!(
                notices.ignored = ignored,
                notice.fault = why.as_str(),
                "fleet: ignored notices that no worker would send; check who may write to the usher.fleet exchange"
            );
        }
    }
}
