//! Reads a stream from some point on, on a channel of its own.

use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, Channel, Connection};

use crate::broker::Message;
use crate::broker::amqp::listener::BODY_BYTES_MAX;
use crate::broker::amqp::received::Received;

/// The most unacknowledged messages, and how many are acknowledged at a time.
const PREFETCH: u16 = 1000;
const ACK_EVERY: u64 = 200;

#[derive(Debug, Clone, Copy)]
pub(in crate::broker::amqp) enum Point {
    First,
    Offset(i64),
    /// From the chunk with the first message since this time. Waits for it if there is none.
    Time(Timestamp),
    /// From the chunk with the last message. Waits for it if there is none.
    Last,
}

impl Point {
    fn argument(self) -> AMQPValue {
        match self {
            Self::Offset(offset) => AMQPValue::LongLongInt(offset),
            Self::Time(then) => AMQPValue::Timestamp(u64::try_from(then.as_second()).unwrap_or(0)),
            Self::First => AMQPValue::LongString("first".into()),
            Self::Last => AMQPValue::LongString("last".into()),
        }
    }
}

pub(in crate::broker::amqp) struct LogReader {
    channel: Channel,
    deliveries: lapin::Consumer,
    /// The acker of the latest message.
    acker: Option<Acker>,
    unacked: u64,
}

impl LogReader {
    pub(in crate::broker::amqp) async fn open(
        connection: &Connection,
        stream: &str,
        from: Point,
    ) -> lapin::Result<Self> {
        Self::within(connection, stream, from, PREFETCH).await
    }

    async fn within(
        connection: &Connection,
        stream: &str,
        from: Point,
        prefetch: u16,
    ) -> lapin::Result<Self> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), from.argument());
        let options = BasicConsumeOptions::default();
        let deliveries = channel
            .basic_consume(stream.into(), "".into(), options, arguments)
            .await?;
        Ok(Self {
            channel,
            deliveries,
            acker: None,
            unacked: 0,
        })
    }

    async fn delivery(&mut self) -> lapin::Result<Option<Delivery>> {
        self.deliveries.next().await.transpose()
    }

    /// The next message, and its offset.
    pub(in crate::broker::amqp) async fn next(&mut self) -> lapin::Result<Option<(i64, Message)>> {
        let Some(delivery) = self.delivery().await? else {
            return Ok(None);
        };
        let received = Received::from(delivery).within(BODY_BYTES_MAX);
        // The broker gives every message an offset.
        let offset = offset(&received.message).unwrap_or_default();
        self.acker = Some(received.acker);
        Ok(Some((offset, received.message)))
    }

    /// The last message was forwarded.
    pub(in crate::broker::amqp) async fn taken(&mut self) -> lapin::Result<()> {
        self.unacked += 1;
        if self.unacked >= ACK_EVERY
            && let Some(acker) = self.acker.take()
        {
            self.unacked = 0;
            acker.ack(BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    }

    pub(in crate::broker::amqp) async fn close(self) {
        // On an error the channel is gone as well.
        let _ = self.channel.close(200, "OK".into()).await;
    }
}

fn offset(message: &Message) -> Option<i64> {
    message.properties.number("x-stream-offset")
}

/// Waits for the first message; `None`: the broker ended the consumer first.
pub(in crate::broker::amqp) async fn offset_of_first(
    connection: &Connection,
    stream: &str,
    from: Point,
) -> lapin::Result<Option<i64>> {
    let mut reader = LogReader::within(connection, stream, from, 1).await?;
    let first = reader.next().await?;
    reader.close().await;
    Ok(first.map(|(offset, _)| offset))
}
