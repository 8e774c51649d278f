//! The exchanges, queues and bindings on the broker, as plain data that every adapter interprets.

use std::collections::BTreeMap;
use std::fmt;

use super::Config;

pub const COMMANDS: &str = "user.commands";
pub const COMMANDS_BULK: &str = "user.commands.bulk";
pub const OUTCOMES: &str = "user.outcomes";
/// The stream of all outcomes.
pub const OUTCOME_LOG: &str = "user.outcomes.log";
/// The stream of what happens to providers, batches and operations: few events, kept longer than the outcome log.
pub const AUDIT_LOG: &str = "user.outcomes.audit";
/// What the audit log keeps.
const AUDITED: [&str; 3] = ["provider.#", "batch.#", "operation.#"];
/// An exchange and a queue.
pub const DEAD_LETTERS: &str = "user.dead-letters";
/// An exchange and a queue for what the broker itself dead-letters. They are separate from `DEAD_LETTERS`, and only the
/// broker's dead-lettering leads there, so headers can't make one kind of dead letter look like the other.
pub const BROKER_DEAD_LETTERS: &str = "user.dead-letters.by-broker";
/// An exchange and a queue for messages that no binding takes.
pub const UNROUTABLE: &str = "user.unroutable";

/// Large, so that crashes never use it up: the broker counts every unsettled delivery of a worker that
/// dies. Unlimited is not an option: with -1, brokers before 4.0 dead-letter on the first return.
const DELIVERIES_MAX: i64 = 1_000_000;
/// How long the audit log keeps events, and its size. A stream drops whole segments.
const AUDIT_AGE_MAX: &str = "365D";
const AUDIT_BYTES_MAX: i64 = 100_000_000;
const AUDIT_SEGMENT_BYTES: i64 = 10_000_000;
/// The size of the stream of orders: some thousands of them, of which the latest matters.
const ORDERS_BYTES_MAX: i64 = 2_000_000;
const ORDERS_SEGMENT_BYTES: i64 = 500_000;
/// How long a broker from 4.3 on waits for a consumer whose node died before the next one takes over.
const CONSUMER_DISCONNECTED_TIMEOUT_MS: i64 = 10_000;

/// The exchanges, queues and bindings of one provider, in the order in which they are declared.
///
/// A queue's bindings come before the binding that feeds its exchange, so that nothing is ever routed to an
/// exchange without bindings. The first interactive partition's queue is the last of the queues:
/// once it exists, the number of partitions is fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub provider: String,
    pub partitions: u16,
    pub exchanges: Vec<Exchange>,
    pub queues: Vec<Queue>,
    pub bindings: Vec<Binding>,
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    pub name: String,
    pub kind: ExchangeKind,
    /// Takes messages that no binding takes.
    pub alternate: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    Topic,
    Fanout,
    /// Routes by a hash of the routing key that is stable across restarts.
    ModulusHash,
}

impl ExchangeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Fanout => "fanout",
            Self::ModulusHash => "x-modulus-hash",
        }
    }
}

/// A durable queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    pub holds: Holds,
    pub arguments: BTreeMap<&'static str, Argument>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Interactive commands.
    Commands,
    BulkCommands,
    /// No commands: outcomes, dead letters, leases.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub source: String,
    pub destination: Destination,
    /// The pattern of routing keys for a topic exchange; the other kinds take every key.
    pub pattern: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Queue(String),
    Exchange(String),
}

impl Destination {
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Exchange(name) => name,
        }
    }
}

impl Topology {
    /// The topology of the provider with this name.
    pub fn new(provider: &str, config: &Config) -> Self {
        let mut topology = Self {
            provider: provider.to_owned(),
            partitions: config.partitions.get(),
            exchanges: vec![Exchange {
                name: UNROUTABLE.to_owned(),
                kind: ExchangeKind::Fanout,
                alternate: None,
            }],
            queues: Vec::new(),
            bindings: Vec::new(),
        };
        topology.kept(UNROUTABLE, keeping(), "");
        for exchange in [DEAD_LETTERS, OUTCOMES, COMMANDS, COMMANDS_BULK] {
            topology.exchanges.push(Exchange {
                name: exchange.to_owned(),
                kind: ExchangeKind::Topic,
                alternate: Some(UNROUTABLE),
            });
        }
        topology.exchanges.push(Exchange {
            name: BROKER_DEAD_LETTERS.to_owned(),
            kind: ExchangeKind::Fanout,
            alternate: None,
        });
        topology.kept(DEAD_LETTERS, keeping(), "#");
        topology.kept(BROKER_DEAD_LETTERS, kept_for_one(), "");
        let log = outcome_log(config);
        topology.kept_from(OUTCOMES, OUTCOME_LOG, log, "#");
        topology.kept_from(OUTCOMES, AUDIT_LOG, audit_log(), AUDITED[0]);
        for pattern in &AUDITED[1..] {
            topology.bind(OUTCOMES, Destination::Queue(AUDIT_LOG.to_owned()), pattern);
        }
        topology.queues.push(Queue {
            name: topology.orders_stream(),
            holds: Holds::Other,
            arguments: orders(),
        });
        topology.leases(config);
        topology.commands(COMMANDS_BULK, Holds::BulkCommands, config);
        topology.commands(COMMANDS, Holds::Commands, config);
        topology
    }

    /// The name of the queue of one partition's interactive commands, whether the topology has it or not.
    pub fn partition_queue(&self, partition: u16) -> String {
        command_queue(&self.provider, partition, false)
    }

    /// The names of both queues of one partition, with whether they are for bulk traffic; whether the topology has them
    /// or not.
    pub fn partition_queues(&self, partition: u16) -> [(String, bool); 2] {
        [false, true].map(|bulk| (command_queue(&self.provider, partition, bulk), bulk))
    }

    /// The name of the queue with the lease's token, whose holder consumes the partition; whether the topology has it
    /// or not.
    pub fn lease_queue(&self, partition: u16) -> String {
        format!("usher.lease.{}.{partition}", self.provider)
    }

    pub fn orders_stream(&self) -> String {
        orders_stream(&self.provider)
    }

    pub fn fleet_exchange(&self) -> String {
        fleet_exchange(&self.provider)
    }

    /// The exchange that spreads interactive commands over partitions, whether the topology has it or not.
    pub fn hashing_exchange(&self) -> String {
        format!("{COMMANDS}.{}", self.provider)
    }

    /// The queues that a worker consumes, with whether they hold bulk traffic.
    pub fn command_queues(&self) -> impl Iterator<Item = (&str, bool)> {
        self.queues.iter().filter_map(|queue| match queue.holds {
            Holds::Commands => Some((queue.name.as_str(), false)),
            Holds::BulkCommands => Some((queue.name.as_str(), true)),
            Holds::Other => None,
        })
    }

    fn kept(&mut self, name: &str, arguments: BTreeMap<&'static str, Argument>, pattern: &str) {
        self.kept_from(name, name, arguments, pattern);
    }

    fn kept_from(
        &mut self,
        from: &str,
        name: &str,
        arguments: BTreeMap<&'static str, Argument>,
        pattern: &str,
    ) {
        self.queues.push(Queue {
            name: name.to_owned(),
            holds: Holds::Other,
            arguments,
        });
        self.bind(from, Destination::Queue(name.to_owned()), pattern);
    }

    /// They need no bindings: a lease's token is published to the default exchange, and each worker binds
    /// a queue of its own to the fleet's exchange.
    fn leases(&mut self, config: &Config) {
        self.exchanges.push(Exchange {
            name: self.fleet_exchange(),
            kind: ExchangeKind::Fanout,
            alternate: None,
        });
        for partition in 0..self.partitions {
            self.queues.push(Queue {
                name: self.lease_queue(partition),
                holds: Holds::Other,
                arguments: taken_by_one(config),
            });
        }
    }

    fn commands(&mut self, from: &str, holds: Holds, config: &Config) {
        let keys = format!("{}.#", self.provider);
        let hashing = format!("{from}.{}", self.provider);
        let several = self.partitions > 1;
        if several {
            let kind = ExchangeKind::ModulusHash;
            self.exchanges.push(Exchange {
                name: hashing.clone(),
                kind,
                alternate: None,
            });
        }
        for partition in (0..self.partitions).rev() {
            let [(interactive, _), (bulk, _)] = self.partition_queues(partition);
            let name = match holds {
                Holds::BulkCommands => bulk,
                Holds::Commands | Holds::Other => interactive,
            };
            let destination = Destination::Queue(name.clone());
            if several {
                self.bind(&hashing, destination, "");
            } else {
                self.bind(from, destination, &keys);
            }
            self.queues.push(Queue {
                name,
                holds,
                arguments: taken_by_one(config),
            });
        }
        if several {
            self.bind(from, Destination::Exchange(hashing), &keys);
        }
    }

    fn bind(&mut self, source: &str, destination: Destination, pattern: &str) {
        self.bindings.push(Binding {
            source: source.to_owned(),
            destination,
            pattern: pattern.to_owned(),
        });
    }
}

/// A quorum queue that operators browse. It sets a delivery limit because brokers from 4.0 on drop
/// a message that was got and requeued twenty times.
fn keeping() -> BTreeMap<&'static str, Argument> {
    BTreeMap::from([
        ("x-queue-type", Argument::Text("quorum".to_owned())),
        ("x-delivery-limit", Argument::Number(DELIVERIES_MAX)),
    ])
}

/// The queue of a partition's commands of one traffic class.
pub fn command_queue(provider: &impl fmt::Display, partition: u16, bulk: bool) -> String {
    let class = if bulk { "bulk." } else { "" };
    format!("user.update.{class}{provider}.{partition}")
}

/// The stream of the orders that operators give to a provider's workers. Only the default exchange leads there.
pub fn orders_stream(provider: &impl fmt::Display) -> String {
    format!("usher.orders.{provider}")
}

/// The exchange for the notices of a provider's workers.
pub fn fleet_exchange(provider: &impl fmt::Display) -> String {
    format!("usher.fleet.{provider}")
}

/// The queue with what an operation works on.
pub fn operation_queue(id: &impl fmt::Display) -> String {
    format!("usher.operation.{id}")
}

/// The arguments of an operation's queue, and of the broker's own dead letters: one consumer at a time.
pub fn kept_for_one() -> BTreeMap<&'static str, Argument> {
    let mut arguments = keeping();
    arguments.insert("x-single-active-consumer", Argument::Flag(true));
    arguments
}

fn outcome_log(config: &Config) -> BTreeMap<&'static str, Argument> {
    let bytes_max = i64::try_from(config.outcome_log_bytes_max).unwrap_or(i64::MAX);
    BTreeMap::from([
        ("x-queue-type", Argument::Text("stream".to_owned())),
        (
            "x-max-age",
            Argument::Text(config.outcome_log_max_age.as_str().to_owned()),
        ),
        ("x-max-length-bytes", Argument::Number(bytes_max)),
    ])
}

fn audit_log() -> BTreeMap<&'static str, Argument> {
    BTreeMap::from([
        ("x-queue-type", Argument::Text("stream".to_owned())),
        ("x-max-age", Argument::Text(AUDIT_AGE_MAX.to_owned())),
        ("x-max-length-bytes", Argument::Number(AUDIT_BYTES_MAX)),
        (
            "x-stream-max-segment-size-bytes",
            Argument::Number(AUDIT_SEGMENT_BYTES),
        ),
    ])
}

fn orders() -> BTreeMap<&'static str, Argument> {
    BTreeMap::from([
        ("x-queue-type", Argument::Text("stream".to_owned())),
        ("x-max-length-bytes", Argument::Number(ORDERS_BYTES_MAX)),
        (
            "x-stream-max-segment-size-bytes",
            Argument::Number(ORDERS_SEGMENT_BYTES),
        ),
    ])
}

/// The arguments of a queue of commands or of a lease, which one consumer at a time consumes. The same for every
/// version of the broker: an older one ignores unknown arguments.
fn taken_by_one(config: &Config) -> BTreeMap<&'static str, Argument> {
    let consumer_timeout_ms = i64::try_from(config.consumer_timeout.as_millis()).unwrap_or(i64::MAX);
    BTreeMap::from([
        ("x-queue-type", Argument::Text("quorum".to_owned())),
        ("x-single-active-consumer", Argument::Flag(true)),
        ("x-delivery-limit", Argument::Number(DELIVERIES_MAX)),
        (
            "x-dead-letter-exchange",
            Argument::Text(BROKER_DEAD_LETTERS.to_owned()),
        ),
        (
            "x-dead-letter-strategy",
            Argument::Text("at-least-once".to_owned()),
        ),
        // Without it, the broker falls back to at-most-once dead-lettering and only logs that.
        ("x-overflow", Argument::Text("reject-publish".to_owned())),
        ("x-consumer-timeout", Argument::Number(consumer_timeout_ms)),
        (
            "x-consumer-disconnected-timeout",
            Argument::Number(CONSUMER_DISCONNECTED_TIMEOUT_MS),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitioned(partitions: u16) -> Topology {
        let partitions = partitions.try_into().unwrap();
        Topology::new(
            "sivo",
            &Config {
                partitions,
                ..Config::default()
            },
        )
    }

    #[test]
    fn one_partition_needs_no_hashing() {
        let topology = partitioned(1);
        assert!(
            topology
                .exchanges
                .iter()
                .all(|exchange| exchange.kind != ExchangeKind::ModulusHash)
        );
        assert_eq!(
            topology.command_queues().collect::<Vec<_>>(),
            [("user.update.bulk.sivo.0", true), ("user.update.sivo.0", false)]
        );
        assert!(topology.bindings.contains(&Binding {
            source: COMMANDS_BULK.to_owned(),
            destination: Destination::Queue("user.update.bulk.sivo.0".to_owned()),
            pattern: "sivo.#".to_owned(),
        }));
    }

    #[test]
    fn a_hashing_exchange_has_its_queues_before_anything_is_routed_to_it() {
        let topology = partitioned(3);
        assert_eq!(topology.command_queues().count(), 6);
        let hashing = "user.commands.sivo";
        let fed = |binding: &Binding| binding.destination == Destination::Exchange(hashing.to_owned());
        let fed = topology.bindings.iter().position(fed).unwrap();
        let last = topology
            .bindings
            .iter()
            .rposition(|binding| binding.source == hashing)
            .unwrap();
        assert!(last < fed);
    }

    #[test]
    fn the_first_partition_is_declared_last() {
        assert_eq!(partitioned(3).queues.last().unwrap().name, "user.update.sivo.0");
    }

    #[test]
    fn each_partition_has_a_lease_which_no_worker_takes_for_commands() {
        let topology = partitioned(3);
        for partition in 0..3 {
            let lease = topology.lease_queue(partition);
            let queue = topology.queues.iter().find(|queue| queue.name == lease).unwrap();
            assert_eq!(queue.arguments, topology.queues.last().unwrap().arguments);
            for (name, bulk) in topology.partition_queues(partition) {
                assert!(
                    topology
                        .command_queues()
                        .any(|found| found == (name.as_str(), bulk))
                );
            }
        }
        assert_eq!(topology.lease_queue(0), "usher.lease.sivo.0");
        assert!(
            !topology
                .command_queues()
                .any(|(name, _)| name.starts_with("usher."))
        );
        let fleet = topology.fleet_exchange();
        assert!(topology.exchanges.iter().any(|exchange| exchange.name == fleet));
    }

    #[test]
    fn a_message_without_a_queue_goes_to_unroutable() {
        for exchange in partitioned(2).exchanges {
            let topic = exchange.kind == ExchangeKind::Topic;
            assert_eq!(exchange.alternate.is_some(), topic, "{}", exchange.name);
        }
    }
}
