//! Messages to RabbitMQ, each confirmed.
//!
//! Ordinary publishes are pipelined on one channel. A mandatory one uses a channel with no other message
//! in flight, because lapin pairs pipelined returns with the wrong confirms.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Connection, PublisherConfirm};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::WhenUnreachable;
use super::connection;
use super::error::ConnectError;
use super::first_connection::FirstConnection;
use super::publishing::Publishing;
use super::supervisor::Supervisor;
use crate::broker::in_flight::InFlight;
use crate::broker::{Config, Link, Message, PublishError, Publisher};
use crate::clock::OnceAMinute;

/// RabbitMQ's default.
const FRAME_MAX: usize = 128 * 1024;

/// A message's headers share a frame with its other properties: up to ten short strings and some numbers.
const OTHER_PROPERTIES_BYTES_MAX: usize = 4 * 1024;

/// The most mandatory publishes in flight at the same time, each on a channel of its own.
const ALONE_MAX: usize = 8;

/// A channel on which messages are refused is replaced at most this often.
const REFUSED_FOR: Duration = Duration::from_secs(3);

pub(super) struct AmqpPublisher {
    /// `None` while the broker can't take messages.
    session: watch::Receiver<Option<Arc<Session>>>,
    link: watch::Receiver<Link>,
    config: Config,
    in_flight: InFlight,
    refused: Refused,
    closed: AtomicBool,
    stop: CancellationToken,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    _stop_when_dropped: DropGuard,
}

impl AmqpPublisher {
    pub(super) async fn connect(
        config: &Config,
        when_unreachable: WhenUnreachable,
    ) -> Result<Self, ConnectError> {
        let (first, connected) = oneshot::channel();
        let stop = CancellationToken::new();
        let (sessions, session) = watch::channel(None);
        let supervisor = Supervisor::new("publisher", config, stop.clone());
        let link = supervisor.link.subscribe();
        let first = FirstConnection::new(first, when_unreachable);
        let supervisor = connection::runtime()?.spawn(supervisor.run(first, Publishing::new(sessions)));
        let publisher = Self {
            session,
            link,
            config: config.clone(),
            in_flight: InFlight::default(),
            refused: Refused::default(),
            closed: AtomicBool::new(false),
            supervisor: Mutex::new(Some(supervisor)),
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
        };
        connected
            .await
            .map_err(|error| ConnectError::unreachable(&error))??;
        Ok(publisher)
    }

    async fn confirmed(&self, message: &Message) -> Result<(), PublishError> {
        let session = self.session().await?;
        let confirmed = if message.mandatory {
            session.publish_alone(message).await
        } else {
            session.publish(message).await
        };
        match confirmed {
            Ok(Confirmation::Ack(Some(_))) => Err(PublishError::Returned),
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Nack(_)) => {
                self.refused.count(&message.exchange);
                if !message.mandatory {
                    session.was_refused.store(true, Ordering::Release);
                    session.trouble.notify_one();
                }
                Err(PublishError::Nacked)
            }
            Ok(Confirmation::NotRequested) | Err(_) => {
                session.trouble.notify_one();
                Err(PublishError::Unconfirmed)
            }
        }
    }

    async fn session(&self) -> Result<Arc<Session>, PublishError> {
        if let Some(session) = &*self.session.borrow() {
            return Ok(session.clone());
        }
        let mut sessions = self.session.clone();
        let session = sessions.wait_for(Option::is_some).await;
        session
            .ok()
            .and_then(|session| session.clone())
            .ok_or(PublishError::Unconfirmed)
    }
}

#[async_trait]
impl Publisher for AmqpPublisher {
    async fn publish(&self, message: &Message) -> Result<(), PublishError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PublishError::Unconfirmed);
        }
        // No queue can be bound with such a key, and lapin panics on it.
        let too_long = |name: &str| name.len() > usize::from(u8::MAX);
        if too_long(&message.exchange) || too_long(&message.routing_key) {
            return Err(PublishError::Returned);
        }
        let _counted = InFlight::enter(&self.in_flight);
        let confirmed = timeout(self.config.confirm_timeout, self.confirmed(message)).await;
        confirmed.unwrap_or(Err(PublishError::Unconfirmed))
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    fn unconfirmed(&self) -> usize {
        self.in_flight.count()
    }

    fn headers_bytes_max(&self) -> usize {
        let session = self.session.borrow();
        let frame_max = session.as_ref().map_or(FRAME_MAX, |session| session.frame_max());
        frame_max.saturating_sub(OTHER_PROPERTIES_BYTES_MAX)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Each publish has its own time limit.
        self.in_flight.none().await;
        self.stop.cancel();
        let supervisor = self
            .supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(supervisor) = supervisor {
            let _ = timeout(self.config.close_timeout * 2, supervisor).await;
        }
    }
}

/// A connection with an open channel.
pub(super) struct Session {
    pub(super) connection: Arc<Connection>,
    channel: Channel,
    /// lapin numbers a message and sends it in two steps; the broker numbers messages as they arrive. The lock keeps
    /// the two together: otherwise two threads could swap their confirms.
    sending: Mutex<()>,
    /// Idle channels for mandatory publishes. A publish that times out drops its channel: a late return would be paired
    /// with the next confirm.
    alone: Mutex<Vec<Channel>>,
    alone_at_once: Semaphore,
    opened_at: Instant,
    /// Whether the broker refused a message on the channel.
    was_refused: AtomicBool,
    /// Something failed: the channel and the connection have to be checked.
    pub(super) trouble: Arc<Notify>,
}

impl Session {
    pub(super) async fn open(connection: Arc<Connection>, trouble: Arc<Notify>) -> lapin::Result<Self> {
        let channel = confirming(&connection).await?;
        Ok(Self {
            connection,
            channel,
            sending: Mutex::new(()),
            alone: Mutex::default(),
            alone_at_once: Semaphore::new(ALONE_MAX),
            opened_at: Instant::now(),
            was_refused: AtomicBool::new(false),
            trouble,
        })
    }

    /// The negotiated frame size.
    fn frame_max(&self) -> usize {
        match self.connection.configuration().frame_max() {
            // 0 means no bound.
            0 => FRAME_MAX,
            bytes => usize::try_from(bytes).unwrap_or(FRAME_MAX),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Whether the channel should be replaced. RabbitMQ notifies a channel when a full queue has room again, but not
    /// when the queue's limit is removed: this channel would then refuse messages for ever.
    pub(super) fn is_refused(&self) -> bool {
        self.was_refused.load(Ordering::Acquire) && self.opened_at.elapsed() >= REFUSED_FOR
    }

    async fn publish(&self, message: &Message) -> lapin::Result<Confirmation> {
        let mut sending = pin!(send(&self.channel, message));
        let mut sent = false;
        let confirm = poll_fn(|cx| {
            // lapin numbers and sends the message in the first poll.
            let _sending = (!sent).then(|| self.sending.lock().unwrap_or_else(PoisonError::into_inner));
            sent = true;
            sending.as_mut().poll(cx)
        })
        .await?;
        confirm.await
    }

    async fn publish_alone(&self, message: &Message) -> lapin::Result<Confirmation> {
        // The semaphore is never closed.
        let _permit = self.alone_at_once.acquire().await;
        let idle = || self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = idle().pop().filter(|channel| channel.status().connected());
        let channel = match channel {
            Some(channel) => channel,
            None => confirming(&self.connection).await?,
        };
        let confirmation = send(&channel, message).await?.await?;
        // A channel on which a message was refused may go on refusing, whatever the queue's state.
        if !matches!(confirmation, Confirmation::Nack(_)) {
            idle().push(channel);
        }
        Ok(confirmation)
    }
}

async fn confirming(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn send(channel: &Channel, message: &Message) -> lapin::Result<PublisherConfirm> {
    let exchange: ShortString = message.exchange.as_str().into();
    let key: ShortString = message.routing_key.as_str().into();
    let options = BasicPublishOptions {
        mandatory: message.mandatory,
        immediate: false,
    };
    let properties = message.properties.amqp().clone();
    channel
        .basic_publish(exchange, key, options, &message.body, properties)
        .await
}

/// Messages that the broker refused, logged at most once a minute: they are published again until it takes them.
#[derive(Default)]
struct Refused(Mutex<OnceAMinute>);

impl Refused {
    fn count(&self, exchange: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = seen.count(Instant::now()) {
            tracing::warn!(
                exchange,
                messages.refused = refused,
                "the broker refuses messages, which are published again until it takes them; check whether a queue \
                 behind this exchange is full and rejects messages (a length limit with reject-publish)"
            );
        }
    }
}
