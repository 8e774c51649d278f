//! Which of the broker's addresses to try next, and the delay before it.

use std::time::Duration;

use super::connection::Delays;
use crate::broker::Config;
use crate::broker::config::{BrokerUrl, BrokerUrls};

/// Moves to the next address after a loss and after a failed attempt. The delays grow from round to round, not
/// from address to address: the one remaining node of a cluster is found as soon as a single node would be.
pub(super) struct Addresses {
    urls: BrokerUrls,
    delays: Delays,
    current: usize,
    /// The addresses tried in this round.
    tried: usize,
}

impl Addresses {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            urls: config.url.clone(),
            delays: Delays::new(config),
            current: 0,
            tried: 0,
        }
    }

    pub(super) fn url(&self) -> &BrokerUrl {
        self.urls.nth(self.current)
    }

    /// Whether this round has untried addresses.
    pub(super) fn has_untried(&self) -> bool {
        self.tried + 1 < self.urls.count()
    }

    /// Moves on after a connection that lasted this long, or an attempt that failed. Returns the delay
    /// before the next attempt.
    pub(super) fn next(&mut self, lasted: Duration) -> Duration {
        if self.delays.connection_lasted(lasted) {
            self.tried = 0;
        }
        let round_goes_on = self.has_untried();
        self.tried = if round_goes_on { self.tried + 1 } else { 0 };
        self.current = self.current.wrapping_add(1) % self.urls.count();
        match round_goes_on {
            true => self.delays.shortest(),
            false => self.delays.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(urls: &str) -> Addresses {
        let url = urls.parse().unwrap();
        Addresses::new(&Config {
            url,
            ..Config::default()
        })
    }

    #[test]
    fn addresses_rotate_and_delays_grow_by_the_round() {
        let mut addresses = addresses("amqp://a,amqp://b,amqp://c");
        let mut hosts = Vec::new();
        for round_ceiling_ms in [200, 400, 800] {
            for ceiling_ms in [200, 200, round_ceiling_ms] {
                hosts.push(addresses.url().uri().authority.host);
                assert!(addresses.next(Duration::ZERO) <= Duration::from_millis(ceiling_ms));
            }
        }
        assert_eq!(hosts.concat(), "abcabcabc");
    }

    #[test]
    fn after_a_lasting_connection_all_addresses_are_tried_before_delays_grow() {
        let mut addresses = addresses("amqp://a,amqp://b,amqp://c");
        addresses.next(Duration::ZERO);
        addresses.next(Duration::ZERO);
        assert!(!addresses.has_untried());
        addresses.next(Duration::from_secs(3600));
        assert!(addresses.has_untried());
        assert_eq!(addresses.url().uri().authority.host, "a");
    }

    #[test]
    fn a_single_address_is_a_round() {
        let mut addresses = addresses("amqp://a");
        assert!(!addresses.has_untried());
        for ceiling_ms in [200, 400, 800] {
            assert!(addresses.next(Duration::ZERO) <= Duration::from_millis(ceiling_ms));
        }
    }
}
