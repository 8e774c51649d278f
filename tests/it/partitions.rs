//! Another number of partitions: taken while nothing is queued, refused otherwise, and nothing lost.

use lapin::options::{
    BasicConsumeOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use usher::broker::amqp::{self, ConnectError, Repartitioned, TopologyError, WhenUnreachable};
use usher::broker::topology::{COMMANDS, COMMANDS_BULK, UNROUTABLE};
use usher::broker::{Config, Topology};

use crate::node::Node;
use crate::process::Settings;
use crate::support::{PROVIDER, eventually, message};

const USERS: usize = 40;

struct Place {
    config: Config,
    channel: Channel,
    _connection: Connection,
}

impl Place {
    async fn new(name: &str) -> Self {
        let url = Node::shared().await.vhost(name).await;
        let connection = Connection::connect(&url, ConnectionProperties::default())
            .await
            .unwrap();
        let config = Config {
            url: url.parse().unwrap(),
            ..Config::default()
        };
        Self {
            config,
            channel: connection.create_channel().await.unwrap(),
            _connection: connection,
        }
    }

    fn with(&self, partitions: u16) -> Config {
        Config {
            partitions: partitions.try_into().unwrap(),
            ..self.config.clone()
        }
    }

    async fn to(&self, partitions: u16) -> Result<Option<Repartitioned>, ConnectError> {
        amqp::repartition(&self.with(partitions), PROVIDER).await
    }

    async fn look(&self, queue: &str) -> lapin::Queue {
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        self.channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .unwrap()
    }

    /// A command of each user to both exchanges, each confirmed.
    async fn publish(&self) {
        let publisher = amqp::publisher(&self.config, WhenUnreachable::Fail)
            .await
            .unwrap();
        for user in 0..USERS {
            for exchange in [COMMANDS, COMMANDS_BULK] {
                let command = message(exchange, &format!("{PROVIDER}.{user}"), user);
                publisher.publish(&command).await.unwrap();
            }
        }
        publisher.close().await;
    }

    /// How many commands each queue of so many partitions holds; they are taken out.
    async fn drain(&self, partitions: u16) -> Vec<u32> {
        let topology = Topology::new(PROVIDER, &self.with(partitions));
        let mut counts = Vec::new();
        for (queue, _) in topology.command_queues() {
            counts.push(self.purge(queue).await);
        }
        counts
    }

    async fn purge(&self, queue: &str) -> u32 {
        let purged = self
            .channel
            .queue_purge(queue.into(), QueuePurgeOptions::default());
        purged.await.unwrap()
    }

    /// Each command gets to one queue, and each queue gets some.
    async fn assert_publishes_to(&self, partitions: u16) {
        self.publish().await;
        let counts = self.drain(partitions).await;
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        assert_eq!(counts.iter().sum::<u32>() as usize, USERS * 2, "{counts:?}");
        assert_eq!(self.look(UNROUTABLE).await.message_count(), 0);
    }

    async fn unbind(&self, exchange: &str, queue: &str, pattern: &str) {
        let unbound = self.channel.queue_unbind(
            queue.into(),
            exchange.into(),
            pattern.into(),
            FieldTable::default(),
        );
        unbound.await.unwrap();
    }

    async fn delete(&self, queue: &str) {
        let deleted = self
            .channel
            .queue_delete(queue.into(), QueueDeleteOptions::default());
        deleted.await.unwrap();
    }

    async fn is_declared_for(&self, partitions: u16) -> bool {
        let plan = amqp::plan(&self.with(partitions), PROVIDER).await.unwrap();
        plan.is_settled()
    }
}

/// Why the number stays what it is.
fn why(refused: ConnectError) -> String {
    let ConnectError::Topology(TopologyError::PartitionsInUse { why, .. }) = refused else {
        panic!("{refused}")
    };
    why
}

#[tokio::test]
async fn an_empty_topology_takes_another_number_of_partitions_and_goes_back() {
    let place = Place::new("repartition").await;
    assert_eq!(place.to(1).await.unwrap(), None);
    let mut from = 1;
    for to in [4, 2, 3, 1] {
        let unroutable = 0;
        assert_eq!(
            place.to(to).await.unwrap(),
            Some(Repartitioned { from, to, unroutable })
        );
        from = to;
        assert!(place.is_declared_for(to).await);
        // Nothing is left that would be taken for another number, or would get a command twice.
        assert_eq!(place.to(to).await.unwrap(), None);
        place.assert_publishes_to(to).await;
    }
}

#[tokio::test]
async fn queued_or_consumed_commands_keep_the_number_of_partitions() {
    let place = Place::new("repartition-refused").await;
    place.to(3).await.unwrap();
    let topology = Topology::new(PROVIDER, &place.with(3));
    place.publish().await;
    let refused = place.to(1).await.unwrap_err();
    let said = refused.to_string();
    for word in ["stays 3", "commands", "run `usher topology declare`"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(place.is_declared_for(3).await);
    let counts = place.drain(3).await;
    assert_eq!(counts.iter().sum::<u32>() as usize, USERS * 2);

    for queue in [topology.partition_queue(2), topology.lease_queue(1)] {
        let other = place._connection.create_channel().await.unwrap();
        let consumer = other.basic_consume(
            queue.as_str().into(),
            "a worker".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = consumer.await.unwrap();
        let why = why(place.to(1).await.unwrap_err());
        assert_eq!(why, format!("queue {queue} has a consumer"));
        other.close(200, "OK".into()).await.unwrap();
        drop(consumer);
    }
    place.publish().await;
    assert_eq!(place.drain(3).await, counts);
    assert_eq!(place.look(UNROUTABLE).await.message_count(), 0);
}

#[tokio::test]
async fn a_foreign_binding_keeps_the_number_of_partitions() {
    let place = Place::new("repartition-tapped").await;
    place.to(3).await.unwrap();
    let exchange = Topology::new(PROVIDER, &place.with(3)).hashing_exchange();
    let options = QueueDeclareOptions::default();
    let tap = place
        .channel
        .queue_declare("tap".into(), options, FieldTable::default());
    tap.await.unwrap();
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let bound = place.channel.queue_bind(
        "tap".into(),
        exchange.as_str().into(),
        "".into(),
        options,
        arguments,
    );
    bound.await.unwrap();
    let why = why(place.to(1).await.unwrap_err());
    let expected = format!("exchange {exchange} has bindings of another client");
    assert!(why.starts_with(&expected), "{why}");
    assert!(place.is_declared_for(3).await);
    place.publish().await;
    // Which shows, too, what a tap does.
    let (queued, tapped) = (place.drain(3).await, place.purge("tap").await);
    assert_eq!((queued.iter().sum::<u32>() + tapped) as usize, USERS * 2);
    assert!(tapped > 0);
}

#[tokio::test]
async fn a_command_that_comes_during_the_change_is_kept_and_ends_it() {
    let place = Place::new("repartition-late").await;
    place.to(1).await.unwrap();
    let queue = Topology::new(PROVIDER, &place.config).partition_queue(0);
    let config = place.with(4);
    let changing = tokio::spawn(async move { amqp::repartition(&config, PROVIDER).await });
    eventually("the change begins", async || {
        (place.look(&queue).await.consumer_count() == 1).then_some(())
    })
    .await;
    // As one that was routed before the bindings were gone.
    let publisher = amqp::publisher(&place.config, WhenUnreachable::Fail)
        .await
        .unwrap();
    publisher.publish(&message("", &queue, "late")).await.unwrap();
    let refused = changing.await.unwrap().unwrap_err();
    assert_eq!(why(refused), format!("queue {queue} is not empty"));
    assert!(place.is_declared_for(1).await);
    assert_eq!(place.to(1).await.unwrap(), None);
    place.publish().await;
    let (users, count) = (USERS as u32, place.drain(1).await);
    assert_eq!(count, [users, users + 1]);
}

#[tokio::test]
async fn a_command_published_during_the_change_is_in_a_queue_afterwards() {
    let place = Place::new("repartition-meanwhile").await;
    place.to(4).await.unwrap();
    let queue = Topology::new(PROVIDER, &place.config).partition_queue(3);
    let config = place.with(2);
    let changing = tokio::spawn(async move { amqp::repartition(&config, PROVIDER).await });
    eventually("the change begins", async || {
        (place.look(&queue).await.consumer_count() == 1).then_some(())
    })
    .await;
    place.publish().await;
    let partitions = match changing.await.unwrap() {
        Ok(changed) => changed.unwrap().to,
        Err(refused) => {
            assert!(why(refused).ends_with("is not empty"));
            4
        }
    };
    assert!(place.is_declared_for(partitions).await);
    let queued: u32 = place.drain(partitions).await.iter().sum();
    assert_eq!((queued + place.purge(UNROUTABLE).await) as usize, USERS * 2);
}

#[tokio::test]
async fn an_interrupted_change_is_finished_by_the_next() {
    let place = Place::new("repartition-interrupted").await;
    place.to(1).await.unwrap();
    // Nothing feeds the old queue any more.
    place.unbind(COMMANDS, "user.update.sivo.0", "sivo.#").await;
    place.to(4).await.unwrap();
    place.assert_publishes_to(4).await;
    // Some queues of a partition are gone already.
    for queue in ["usher.lease.sivo.3", "user.update.bulk.sivo.3"] {
        place.delete(queue).await;
    }
    place.to(2).await.unwrap();
    place.assert_publishes_to(2).await;
    // The exchanges are gone, which tell that there are several.
    for exchange in ["user.commands.sivo", "user.commands.bulk.sivo"] {
        let deleted = place
            .channel
            .exchange_delete(exchange.into(), ExchangeDeleteOptions::default());
        deleted.await.unwrap();
    }
    place.to(1).await.unwrap();
    place.assert_publishes_to(1).await;
    // Some of the new queues are there already.
    place.to(3).await.unwrap();
    place.assert_publishes_to(3).await;
    place.delete("user.update.sivo.1").await;
    place.to(3).await.unwrap();
    place.assert_publishes_to(3).await;
}

#[tokio::test]
async fn the_worker_refuses_another_number_and_says_what_to_run() {
    let place = Place::new("repartition-cli").await;
    let settings = |partitions: u16| {
        Settings::default()
            .with("BROKER__URL", &place.config.url.nth(0).reveal())
            .with("BROKER__PARTITIONS", &partitions)
            .with("PROVIDER__NAME", &PROVIDER)
            .with("PROVIDER__KIND", &"sivo")
            .with("PROVIDER__BASE_URL", &"http://127.0.0.1:9")
            .with("PROVIDER__AUTH__TOKEN", &"t")
            .with("ADMIN__LISTEN", &"127.0.0.1:0")
    };
    let run = async |partitions: u16, arguments: &[&str]| {
        let output = settings(partitions).run(arguments, b"").await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let declare = ["topology", "declare"];
    assert_eq!(run(1, &declare).await.0, Some(0));

    let (code, _, said) = run(2, &["run"]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("run `usher topology declare`"), "{said}");
    let (code, printed, _) = run(2, &["topology", "plan"]).await;
    assert_eq!(code, Some(1));
    assert!(
        printed.contains("broker.partitions is 1, wanted is 2; `usher topology declare`"),
        "{printed}"
    );

    place.publish().await;
    let (code, _, said) = run(2, &declare).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("stays 1"), "{said}");
    place.drain(1).await;
    let (code, printed, said) = run(2, &declare).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("had 1 partition and has 2"), "{said}");
    assert!(printed.contains("user.update.sivo.1"), "{printed}");
}
