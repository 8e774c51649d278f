//! The port to a broker: deliveries in, confirmed messages out.
//!
//! A broker knows bytes and headers, not commands. `amqp` speaks to RabbitMQ, `memory` lives in the
//! process; one conformance suite runs against both.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

pub mod amqp;
pub mod config;
pub mod death;
pub mod headers;
mod held;
mod in_flight;
mod listener_status;
pub mod memory;
pub mod properties;
pub mod topology;

pub use config::Config;
pub use death::Death;
pub use headers::Added;
pub use listener_status::{ListenerStatus, Ready};
pub use properties::{Header, Properties};
pub use topology::Topology;

/// What a consumer holds at most, so that the process stays small whatever is sent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the bodies of unsettled deliveries together. What comes beyond is let go of and comes again, in order.
    pub held_bytes: usize,
    /// Of one body. A larger one is given up unread: the broker moves it to what it gave up itself.
    pub body_bytes: usize,
}

impl Limits {
    pub const NONE: Self = Self {
        held_bytes: usize::MAX,
        body_bytes: usize::MAX,
    };
}

/// A command as the broker handed it over. It is settled once: acked, or handed back.
#[must_use = "a delivery that is dropped comes again only when its channel closes: ack it, or hand it back"]
pub struct Delivery {
    pub body: Bytes,
    pub properties: Properties,
    pub exchange: String,
    pub routing_key: String,
    /// The broker delivered it before.
    pub redelivered: bool,
    pub received_at: Instant,
    /// Which of its partitions it came from, and whether from the queue of bulk traffic.
    pub partition: Partition,
    pub bulk: bool,
    acker: Box<dyn Acker>,
}

/// The broker's unit of order: a queue for each class of traffic, and one lease for both.
pub type Partition = u16;

/// The right to consume a partition, from a moment on. A later one of the same partition has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub partition: Partition,
    pub number: u64,
}

/// What a consumer has for the worker.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every arrival is a delivery")]
pub enum Arrival {
    /// The lease came to this worker. Nothing is delivered before it is used.
    Leased(Lease),
    /// The lease is gone: given up as asked, or lost. What was delivered under it is stale.
    Lost(Lease),
    Delivery(Delivery),
}

/// What a broker adapter puts under a delivery.
#[async_trait]
pub trait Acker: Send + Sync {
    /// Whether an ack can still reach the broker: false once the connection or channel it came on is gone.
    fn usable(&self) -> bool;

    /// False where the delivery turned stale: the broker will deliver it again.
    async fn ack(&self) -> bool;
}

/// The delivery's connection is gone; the broker delivers it again.
#[derive(Debug, thiserror::Error)]
#[error("the delivery is stale: the broker delivers it again")]
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
            acker,
        }
    }

    /// Checked before every provider call: a stale delivery belongs to somebody else by now.
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

    /// Leaves it unsettled. The broker gets it back, in order, when its lease is given up: a requeue of a
    /// single delivery would let later ones of the same user pass it.
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

/// The longest text that AMQP can hold in a property, or as a routing key. No queue gets a message with a longer one.
pub const SHORT_TEXT_BYTES_MAX: usize = 255;

/// A message to publish, or one that lies in a queue.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// Empty for the default exchange, where the routing key is a queue's name.
    pub exchange: String,
    pub routing_key: String,
    pub properties: Properties,
    pub body: Bytes,
    /// The publisher wants to know when no queue takes it.
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
    /// Not connected, with the reason of the last try.
    Down {
        reason: String,
    },
    Up,
    /// Connected, but the broker takes no messages now (a memory or disk alarm).
    Blocked {
        reason: String,
    },
}

/// Takes deliveries of the partitions whose leases it holds. It reconnects by itself, for ever, and stands in
/// line again for what it claimed; a lost connection loses its leases.
#[async_trait]
pub trait Consumer: Send {
    /// `None` where no more deliveries will come (a file's end); a connection's loss is no end.
    async fn next(&mut self) -> Option<Arrival>;

    /// Stands in line for the partition's lease, until it is released.
    fn claim(&mut self, partition: Partition);

    /// Takes deliveries under this lease, if it is still held.
    fn consume(&mut self, lease: Lease);

    /// Gives the lease up, or leaves the line: every unsettled delivery of the partition goes back, in order,
    /// and whoever stands in line is next. Call it when nothing of the partition is in flight any more.
    fn release(&mut self, partition: Partition);

    fn link(&self) -> watch::Receiver<Link>;

    /// How many deliveries of one partition may be unsettled at a time.
    fn window(&self) -> usize;

    /// Releases everything, and ends the connection.
    async fn close(self: Box<Self>);
}

/// What a listener hears.
#[derive(Debug)]
pub enum FleetMessage {
    /// From another worker of the fleet, or from this one.
    Notice(Bytes),
    /// The outcome log is read anew, for this wish: what is in it may come once more, and none of its older part came.
    Begins(Extent),
    /// From the end of the outcome log on, in its order: the latest of what was there, and then what is new.
    Logged(Message),
    /// All that was in the log when the reading began came, but for its older part, and for what was stored at the same
    /// moment as the last of it. Or the log says nothing.
    Present,
    /// Of what is wanted of the older part only the latest comes: it begins with the next that is `Earlier`.
    Cut,
    /// From the older part, in its order, beside what is new.
    Earlier(Message),
    /// All that is wanted of the older part came.
    Complete,
    /// A command that the broker gave up. One at a time: the next one comes when this one is acked.
    GivenUp(Delivery),
}

/// How much of the outcome log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// From about then on. Where nothing is there since then, the last of it.
    pub since: Timestamp,
    /// Of what is there already, not more than about so many messages: the latest.
    pub messages_max: usize,
    /// How many of those come first; the older ones follow beside what is new. Less than `messages_max`.
    pub end_max: usize,
}

/// Hears what the workers of the fleet tell each other, reads the outcome log, and takes what the broker gave up, if
/// no other listener does. It reconnects by itself, and ends when it is dropped.
#[async_trait]
pub trait Listener: Send {
    async fn next(&mut self) -> FleetMessage;

    /// Reads so much of the outcome log, its end first, and then what is new; `None`: no more.
    fn follow(&mut self, wanted: Option<Extent>);

    fn status(&self) -> ListenerStatus;
}

/// Publishes, and answers when the broker has taken responsibility.
#[async_trait]
pub trait Publisher: Send + Sync {
    async fn publish(&self, message: &Message) -> Result<(), PublishError>;

    fn link(&self) -> watch::Receiver<Link>;

    /// How large the headers of one message may be.
    fn headers_bytes_max(&self) -> usize;

    /// Waits for the confirms of what was published, and ends the connection.
    async fn close(&self);
}

/// Why a message is not known to be with the broker. Publishing it again is always right for a
/// message whose id its readers know it by.
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
