//! Feeds a file's commands to the broker in memory, except those that earlier runs settled.

use tokio::sync::watch;
use usher::broker::memory::MemoryBroker;
use usher::broker::topology::COMMANDS;
use usher::broker::{Message, Properties};
use usher::contract::{Ident, UserId};
use usher::worker::Shutdown;

use super::input::{Input, Line};
use super::outcomes::{Earlier, Settled};

/// The most commands that are read ahead.
const QUEUE_DEPTH_MAX: usize = 1024;

/// How far the file has been read, in commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fed {
    pub read: u64,
    /// Of these, the commands settled by earlier runs.
    pub earlier: u64,
    /// Of those, the dead letters.
    pub earlier_failed: u64,
}

/// Publishes the file's commands to the broker's queue, as fast as they are consumed.
pub struct Feeder {
    pub input: Input,
    pub broker: MemoryBroker,
    /// The provider's name.
    pub name: String,
    pub earlier: Earlier,
    pub fed: watch::Sender<Fed>,
    pub shutdown: Shutdown,
}

impl Feeder {
    pub async fn feed(self) -> anyhow::Result<()> {
        let fed = self.feed_lines().await;
        // The commands that were read are processed even if the rest can't be read.
        self.broker.finish_input();
        fed
    }

    async fn feed_lines(&self) -> anyhow::Result<()> {
        let mut lines = self.input.open().await?;
        while let Some(line) = self.unless_draining(lines.next()).await.transpose()?.flatten() {
            let (id, message) = self.message(line);
            let earlier = self.earlier.settled.get(&id).copied();
            self.fed.send_modify(|fed| {
                fed.read += 1;
                fed.earlier += u64::from(earlier.is_some());
                fed.earlier_failed += u64::from(earlier == Some(Settled::Failed));
            });
            if earlier.is_some() {
                continue;
            }
            tokio::select! {
                () = self.shutdown.draining() => break,
                published = self.broker.publish_when_room(&message, QUEUE_DEPTH_MAX) => published?,
            }
        }
        Ok(())
    }

    /// `None` when draining: a read of stdin may block for ever.
    async fn unless_draining<T>(&self, next: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shutdown.draining() => None,
            next = next => Some(next),
        }
    }

    /// A line as its publisher would send it. One that can't be decoded is identified by its number.
    fn message(&self, line: Line) -> (String, Message) {
        let number = format!("line-{}", line.number);
        let ident = Ident::of_refused(&line.text, Some(&number), 0);
        let user = ident.user_id.as_deref().and_then(UserId::parse);
        let user = user.as_ref().map_or("-", UserId::as_str);
        let id = ident.command_id.unwrap_or(number);
        let message = Message {
            exchange: COMMANDS.into(),
            routing_key: format!("{}.{user}", self.name),
            properties: Properties::persistent(&id, "application/json"),
            body: line.text.into(),
            mandatory: false,
        };
        (id, message)
    }
}
