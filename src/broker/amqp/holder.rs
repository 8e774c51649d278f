//! Holds a queue's messages on RabbitMQ: as many as are there, of which few wait in this process.
//!
//! A consumer of a quorum queue gets at most its prefetch. So another one is added on the same channel whenever all of
//! them are full and all that arrived is taken. When the channel closes, the broker takes the messages back consumer by
//! consumer, in the order of their tags, and those of a consumer in their order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use lapin::Channel;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection;
use super::inspector::{lost, refused};
use super::received::{BoundedAcker, Received};
use crate::broker::inspect::{Holder, InspectError};
use crate::broker::{Acker, Delivery};

/// If no message arrives for this long, others took the rest of the queue.
const QUIET_FOR: Duration = Duration::from_secs(2);

/// The first message of a queue that seems to be empty arrives within this, if there is one: a slow broker counts none.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// The messages of each of the first consumers, which bounds what waits in this process.
const PREFETCH: u16 = 4096;
const SMALL: usize = 24;
/// The broker keeps the order of no more consumers than this.
const CONSUMERS_MAX: usize = 32;

/// An ack makes room for a message at its own consumer. While acks are on their way, no consumer is added: messages of
/// the new one would go back behind those.
const ACKED_WITHIN: Duration = Duration::from_millis(300);

pub(super) struct AmqpHolder {
    queue: String,
    /// `None` once it is released.
    open: Option<(Channel, SelectAll<lapin::Consumer>)>,
    /// Arrived before an earlier one was seen: each consumer has a buffer of its own. By their delivery tags.
    early: BTreeMap<u64, Received>,
    /// The tags of a channel have no gaps.
    next_tag: u64,
    consumers: usize,
    /// How many messages all consumers may hold.
    room: u64,
    held: Arc<AtomicU64>,
    acked_at: Option<Instant>,
    /// Of those held, at the last look.
    held_before: u64,
    /// Messages that were ready at the start and have not arrived yet. `None`: not known; all that arrive are held.
    left: Option<u64>,
    ceiling: Duration,
}

impl AmqpHolder {
    pub(super) async fn begin(
        channel: Channel,
        queue: &str,
        ready: u64,
        ceiling: Duration,
    ) -> Result<Self, InspectError> {
        let mut holder = Self {
            queue: queue.to_owned(),
            open: Some((channel, SelectAll::new())),
            early: BTreeMap::new(),
            next_tag: 1,
            consumers: 0,
            room: 0,
            held: Arc::default(),
            acked_at: None,
            held_before: 0,
            left: Some(ready).filter(|ready| *ready > 0),
            ceiling,
        };
        holder.add_consumer().await?;
        Ok(holder)
    }

    async fn add_consumer(&mut self) -> Result<(), InspectError> {
        let Some((channel, deliveries)) = &mut self.open else {
            return Ok(());
        };
        if self.consumers == CONSUMERS_MAX {
            let reason = format!(
                "no more than {} messages of {} can be held at a time",
                self.room, self.queue
            );
            return Err(InspectError::Refused { reason });
        }
        let prefetch = if self.consumers < SMALL {
            PREFETCH
        } else {
            u16::MAX
        };
        let tag = format!("held-{:02}", self.consumers);
        let added = async {
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            channel
                .basic_consume(self.queue.as_str().into(), tag.into(), options, arguments)
                .await
        };
        let consumer = match timeout(self.ceiling, added).await {
            Ok(consumer) => consumer.map_err(|error| refused(&self.queue, &error))?,
            Err(_) => return Err(lost(&"it did not answer in time")),
        };
        deliveries.push(consumer);
        self.consumers += 1;
        self.room += u64::from(prefetch);
        Ok(())
    }

    /// Adds a consumer if those that there are get nothing more.
    async fn make_room(&mut self) -> Result<(), InspectError> {
        loop {
            let held = self.held.load(Ordering::Acquire);
            if held < self.room {
                return Ok(());
            }
            // The count falls when acks are sent.
            let Some(at) = self.acked_at.filter(|at| at.elapsed() < ACKED_WITHIN) else {
                return self.add_consumer().await;
            };
            tokio::time::sleep_until(at + ACKED_WITHIN).await;
        }
    }

    /// The message with the next tag. `None`: nothing arrives any more.
    async fn arrived(&mut self) -> Result<Option<Received>, InspectError> {
        let patience = match self.left.is_none() && self.next_tag == 1 {
            true => FIRST_WITHIN,
            false => QUIET_FOR,
        };
        let deadline = Instant::now() + patience;
        loop {
            if let Some(received) = self.early.remove(&self.next_tag) {
                self.next_tag += 1;
                return Ok(Some(received));
            }
            let Some((_, deliveries)) = &mut self.open else {
                return Ok(None);
            };
            let Ok(next) = timeout_at(deadline, deliveries.next()).await else {
                return Ok(None);
            };
            let next = next.ok_or_else(|| lost(&"the broker ended the consumer"))?;
            let delivery = next.map_err(|error| refused(&self.queue, &error))?;
            self.early.insert(delivery.delivery_tag, Received::from(delivery));
        }
    }
}

#[async_trait]
impl Holder for AmqpHolder {
    async fn next(&mut self) -> Result<Option<Delivery>, InspectError> {
        if self.left == Some(0) || self.open.is_none() {
            return Ok(None);
        }
        let held = self.held.load(Ordering::Acquire);
        if held < self.held_before {
            self.acked_at = Some(Instant::now());
        }
        self.make_room().await?;
        let Some(received) = self.arrived().await? else {
            self.left = Some(0);
            return Ok(None);
        };
        self.left = self.left.map(|left| left - 1);
        self.held_before = self.held.fetch_add(1, Ordering::AcqRel) + 1;
        Ok(Some(self.counted(received)))
    }

    async fn release(mut self: Box<Self>) {
        if let Some((channel, deliveries)) = self.open.take() {
            give_back(channel, deliveries, self.ceiling).await;
        }
    }
}

impl AmqpHolder {
    fn counted(&self, received: Received) -> Delivery {
        let acker = Box::new(HeldAcker {
            acker: BoundedAcker {
                acker: received.acker,
                ceiling: self.ceiling,
            },
            held: self.held.clone(),
        });
        Delivery::new(received.message, received.redelivered, (0, false), acker)
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
async fn give_back(channel: Channel, deliveries: SelectAll<lapin::Consumer>, ceiling: Duration) {
    let _ = timeout(ceiling, channel.close(200, "OK".into())).await;
    drop(deliveries);
}

struct HeldAcker {
    acker: BoundedAcker,
    held: Arc<AtomicU64>,
}

#[async_trait]
impl Acker for HeldAcker {
    fn usable(&self) -> bool {
        self.acker.usable()
    }

    async fn ack(&self) -> bool {
        let acked = self.acker.ack().await;
        self.held.fetch_sub(u64::from(acked), Ordering::AcqRel);
        acked
    }
}
