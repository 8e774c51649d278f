//! One epoch: from the start of consuming a partition's queues until their channels are closed. Both
//! traffic classes begin and end together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, ready};
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::inbox::Inbox;
use super::lease_watchdog::LeaseWatchdog;
use super::received::Received;
use crate::broker::held::{Held, HeldBytes};
use crate::broker::in_flight::InFlight;
use crate::broker::{Acker, Config, Delivery, Partition};

/// How long a busy broker may take to process acks.
const ACKS_SETTLE_IN: Duration = Duration::from_millis(250);

/// A lapin reject never returns if the connection ends at that moment.
const REJECT_MAX: Duration = Duration::from_secs(5);

type Tagged = (usize, Option<lapin::Result<lapin::message::Delivery>>);

/// Holds lapin's consumers, so it must not be dropped before its channels or its connection are closed.
pub(super) struct Epoch {
    pub(super) partition: Partition,
    lease_watchdog: Arc<LeaseWatchdog>,
    ended: CancellationToken,
    _ends_when_dropped: DropGuard,
    channels: Vec<Arc<Channel>>,
    /// Each channel's queue: its name, and whether it holds bulk traffic.
    queues: Vec<(String, bool)>,
    streams: SelectAll<BoxStream<'static, Tagged>>,
    held: Arc<HeldBytes>,
    /// Deliveries that are not settled.
    in_flight: Arc<InFlight>,
    body_bytes_max: usize,
}

/// How an epoch ended.
pub(super) enum Forwarded {
    /// It was lost, for this reason.
    Lost(String),
    /// More was delivered than may be held, and all held deliveries are settled: the next epoch receives the rest.
    Full,
}

impl Epoch {
    pub(super) fn new(
        partition: Partition,
        lease_watchdog: Arc<LeaseWatchdog>,
        held: Arc<HeldBytes>,
        body_bytes_max: usize,
    ) -> Self {
        let ended = CancellationToken::new();
        Self {
            partition,
            lease_watchdog,
            _ends_when_dropped: ended.clone().drop_guard(),
            ended,
            channels: Vec::new(),
            queues: Vec::new(),
            streams: SelectAll::new(),
            held,
            in_flight: Arc::default(),
            body_bytes_max,
        }
    }

    pub(super) async fn begin(
        &mut self,
        connection: &Connection,
        config: &Config,
        queues: [(String, bool); 2],
    ) -> lapin::Result<()> {
        for (queue, bulk) in queues {
            // A channel for each queue, so that each has its own prefetch on every version of the broker.
            let channel = Arc::new(connection.create_channel().await?);
            self.channels.push(channel.clone());
            self.consume(&channel, &queue, bulk, config.prefetch()).await?;
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

    /// Forwards deliveries until one queue's consumer ends, which ends the epoch for all queues.
    pub(super) async fn forward(&mut self, inbox: &Inbox) -> Forwarded {
        let in_flight = self.in_flight.clone();
        // Once one delivery is dropped, all later ones are: the broker redelivers them behind it.
        let mut is_full = false;
        loop {
            let next = tokio::select! {
                next = self.streams.next() => next,
                () = in_flight.none(), if is_full => return Forwarded::Full,
            };
            let Some((index, delivery)) = next else {
                return Forwarded::Lost("nothing to consume".to_owned());
            };
            match delivery {
                Some(Ok(delivery)) if delivery.data.len() > self.body_bytes_max => {
                    if let Err(error) = dead_letter(delivery).await {
                        return Forwarded::Lost(error);
                    }
                }
                Some(Ok(_)) if is_full => {}
                Some(Ok(delivery)) => match self.adopt(delivery, index) {
                    Some(delivery) => inbox.deliver(delivery),
                    None => is_full = true,
                },
                Some(Err(error)) => return Forwarded::Lost(error.to_string()),
                None => {
                    let queue = &self.queues[index].0;
                    return Forwarded::Lost(format!("the broker ended the consumer of {queue}"));
                }
            }
        }
    }

    /// `None` where there is no room for it.
    fn adopt(&self, delivery: lapin::message::Delivery, index: usize) -> Option<Delivery> {
        let acker = AmqpAcker {
            _held: self.held.hold(delivery.data.len(), &self.in_flight)?,
            ended: self.ended.clone(),
            lease_watchdog: self.lease_watchdog.clone(),
            channel: self.channels[index].clone(),
            tag: delivery.delivery_tag,
        };
        let received = Received::from(delivery);
        let from = (self.partition, self.queues[index].1);
        Some(Delivery::new(
            received.message,
            received.redelivered,
            from,
            Box::new(acker),
        ))
    }

    /// The broker does not confirm acks. A busy broker processes the latest ones a moment later, and loses them
    /// if the channel closes first: settled commands would be redelivered. So before a requested close,
    /// each channel gets a request, which is answered after the acks, and some more time.
    pub(super) async fn let_acks_arrive(&mut self, config: &Config) {
        let asked = self
            .channels
            .iter()
            .map(|channel| channel.basic_qos(config.prefetch(), BasicQosOptions::default()));
        let _ = timeout(config.close_timeout, join_all(asked)).await;
        sleep(ACKS_SETTLE_IN).await;
    }

    /// The broker requeues unsettled deliveries, in order. They turn stale before that, so that no
    /// later one is settled while an earlier one goes back. False if the broker didn't confirm that all
    /// channels are closed: then the connection has to be closed, too, before this is dropped.
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

/// Rejects the delivery: the broker moves it to its own dead letters, where one body at a time is read. It settles only
/// this delivery, which does not affect the order of others.
async fn dead_letter(delivery: lapin::message::Delivery) -> Result<(), String> {
    // The body is dropped first: it may take all the memory there is.
    let (acker, bytes) = (delivery.acker, delivery.data.len());
    drop(delivery.data);
    tracing::debug!(
        bytes,
        "broker: a body is larger than any command; it is rejected undecoded"
    );
    let rejected = timeout(REJECT_MAX, acker.reject(BasicRejectOptions { requeue: false })).await;
    match rejected {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("a delivery could not be rejected in time".to_owned()),
    }
}

struct AmqpAcker {
    _held: Held,
    /// Cancelled when the epoch ends.
    ended: CancellationToken,
    /// The watchdog of its connection.
    lease_watchdog: Arc<LeaseWatchdog>,
    /// Used directly: lapin's own acker needs two more tasks for each ack.
    channel: Arc<Channel>,
    tag: u64,
}

#[async_trait]
impl Acker for AmqpAcker {
    fn usable(&self) -> bool {
        !self.ended.is_cancelled() && self.lease_watchdog.is_trusted() && self.channel.status().connected()
    }

    /// A lapin ack never returns if the connection ends at that moment.
    async fn ack(&self) -> bool {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => false,
            acked = self.channel.basic_ack(self.tag, BasicAckOptions::default()) => acked.is_ok(),
        }
    }
}
