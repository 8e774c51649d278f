//! Polls how many messages are in queues, without consuming any.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::watch;
use tokio::time::sleep;

use super::error::is_not_found;
use crate::broker::Topology;
use crate::broker::topology::{DEAD_LETTERS, UNROUTABLE};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The depths as last polled.
pub(super) struct Depths {
    pub(super) unroutable: watch::Sender<Option<u64>>,
    pub(super) dead_letters: watch::Sender<Option<u64>>,
    /// Ready commands, by partition.
    pub(super) ready: watch::Sender<Vec<u64>>,
}

impl Depths {
    pub(super) fn new() -> Self {
        Self {
            unroutable: watch::Sender::new(None),
            dead_letters: watch::Sender::new(None),
            ready: watch::Sender::new(Vec::new()),
        }
    }

    /// The connection is gone, so the known depths are out of date.
    pub(super) fn forget(&self) {
        self.ready.send_replace(Vec::new());
    }

    /// Never ends: the owner of the connection notices that it is gone.
    pub(super) async fn watch(&self, connection: &Connection, topology: &Topology, partitions: u16) {
        let mut look = Look {
            connection,
            channel: None,
        };
        loop {
            for (queue, known) in [(UNROUTABLE, &self.unroutable), (DEAD_LETTERS, &self.dead_letters)] {
                let depth = look.depth(queue).await;
                known.send_if_modified(|known| std::mem::replace(known, depth) != depth);
            }
            let mut ready = Vec::new();
            for partition in 0..partitions {
                let mut commands = 0;
                for (queue, _) in topology.partition_queues(partition) {
                    commands += look.depth(&queue).await.unwrap_or(0);
                }
                ready.push(commands);
            }
            self.ready.send_replace(ready);
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Uses a channel of its own, which the broker closes if there is no such queue.
struct Look<'c> {
    connection: &'c Connection,
    channel: Option<Channel>,
}

impl Look<'_> {
    /// `None`: not known, or no such queue.
    async fn depth(&mut self, queue: &str) -> Option<u64> {
        self.look(queue).await.unwrap_or_else(|error| {
            tracing::debug!(reason = %error, queue, "broker: a queue can't be looked at now");
            None
        })
    }

    async fn look(&mut self, queue: &str) -> lapin::Result<Option<u64>> {
        let open = match self.channel.take().filter(|channel| channel.status().connected()) {
            Some(open) => open,
            None => self.connection.create_channel().await?,
        };
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        match open
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
        {
            Ok(found) => {
                self.channel = Some(open);
                Ok(Some(found.message_count().into()))
            }
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
