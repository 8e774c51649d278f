//! A broker under test: what a promise needs to be tried on either of them.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::timeout;
use usher::broker::amqp::{self, WhenUnreachable};
use usher::broker::memory::MemoryBroker;
use usher::broker::topology::OUTCOME_LOG;
use usher::broker::{Config, Inspector, Limits, Listener, Message, Properties, Publisher, Topology};
use usher::clock::Clock;

use crate::greedy_consumer::GreedyConsumer;
use crate::node::Node;
use crate::proxy::Proxy;
use crate::support::PROVIDER;

#[async_trait]
pub trait Bench: Send + Sync {
    async fn consumer(&self, prefetch: u16) -> GreedyConsumer {
        self.consumer_within(prefetch, Limits::NONE).await
    }
    async fn consumer_within(&self, prefetch: u16, limits: Limits) -> GreedyConsumer;
    async fn publisher(&self) -> Arc<dyn Publisher>;
    async fn listener(&self) -> Box<dyn Listener>;
    async fn inspector(&self) -> Arc<dyn Inspector>;
    /// Makes a queue that the default exchange leads to.
    async fn make_queue(&self, name: &str);
    /// Removes the first message.
    async fn take(&self, queue: &str) -> Option<Message>;
    /// The first so many of all outcomes.
    async fn outcome_log(&self, count: usize) -> Vec<Message>;
    /// What the broker's clock says.
    fn clock(&self) -> Clock;
    /// Every connection is lost, and can be made again.
    async fn drop_connections(&self);
}

/// Makes each of the facts named a test of both brokers.
macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(&crate::bench::MemoryBench::new()).await;
            })*
        }
        mod amqp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&crate::bench::AmqpBench::new(stringify!($name)).await).await;
            })*
        }
    };
}
pub(crate) use promises;

pub struct MemoryBench(MemoryBroker, Clock);

impl MemoryBench {
    pub fn new() -> Self {
        let clock = Clock::anchored(Clock::System.now());
        let topology = Topology::new(PROVIDER, &Config::default());
        Self(MemoryBroker::at(&topology, clock), clock)
    }
}

#[async_trait]
impl Bench for MemoryBench {
    async fn consumer_within(&self, prefetch: u16, limits: Limits) -> GreedyConsumer {
        GreedyConsumer::new(self.0.consumer_within(prefetch, limits), 1)
    }

    async fn publisher(&self) -> Arc<dyn Publisher> {
        self.0.publisher()
    }

    async fn listener(&self) -> Box<dyn Listener> {
        self.0.listener()
    }

    async fn inspector(&self) -> Arc<dyn Inspector> {
        self.0.inspector()
    }

    async fn make_queue(&self, name: &str) {
        self.0.add_queue(name);
    }

    async fn take(&self, queue: &str) -> Option<Message> {
        self.0.take(queue)
    }

    async fn outcome_log(&self, count: usize) -> Vec<Message> {
        self.0.messages(OUTCOME_LOG).into_iter().take(count).collect()
    }

    fn clock(&self) -> Clock {
        self.1
    }

    async fn drop_connections(&self) {
        self.0.drop_connection();
    }
}

pub struct AmqpBench {
    config: Config,
    proxy: Proxy,
    /// The test's own way in, not through the proxy.
    channel: Channel,
    _connection: Connection,
}

impl AmqpBench {
    pub async fn new(name: &str) -> Self {
        let node = Node::shared().await;
        let url = node.vhost(name).await;
        let proxy = Proxy::to(node.address.clone()).await;
        let through = url.replace(&node.address, &format!("127.0.0.1:{}", proxy.port));
        let connection = Connection::connect(&url, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        let config = Config {
            url: through.parse().unwrap(),
            confirm_timeout: Duration::from_secs(20),
            ..Config::default()
        };
        amqp::declare(&config, PROVIDER).await.unwrap();
        Self {
            config,
            proxy,
            channel,
            _connection: connection,
        }
    }
}

#[async_trait]
impl Bench for AmqpBench {
    async fn consumer_within(&self, prefetch: u16, limits: Limits) -> GreedyConsumer {
        let config = Config {
            prefetch: NonZeroU16::new(prefetch),
            ..self.config.clone()
        };
        let publisher = self.publisher().await;
        let consumer = amqp::consumer(&config, PROVIDER, publisher, limits, WhenUnreachable::Fail).await;
        GreedyConsumer::new(consumer.unwrap(), 1)
    }

    async fn publisher(&self) -> Arc<dyn Publisher> {
        amqp::publisher(&self.config, WhenUnreachable::Fail)
            .await
            .unwrap()
    }

    async fn listener(&self) -> Box<dyn Listener> {
        amqp::listener(&self.config, PROVIDER, WhenUnreachable::Fail)
            .await
            .unwrap()
    }

    async fn inspector(&self) -> Arc<dyn Inspector> {
        amqp::inspector(&self.config).await.unwrap()
    }

    async fn make_queue(&self, name: &str) {
        let options = QueueDeclareOptions::default();
        self.channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await
            .unwrap();
    }

    async fn take(&self, queue: &str) -> Option<Message> {
        let options = BasicGetOptions { no_ack: true };
        let taken = self.channel.basic_get(queue.into(), options).await.unwrap()?;
        Some(message(taken.delivery))
    }

    async fn outcome_log(&self, count: usize) -> Vec<Message> {
        self.channel
            .basic_qos(100, BasicQosOptions::default())
            .await
            .unwrap();
        let mut from = FieldTable::default();
        from.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
        let options = BasicConsumeOptions::default();
        let log = self
            .channel
            .basic_consume(OUTCOME_LOG.into(), "log".into(), options, from)
            .await;
        let mut log = log.unwrap();
        let mut messages = Vec::new();
        while messages.len() < count {
            let next = timeout(Duration::from_secs(20), log.next()).await;
            let delivery = next.expect("an outcome in the log").unwrap().unwrap();
            delivery.ack(BasicAckOptions::default()).await.unwrap();
            messages.push(message(delivery));
        }
        messages
    }

    fn clock(&self) -> Clock {
        Clock::System
    }

    async fn drop_connections(&self) {
        self.proxy.sever();
    }
}

fn message(delivery: Delivery) -> Message {
    Message {
        exchange: delivery.exchange.to_string(),
        routing_key: delivery.routing_key.to_string(),
        properties: Properties::from_amqp(delivery.properties),
        body: Bytes::from(delivery.data),
        mandatory: false,
    }
}
