//! One epoch: from the moment when a partition's queues are consumed until their channels are closed. Both
//! classes of traffic begin and end together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, ready};
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::inbox::Inbox;
use super::pulse::Pulse;
use super::received::Received;
use crate::broker::{Acker, Config, Delivery, Partition};

/// How long a busy broker may keep acks in hand.
const ACKS_IN_HAND: Duration = Duration::from_millis(250);

type Tagged = (usize, Option<lapin::Result<lapin::message::Delivery>>);

/// It holds lapin's consumers: not to be dropped before its channels or its connection are closed.
pub(super) struct Epoch {
    pub(super) partition: Partition,
    pulse: Arc<Pulse>,
    ended: CancellationToken,
    _ends_when_dropped: DropGuard,
    channels: Vec<Arc<Channel>>,
    /// Each channel's queue: its name, and whether it holds bulk traffic.
    queues: Vec<(String, bool)>,
    streams: SelectAll<BoxStream<'static, Tagged>>,
}

impl Epoch {
    pub(super) fn new(partition: Partition, pulse: Arc<Pulse>) -> Self {
        let ended = CancellationToken::new();
        Self {
            partition,
            pulse,
            _ends_when_dropped: ended.clone().drop_guard(),
            ended,
            channels: Vec::new(),
            queues: Vec::new(),
            streams: SelectAll::new(),
        }
    }

    pub(super) async fn begin(
        &mut self,
        connection: &Connection,
        config: &Config,
        queues: [(String, bool); 2],
    ) -> lapin::Result<()> {
        for (queue, bulk) in queues {
            // A channel for each queue, so that each has a prefetch of its own on every version.
            let channel = Arc::new(connection.create_channel().await?);
            self.channels.push(channel.clone());
            self.consume(&channel, &queue, bulk, config.prefetch.get())
                .await?;
        }
        Ok(())
    }

    async fn consume(
        &mut self,
        channel: &Channel,
        queue: &str,
        bulk: bool,
        prefetch: u16,
    ) -> lapin::Result<()> {
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await?;
        let index = self.queues.len();
        self.queues.push((queue.to_owned(), bulk));
        let deliveries = consumer.map(move |delivery| (index, Some(delivery)));
        self.streams
            .push(deliveries.chain(stream::once(ready((index, None)))).boxed());
        Ok(())
    }

    /// Until the first sign of an end, which ends the epoch for all queues. Answers what it was.
    pub(super) async fn forward(&mut self, inbox: &Inbox) -> String {
        while let Some((index, delivery)) = self.streams.next().await {
            match delivery {
                Some(Ok(delivery)) => inbox.deliver(self.adopt(delivery, index)),
                Some(Err(error)) => return error.to_string(),
                None => return format!("the broker ended the consumer of {}", self.queues[index].0),
            }
        }
        "nothing to consume".to_owned()
    }

    fn adopt(&self, delivery: lapin::message::Delivery, index: usize) -> Delivery {
        let acker = AmqpAcker {
            ended: self.ended.clone(),
            pulse: self.pulse.clone(),
            channel: self.channels[index].clone(),
            tag: delivery.delivery_tag,
        };
        let received = Received::from(delivery);
        let from = (self.partition, self.queues[index].1);
        Delivery::new(received.message, received.redelivered, from, Box::new(acker))
    }

    pub(super) async fn let_acks_arrive(&mut self, config: &Config) {
        let channels = self.channels.iter().map(AsRef::as_ref);
        let_acks_arrive(channels, config.prefetch.get(), config).await;
    }

    /// The broker requeues what is unsettled, in order. Deliveries turn stale before that, so that no
    /// later one is settled while an earlier one goes back. False where the broker didn't say that all
    /// channels are closed: then the connection has to go too, before this is dropped.
    pub(super) async fn end(&mut self, config: &Config) -> bool {
        self.ended.cancel();
        let closing = self
            .channels
            .iter()
            .map(|channel| channel.close(200, "OK".into()));
        let closed = timeout(config.close_timeout, join_all(closing)).await;
        closed.is_ok_and(|closed| closed.iter().all(Result::is_ok))
    }
}

/// An ack is written and no more is heard of it. A busy broker keeps the latest in hand for a moment,
/// and loses them with the channel: settled commands would come again. So before a close that was
/// asked for, each channel is asked something, which it answers after the acks, and given that moment.
pub(super) async fn let_acks_arrive(
    channels: impl IntoIterator<Item = &Channel>,
    prefetch: u16,
    config: &Config,
) {
    let asked = channels
        .into_iter()
        .map(|channel| channel.basic_qos(prefetch, BasicQosOptions::default()));
    let _ = timeout(config.close_timeout, join_all(asked)).await;
    sleep(ACKS_IN_HAND).await;
}

struct AmqpAcker {
    /// The epoch has.
    ended: CancellationToken,
    /// Of its connection.
    pulse: Arc<Pulse>,
    /// lapin's own acker would go to it by two more tasks for each ack.
    channel: Arc<Channel>,
    tag: u64,
}

#[async_trait]
impl Acker for AmqpAcker {
    fn usable(&self) -> bool {
        !self.ended.is_cancelled() && self.pulse.beats() && self.channel.status().connected()
    }

    /// lapin lets an ack wait for ever when the connection ends at that moment.
    async fn ack(&self) -> bool {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => false,
            acked = self.channel.basic_ack(self.tag, BasicAckOptions::default()) => acked.is_ok(),
        }
    }
}
