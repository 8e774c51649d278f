//! A look at the dead letters on RabbitMQ, on a connection that lasts as long as the look.
//!
//! All that is looked at is held by one consumer until its connection is closed: then the broker puts it back
//! in order. What was fetched by basic.get it puts back in any order, since each counts as a consumer.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection;
use super::epoch::let_acks_arrive;
use super::error::{ConnectError, refused_connection, refused_object};
use super::received::Received;
use crate::broker::topology::DEAD_LETTERS;
use crate::broker::{Acker, Config, DeadLetterQueue, Delivery, Hold, PickError, Picked, Wanted};

/// So many letters are looked at. It is the prefetch, too: an ordinary look takes a moment, and one at a
/// queue that nobody tidied up is not to hold, and bring here, without end.
const LETTERS_MAX: u16 = 10_000;

/// What is in hand at once. To settle it takes seconds, and meanwhile nobody else sees the queue.
const PICKED_MAX: usize = 500;
const PICKED_BYTES_MAX: usize = 16 << 20;

/// Fewer letters came than were counted: somebody else has them.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct AmqpDeadLetters {
    config: Config,
}

impl AmqpDeadLetters {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
        }
    }
}

#[async_trait]
impl DeadLetterQueue for AmqpDeadLetters {
    async fn pick(&self, wanted: Wanted) -> Result<Picked, PickError> {
        let runtime = connection::runtime().map_err(|error| unpicked(&error))?;
        let (tell, told) = oneshot::channel();
        let close = CancellationToken::new();
        let look = Look {
            config: self.config.clone(),
            wanted,
            close: close.clone(),
        };
        // A task of its own: a caller that goes away must not drop lapin's consumer.
        let hold = AmqpHold {
            close: close.drop_guard(),
            look: runtime.spawn(look.run(tell)),
            ceiling: self.config.close_timeout * 3,
        };
        let found = told
            .await
            .unwrap_or_else(|error| Err(ConnectError::unreachable(&error)));
        let Found { letters, more, .. } = found.map_err(|error| unpicked(&error))?;
        Ok(Picked::new(letters, more, Box::new(hold)))
    }
}

fn unpicked(error: &ConnectError) -> PickError {
    PickError {
        reason: error.to_string(),
    }
}

struct AmqpHold {
    close: DropGuard,
    look: JoinHandle<()>,
    ceiling: Duration,
}

#[async_trait]
impl Hold for AmqpHold {
    async fn release(self: Box<Self>) {
        drop(self.close);
        let _ = timeout(self.ceiling, self.look).await;
    }
}

struct Look {
    config: Config,
    wanted: Wanted,
    close: CancellationToken,
}

#[derive(Default)]
struct Found {
    letters: Vec<Delivery>,
    bytes: usize,
    more: bool,
}

/// All that was looked at. Not to be dropped before its connection is closed.
struct Held {
    channel: Channel,
    letters: lapin::Consumer,
    /// Some of it may be acked.
    picked: bool,
}

impl Look {
    /// From the connection to its end, when it is told to close.
    async fn run(self, tell: oneshot::Sender<Result<Found, ConnectError>>) {
        let connection = match connection::open_any(&self.config, "dead letters").await {
            Ok(connection) => connection,
            Err(error) => {
                let _ = tell.send(Err(error));
                return;
            }
        };
        let mut held = None;
        tokio::select! {
            biased;
            () = self.close.cancelled() => {}
            () = self.look(&connection, &mut held, tell) => {}
        }
        if let Some(held) = held.as_ref().filter(|held| held.picked) {
            let_acks_arrive([&held.channel], LETTERS_MAX, &self.config).await;
        }
        connection::close(&connection, self.config.close_timeout).await;
        drop(held);
    }

    async fn look(
        &self,
        connection: &Connection,
        held: &mut Option<Held>,
        tell: oneshot::Sender<Result<Found, ConnectError>>,
    ) {
        let begun = timeout(self.config.confirm_timeout, self.begin(connection, held)).await;
        let begun = begun.unwrap_or_else(|_| Err(ConnectError::unreachable(&"it didn't answer in time")));
        let found = match (begun, held.as_mut()) {
            (Ok(count), Some(held)) => self.find(count, held).await,
            (Ok(_), None) => Ok(Found::default()),
            (Err(error), _) => Err(error),
        };
        let goes_on = found.is_ok();
        let _ = tell.send(found);
        if let Some(held) = held.as_mut().filter(|_| goes_on) {
            // What comes on is held as well, but not kept here.
            while held.letters.next().await.is_some() {}
        }
    }

    /// Answers how many letters lie in the queue. Where there are any, they begin to come.
    async fn begin(&self, connection: &Connection, held: &mut Option<Held>) -> Result<u32, ConnectError> {
        let refused = |error| refused_object(&format!("queue {DEAD_LETTERS}"), None, &error);
        let channel = connection.create_channel().await;
        let channel = channel.map_err(|error| refused_connection(&error))?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let (queue, arguments) = (DEAD_LETTERS.into(), FieldTable::default());
        let declared = channel.queue_declare(queue, options, arguments).await;
        let count = declared.map_err(refused)?.message_count();
        if count == 0 {
            return Ok(0);
        }
        let options = BasicQosOptions::default();
        channel.basic_qos(LETTERS_MAX, options).await.map_err(refused)?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let letters = channel.basic_consume(DEAD_LETTERS.into(), "".into(), options, arguments);
        let letters = letters.await.map_err(refused)?;
        *held = Some(Held {
            channel,
            letters,
            picked: false,
        });
        Ok(count)
    }

    async fn find(&self, count: u32, held: &mut Held) -> Result<Found, ConnectError> {
        let mut found = Found::default();
        for _ in 0..count.min(LETTERS_MAX.into()) {
            let letter = match timeout(SILENCE, held.letters.next()).await {
                Err(_) => return Ok(found),
                Ok(Some(Ok(letter))) => letter,
                Ok(Some(Err(error))) => return Err(ConnectError::unreachable(&error)),
                Ok(None) => return Err(ConnectError::unreachable(&"it ended the consumer")),
            };
            self.take(letter, &mut found);
            held.picked = !found.letters.is_empty();
            if found.letters.len() == PICKED_MAX || found.bytes >= PICKED_BYTES_MAX {
                found.more = true;
                return Ok(found);
            }
        }
        found.more = count > LETTERS_MAX.into();
        Ok(found)
    }

    fn take(&self, letter: lapin::message::Delivery, found: &mut Found) {
        let Received {
            message,
            redelivered,
            acker,
        } = letter.into();
        if (self.wanted)(&message) {
            found.bytes += message.body.len();
            let acker = Box::new(LetterAcker {
                acker,
                ceiling: self.config.confirm_timeout,
            });
            let letter = Delivery::new(message, redelivered, (0, false), acker);
            found.letters.push(letter);
        }
    }
}

struct LetterAcker {
    acker: lapin::Acker,
    ceiling: Duration,
}

#[async_trait]
impl Acker for LetterAcker {
    fn usable(&self) -> bool {
        self.acker.usable()
    }

    /// lapin lets an ack wait for ever when the connection ends at that moment.
    async fn ack(&self) -> bool {
        let acked = timeout(self.ceiling, self.acker.ack(BasicAckOptions::default())).await;
        matches!(acked, Ok(Ok(true)))
    }
}
