//! The fleet's notices, the outcome log and the broker's own dead letters from RabbitMQ, on a separate connection.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::WhenUnreachable;
use super::broker_dead_letters;
use super::connection;
use super::consumer::loss;
use super::depths::Depths;
use super::error::{ConnectError, refused_connection};
use super::first_connection::FirstConnection;
use super::log::Log;
use super::orders;
use super::received::Received;
use super::supervisor::{Supervisor, Use};
use super::terms::table;
use crate::broker::{Config, Extent, FleetMessage, Listener, ListenerStatus, Topology};

/// The most messages that were received and not processed yet.
const MESSAGES_MAX: usize = 1000;

/// The delay before a failed read is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// How often the queue of notices is bound again: the fleet's exchange may have been deleted and declared again.
const BIND_EVERY: Duration = Duration::from_secs(2);

/// The most queued notices, in number and in bytes: the broker drops the rest.
const NOTICES_MAX: i64 = 1000;
const NOTICES_BYTES_MAX: i64 = 1 << 20;

/// A larger body is neither a notice nor an event. It is dropped at once, and the message is then unreadable.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

pub(super) struct AmqpListener {
    messages: mpsc::Receiver<FleetMessage>,
    follow: watch::Sender<Option<Extent>>,
    listener_status: ListenerStatus,
    _stop: DropGuard,
}

impl AmqpListener {
    pub(super) async fn connect(
        config: &Config,
        provider: &str,
        when_unreachable: WhenUnreachable,
    ) -> Result<Self, ConnectError> {
        let (first, connected) = oneshot::channel();
        let stop = CancellationToken::new();
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let (follow, wanted) = watch::channel(None);
        let (depths, log_trouble) = (Depths::new(), watch::Sender::new(None));
        let topology = Topology::new(provider, config);
        let supervisor = Supervisor::new("listener", config, stop.clone());
        let ready = depths.ready.subscribe();
        let listener_status = ListenerStatus {
            link: supervisor.link.subscribe(),
            log_trouble: log_trouble.subscribe(),
            unroutable: depths.unroutable.subscribe(),
            dead_letters: depths.dead_letters.subscribe(),
            ready: Arc::new(move || ready.borrow().clone()),
        };
        let purpose = Listening {
            fleet: topology.fleet_exchange(),
            log: Log::new(sender.clone(), wanted, log_trouble),
            sender,
            depths,
            topology,
        };
        let first = FirstConnection::new(first, when_unreachable);
        let listener = Self {
            messages,
            follow,
            listener_status,
            _stop: stop.drop_guard(),
        };
        connection::runtime()?.spawn(supervisor.run(first, purpose));
        connected
            .await
            .map_err(|error| ConnectError::unreachable(&error))??;
        Ok(listener)
    }
}

#[async_trait]
impl Listener for AmqpListener {
    async fn next(&mut self) -> FleetMessage {
        match self.messages.recv().await {
            Some(message) => message,
            // The supervisor ends only when it is stopped.
            None => std::future::pending().await,
        }
    }

    fn follow(&mut self, wanted: Option<Extent>) {
        self.follow.send_replace(wanted);
    }

    fn status(&self) -> ListenerStatus {
        self.listener_status.clone()
    }
}

/// The supervisor's use of a connection: listening.
struct Listening {
    /// The fleet's exchange.
    fleet: String,
    sender: mpsc::Sender<FleetMessage>,
    log: Log,
    depths: Depths,
    topology: Topology,
}

impl Use for Listening {
    async fn attend(
        &self,
        connection: Connection,
        supervisor: &Supervisor,
        first: &mut FirstConnection,
    ) -> Result<String, ConnectError> {
        let config = &supervisor.config;
        let orders = self.topology.orders_stream();
        let ended = match timeout(config.confirm_timeout, self.notices(&connection)).await {
            Err(_) => Err(ConnectError::unreachable(&"it didn't open a channel in time")),
            Ok(Err(error)) => Err(refused_connection(&error)),
            Ok(Ok(notices)) => {
                supervisor.up(first);
                // They hold lapin's consumers, but of messages whose order does not matter.
                tokio::select! {
                    () = supervisor.stop.cancelled() => Ok("closed".to_owned()),
                    reason = loss(&connection) => Ok(reason),
                    reason = self.receive_notices(notices) => Ok(reason),
                    () = broker_dead_letters::take(&connection, config, &self.sender) => Ok("closed".to_owned()),
                    () = orders::follow(&connection, &orders, &self.sender) => Ok("closed".to_owned()),
                    () = self.log.read(&connection) => Ok("closed".to_owned()),
                    () = self.depths.watch(&connection, &self.topology, config.partitions.get()) => Ok("closed".to_owned()),
                }
            }
        };
        self.depths.forget();
        connection::close(&connection, config.close_timeout).await;
        ended
    }
}

/// The queue of notices.
struct Notices {
    channel: Channel,
    queue: ShortString,
    consumer: lapin::Consumer,
}

impl Listening {
    /// Declares a queue that is exclusive to this connection.
    async fn notices(&self, connection: &Connection) -> lapin::Result<Notices> {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let bounds = [
            ("x-max-length", AMQPValue::LongLongInt(NOTICES_MAX)),
            ("x-max-length-bytes", AMQPValue::LongLongInt(NOTICES_BYTES_MAX)),
        ];
        let declared = channel.queue_declare("".into(), options, table(bounds)).await?;
        let queue = declared.name().clone();
        self.bind(&channel, &queue).await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = channel
            .basic_consume(queue.clone(), "".into(), options, FieldTable::default())
            .await?;
        Ok(Notices {
            channel,
            queue,
            consumer,
        })
    }

    async fn bind(&self, channel: &Channel, queue: &ShortString) -> lapin::Result<()> {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let exchange = self.fleet.as_str().into();
        channel
            .queue_bind(queue.clone(), exchange, "".into(), options, arguments)
            .await
    }

    /// Receives notices until the consumer ends; returns why.
    async fn receive_notices(&self, mut notices: Notices) -> String {
        let mut bind = interval(BIND_EVERY);
        bind.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let notice = tokio::select! {
                notice = notices.consumer.next() => notice,
                _ = bind.tick() => match self.bind(&notices.channel, &notices.queue).await {
                    Ok(()) => continue,
                    Err(error) => return error.to_string(),
                },
            };
            match notice {
                Some(Ok(notice)) => {
                    let message =
                        FleetMessage::Notice(Received::from(notice).within(BODY_BYTES_MAX).message.body);
                    if self.sender.send(message).await.is_err() {
                        return "closed".to_owned();
                    }
                }
                Some(Err(error)) => return error.to_string(),
                None => return "the broker ended the consumer of notices".to_owned(),
            }
        }
    }
}
