//! Which of the broker's addresses to try next, and the delay before it.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::broker::Config;
use crate::broker::config::{BrokerUrl, BrokerUrls};

/// Moves to the next address after a loss and after a failed attempt. The delays grow from round to round, not
/// from address to address: the one remaining node of a cluster is found as soon as a single node would be.
pub(super) struct Addresses {
    urls: BrokerUrls,
    backoff: Backoff,
    /// A connection that lasted this long starts the delays anew.
    lasting: Duration,
    rng: fastrand::Rng,
    current: usize,
    /// The addresses tried in this round.
    tried: usize,
}

impl Addresses {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            urls: config.url.clone(),
            backoff: Backoff::between(config.reconnect_delay_min, config.reconnect_delay_max),
            lasting: config.reconnect_delay_max,
            rng: fastrand::Rng::new(),
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
        if lasted >= self.lasting {
            self.backoff.reset();
            self.tried = 0;
        }
        let round_goes_on = self.has_untried();
        self.tried = if round_goes_on { self.tried + 1 } else { 0 };
        self.current = self.current.wrapping_add(1) % self.urls.count();
        match round_goes_on {
            true => self.backoff.first(&mut self.rng),
            false => self.backoff.next(&mut self.rng),
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
    fn delays_grow_to_their_ceiling_and_reset_after_a_lasting_connection() {
        let config = Config::default();
        let mut addresses = addresses("amqp://a");
        let whole = |addresses: &Addresses| addresses.backoff.clone().whole();
        for _ in 0..10 {
            addresses.next(Duration::ZERO);
        }
        assert_eq!(whole(&addresses), config.reconnect_delay_max);
        addresses.next(Duration::from_secs(1));
        assert_eq!(whole(&addresses), config.reconnect_delay_max);
        addresses.next(Duration::from_secs(60));
        assert_eq!(whole(&addresses), config.reconnect_delay_min * 2);
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
