//! Deliveries from RabbitMQ, in epochs: one for each connection, and a new one after each suspension.
//! Whatever belonged to an older one is stale.
//!
//! Order depends on how an epoch ends. A basic.cancel with deliveries unsettled lets the next consumer
//! have later messages first, and lapin sends one when a `Consumer` is dropped: so the channels or the
//! connection are closed first, always, and nothing here is dropped before that.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::{Connection, Event};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::WhenUnreachable;
use super::connection;
use super::declare::Declaring;
use super::epoch::Epoch;
use super::error::{ConnectError, refused_connection};
use super::first::First;
use super::inbox::Inbox;
use super::supervisor::{Supervisor, Use};
use crate::broker::{Config, Consumer, Delivery, Link, Topology};

/// While nothing is consumed, lapin tells of most ends by an event; this bounds how long another may
/// stay unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
        let inbox = Arc::new(Inbox::new());
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

/// The acks, the channels, then the connection, each with its own ceiling.
fn ending_max(config: &Config) -> Duration {
    config.close_timeout * 3
}

#[async_trait]
impl Consumer for AmqpConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        self.inbox.wanted(true).await;
        Some(self.inbox.next().await)
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    async fn suspend(&mut self) {
        self.inbox.want(false);
        let _ = timeout(ending_max(&self.config), self.inbox.closed()).await;
    }

    async fn resume(&mut self) {
        self.inbox.want(true);
    }

    async fn close(self: Box<Self>) {
        drop(self.stop);
        let _ = timeout(ending_max(&self.config), self.supervisor).await;
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
        let mut epoch = Epoch::new();
        let ended = self
            .take_and_rest(&connection, &mut epoch, supervisor, first)
            .await;
        connection::close(&connection, supervisor.config.close_timeout).await;
        self.inbox.close();
        ended
    }
}

/// How an epoch ended.
enum Ended {
    /// By us: the consumer is suspended or closed, and the channels are gone.
    Asked,
    Lost(String),
}

impl Consuming {
    /// Takes deliveries, or rests while nobody wants them, until the connection is to be closed. Answers why.
    /// `epoch` belongs to the caller, who closes the connection before it is dropped.
    async fn take_and_rest(
        &self,
        connection: &Connection,
        epoch: &mut Epoch,
        supervisor: &Supervisor,
        first: &mut First,
    ) -> Result<String, ConnectError> {
        self.declare(connection, supervisor).await?;
        while !supervisor.stop.is_cancelled() {
            if self.inbox.open() {
                // The older one's channels are closed.
                *epoch = Epoch::new();
                if let Ended::Lost(reason) = self.take(connection, epoch, supervisor, first).await? {
                    return Ok(reason);
                }
            } else {
                self.inbox.close();
                supervisor.up(first);
                tokio::select! {
                    () = supervisor.stop.cancelled() => {}
                    () = self.inbox.wanted(true) => {}
                    reason = loss(connection) => return Ok(reason),
                }
            }
        }
        Ok("closed".to_owned())
    }

    async fn declare(&self, connection: &Connection, supervisor: &Supervisor) -> Result<(), ConnectError> {
        let mut declaring = Declaring::new(connection);
        tokio::select! {
            () = supervisor.stop.cancelled() => Ok(()),
            declared = timeout(supervisor.config.confirm_timeout, declaring.declare(&self.topology)) => {
                declared.unwrap_or_else(|_| {
                    Err(ConnectError::unreachable(&"it didn't declare the topology in time"))
                })
            }
        }
    }

    /// One epoch, from its beginning to its end.
    async fn take(
        &self,
        connection: &Connection,
        epoch: &mut Epoch,
        supervisor: &Supervisor,
        first: &mut First,
    ) -> Result<Ended, ConnectError> {
        let config = &supervisor.config;
        // What is cut off in there is ended here: it holds lapin's consumers.
        let ended = self.consume(connection, epoch, supervisor, first).await;
        if let Ok(Ended::Asked) = ended {
            epoch.let_acks_arrive(config).await;
        }
        match (epoch.end(config).await, ended) {
            (false, Ok(Ended::Asked)) => Ok(Ended::Lost("the channels were not closed as asked".to_owned())),
            (_, ended) => ended,
        }
    }

    async fn consume(
        &self,
        connection: &Connection,
        epoch: &mut Epoch,
        supervisor: &Supervisor,
        first: &mut First,
    ) -> Result<Ended, ConnectError> {
        let config = &supervisor.config;
        let begin = timeout(
            config.confirm_timeout,
            epoch.begin(connection, config, &self.topology),
        );
        tokio::select! {
            // A refusal says more than the loss that comes with it.
            biased;
            began = begin => match began {
                Ok(Ok(())) => supervisor.up(first),
                Ok(Err(error)) => return Err(refused_connection(&error)),
                Err(_) => return Err(ConnectError::unreachable(&"it didn't open a channel in time")),
            },
            () = supervisor.stop.cancelled() => return Ok(Ended::Asked),
            // lapin lets a question wait for ever when the connection ends at that moment.
            reason = loss(connection) => return Err(ConnectError::unreachable(&reason)),
        }
        tokio::select! {
            () = supervisor.stop.cancelled() => Ok(Ended::Asked),
            () = self.inbox.wanted(false) => Ok(Ended::Asked),
            reason = epoch.forward(&self.inbox) => Ok(Ended::Lost(reason)),
        }
    }
}

/// Waits until the connection is gone. Answers why.
async fn loss(connection: &Connection) -> String {
    let mut events = connection.events_listener().boxed();
    let mut reason = "the connection was closed".to_owned();
    while connection.status().connected() {
        if let Ok(Some(Event::Error(error))) = timeout(LOOK_EVERY, events.next()).await {
            reason = error.to_string();
        }
    }
    reason
}
