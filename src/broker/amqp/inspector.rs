//! Looks into RabbitMQ's queues and streams, on a connection of its own.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use tokio::time::{sleep, timeout};

use super::connection;
use super::error::{ConnectError, is_not_found, refused_object};
use super::holder::AmqpHolder;
use super::received::Received;
use super::stream::Stream;
use super::terms::{amqp, table};
use crate::broker::inspect::{Depth, Holder, Inbox, InspectError, Inspector, StreamReader, Streamed};
use crate::broker::topology::kept_for_one;
use crate::broker::{Config, Message};

/// The broker may count nothing because it is slow: it is asked so often, with such pauses.
const COUNTS: u32 = 3;
const COUNT_AGAIN: Duration = Duration::from_millis(50);

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
pub(super) async fn depth_on(channel: &Channel, queue: &str) -> lapin::Result<Depth> {
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
