//! Publishes in flight. A user's next command is sent only when the one before is confirmed, so that neither a lost one
//! nor the order of tasks lets a later command overtake.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::JoinSet;
use usher::broker::{Message, PublishError, Publisher};

/// The most publishes in flight.
const UNCONFIRMED_MAX: usize = 512;

pub struct Sending {
    publisher: Arc<dyn Publisher>,
    confirms: JoinSet<(String, Result<(), PublishError>)>,
    users: HashSet<String>,
    pub published: u64,
}

/// How a publish ended; the outer error: it was aborted.
pub type Confirmed = anyhow::Result<Result<(), PublishError>>;

impl Sending {
    pub fn new(publisher: Arc<dyn Publisher>) -> Self {
        Self {
            publisher,
            confirms: JoinSet::new(),
            users: HashSet::new(),
            published: 0,
        }
    }

    /// `None`: the message may be sent.
    pub async fn make_room(&mut self, message: &Message) -> Option<Confirmed> {
        let full = self.confirms.len() == UNCONFIRMED_MAX || self.users.contains(&message.routing_key);
        match full {
            true => self.confirmed().await,
            false => None,
        }
    }

    pub fn send(&mut self, message: Message) {
        self.users.insert(message.routing_key.clone());
        let publisher = self.publisher.clone();
        self.confirms.spawn(async move {
            let confirm = publisher.publish(&message).await;
            (message.routing_key, confirm)
        });
    }

    /// The result of the next publish. `None`: none is in flight.
    pub async fn confirmed(&mut self) -> Option<Confirmed> {
        let confirmed = self.confirms.join_next().await?;
        Some(confirmed.context("a publish was aborted").map(|(user, confirm)| {
            self.users.remove(&user);
            self.published += u64::from(confirm.is_ok());
            confirm
        }))
    }
}
