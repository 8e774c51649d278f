//! Which leases the known workers hold, by their notices. Any other lease is held by an unknown client, or by none.

use tokio::time::Instant;

use super::HEARD_WITHIN;
use crate::broker::Partition;

pub(super) struct Holders {
    /// When a worker last reported that it holds the lease, by partition; before any report, when tracking began.
    known_at: Vec<Instant>,
    /// Leases that no worker has reported yet.
    unheard: Vec<bool>,
    /// The unknown leases as last logged.
    said: Vec<Partition>,
}

impl Holders {
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            known_at: vec![Instant::now(); partitions.into()],
            unheard: vec![true; partitions.into()],
            said: Vec::new(),
        }
    }

    /// Forgets all reports.
    pub(super) fn begin(&mut self, now: Instant) {
        self.known_at.fill(now);
        self.unheard.fill(true);
    }

    /// A worker reports that it holds these.
    pub(super) fn on_notice(&mut self, leases: &[Partition], now: Instant) {
        for lease in leases {
            if let Some(known_at) = self.known_at.get_mut(usize::from(*lease)) {
                *known_at = now;
                self.unheard[usize::from(*lease)] = false;
            }
        }
    }

    /// Whether each lease has a holder that reported it.
    pub(super) fn are_known(&self, now: Instant) -> bool {
        !self.unheard.contains(&true) && self.unknown(now).is_empty()
    }

    pub(super) fn unknown(&self, now: Instant) -> Vec<Partition> {
        let unknown = |at: &Instant| now.saturating_duration_since(*at) > HEARD_WITHIN;
        (0..)
            .zip(&self.known_at)
            .filter_map(|(partition, at)| unknown(at).then_some(partition))
            .collect()
    }

    /// Logs the unknown leases when they change.
    pub(super) fn say(&mut self, now: Instant) {
        let unknown = self.unknown(now);
        if unknown == self.said {
            return;
        }
        match unknown.is_empty() {
            true => tracing::info!("fleet: every lease is held by a known worker again"),
            false => tracing::warn!(
                partitions = ?unknown,
                "fleet: no known worker holds these partitions' leases; check who consumes the usher.lease queues on \
                 the broker"
            ),
        }
        self.said = unknown;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_speaks_of_has_an_unknown_holder_after_ten_seconds() {
        let mut holders = Holders::new(3);
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(holders.unknown(at(10)).is_empty());
        assert!(!holders.are_known(at(1)), "nobody has said anything");
        holders.on_notice(&[1, 7], at(10));
        assert_eq!(holders.unknown(at(11)), [0, 2]);
        assert_eq!(holders.unknown(at(21)), [0, 1, 2]);
        holders.on_notice(&[0, 1, 2], at(20));
        assert!(holders.are_known(at(21)));
        holders.begin(at(21));
        assert!(!holders.are_known(at(21)));
        assert!(holders.unknown(at(31)).is_empty());
    }
}
