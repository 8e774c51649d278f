//! Checks that what a publisher's commands need is on the broker. It changes nothing, and needs no permission.

use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;

use super::connection;
use super::declare::Declaring;
use super::error::{ConnectError, is_not_found, refused_object};
use crate::broker::topology::{COMMANDS, COMMANDS_BULK, Topology, UNROUTABLE};
use crate::broker::{Config, Partition};

/// What was found. Bindings are not included: the protocol can't query them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What commands need and the broker lacks, such as `queue user.update.sivo.0`.
    pub missing: Vec<String>,
    /// Messages in `user.unroutable`.
    pub unroutable: u64,
}

/// Checks what the commands of these providers need: the exchange that they are published to, the queues that
/// they are routed to, and the queue for unroutable messages.
pub async fn look(config: &Config, providers: &[String], bulk: bool) -> Result<Looked, ConnectError> {
    let config = config.clone();
    let topologies: Vec<_> = providers
        .iter()
        .map(|provider| Topology::new(provider, &config))
        .collect();
    connection::on_runtime(async move {
        let connection = connection::open_any(&config, "look").await?;
        let mut looking = Looking {
            declaring: Declaring::new(&connection),
            missing: Vec::new(),
        };
        let looked = looking.run(&topologies, bulk).await;
        connection::close(&connection, config.close_timeout).await;
        let unroutable = looked?;
        let missing = looking.missing;
        Ok(Looked { missing, unroutable })
    })
    .await
}

struct Looking<'c> {
    declaring: Declaring<'c>,
    missing: Vec<String>,
}

impl Looking<'_> {
    /// Returns how many messages are unroutable.
    async fn run(&mut self, topologies: &[Topology], bulk: bool) -> Result<u64, ConnectError> {
        let exchange = if bulk { COMMANDS_BULK } else { COMMANDS };
        self.exchange(exchange).await?;
        for topology in topologies {
            self.provider(topology, exchange, bulk).await?;
        }
        let unroutable = self.declaring.depth(UNROUTABLE).await?;
        if unroutable.is_none() {
            self.missing.push(format!("queue {UNROUTABLE}"));
        }
        Ok(unroutable.map_or(0, |(messages, _)| messages.into()))
    }

    async fn provider(
        &mut self,
        topology: &Topology,
        exchange: &str,
        bulk: bool,
    ) -> Result<(), ConnectError> {
        for partition in 0..topology.partitions {
            let queue = queue_of(topology, partition, bulk);
            if self.declaring.depth(&queue).await?.is_none() {
                self.missing.push(format!("queue {queue}"));
            }
        }
        // A publisher need not know the number of partitions.
        let second = queue_of(topology, 1, bulk);
        if topology.partitions > 1 || self.declaring.depth(&second).await?.is_some() {
            self.exchange(&format!("{exchange}.{}", topology.provider))
                .await?;
        }
        Ok(())
    }

    async fn exchange(&mut self, name: &str) -> Result<(), ConnectError> {
        let options = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let object = format!("exchange {name}");
        // A passive declaration does not compare the type.
        let kind = lapin::ExchangeKind::Topic;
        let channel = self.declaring.channel().await?;
        match channel
            .exchange_declare(name.into(), kind, options, FieldTable::default())
            .await
        {
            Ok(()) => {}
            Err(error) if is_not_found(&error) => self.missing.push(object),
            Err(error) => return Err(refused_object(&object, None, &error)),
        }
        Ok(())
    }
}

fn queue_of(topology: &Topology, partition: Partition, bulk: bool) -> String {
    let [(interactive, _), (of_bulk, _)] = topology.partition_queues(partition);
    if bulk { of_bulk } else { interactive }
}
