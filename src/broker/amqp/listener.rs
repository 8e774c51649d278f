//! Notices of the fleet, the outcome log and what the broker gave up from RabbitMQ, on a connection of their own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::WhenUnreachable;
use super::connection;
use super::consumer::loss;
use super::error::{ConnectError, refused_connection};
use super::first::First;
use super::given_up;
use super::received::Received;
use super::supervisor::{Supervisor, Use};
use super::terms::table;
use super::unroutable;
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{Config, Heard, Listener, Topology};

/// Messages of the log on their way; and after so many of them the broker is told to send more.
const LOG_PREFETCH: u16 = 1000;
const LOG_ACK_EVERY: u64 = 200;

/// What can't be read is tried again after this.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// The fleet's exchange may have been deleted and declared again: the queue of notices is bound to it so often.
const BIND_EVERY: Duration = Duration::from_secs(2);

/// Notices that wait to be read, in number and in bytes: a flood of them, or a large one, is dropped by the broker.
const NOTICES_MAX: i64 = 1000;
const NOTICES_BYTES_MAX: i64 = 1 << 20;

/// A larger body is no notice and no event. It is let go of at once, and what is left of it can't be read.
const BODY_BYTES_MAX: usize = 64 * 1024;

pub(super) struct AmqpListener {
    heard: mpsc::Receiver<Heard>,
    follow: watch::Sender<Option<Timestamp>>,
    unroutable: watch::Receiver<Option<u64>>,
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
        let (hear, heard) = mpsc::channel(LOG_PREFETCH.into());
        let (follow, wanted) = watch::channel(None);
        let (unroutable_told, unroutable) = watch::channel(None);
        let purpose = Listening {
            fleet: Topology::new(provider, config).fleet_exchange(),
            hear,
            wanted,
            next: Mutex::default(),
            unroutable: unroutable_told,
        };
        let supervisor = Supervisor::new("listener", config, stop.clone());
        let first = First::new(first, when_unreachable);
        let listener = Self {
            heard,
            follow,
            unroutable,
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
    async fn next(&mut self) -> Heard {
        match self.heard.recv().await {
            Some(heard) => heard,
            // The supervisor ends only when it is told to.
            None => std::future::pending().await,
        }
    }

    fn follow(&mut self, since: Option<Timestamp>) {
        self.follow.send_replace(since);
    }

    fn unroutable(&self) -> watch::Receiver<Option<u64>> {
        self.unroutable.clone()
    }
}

/// How the reading of the log came to its end.
enum Read {
    /// Nobody wants it any more, or from elsewhere.
    AsWanted,
    /// By the broker: the log was deleted, or its node went.
    Ended,
}

/// The supervisor's use of a connection: listening.
struct Listening {
    /// Its exchange.
    fleet: String,
    hear: mpsc::Sender<Heard>,
    wanted: watch::Receiver<Option<Timestamp>>,
    /// Where the log goes on, for the wish that it was read for.
    next: Mutex<Option<(Timestamp, i64)>>,
    unroutable: watch::Sender<Option<u64>>,
}

impl Use for Listening {
    async fn attend(
        &self,
        connection: Connection,
        supervisor: &Supervisor,
        first: &mut First,
    ) -> Result<String, ConnectError> {
        let config = &supervisor.config;
        let ended = match timeout(config.confirm_timeout, self.notices(&connection)).await {
            Err(_) => Err(ConnectError::unreachable(&"it didn't open a channel in time")),
            Ok(Err(error)) => Err(refused_connection(&error)),
            Ok(Ok(notices)) => {
                supervisor.up(first);
                // They hold lapin's consumers, but of what has no order to keep.
                tokio::select! {
                    () = supervisor.stop.cancelled() => Ok("closed".to_owned()),
                    reason = loss(&connection) => Ok(reason),
                    reason = self.hear_notices(notices) => Ok(reason),
                    () = given_up::take(&connection, config, &self.hear) => Ok("closed".to_owned()),
                    () = self.read_log(&connection) => Ok("closed".to_owned()),
                    () = unroutable::watch(&connection, &self.unroutable) => Ok("closed".to_owned()),
                }
            }
        };
        connection::close(&connection, config.close_timeout).await;
        ended
    }
}

/// The queue by which notices come.
struct Notices {
    channel: Channel,
    queue: ShortString,
    consumer: lapin::Consumer,
}

impl Listening {
    /// A queue of this connection's own, which is gone with it.
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

    /// Until it ends; answers why.
    async fn hear_notices(&self, mut notices: Notices) -> String {
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
                    let heard = Heard::Notice(Received::from(notice).within(BODY_BYTES_MAX).message.body);
                    if self.hear.send(heard).await.is_err() {
                        return "closed".to_owned();
                    }
                }
                Some(Err(error)) => return error.to_string(),
                None => return "the broker ended the consumer of notices".to_owned(),
            }
        }
    }

    /// Reads the log whenever it is wanted. Ends when nobody listens any more.
    async fn read_log(&self, connection: &Connection) {
        let mut wanted = self.wanted.clone();
        let mut said = false;
        loop {
            let Ok(since) = wanted.wait_for(Option::is_some).await.map(|since| *since) else {
                return;
            };
            let Some(since) = since else { continue };
            let reason = match self.read_since(connection, since, &mut wanted).await {
                Ok(Read::AsWanted) => continue,
                Ok(Read::Ended) => "the broker ended the consumer".to_owned(),
                Err(error) => error.to_string(),
            };
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(
                    reason,
                    "broker: the outcome log can't be read; trying again until it can"
                );
            }
            self.forget_offset();
            sleep(AGAIN).await;
        }
    }

    /// Until another beginning is wanted, or none.
    async fn read_since(
        &self,
        connection: &Connection,
        since: Timestamp,
        wanted: &mut watch::Receiver<Option<Timestamp>>,
    ) -> lapin::Result<Read> {
        let channel = connection.create_channel().await?;
        channel
            .basic_qos(LOG_PREFETCH, BasicQosOptions::default())
            .await?;
        let mut from = FieldTable::default();
        from.insert("x-stream-offset".into(), self.offset(since));
        let options = BasicConsumeOptions::default();
        let log = channel
            .basic_consume(OUTCOME_LOG.into(), "".into(), options, from)
            .await?;
        if self.hear.send(Heard::Following).await.is_err() {
            return Ok(Read::AsWanted);
        }
        let changed = wanted.wait_for(|wanted| *wanted != Some(since));
        let read = tokio::select! {
            read = self.read(log, since) => read,
            _ = changed => Ok(Read::AsWanted),
        };
        // An error is as good: the channel is gone.
        let _ = channel.close(200, "OK".into()).await;
        read
    }

    async fn read(&self, mut log: lapin::Consumer, since: Timestamp) -> lapin::Result<Read> {
        let mut unacked = 0;
        while let Some(delivery) = log.next().await {
            let Received { message, acker, .. } = Received::from(delivery?).within(BODY_BYTES_MAX);
            let offset = message.properties.number("x-stream-offset");
            if self.hear.send(Heard::Logged(message)).await.is_err() {
                return Ok(Read::AsWanted);
            }
            if let Some(offset) = offset {
                let next = Some((since, offset + 1));
                *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
            }
            unacked += 1;
            if unacked == LOG_ACK_EVERY {
                acker.ack(BasicAckOptions { multiple: true }).await?;
                unacked = 0;
            }
        }
        Ok(Read::Ended)
    }

    /// The log may be another one by now, in which what was read stands nowhere: what is read twice changes nothing.
    fn forget_offset(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Behind what was read for the same wish.
    fn offset(&self, since: Timestamp) -> AMQPValue {
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        match next {
            Some((wish, offset)) if wish == since => AMQPValue::LongLongInt(offset),
            _ => AMQPValue::Timestamp(u64::try_from(since.as_second()).unwrap_or(0)),
        }
    }
}
