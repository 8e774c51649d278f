//! Publishes in flight. A user's next command is sent only when the one before is confirmed, so that neither a lost one
//! nor the order of tasks lets a later command overtake.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::JoinSet;
use usher::broker::{Message, PublishError, Publisher};
use usher::contract::CommandId;
use usher::operations::confirmed::Prefix;

/// The most publishes in flight.
const UNCONFIRMED_MAX: usize = 512;

pub struct Sending {
    publisher: Arc<dyn Publisher>,
    confirms: JoinSet<(u64, String, Result<(), PublishError>)>,
    users: HashSet<String>,
    prefix: Prefix,
    /// Commands that were published and confirmed by this run.
    pub published: u64,
}

/// How a publish ended; the outer error: it was aborted.
pub type Confirmed = anyhow::Result<Result<(), PublishError>>;

impl Sending {
    pub fn new(publisher: Arc<dyn Publisher>, prefix: Prefix) -> Self {
        Self {
            publisher,
            confirms: JoinSet::new(),
            users: HashSet::new(),
            prefix,
            published: 0,
        }
    }

    /// The rows that are done.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    pub fn in_flight(&self) -> u64 {
        self.confirms.len() as u64
    }

    /// `None`: the message may be sent.
    pub async fn make_room(&mut self, message: &Message) -> Option<Confirmed> {
        let full = self.confirms.len() == UNCONFIRMED_MAX
            || self.users.contains(&message.routing_key)
            || self.prefix.is_full();
        match full {
            true => self.confirmed().await,
            false => None,
        }
    }

    pub fn send(&mut self, message: Message, provider: &str, id: CommandId) {
        self.users.insert(message.routing_key.clone());
        let row = self.prefix.send(provider, id);
        let publisher = self.publisher.clone();
        self.confirms.spawn(async move {
            let confirm = publisher.publish(&message).await;
            (row, message.routing_key, confirm)
        });
    }

    /// The next row is not sent.
    pub fn refuse(&mut self) {
        self.prefix.refuse();
    }

    /// The result of the next publish. `None`: none is in flight.
    pub async fn confirmed(&mut self) -> Option<Confirmed> {
        let confirmed = self.confirms.join_next().await?;
        Some(
            confirmed
                .context("a publish was aborted")
                .map(|(row, user, confirm)| {
                    self.users.remove(&user);
                    if confirm.is_ok() {
                        self.published += 1;
                        self.prefix.confirm(row);
                    }
                    confirm
                }),
        )
    }
}
