//! Notices of the fleet, news of dead letters and the outcome log from RabbitMQ, on a connection of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::WhenUnreachable;
use super::connection;
use super::consumer::loss;
use super::error::{ConnectError, refused_connection};
use super::first::First;
use super::received::Received;
use super::supervisor::{Supervisor, Use};
use crate::broker::death::is_explained;
use crate::broker::topology::{DEAD_LETTERS, OUTCOME_LOG};
use crate::broker::{Config, Heard, Listener, Properties, Topology};

/// Messages of the log on their way; and after so many of them the broker is told to send more.
const LOG_PREFETCH: u16 = 1000;
const LOG_ACK_EVERY: u64 = 200;

/// A log that can't be read is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct AmqpListener {
    heard: mpsc::Receiver<Heard>,
    /// However many came, it is heard once.
    unexplained: Arc<Notify>,
    follow: watch::Sender<Option<Timestamp>>,
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
        let unexplained = Arc::new(Notify::new());
        let purpose = Listening {
            fleet: Topology::new(provider, config).fleet_exchange(),
            letters: format!("{provider}.#"),
            unexplained: unexplained.clone(),
            listened: AtomicBool::new(false),
            hear,
            wanted,
            next: Mutex::default(),
        };
        let supervisor = Supervisor::new("listener", config, stop.clone());
        let first = First::new(first, when_unreachable);
        let listener = Self {
            heard,
            unexplained,
            follow,
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
        tokio::select! {
            // The supervisor ends only when it is told to.
            Some(heard) = self.heard.recv() => heard,
            () = self.unexplained.notified() => Heard::Unexplained,
        }
    }

    fn follow(&mut self, since: Option<Timestamp>) {
        self.follow.send_replace(since);
    }
}

/// The supervisor's use of a connection: listening.
struct Listening {
    /// Its exchange.
    fleet: String,
    /// The keys of the provider's dead letters: those of its commands, and those that workers give them.
    letters: String,
    unexplained: Arc<Notify>,
    /// There was a connection before.
    listened: AtomicBool,
    hear: mpsc::Sender<Heard>,
    wanted: watch::Receiver<Option<Timestamp>>,
    /// Where the log goes on, for the wish that it was read for.
    next: Mutex<Option<(Timestamp, i64)>>,
}

impl Use for Listening {
    async fn attend(
        &self,
        connection: Connection,
        supervisor: &Supervisor,
        first: &mut First,
    ) -> Result<String, ConnectError> {
        let config = &supervisor.config;
        let ended = match timeout(config.confirm_timeout, self.queues(&connection)).await {
            Err(_) => Err(ConnectError::unreachable(&"it didn't open a channel in time")),
            Ok(Err(error)) => Err(refused_connection(&error)),
            Ok(Ok((_channel, notices, letters))) => {
                if self.listened.swap(true, Ordering::AcqRel) {
                    // Whatever came while nobody listened.
                    self.unexplained.notify_one();
                }
                supervisor.up(first);
                tokio::select! {
                    () = supervisor.stop.cancelled() => Ok("closed".to_owned()),
                    reason = loss(&connection) => Ok(reason),
                    reason = self.hear_notices(notices) => Ok(reason),
                    reason = self.hear_of_letters(letters) => Ok(reason),
                    () = self.read_log(&connection) => Ok("closed".to_owned()),
                }
            }
        };
        connection::close(&connection, config.close_timeout).await;
        ended
    }
}

impl Listening {
    /// What notices and what dead letters come by.
    async fn queues(
        &self,
        connection: &Connection,
    ) -> lapin::Result<(Channel, lapin::Consumer, lapin::Consumer)> {
        let channel = connection.create_channel().await?;
        let notices = own_queue(&channel, &self.fleet, "").await?;
        let letters = own_queue(&channel, DEAD_LETTERS, &self.letters).await?;
        Ok((channel, notices, letters))
    }

    /// Until it ends; answers why.
    async fn hear_notices(&self, mut notices: lapin::Consumer) -> String {
        loop {
            match notices.next().await {
                Some(Ok(notice)) => {
                    let heard = Heard::Notice(Bytes::from(notice.data));
                    if self.hear.send(heard).await.is_err() {
                        return "closed".to_owned();
                    }
                }
                Some(Err(error)) => return error.to_string(),
                None => return "the broker ended the consumer of notices".to_owned(),
            }
        }
    }

    /// Until it ends; answers why.
    async fn hear_of_letters(&self, mut letters: lapin::Consumer) -> String {
        loop {
            match letters.next().await {
                Some(Ok(letter)) => {
                    if !is_explained(&Properties::from_amqp(letter.properties)) {
                        self.unexplained.notify_one();
                    }
                }
                Some(Err(error)) => return error.to_string(),
                None => return "the broker ended the consumer of dead letters".to_owned(),
            }
        }
    }

    /// Reads the log whenever it is wanted. Ends when nobody listens any more.
    async fn read_log(&self, connection: &Connection) {
        let mut wanted = self.wanted.clone();
        loop {
            let Ok(since) = wanted.wait_for(Option::is_some).await.map(|since| *since) else {
                return;
            };
            let Some(since) = since else { continue };
            if let Err(error) = self.read_since(connection, since, &mut wanted).await {
                tracing::debug!(reason = %error, "broker: the outcome log can't be read now");
                sleep(AGAIN).await;
            }
        }
    }

    /// Until another beginning is wanted, or none.
    async fn read_since(
        &self,
        connection: &Connection,
        since: Timestamp,
        wanted: &mut watch::Receiver<Option<Timestamp>>,
    ) -> lapin::Result<()> {
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
            return Ok(());
        }
        let changed = wanted.wait_for(|wanted| *wanted != Some(since));
        let read = tokio::select! {
            read = self.read(log, since) => read,
            _ = changed => Ok(()),
        };
        // An error is as good: the channel is gone.
        let _ = channel.close(200, "OK".into()).await;
        read
    }

    async fn read(&self, mut log: lapin::Consumer, since: Timestamp) -> lapin::Result<()> {
        let mut unacked = 0;
        while let Some(delivery) = log.next().await {
            let Received { message, acker, .. } = delivery?.into();
            let offset = message.properties.number("x-stream-offset");
            if self.hear.send(Heard::Logged(message)).await.is_err() {
                return Ok(());
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
        Ok(())
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

/// A queue of this connection's own, which is gone with it.
async fn own_queue(channel: &Channel, exchange: &str, key: &str) -> lapin::Result<lapin::Consumer> {
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?;
    let name = queue.name().clone();
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(name.clone(), exchange.into(), key.into(), options, arguments)
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    channel
        .basic_consume(name, "".into(), options, FieldTable::default())
        .await
}
