//! Looks into RabbitMQ's queues and streams, on a connection of its own.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection;
use super::error::{ConnectError, is_not_found, refused_object};
use super::log::{LAST_WITHIN, LogReader, Point, offset_of_first};
use super::received::Received;
use crate::broker::inspect::{Depth, Holder, InspectError, Inspector, StreamReader, Streamed};
use crate::broker::{Config, Delivery};

/// How long to wait for the rest of a stream's last chunk, whose messages arrive together.
const REST_WITHIN: Duration = Duration::from_millis(100);

/// If no message arrives for this long, others took the rest of the queue.
const QUIET_FOR: Duration = Duration::from_secs(2);

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

fn lost(reason: &impl ToString) -> InspectError {
    InspectError::Lost {
        reason: reason.to_string(),
    }
}

fn refused(queue: &str, error: &lapin::Error) -> InspectError {
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
            let depth = depth_on(&channel, queue).await?;
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let deliveries = channel
                .basic_consume(queue.into(), "".into(), options, arguments)
                .await?;
            Ok((channel, depth.ready, deliveries))
        });
        let (channel, left, deliveries) = begun.await?;
        Ok(Box::new(AmqpHolder {
            queue: queue.to_owned(),
            open: Some((channel, deliveries)),
            left,
            ceiling: self.config.confirm_timeout,
        }))
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

struct AmqpHolder {
    queue: String,
    /// `None` once it is released.
    open: Option<(Channel, lapin::Consumer)>,
    /// Messages that were ready at the start and have not arrived yet.
    left: u64,
    ceiling: Duration,
}

#[async_trait]
impl Holder for AmqpHolder {
    async fn next(&mut self) -> Result<Option<Delivery>, InspectError> {
        let Some((_, deliveries)) = self.open.as_mut().filter(|_| self.left > 0) else {
            return Ok(None);
        };
        let Ok(next) = timeout(QUIET_FOR, deliveries.next()).await else {
            self.left = 0;
            return Ok(None);
        };
        let next = next.ok_or_else(|| lost(&"the broker ended the consumer"))?;
        let received = Received::from(next.map_err(|error| refused(&self.queue, &error))?);
        self.left -= 1;
        Ok(Some(received.into_delivery(self.ceiling)))
    }

    async fn release(mut self: Box<Self>) {
        if let Some((channel, deliveries)) = self.open.take() {
            give_back(channel, deliveries, self.ceiling).await;
        }
    }
}

impl Drop for AmqpHolder {
    fn drop(&mut self) {
        if let (Some((channel, deliveries)), Ok(runtime)) = (self.open.take(), connection::runtime()) {
            runtime.spawn(give_back(channel, deliveries, self.ceiling));
        }
    }
}

/// Closes the channel first: dropping lapin's consumer cancels it, after which later messages overtake those that are
/// held.
async fn give_back(channel: Channel, deliveries: lapin::Consumer, ceiling: Duration) {
    let _ = timeout(ceiling, channel.close(200, "OK".into())).await;
    drop(deliveries);
}
