//! Looks into RabbitMQ's queues and streams, on a connection of its own.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use tokio::time::timeout;

use super::connection;
use super::error::{ConnectError, is_not_found, refused_object};
use super::received::Received;
use super::stream::Stream;
use super::terms::table;
use crate::broker::inspect::{Depth, Holder, Inbox, InspectError, Inspector, StreamReader, Streamed};
use crate::broker::{Config, Delivery, Message};

/// If no message arrives for this long, others took the rest of the queue.
const QUIET_FOR: Duration = Duration::from_secs(2);

/// The most messages in an inbox: the broker drops the rest.
const INBOX_MAX: i64 = 10_000;

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
        let opened = self.bounded(stream, Stream::open(&self.connection, stream, since));
        Ok(Box::new(AmqpStreamReader {
            name: stream.to_owned(),
            stream: opened.await?,
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

    async fn inbox(&self, exchange: Option<&str>) -> Result<Box<dyn Inbox>, InspectError> {
        let opened = self.bounded(exchange.unwrap_or("of its own"), async {
            let channel = self.connection.create_channel().await?;
            let options = QueueDeclareOptions {
                exclusive: true,
                auto_delete: true,
                ..QueueDeclareOptions::default()
            };
            let bounds = table([("x-max-length", AMQPValue::LongLongInt(INBOX_MAX))]);
            let queue = channel.queue_declare("".into(), options, bounds).await?;
            let name = queue.name().clone();
            if let Some(exchange) = exchange {
                let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
                channel
                    .queue_bind(name.clone(), exchange.into(), "".into(), options, arguments)
                    .await?;
            }
            let options = BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            };
            let messages = channel
                .basic_consume(name.clone(), "".into(), options, FieldTable::default())
                .await?;
            Ok(AmqpInbox {
                name: name.to_string(),
                messages,
                _channel: channel,
            })
        });
        Ok(Box::new(opened.await?))
    }

    async fn close(&self) {
        connection::close(&self.connection, self.config.close_timeout).await;
    }
}

struct AmqpStreamReader {
    name: String,
    stream: Stream,
}

#[async_trait]
impl StreamReader for AmqpStreamReader {
    async fn next(&mut self) -> Result<Streamed, InspectError> {
        let next = self.stream.next().await;
        next.map_err(|error| refused(&self.name, &error))?
            .ok_or_else(|| lost(&"the broker ended the consumer"))
    }
}

/// It acks nothing, so no order is at stake.
struct AmqpInbox {
    name: String,
    messages: lapin::Consumer,
    _channel: Channel,
}

#[async_trait]
impl Inbox for AmqpInbox {
    fn name(&self) -> &str {
        &self.name
    }

    async fn next(&mut self) -> Result<Message, InspectError> {
        let next = self.messages.next().await;
        let next = next.ok_or_else(|| lost(&"the broker ended the consumer"))?;
        let received = next.map_err(|error| refused(&self.name, &error))?;
        Ok(Received::from(received).message)
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
