//! Which queues a message goes to: exchanges, bindings and alternate exchanges as in RabbitMQ.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::topology::{Destination, ExchangeKind, Topology};

/// A queue's place in the broker's list of queues.
pub(super) type QueueIndex = usize;

pub(super) struct Router {
    exchanges: BTreeMap<String, Exchange>,
    queues: BTreeMap<String, QueueIndex>,
}

struct Exchange {
    kind: ExchangeKind,
    alternate: Option<&'static str>,
    bindings: Vec<(String, Destination)>,
}

/// The exchange doesn't exist; a broker closes the channel that publishes to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoExchange;

impl Router {
    pub(super) fn new(topology: &Topology) -> Self {
        let named = topology.queues.iter().enumerate();
        let mut exchanges: BTreeMap<_, _> = topology
            .exchanges
            .iter()
            .map(|exchange| {
                let routes = Exchange {
                    kind: exchange.kind,
                    alternate: exchange.alternate,
                    bindings: Vec::new(),
                };
                (exchange.name.clone(), routes)
            })
            .collect();
        for binding in &topology.bindings {
            if let Some(source) = exchanges.get_mut(&binding.source) {
                source
                    .bindings
                    .push((binding.pattern.clone(), binding.destination.clone()));
            }
        }
        Self {
            exchanges,
            queues: named.map(|(index, queue)| (queue.name.clone(), index)).collect(),
        }
    }

    pub(super) fn add_queue(&mut self, name: &str, index: QueueIndex) {
        self.queues.insert(name.to_owned(), index);
    }

    /// A queue that only the default exchange leads to.
    pub(super) fn remove_queue(&mut self, name: &str) -> Option<QueueIndex> {
        self.queues.remove(name)
    }

    pub(super) fn queue(&self, name: &str) -> Option<QueueIndex> {
        self.queues.get(name).copied()
    }

    pub(super) fn name(&self, index: QueueIndex) -> Option<&str> {
        let mut named = self.queues.iter();
        named.find(|(_, of)| **of == index).map(|(name, _)| name.as_str())
    }

    /// The queues that take the message, each once, however many routes lead there. Empty if none takes it.
    pub(super) fn route(&self, exchange: &str, key: &str) -> Result<Vec<QueueIndex>, NoExchange> {
        if exchange.is_empty() {
            return Ok(self.queue(key).into_iter().collect());
        }
        if !self.exchanges.contains_key(exchange) {
            return Err(NoExchange);
        }
        let mut found = Vec::with_capacity(1);
        let mut seen = BTreeSet::new();
        let mut open = vec![exchange];
        while let Some(name) = open.pop() {
            let Some(exchange) = self.exchanges.get(name).filter(|_| seen.insert(name)) else {
                continue;
            };
            let taken = exchange.takers(key);
            if taken.is_empty() {
                open.extend(exchange.alternate);
            }
            for destination in taken {
                match destination {
                    Destination::Exchange(next) => open.push(next),
                    Destination::Queue(queue) => {
                        found.extend(self.queue(queue).filter(|index| !found.contains(index)));
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Exchange {
    fn takers(&self, key: &str) -> Vec<&Destination> {
        match self.kind {
            ExchangeKind::Fanout => self.bindings.iter().map(|(_, to)| to).collect(),
            ExchangeKind::Topic => {
                let taken = self
                    .bindings
                    .iter()
                    .filter(|(pattern, _)| topic_takes(pattern, key));
                taken.map(|(_, to)| to).collect()
            }
            ExchangeKind::ModulusHash if self.bindings.is_empty() => Vec::new(),
            // Not RabbitMQ's hash: it only matters that a key stays with its queue.
            ExchangeKind::ModulusHash => {
                let count = u64::try_from(self.bindings.len()).unwrap_or(u64::MAX);
                let chosen = usize::try_from(fnv1a(key) % count).unwrap_or(0);
                self.bindings.get(chosen).map(|(_, to)| to).into_iter().collect()
            }
        }
    }
}

fn fnv1a(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `*` matches one word, `#` any number of words, including none.
fn topic_takes(pattern: &str, key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match pattern.split_first() {
            None => key.is_empty(),
            Some((&"#", [])) => true,
            Some((&"#", rest)) => (0..=key.len()).any(|skipped| words(rest, &key[skipped..])),
            Some((word, rest)) => key
                .split_first()
                .is_some_and(|(first, others)| (*word == "*" || word == first) && words(rest, others)),
        }
    }
    if pattern == "#" {
        return true;
    }
    let pattern: Vec<_> = pattern.split('.').collect();
    let key: Vec<_> = key.split('.').collect();
    words(&pattern, &key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Config;
    use crate::broker::topology::{COMMANDS, COMMANDS_BULK, DEAD_LETTERS, UNROUTABLE};

    #[test]
    fn a_topic_pattern_takes_the_keys_that_rabbitmq_would_route() {
        let takes = [
            ("sivo.#", "sivo.42"),
            ("sivo.#", "sivo.a.b"),
            ("sivo.#", "sivo"),
            ("#", ""),
            ("*.start.#", "x.start"),
            ("user.*.start.*", "user.update.start.sivo"),
            ("#.b.#", "a.b.c"),
        ];
        for (pattern, key) in takes {
            assert!(topic_takes(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [
            ("sivo.#", "sivo-eu.42"),
            ("a.*", "a"),
            ("a.*", "a.b.c"),
            ("#.b", "a.c"),
        ] {
            assert!(!topic_takes(pattern, key), "{pattern} {key}");
        }
    }

    fn router(partitions: u16) -> (Router, Vec<String>) {
        let config = Config {
            partitions: partitions.try_into().unwrap(),
            ..Config::default()
        };
        let topology = Topology::new("sivo", &config);
        let names = topology.queues.iter().map(|queue| queue.name.clone()).collect();
        (Router::new(&topology), names)
    }

    #[test]
    fn every_exchange_leads_to_its_queue() {
        let (router, names) = router(1);
        for (exchange, key, queue) in [
            (COMMANDS, "sivo.42", "user.update.sivo.0"),
            (COMMANDS_BULK, "sivo.42", "user.update.bulk.sivo.0"),
            (COMMANDS, "karmo.42", UNROUTABLE),
            (DEAD_LETTERS, "sivo.expired", DEAD_LETTERS),
            ("", UNROUTABLE, UNROUTABLE),
        ] {
            let found = router.route(exchange, key).unwrap();
            assert_eq!(
                found
                    .iter()
                    .map(|index| names[*index].as_str())
                    .collect::<Vec<_>>(),
                [queue]
            );
        }
        assert_eq!(router.route("", "nowhere"), Ok(vec![]));
        assert_eq!(router.route("nowhere", "sivo.42"), Err(NoExchange));
    }

    #[test]
    fn a_user_stays_with_one_partition() {
        let (router, _) = router(4);
        let mut counts = BTreeMap::new();
        for user in 0..1000 {
            let key = format!("sivo.{user}");
            let found = router.route(COMMANDS, &key).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found, router.route(COMMANDS, &key).unwrap());
            *counts.entry(found[0]).or_insert(0) += 1;
        }
        assert!(
            counts.len() == 4 && counts.values().all(|count| *count > 150),
            "{counts:?}"
        );
    }
}
