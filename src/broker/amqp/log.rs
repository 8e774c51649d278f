//! The outcome log from RabbitMQ: a stream, read from about the time that is wanted on, and not for longer than a worker
//! can wait for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::listener::{AGAIN, BODY_BYTES_MAX};
use super::received::Received;
use super::trouble::Trouble;
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{Extent, Heard};

/// Messages on their way; and after so many of them the broker is told to send more.
const PREFETCH: u16 = 1000;
const ACK_EVERY: u64 = 200;

/// The last message of a log that holds any comes within this: in 10 ms, mostly.
const LAST_WITHIN: Duration = Duration::from_millis(500);

pub(super) struct Log {
    hear: mpsc::Sender<Heard>,
    wanted: watch::Receiver<Option<Extent>>,
    /// Where it goes on, for the wish that it was read for.
    next: Mutex<Option<(Extent, i64)>>,
    trouble: watch::Sender<Option<String>>,
}

/// How the reading came to its end.
enum Read {
    /// Nobody wants it any more, or from elsewhere.
    AsWanted,
    /// By the broker: the log was deleted, or its node went.
    Ended,
}

impl Log {
    pub(super) fn new(
        hear: mpsc::Sender<Heard>,
        wanted: watch::Receiver<Option<Extent>>,
        trouble: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            hear,
            wanted,
            next: Mutex::default(),
            trouble,
        }
    }

    /// Reads the log whenever it is wanted. Ends when nobody listens any more.
    pub(super) async fn read(&self, connection: &Connection) {
        let mut wanted = self.wanted.clone();
        let mut trouble = Trouble::new("the outcome log can't be read").told(&self.trouble);
        loop {
            let Ok(wish) = wanted.wait_for(Option::is_some).await.map(|wish| *wish) else {
                return;
            };
            let Some(wish) = wish else { continue };
            let changed = async { wanted.wait_for(|wanted| *wanted != Some(wish)).await.is_ok() };
            let read = tokio::select! {
                read = self.read_for(connection, wish, &mut trouble) => read,
                _ = changed => Ok(Read::AsWanted),
            };
            match read {
                Ok(Read::AsWanted) => continue,
                Ok(Read::Ended) => trouble.is(&"the broker ended the consumer"),
                Err(error) => trouble.is(&error),
            }
            self.forget_offset();
            sleep(AGAIN).await;
        }
    }

    async fn read_for(
        &self,
        connection: &Connection,
        wish: Extent,
        trouble: &mut Trouble<'_>,
    ) -> lapin::Result<Read> {
        let goes_on = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let from = match goes_on {
            Some((of, offset)) if of == wish => AMQPValue::LongLongInt(offset),
            _ => return self.begin(connection, wish, trouble).await,
        };
        match self.open(connection, from, trouble).await? {
            Some(mut part) => self.follow(&mut part, wish, None).await,
            None => Ok(Read::AsWanted),
        }
    }

    /// Begins to read, and says so. `None` where nobody listens any more.
    async fn open(
        &self,
        connection: &Connection,
        from: AMQPValue,
        trouble: &mut Trouble<'_>,
    ) -> lapin::Result<Option<Part>> {
        let part = Part::open(connection, from).await?;
        trouble.is_over();
        let heard = self.hear.send(Heard::Following).await;
        Ok(heard.is_ok().then_some(part))
    }

    /// From the time that is wanted. Where too much has been stored since then, from so many messages before the last.
    async fn begin(
        &self,
        connection: &Connection,
        wish: Extent,
        trouble: &mut Trouble<'_>,
    ) -> lapin::Result<Read> {
        let messages_max = i64::try_from(wish.messages_max).unwrap_or(i64::MAX);
        let since = u64::try_from(wish.since.as_second()).unwrap_or(0);
        let Some(mut part) = self
            .open(connection, AMQPValue::Timestamp(since), trouble)
            .await?
        else {
            return Ok(Read::AsWanted);
        };
        let Some(first) = part.next().await? else {
            return Ok(Read::Ended);
        };
        // Asked only now: of a log that holds nothing it is never known.
        let last = last(connection).await?;
        let latest = last.map_or(i64::MIN, |last| last.saturating_sub(messages_max) + 1);
        if offset(&first).is_none_or(|offset| offset >= latest) {
            return self.follow(&mut part, wish, Some(first)).await;
        }
        part.close().await;
        let mut part = Part::open(connection, AMQPValue::LongLongInt(latest)).await?;
        if self.hear.send(Heard::Cut).await.is_err() {
            return Ok(Read::AsWanted);
        }
        self.follow(&mut part, wish, None).await
    }

    /// Hands on what comes, until nothing does any more.
    async fn follow(&self, part: &mut Part, wish: Extent, first: Option<Received>) -> lapin::Result<Read> {
        let mut next = first;
        loop {
            let received = match next.take() {
                Some(first) => first,
                None => match part.next().await? {
                    Some(received) => received,
                    None => return Ok(Read::Ended),
                },
            };
            let offset = offset(&received);
            let Received { message, acker, .. } = received;
            if self.hear.send(Heard::Logged(message)).await.is_err() {
                return Ok(Read::AsWanted);
            }
            if let Some(offset) = offset {
                *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some((wish, offset + 1));
            }
            part.unacked += 1;
            if part.unacked == ACK_EVERY {
                acker.ack(BasicAckOptions { multiple: true }).await?;
                part.unacked = 0;
            }
        }
    }

    /// The log may be another one by now, in which what was read stands nowhere: what is read twice changes nothing.
    fn forget_offset(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The log from somewhere on, on a channel of its own.
struct Part {
    channel: Channel,
    deliveries: lapin::Consumer,
    unacked: u64,
}

impl Part {
    async fn open(connection: &Connection, from: AMQPValue) -> lapin::Result<Self> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), from);
        let options = BasicConsumeOptions::default();
        let deliveries = channel
            .basic_consume(OUTCOME_LOG.into(), "".into(), options, arguments)
            .await?;
        Ok(Self {
            channel,
            deliveries,
            unacked: 0,
        })
    }

    async fn next(&mut self) -> lapin::Result<Option<Received>> {
        let delivery = self.deliveries.next().await.transpose()?;
        Ok(delivery.map(|delivery| Received::from(delivery).within(BODY_BYTES_MAX)))
    }

    async fn close(self) {
        // An error is as good: the channel is gone.
        let _ = self.channel.close(200, "OK".into()).await;
    }
}

fn offset(received: &Received) -> Option<i64> {
    received.message.properties.number("x-stream-offset")
}

/// The offset of the log's last message, or of one that was stored with it. `None`: it did not come in time, and the
/// reading is not bounded by it.
async fn last(connection: &Connection) -> lapin::Result<Option<i64>> {
    let mut part = Part::open(connection, AMQPValue::LongString("last".into())).await?;
    let last = match timeout(LAST_WITHIN, part.next()).await {
        Ok(last) => last?.as_ref().and_then(offset),
        Err(_) => None,
    };
    part.close().await;
    Ok(last)
}
