//! Notices that no worker sends: counted, and said once a minute at most.

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
                "fleet: notices that no worker sends are ignored; see who may write to the usher.fleet exchange"
            );
        }
    }
}
