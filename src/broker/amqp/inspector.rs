//! Looks into RabbitMQ's queues and streams, on a connection of its own.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection;
use super::error::{ConnectError, is_not_found, refused_object};
use super::holder::AmqpHolder;
use super::log::{LAST_WITHIN, LogReader, Point, offset_of_first};
use super::terms::{amqp, table};
use crate::broker::Config;
use crate::broker::inspect::{Depth, Holder, InspectError, Inspector, StreamReader, Streamed};
use crate::broker::topology::kept_for_one;

/// How long to wait for the rest of a stream's last chunk, whose messages arrive together.
const REST_WITHIN: Duration = Duration::from_millis(100);

/// The broker may count nothing because it is slow: it is asked so often, with such pauses.
const COUNTS: u32 = 3;
const COUNT_AGAIN: Duration = Duration::from_millis(50);

pub(super) struct AmqpInspector {
    connection: Connection,
    config: Config,
}

impl AmqpInspector {
    pub(super) async fn connect(config: &Config) -> Result<Self, ConnectError> {
        let config = config.clone();
        connection::on_runtime(async move {
            let connection = connection::open_any(&config, "inspector").await?;
            Ok(Self { connection, config })
        })
        .await
    }

    /// Bounds a call: lapin may never answer if the connection ends at that moment.
    async fn bounded<T>(
        &self,
        queue: &str,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, InspectError> {
        match timeout(self.config.confirm_timeout, call).await {
            Ok(answer) => answer.map_err(|error| refused(queue, &error)),
            Err(_) => Err(lost(&"it did not answer in time")),
        }
    }
}

pub(super) fn lost(reason: &impl ToString) -> InspectError {
    InspectError::Lost {
        reason: reason.to_string(),
    }
}

pub(super) fn refused(queue: &str, error: &lapin::Error) -> InspectError {
    if is_not_found(error) {
        return InspectError::NoQueue {
            queue: queue.to_owned(),
        };
    }
    match refused_object(&format!("queue {queue}"), None, error) {
        ConnectError::Unreachable { reason } => InspectError::Lost { reason },
        error => InspectError::Refused {
            reason: error.to_string(),
        },
    }
}

/// A passive declaration answers the queue's depth.
async fn depth_on(channel: &Channel, queue: &str) -> lapin::Result<Depth> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let found = channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    Ok(Depth {
        ready: found.message_count().into(),
        consumers: found.consumer_count().into(),
    })
}

#[async_trait]
impl Inspector for AmqpInspector {
    async fn depth(&self, queue: &str) -> Result<Option<Depth>, InspectError> {
        let looked = self.bounded(queue, async {
            let channel = self.connection.create_channel().await?;
            let depth = depth_on(&channel, queue).await?;
            let _ = channel.close(200, "OK".into()).await;
            Ok(depth)
        });
        match looked.await {
            Ok(depth) => Ok(Some(depth)),
            Err(InspectError::NoQueue { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read(
        &self,
        stream: &str,
        since: Option<Timestamp>,
    ) -> Result<Box<dyn StreamReader>, InspectError> {
        let last = self.bounded(stream, async {
            let last = offset_of_first(&self.connection, stream, Point::Last);
            timeout(LAST_WITHIN, last).await.unwrap_or(Ok(None))
        });
        let last = last.await?;
        let from = since.map_or(Point::First, Point::Time);
        let reader = self.bounded(stream, LogReader::open(&self.connection, stream, from));
        Ok(Box::new(AmqpStreamReader {
            stream: stream.to_owned(),
            reader: reader.await?,
            position: match last {
                Some(last) => Position::Before(last),
                None => Position::AtPresent,
            },
        }))
    }

    async fn hold(&self, queue: &str) -> Result<Box<dyn Holder>, InspectError> {
        let begun = self.bounded(queue, async {
            let channel = self.connection.create_channel().await?;
            let mut ready = 0;
            for _ in 0..COUNTS {
                ready = depth_on(&channel, queue).await?.ready;
                if ready > 0 {
                    break;
                }
                sleep(COUNT_AGAIN).await;
            }
            Ok((channel, ready))
        });
        let (channel, ready) = begun.await?;
        let holder = AmqpHolder::begin(channel, queue, ready, self.config.confirm_timeout);
        Ok(Box::new(holder.await?))
    }

    async fn declare_queue(&self, queue: &str) -> Result<(), InspectError> {
        let declared = self.bounded(queue, async {
            let channel = self.connection.create_channel().await?;
            let options = QueueDeclareOptions {
                durable: true,
                ..QueueDeclareOptions::default()
            };
            let arguments = kept_for_one();
            let arguments = table(arguments.iter().map(|(name, value)| (*name, amqp(value))));
            channel.queue_declare(queue.into(), options, arguments).await?;
            channel.close(200, "OK".into()).await
        });
        declared.await
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), InspectError> {
        let deleted = self.bounded(queue, async {
            let channel = self.connection.create_channel().await?;
            let options = QueueDeleteOptions::default();
            channel.queue_delete(queue.into(), options).await?;
            channel.close(200, "OK".into()).await
        });
        match deleted.await {
            Err(InspectError::NoQueue { .. }) => Ok(()),
            deleted => deleted,
        }
    }

    async fn close(&self) {
        connection::close(&self.connection, self.config.close_timeout).await;
    }
}

struct AmqpStreamReader {
    stream: String,
    reader: LogReader,
    position: Position,
}

#[derive(Clone, Copy)]
enum Position {
    /// The first message of the chunk that was the last one at the start is not read yet.
    Before(i64),
    /// The rest of that chunk arrives until then.
    Within(Instant),
    /// `Present` is next.
    AtPresent,
    After,
}

#[async_trait]
impl StreamReader for AmqpStreamReader {
    async fn next(&mut self) -> Result<Streamed, InspectError> {
        let next = match self.position {
            Position::AtPresent => None,
            Position::Within(deadline) => timeout_at(deadline, self.reader.next()).await.ok(),
            Position::Before(_) | Position::After => Some(self.reader.next().await),
        };
        let Some(next) = next else {
            self.position = Position::After;
            return Ok(Streamed::Present);
        };
        let next = next.map_err(|error| refused(&self.stream, &error))?;
        let (offset, message) = next.ok_or_else(|| lost(&"the broker ended the consumer"))?;
        if let Position::Before(last) = self.position
            && offset >= last
        {
            self.position = Position::Within(Instant::now() + REST_WITHIN);
        }
        let taken = self.reader.taken().await;
        taken.map_err(|error| refused(&self.stream, &error))?;
        Ok(Streamed::Message(message))
    }
}
