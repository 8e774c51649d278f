//! The port to a broker: deliveries in, confirmed messages out.
//!
//! A broker knows bytes and headers, not commands. `amqp` is RabbitMQ, `memory` is a broker inside the
//! process; one conformance suite runs against both.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::traces::Process;

pub mod amqp;
pub mod config;
pub mod headers;
mod held;
mod in_flight;
pub mod inspect;
pub mod memory;
pub mod properties;
pub mod topology;
pub mod x_death;

pub use config::Config;
pub use headers::Added;
pub use inspect::{Depth, Holder, Inbox, InspectError, Inspector, StreamReader, Streamed};
pub use properties::{Header, Properties};
pub use topology::Topology;
pub use x_death::XDeath;

/// The most that a consumer holds, so that the process stays small whatever is sent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the bodies of all unsettled deliveries. Deliveries beyond that are dropped and redelivered, in order.
    pub held_bytes: usize,
    /// Bytes of one body. A larger one is rejected undecoded: the broker moves it to its own dead letters.
    pub body_bytes: usize,
}

impl Limits {
    pub const NONE: Self = Self {
        held_bytes: usize::MAX,
        body_bytes: usize::MAX,
    };
}

/// A command as the broker delivered it. It is settled once: acked, or handed back.
#[must_use = "a dropped delivery is redelivered only when its channel closes: ack it, or hand it back"]
pub struct Delivery {
    pub body: Bytes,
    pub properties: Properties,
    pub exchange: String,
    pub routing_key: String,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
    pub received_at: Instant,
    /// The partition it came from, and whether from the queue of bulk traffic.
    pub partition: Partition,
    pub bulk: bool,
    /// Its span, if it is traced, or the publisher's context to hand on.
    pub trace: Option<Process>,
    acker: Box<dyn Acker>,
}

/// The broker's unit of order: a queue for each traffic class, and one lease for both.
pub type Partition = u16;

/// The right to consume a partition. Each later lease of the partition has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub partition: Partition,
    pub number: u64,
}

/// What a consumer delivers to the worker.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every arrival is a delivery")]
pub enum Arrival {
    /// This worker got the lease. Nothing is delivered before `consume` is called with it.
    Leased(Lease),
    /// The lease is gone: released as asked, or lost. Deliveries under it are stale.
    Lost(Lease),
    Delivery(Delivery),
}

/// A broker adapter's part of a delivery.
#[async_trait]
pub trait Acker: Send + Sync {
    /// Whether an ack can still reach the broker: false once the delivery's connection or channel is gone.
    fn usable(&self) -> bool;

    /// False where the delivery turned stale: the broker redelivers it.
    async fn ack(&self) -> bool;
}

/// The delivery's connection is gone; the broker redelivers it.
#[derive(Debug, thiserror::Error)]
#[error("the delivery is stale: the broker redelivers it")]
pub struct Stale;

impl Delivery {
    pub fn new(
        message: Message,
        redelivered: bool,
        (partition, bulk): (Partition, bool),
        acker: Box<dyn Acker>,
    ) -> Self {
        Self {
            body: message.body,
            properties: message.properties,
            exchange: message.exchange,
            routing_key: message.routing_key,
            redelivered,
            received_at: Instant::now(),
            partition,
            bulk,
            trace: None,
            acker,
        }
    }

    /// Checked before every provider call: a stale delivery may be another worker's by now.
    pub fn usable(&self) -> bool {
        self.acker.usable()
    }

    pub async fn ack(self) -> Result<(), Stale> {
        if self.acker.ack().await {
            Ok(())
        } else {
            Err(Stale)
        }
    }

    /// Leaves it unsettled. The broker gets it back, in order, when its lease is released: requeuing a
    /// single delivery would let later ones of the same user overtake it.
    pub fn hand_back(self) {}
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("routing_key", &self.routing_key)
            .field("redelivered", &self.redelivered)
            .field("bulk", &self.bulk)
            .finish_non_exhaustive()
    }
}

/// The longest text of an AMQP property or a routing key. No queue gets a message with a longer one.
pub const SHORT_TEXT_BYTES_MAX: usize = 255;

/// A message to publish, or one in a queue.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// Empty for the default exchange, where the routing key is a queue's name.
    pub exchange: String,
    pub routing_key: String,
    pub properties: Properties,
    pub body: Bytes,
    /// The broker returns it if no queue takes it.
    pub mandatory: bool,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Whether the broker can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not connected, with the reason of the last attempt.
    Down {
        reason: String,
    },
    Up,
    /// Connected, but the broker takes no messages now (a memory or disk alarm).
    Blocked {
        reason: String,
    },
}

/// Receives deliveries of the partitions whose leases it holds. It reconnects by itself, without end, and claims again
/// what it had claimed; a lost connection loses its leases.
#[async_trait]
pub trait Consumer: Send {
    /// `None` where no more deliveries will come (the end of a file). A lost connection is not an end.
    async fn next(&mut self) -> Option<Arrival>;

    /// Waits in the background for the partition's lease, until it is released.
    fn claim(&mut self, partition: Partition);

    /// Starts deliveries under this lease, if it is still held.
    fn consume(&mut self, lease: Lease);

    /// Releases the lease or withdraws the claim: every unsettled delivery of the partition goes back, in order,
    /// and the next claimant gets the lease. Call it when nothing of the partition is in flight any more.
    fn release(&mut self, partition: Partition);

    fn link(&self) -> watch::Receiver<Link>;

    /// How many deliveries of one partition may be unsettled at a time.
    fn window(&self) -> usize;

    /// Releases all leases, and closes the connection.
    async fn close(self: Box<Self>);
}

/// What a listener receives.
#[derive(Debug)]
pub enum FleetMessage {
    /// From another worker of the fleet, or from this one.
    Notice(Bytes),
    /// A reading of the outcome log begins, for this extent: its messages may repeat, and its older part is unread.
    Begins(Extent),
    /// From the end of the outcome log, in order: the latest messages that were there, then new ones.
    Logged(Message),
    /// All messages that were in the log when the reading began were read, except for its older part and for those
    /// stored at the same moment as the last one. Or the log delivers nothing.
    Present,
    /// Only the latest messages of the older part are read; they begin with the next `Earlier`.
    Cut,
    /// From the older part, in order, interleaved with new messages.
    Earlier(Message),
    /// The older part is read.
    Complete,
    /// A reading of the operators' orders begins, which takes the place of the earlier one.
    OrdersBegin,
    /// From the stream of orders, in order.
    Order(Bytes),
    /// All orders that were there when the reading began are read; new ones follow.
    OrdersPresent,
    /// A command that the broker dead-lettered. One at a time: the next one comes when this one is acked.
    BrokerDeadLetter(Delivery),
}

/// How much of the outcome log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// From about this time on. If there is nothing since then, the last message.
    pub since: Timestamp,
    /// About the most of the messages that are already there to read: the latest ones.
    pub messages_max: usize,
    /// How many of those are read first; the older ones follow, interleaved with new ones. Less than `messages_max`.
    pub end_max: usize,
}

/// Receives the fleet's notices, reads the outcome log, and takes the broker's own dead letters, if no other listener
/// does. It reconnects by itself, and ends when it is dropped.
#[async_trait]
pub trait Listener: Send {
    async fn next(&mut self) -> FleetMessage;

    /// Reads this extent of the outcome log, its end first, and then new messages; `None`: stops reading.
    fn follow(&mut self, wanted: Option<Extent>);

    fn status(&self) -> ListenerStatus;
}

/// What a listener knows of the broker besides its messages, as of a few seconds ago.
#[derive(Clone)]
pub struct ListenerStatus {
    /// The connection that receives notices.
    pub link: watch::Receiver<Link>,
    /// Why the outcome log can't be read, in the broker's words.
    pub log_trouble: watch::Receiver<Option<String>>,
    /// How many messages are in `user.unroutable`. `None`: not known, or no such queue.
    pub unroutable: watch::Receiver<Option<u64>>,
    /// The same for `user.dead-letters`.
    pub dead_letters: watch::Receiver<Option<u64>>,
    pub ready: Ready,
}

/// How many commands of each partition are ready to be delivered. If there are fewer numbers than partitions, the rest
/// are not known.
pub type Ready = Arc<dyn Fn() -> Vec<u64> + Send + Sync>;

impl fmt::Debug for ListenerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerStatus")
            .field("link", &self.link)
            .field("log_trouble", &self.log_trouble)
            .finish_non_exhaustive()
    }
}

/// Publishes, and returns when the broker has confirmed the message.
#[async_trait]
pub trait Publisher: Send + Sync {
    async fn publish(&self, message: &Message) -> Result<(), PublishError>;

    fn link(&self) -> watch::Receiver<Link>;

    /// How many publishes are not confirmed yet.
    fn unconfirmed(&self) -> usize;

    /// The most bytes of the headers of one message.
    fn headers_bytes_max(&self) -> usize;

    /// Waits for outstanding confirms, and closes the connection.
    async fn close(&self);
}

/// Why a message is not known to be with the broker. Publishing it again is always safe if its
/// readers recognise it by its id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("the broker refused the message (nack)")]
    Nacked,
    #[error(
        "the broker did not confirm the message in time or the connection was lost: it may have taken it"
    )]
    Unconfirmed,
    #[error("no queue takes the message")]
    Returned,
}
