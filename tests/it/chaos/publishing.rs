//! The publishers, as services are: each sends a user's next command when the one before is confirmed, and the
//! same command again when it can't know.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, PublisherConfirm};
use tokio::sync::watch;
use tokio::time::timeout;
use usher::broker::topology::{COMMANDS, COMMANDS_BULK};

use super::board::Board;
use super::command::{Command, is_bulk};
use super::link::{Link, connect};

/// Commands of as many users go out at once.
const BATCH: usize = 16;
/// After so long nobody knows, and the command is sent again.
const CONFIRM: Duration = Duration::from_secs(8);

pub struct Publisher {
    pub urls: Arc<[String]>,
    pub provider: String,
    pub board: Arc<Board>,
    /// Its own users: nobody else publishes for them.
    pub users: Vec<u32>,
    /// The share of commands that is sent again after a newer one.
    pub twice: f64,
    pub rng: Rng,
}

/// What one publisher does over time.
struct Course {
    of: Publisher,
    link: Option<Link>,
    latest: BTreeMap<u32, u32>,
    /// Sent again as soon as the user's newest command is confirmed.
    again: BTreeMap<u32, VecDeque<Command>>,
}

impl Publisher {
    /// Until it is told to end; then all that it has sent is confirmed.
    pub async fn run(self, ended: watch::Receiver<bool>) {
        let mut moves = self.board.moves();
        let mut course = Course {
            of: self,
            link: None,
            latest: BTreeMap::new(),
            again: BTreeMap::new(),
        };
        while !*ended.borrow() {
            let batch = course.next_batch();
            if batch.is_empty() {
                // Somebody may have settled something since; a moment's delay is no harm.
                let _ = timeout(Duration::from_millis(100), moves.changed()).await;
                continue;
            }
            course.send(batch).await;
        }
        // A copy without a newer command before it would show nothing: what waits to be sent again is left.
    }
}

impl Course {
    /// One command each of several users.
    fn next_batch(&mut self) -> Vec<Command> {
        let mut batch: BTreeMap<u32, Command> = BTreeMap::new();
        let repeats: Vec<_> = self
            .again
            .iter_mut()
            .filter_map(|(user, waiting)| {
                let newer = self.latest[user];
                let due = waiting.front().is_some_and(|command| command.n < newer);
                due.then(|| waiting.pop_front()).flatten()
            })
            .collect();
        for command in repeats {
            self.of.board.repeated();
            batch.insert(command.user, command);
        }
        for _ in 0..BATCH {
            let of = &mut self.of;
            // A few users have a lot to do, so that there is an order to keep.
            let among = if of.rng.u32(..4) == 0 {
                of.users.len().div_ceil(20)
            } else {
                of.users.len()
            };
            let user = of.users[of.rng.usize(..among)];
            let n = self.latest.get(&user).map_or(1, |n| n + 1);
            let command = Command { user, n };
            if batch.contains_key(&user) || !of.board.admit(command) {
                continue;
            }
            self.latest.insert(user, n);
            if of.rng.f64() < of.twice {
                self.again.entry(user).or_default().push_back(command);
            }
            batch.insert(user, command);
        }
        batch.into_values().collect()
    }

    /// Until all are confirmed.
    async fn send(&mut self, mut left: Vec<Command>) {
        while !left.is_empty() {
            let link = match self.link.take() {
                Some(link) => link,
                None => connect(&self.of.urls).await,
            };
            match timeout(CONFIRM, self.publish(&link.channel, &left)).await {
                Ok(Ok(unconfirmed)) => {
                    left = unconfirmed;
                    self.link = Some(link);
                }
                // Lost or too late: what was sent may have arrived. The same ids go out over another connection.
                Ok(Err(_)) | Err(_) => drop(link),
            }
        }
    }

    /// Those that were refused.
    async fn publish(&self, channel: &Channel, commands: &[Command]) -> lapin::Result<Vec<Command>> {
        let mut confirms = Vec::new();
        for command in commands {
            confirms.push(self.publish_one(channel, *command).await?);
        }
        let mut refused = Vec::new();
        for (command, confirmed) in commands.iter().zip(join_all(confirms).await) {
            if !confirmed?.is_ack() {
                refused.push(*command);
            }
        }
        Ok(refused)
    }

    async fn publish_one(&self, channel: &Channel, command: Command) -> lapin::Result<PublisherConfirm> {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_message_id(command.id().to_string().into());
        let exchange = if is_bulk(command.user) {
            COMMANDS_BULK
        } else {
            COMMANDS
        };
        let key = format!("{}.{}", self.of.provider, command.user_id());
        let body = command.body(&self.of.provider).to_string();
        let options = BasicPublishOptions::default();
        channel
            .basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties)
            .await
    }
}
