//! Changes the number of partitions: replaces a provider's command queues while all are empty.
//!
//! RabbitMQ can't delete a quorum queue only "if empty" or "if unused", and one that lost its majority looks
//! empty and is deleted. So the old queues are consumed first: that proves that they work, and any command
//! that is still in them, or arrives late, is delivered here, goes back, and aborts the change.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::select_all;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use tokio::time::timeout;

use super::connection;
use super::declare::Declaring;
use super::error::{ConnectError, TopologyError, refused_connection, refused_object};
use crate::broker::Config;
use crate::broker::topology::{Binding, COMMANDS, COMMANDS_BULK, Topology, UNROUTABLE};

/// How long a message that was routed before the bindings were removed may take to reach its queue.
const ON_ITS_WAY_MAX: Duration = Duration::from_secs(1);

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repartitioned {
    pub from: u16,
    pub to: u16,
    /// How many messages `user.unroutable` gained: commands that were published meanwhile.
    pub unroutable: u32,
}

/// Declares missing objects. If the broker has another number of partitions, their queues are replaced by the
/// configured ones, provided they are empty and have no consumers; otherwise nothing is changed,
/// and it is an error. Messages published during the change go to `user.unroutable`.
pub async fn repartition(config: &Config, provider: &str) -> Result<Option<Repartitioned>, ConnectError> {
    let new = Topology::new(provider, config);
    let config = config.clone();
    connection::on_runtime(async move {
        let connection = connection::open_any(&config, "topology").await?;
        let done = declare_or_exchange(&connection, &new, &config).await;
        connection::close(&connection, config.close_timeout).await;
        done
    })
    .await
}

async fn declare_or_exchange(
    connection: &Connection,
    new: &Topology,
    config: &Config,
) -> Result<Option<Repartitioned>, ConnectError> {
    let mut declaring = Declaring::new(connection);
    let partitions = declaring.partitions(new).await?;
    let Some(from) = partitions.filter(|is| *is != new.partitions) else {
        declaring.declare(new).await?;
        return Ok(None);
    };
    let old = Topology::new(
        &new.provider,
        &Config {
            partitions: from.try_into().unwrap_or(config.partitions),
            ..config.clone()
        },
    );
    let before = declaring.unroutable().await?;
    let exchanging = Exchanging {
        declaring,
        old: &old,
        new,
    };
    let mut declaring = exchanging.run(connection).await?;
    Ok(Some(Repartitioned {
        from,
        to: new.partitions,
        unroutable: declaring.unroutable().await?.saturating_sub(before),
    }))
}

struct Exchanging<'c, 't> {
    declaring: Declaring<'c>,
    old: &'t Topology,
    new: &'t Topology,
}

impl<'c> Exchanging<'c, '_> {
    async fn run(mut self, connection: &Connection) -> Result<Declaring<'c>, ConnectError> {
        let queues = self.idle_queues(0).await?;
        // Any other difference is reported before anything is changed.
        self.declaring.compare(self.new).await?;
        let mut hold = Hold::take(connection, queues).await?;
        let removed = self.remove_old(&mut hold).await;
        hold.release().await;
        if let Err(error) = removed {
            return match self.put_back().await {
                Ok(()) => Err(error),
                Err(_) => Err(half_done(error)),
            };
        }
        self.declaring.declare_all(self.new).await.map_err(half_done)?;
        Ok(self.declaring)
    }

    async fn remove_old(&mut self, hold: &mut Hold) -> Result<(), ConnectError> {
        let (old, new) = (self.old, self.new);
        // First the bindings that feed the queues.
        let fed = |binding: &&Binding| [COMMANDS, COMMANDS_BULK].contains(&binding.source.as_str());
        let others = |binding: &&Binding| !fed(binding) && !new.bindings.contains(binding);
        let bindings = old.bindings.iter();
        for binding in bindings.clone().filter(fed).chain(bindings.filter(others)) {
            self.declaring.unbind(binding).await?;
        }
        if let Some(queue) = hold.delivered_within(ON_ITS_WAY_MAX).await {
            return Err(self.in_use(format!("queue {queue} is not empty")));
        }
        self.idle_queues(1).await?;
        for exchange in &old.exchanges {
            if !new.exchanges.contains(exchange) {
                let deleted = self.declaring.delete_exchange(&exchange.name).await;
                deleted.map_err(|error| self.bound_elsewhere(&exchange.name, error))?;
            }
        }
        // The first interactive queue is deleted last, so that the partitions are always counted right.
        for queue in &old.queues {
            if !new.queues.contains(queue) {
                self.declaring.delete_queue(&queue.name).await?;
            }
        }
        Ok(())
    }

    /// The existing command queues: an earlier change may have been interrupted. It is an error if
    /// one is not empty, or has more consumers than `own`.
    async fn idle_queues(&mut self, own: u32) -> Result<Vec<String>, ConnectError> {
        let mut queues = Vec::new();
        for (name, _) in self.old.command_queues() {
            match self.declaring.depth(name).await? {
                None => {}
                Some((0, consumers)) if consumers <= own => queues.push(name.to_owned()),
                Some((0, _)) => return Err(self.in_use(format!("queue {name} has a consumer"))),
                Some((count, _)) => {
                    return Err(self.in_use(format!("queue {name} holds {count} commands")));
                }
            }
        }
        for partition in 0..self.old.partitions {
            let name = self.old.lease_queue(partition);
            if let Some((_, 1..)) = self.declaring.depth(&name).await? {
                return Err(self.in_use(format!("queue {name} has a consumer")));
            }
        }
        Ok(queues)
    }

    async fn put_back(&mut self) -> Result<(), ConnectError> {
        self.declaring.declare_all(self.old).await?;
        for exchange in &self.new.exchanges {
            if !self.old.exchanges.contains(exchange) {
                self.declaring.delete_exchange(&exchange.name).await?;
            }
        }
        Ok(())
    }

    fn bound_elsewhere(&self, exchange: &str, error: ConnectError) -> ConnectError {
        match error {
            ConnectError::Topology(TopologyError::Refused { .. }) => self.in_use(format!(
                "exchange {exchange} has bindings of another client, which `rabbitmqctl list_bindings` shows"
            )),
            error => error,
        }
    }

    fn in_use(&self, why: String) -> ConnectError {
        let (is, wanted) = (self.old.partitions, self.new.partitions);
        let provider = self.new.provider.clone();
        TopologyError::PartitionsInUse {
            provider,
            is,
            wanted,
            why,
        }
        .into()
    }
}

/// The old command queues, each with a consumer of this process.
struct Hold {
    channel: Channel,
    consumers: Vec<(String, Consumer)>,
}

impl Hold {
    async fn take(connection: &Connection, queues: Vec<String>) -> Result<Self, ConnectError> {
        let channel = connection.create_channel().await;
        let mut hold = Self {
            channel: channel.map_err(|error| refused_connection(&error))?,
            consumers: Vec::new(),
        };
        match hold.consume(queues).await {
            Ok(()) => Ok(hold),
            Err(error) => {
                hold.release().await;
                Err(error)
            }
        }
    }

    async fn consume(&mut self, queues: Vec<String>) -> Result<(), ConnectError> {
        // One delivery is enough to know that a queue is not empty.
        let one = self.channel.basic_qos(1, BasicQosOptions::default()).await;
        one.map_err(|error| refused_connection(&error))?;
        for name in queues {
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = self
                .channel
                .basic_consume(name.as_str().into(), name.as_str().into(), options, arguments)
                .await
                .map_err(|error| refused_object(&format!("queue {name}"), None, &error))?;
            self.consumers.push((name, consumer));
        }
        Ok(())
    }

    /// The name of a queue that delivered a message, or that can't be consumed any more.
    async fn delivered_within(&mut self, wait: Duration) -> Option<String> {
        let named = self.consumers.iter_mut();
        let mut deliveries = select_all(named.map(|(name, consumer)| consumer.map(|_| name.clone()).boxed()));
        timeout(wait, deliveries.next()).await.ok().flatten()
    }

    /// Closes the channel first: dropping a consumer before that would let later commands overtake its deliveries.
    async fn release(self) {
        let _ = self.channel.close(200, "OK".into()).await;
    }
}

impl Declaring<'_> {
    async fn unroutable(&mut self) -> Result<u32, ConnectError> {
        Ok(self.depth(UNROUTABLE).await?.map_or(0, |(count, _)| count))
    }

    async fn delete_exchange(&mut self, name: &str) -> Result<(), ConnectError> {
        // Refused if another client has bound something to it.
        let options = ExchangeDeleteOptions {
            if_unused: true,
            ..Default::default()
        };
        let deleted = self.channel().await?.exchange_delete(name.into(), options).await;
        deleted.map_err(|error| refused_object(&format!("exchange {name}"), None, &error))
    }

    async fn delete_queue(&mut self, name: &str) -> Result<(), ConnectError> {
        let options = QueueDeleteOptions::default();
        let deleted = self.channel().await?.queue_delete(name.into(), options).await;
        deleted
            .map(drop)
            .map_err(|error| refused_object(&format!("queue {name}"), None, &error))
    }
}

/// The error of a change that could neither be completed nor undone.
fn half_done(error: ConnectError) -> ConnectError {
    const REMEDY: &str = "the number of partitions is half changed: run `usher topology declare` again, and until \
                        it succeeds commands go to user.unroutable";
    match error {
        ConnectError::Topology(error) => TopologyError::Refused {
            object: "the other number of partitions".to_owned(),
            reason: format!("{error}; {REMEDY}"),
        }
        .into(),
        error => error.map_reason(|reason| format!("{reason}; {REMEDY}")),
    }
}
