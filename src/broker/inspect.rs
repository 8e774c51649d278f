//! The port for operators: looking into queues and streams beside the workers.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Delivery, Message};

/// Why something can't be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    #[error("there is no queue {queue} on the broker: run `usher topology declare`")]
    NoQueue { queue: String },
    /// The connection was lost, or the broker does not answer.
    #[error("the connection to the broker was lost: {reason}")]
    Lost { reason: String },
    #[error("the broker refuses it: {reason}")]
    Refused { reason: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages that are not with a consumer.
    pub ready: u64,
    pub consumers: u64,
}

/// Looks into the broker.
#[async_trait]
pub trait Inspector: Send + Sync {
    /// `None`: there is no such queue. RabbitMQ may answer zeros for a queue that is slow (seen on 3.10): nothing may be lost
    /// by believing them.
    async fn depth(&self, queue: &str) -> Result<Option<Depth>, InspectError>;

    /// Reads a stream from about this time on, or from its beginning. It takes nothing away from other readers.
    async fn read(
        &self,
        stream: &str,
        since: Option<Timestamp>,
    ) -> Result<Box<dyn StreamReader>, InspectError>;

    /// Takes hold of the messages that are ready in a queue. While they are held, no other consumer gets them.
    async fn hold(&self, queue: &str) -> Result<Box<dyn Holder>, InspectError>;

    /// Declares a queue that keeps what an operation works on, for one consumer at a time. One that exists is kept.
    async fn declare_queue(&self, queue: &str) -> Result<(), InspectError>;

    /// Succeeds also where there is no such queue. Its messages are lost.
    async fn delete_queue(&self, queue: &str) -> Result<(), InspectError>;

    /// Makes a queue of this connection's own, to receive replies. With an exchange, it also receives what is published
    /// there.
    async fn inbox(&self, exchange: Option<&str>) -> Result<Box<dyn Inbox>, InspectError>;

    async fn close(&self);
}

/// A queue that is gone when this is dropped.
#[async_trait]
pub trait Inbox: Send {
    /// The queue, to which the default exchange leads.
    fn name(&self) -> &str;

    /// Waits for the next message.
    async fn next(&mut self) -> Result<Message, InspectError>;
}

/// What a stream's reader gets.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are messages")]
pub enum Streamed {
    Message(Message),
    /// All messages that were there when the reading began are read, and perhaps some more. Once.
    Present,
}

#[async_trait]
pub trait StreamReader: Send {
    /// Waits for new messages after `Present`.
    async fn next(&mut self) -> Result<Streamed, InspectError>;
}

/// Holds messages of a queue. Those that are not acked go back to their places when it is released or dropped.
#[async_trait]
pub trait Holder: Send {
    /// The next one, in the queue's order. `None`: all that were ready at the start are held.
    async fn next(&mut self) -> Result<Option<Delivery>, InspectError>;

    /// Returns when the broker has taken the messages back.
    async fn release(self: Box<Self>);
}
