//! Deliveries from RabbitMQ, one epoch per connection: whatever belonged to an older one is stale.
//!
//! Order depends on how an epoch ends. A basic.cancel with deliveries unsettled lets the next consumer
//! have later messages first, and lapin sends one when a `Consumer` is dropped: so the channels or the
//! connection are closed first, always, and nothing here is dropped before that.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{join_all, ready};
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::WhenUnreachable;
use super::connection;
use super::declare::Declaring;
use super::error::{ConnectError, refused_connection};
use super::first::First;
use super::supervisor::{Supervisor, Use};
use crate::broker::{Acker, Config, Consumer, Delivery, Link, Message, Properties, Topology};

/// How long a busy broker may keep acks in hand.
const ACKS_IN_HAND: Duration = Duration::from_millis(250);

pub(super) struct AmqpConsumer {
    inbox: Arc<Inbox>,
    link: watch::Receiver<Link>,
    config: Config,
    stop: DropGuard,
    supervisor: JoinHandle<()>,
}

impl AmqpConsumer {
    pub(super) async fn connect(
        config: &Config,
        provider: &str,
        when_unreachable: WhenUnreachable,
    ) -> Result<Self, ConnectError> {
        let (first, connected) = oneshot::channel();
        let stop = CancellationToken::new();
        let inbox = Arc::new(Inbox::default());
        let purpose = Consuming {
            topology: Topology::new(provider, config),
            inbox: inbox.clone(),
        };
        let supervisor = Supervisor::new("consumer", config, stop.clone());
        let link = supervisor.link.subscribe();
        let first = First::new(first, when_unreachable);
        let consumer = Self {
            inbox,
            link,
            config: config.clone(),
            stop: stop.drop_guard(),
            supervisor: connection::runtime()?.spawn(supervisor.run(first, purpose)),
        };
        connected
            .await
            .map_err(|error| ConnectError::unreachable(&error))??;
        Ok(consumer)
    }
}

#[async_trait]
impl Consumer for AmqpConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            match self.inbox.pop() {
                Some(delivery) if delivery.usable() => return Some(delivery),
                Some(stale) => drop(stale),
                None => self.inbox.arrived.notified().await,
            }
        }
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    async fn close(self: Box<Self>) {
        drop(self.stop);
        // The channels, then the connection, each with its own ceiling.
        let _ = timeout(self.config.close_timeout * 3, self.supervisor).await;
    }
}

/// Between lapin's thread and the worker. Prefetch bounds it, because an epoch's end empties it.
#[derive(Default)]
struct Inbox {
    deliveries: Mutex<VecDeque<Delivery>>,
    arrived: Notify,
}

impl Inbox {
    fn deliveries(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, delivery: Delivery) {
        self.deliveries().push_back(delivery);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Option<Delivery> {
        self.deliveries().pop_front()
    }

    fn clear(&self) {
        self.deliveries().clear();
    }
}

/// The supervisor's use of a connection: consuming.
struct Consuming {
    topology: Topology,
    inbox: Arc<Inbox>,
}

impl Use for Consuming {
    async fn attend(
        &self,
        connection: Connection,
        supervisor: &Supervisor,
        first: &mut First,
    ) -> Result<String, ConnectError> {
        let config = &supervisor.config;
        let mut epoch = Epoch::new(connection);
        // What is cut off here is ended below: it holds lapin's consumers.
        let began = tokio::select! {
            () = supervisor.stop.cancelled() => None,
            began = timeout(config.confirm_timeout, epoch.begin(config, &self.topology)) => Some(began),
        };
        let ended = match began {
            None => Ok("closed".to_owned()),
            Some(Err(_)) => Err(ConnectError::unreachable(
                &"it didn't declare the topology in time",
            )),
            Some(Ok(Err(error))) => Err(error),
            Some(Ok(Ok(()))) => {
                supervisor.up(first);
                tokio::select! {
                    () = supervisor.stop.cancelled() => Ok("closed".to_owned()),
                    reason = epoch.forward(&self.inbox) => Ok(reason),
                }
            }
        };
        if supervisor.stop.is_cancelled() {
            let_acks_arrive(&epoch.channels.clone(), config).await;
        }
        epoch.end(config).await;
        self.inbox.clear();
        ended
    }
}

type Tagged = (usize, Option<lapin::Result<lapin::message::Delivery>>);

struct Epoch {
    alive: Arc<AtomicBool>,
    connection: Connection,
    channels: Vec<Channel>,
    /// Each queue's name, and whether it holds bulk traffic.
    queues: Vec<(String, bool)>,
    streams: SelectAll<BoxStream<'static, Tagged>>,
}

impl Epoch {
    fn new(connection: Connection) -> Self {
        Self {
            alive: Arc::new(AtomicBool::new(true)),
            connection,
            channels: Vec::new(),
            queues: Vec::new(),
            streams: SelectAll::new(),
        }
    }

    async fn begin(&mut self, config: &Config, topology: &Topology) -> Result<(), ConnectError> {
        Declaring::new(&self.connection).declare(topology).await?;
        for (queue, bulk) in topology.command_queues() {
            // A channel for each queue, so that each has a prefetch of its own on every version.
            self.consume(queue, bulk, config.prefetch.get())
                .await
                .map_err(|error| refused_connection(&error))?;
        }
        Ok(())
    }

    async fn consume(&mut self, queue: &str, bulk: bool, prefetch: u16) -> lapin::Result<()> {
        let channel = self.connection.create_channel().await?;
        self.channels.push(channel.clone());
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await?;
        let index = self.queues.len();
        self.queues.push((queue.to_owned(), bulk));
        let deliveries = consumer.map(move |delivery| (index, Some(delivery)));
        self.streams
            .push(deliveries.chain(stream::once(ready((index, None)))).boxed());
        Ok(())
    }

    /// Until the first sign of an end, which ends the epoch for all queues. Answers what it was.
    async fn forward(&mut self, inbox: &Inbox) -> String {
        while let Some((index, delivery)) = self.streams.next().await {
            let (queue, bulk) = &self.queues[index];
            match delivery {
                Some(Ok(delivery)) => inbox.push(self.adopt(delivery, *bulk)),
                Some(Err(error)) => return error.to_string(),
                None => return format!("the broker ended the consumer of {queue}"),
            }
        }
        "nothing to consume".to_owned()
    }

    fn adopt(&self, delivery: lapin::message::Delivery, bulk: bool) -> Delivery {
        let message = Message {
            exchange: delivery.exchange.into(),
            routing_key: delivery.routing_key.into(),
            properties: Properties::from_amqp(delivery.properties),
            body: Bytes::from(delivery.data),
            mandatory: false,
        };
        let acker = AmqpAcker {
            alive: self.alive.clone(),
            acker: delivery.acker,
        };
        Delivery::new(message, delivery.redelivered, bulk, Box::new(acker))
    }

    /// The broker requeues what is unsettled, in order. Deliveries turn stale before that, so that no
    /// later one is settled while an earlier one goes back.
    async fn end(self, config: &Config) {
        self.alive.store(false, Ordering::Release);
        let closed = self
            .channels
            .iter()
            .map(|channel| channel.close(200, "OK".into()));
        let _ = timeout(config.close_timeout, join_all(closed)).await;
        connection::close(&self.connection, config.close_timeout).await;
        drop(self.streams);
    }
}

/// An ack is written and no more is heard of it. A busy broker keeps the latest in hand for a moment, and
/// loses them with the channel: settled commands would come again. So before a close that was asked for,
/// each channel is asked something, which it answers after the acks, and given that moment.
async fn let_acks_arrive(channels: &[Channel], config: &Config) {
    let asked = channels
        .iter()
        .map(|channel| channel.basic_qos(config.prefetch.get(), BasicQosOptions::default()));
    let _ = timeout(config.close_timeout, join_all(asked)).await;
    sleep(ACKS_IN_HAND).await;
}

struct AmqpAcker {
    /// Of the epoch.
    alive: Arc<AtomicBool>,
    acker: lapin::Acker,
}

#[async_trait]
impl Acker for AmqpAcker {
    fn usable(&self) -> bool {
        self.alive.load(Ordering::Acquire) && self.acker.usable()
    }

    async fn ack(&self) -> bool {
        self.alive.load(Ordering::Acquire)
            && matches!(self.acker.ack(BasicAckOptions::default()).await, Ok(true))
    }
}
