//! The connections to the broker with `--verbose`: they say what is read and published. Names of queues and counts, no
//! messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use usher::broker::{
    Delivery, Depth, Holder, Inbox, InspectError, Inspector, Link, Message, PublishError, Publisher,
    StreamReader, Streamed,
};

use super::{counted, detail};

/// Such as ` after 12 ms`.
pub fn after(begun: Instant) -> String {
    format!(" after {} ms", begun.elapsed().as_millis())
}

/// Reads, and says what.
pub struct Reading(pub Arc<dyn Inspector>);

#[async_trait]
impl Inspector for Reading {
    async fn depth(&self, queue: &str) -> Result<Option<Depth>, InspectError> {
        let depth = self.0.depth(queue).await?;
        detail(|| match depth {
            Some(depth) => format!(
                "queue {queue}: {} ready, {}",
                counted(depth.ready, "message"),
                counted(depth.consumers, "consumer")
            ),
            None => format!("queue {queue}: there is none"),
        });
        Ok(depth)
    }

    async fn read(
        &self,
        stream: &str,
        since: Option<Timestamp>,
    ) -> Result<Box<dyn StreamReader>, InspectError> {
        detail(|| match since {
            Some(since) => format!("reading the stream {stream} from {since} on"),
            None => format!("reading the stream {stream} from its beginning"),
        });
        Ok(Box::new(ReadingStream {
            reader: self.0.read(stream, since).await?,
            read: Read::begun(format!("the stream {stream}")),
        }))
    }

    async fn hold(&self, queue: &str) -> Result<Box<dyn Holder>, InspectError> {
        detail(|| format!("looking into the queue {queue}"));
        Ok(Box::new(ReadingQueue {
            holder: self.0.hold(queue).await?,
            read: Read::begun(format!("the queue {queue}")),
        }))
    }

    async fn declare_queue(&self, queue: &str) -> Result<(), InspectError> {
        detail(|| format!("declaring the queue {queue}"));
        self.0.declare_queue(queue).await
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), InspectError> {
        detail(|| format!("deleting the queue {queue}"));
        self.0.delete_queue(queue).await
    }

    async fn inbox(&self, exchange: Option<&str>) -> Result<Box<dyn Inbox>, InspectError> {
        detail(|| match exchange {
            Some(exchange) => format!("listening to the exchange {exchange}"),
            None => "waiting for replies".to_owned(),
        });
        self.0.inbox(exchange).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// How much of something is read. Told once: at its end, or when it is given up.
struct Read {
    what: String,
    messages: u64,
    begun: Instant,
    is_told: bool,
}

impl Read {
    fn begun(what: String) -> Self {
        Self {
            what,
            messages: 0,
            begun: Instant::now(),
            is_told: false,
        }
    }

    fn tell(&mut self) {
        if !std::mem::replace(&mut self.is_told, true) {
            let messages = counted(self.messages, "message");
            detail(|| format!("{messages} of {} read{}", self.what, after(self.begun)));
        }
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.tell();
    }
}

struct ReadingStream {
    reader: Box<dyn StreamReader>,
    read: Read,
}

#[async_trait]
impl StreamReader for ReadingStream {
    async fn next(&mut self) -> Result<Streamed, InspectError> {
        let streamed = self.reader.next().await?;
        match &streamed {
            Streamed::Message(_) => self.read.messages += 1,
            Streamed::Present => self.read.tell(),
        }
        Ok(streamed)
    }
}

struct ReadingQueue {
    holder: Box<dyn Holder>,
    read: Read,
}

#[async_trait]
impl Holder for ReadingQueue {
    async fn next(&mut self) -> Result<Option<Delivery>, InspectError> {
        let next = self.holder.next().await?;
        match &next {
            Some(_) => self.read.messages += 1,
            None => self.read.tell(),
        }
        Ok(next)
    }

    async fn release(self: Box<Self>) {
        let Self { holder, read } = *self;
        drop(read);
        holder.release().await;
    }
}

/// Publishes, and says at the end how much.
pub struct Publishing {
    publisher: Arc<dyn Publisher>,
    confirmed: AtomicU64,
    begun: Instant,
}

impl Publishing {
    pub fn new(publisher: Arc<dyn Publisher>) -> Self {
        Self {
            publisher,
            confirmed: AtomicU64::new(0),
            begun: Instant::now(),
        }
    }
}

#[async_trait]
impl Publisher for Publishing {
    async fn publish(&self, message: &Message) -> Result<(), PublishError> {
        self.publisher.publish(message).await?;
        self.confirmed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.publisher.link()
    }

    fn unconfirmed(&self) -> usize {
        self.publisher.unconfirmed()
    }

    fn headers_bytes_max(&self) -> usize {
        self.publisher.headers_bytes_max()
    }

    async fn close(&self) {
        self.publisher.close().await;
        let confirmed = counted(self.confirmed.load(Ordering::Relaxed), "message");
        detail(|| format!("{confirmed} published and confirmed{}", after(self.begun)));
    }
}
