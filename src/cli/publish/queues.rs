//! Keeps the command queues short: RabbitMQ holds them in memory and on disk, and a long queue delays what is published
//! later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use usher::broker::{Config, Depth, InspectError, Inspector, Partition, Topology};

use crate::cli::exit::{self, Exit};
use crate::cli::operator::inspector;

/// How long to wait between two looks at full queues.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How old a depth may be that is shown.
const SHOWN_FOR: Duration = Duration::from_secs(2);

pub struct Queues<'c> {
    config: &'c Config,
    inspector: Arc<dyn Inspector>,
    bulk: bool,
    most: u64,
    providers: BTreeMap<String, Room>,
}

struct Room {
    queues: Vec<String>,
    /// How many more may be published before the next look.
    left: u64,
    depth: Depth,
    looked_at: Instant,
}

impl<'c> Queues<'c> {
    pub async fn new(config: &'c Config, bulk: bool, most: u64) -> anyhow::Result<Self> {
        let inspector = inspector(config).await?;
        Ok(Self {
            config,
            inspector,
            bulk,
            most,
            providers: BTreeMap::new(),
        })
    }

    /// Whether one more command may be published now, which it counts. Where it may not, it looks at the queues.
    /// `in_flight`: publishes that the queues may not show yet.
    pub async fn take(&mut self, provider: &str, in_flight: u64) -> anyhow::Result<bool> {
        if !self.providers.contains_key(provider) {
            let room = self.find(provider).await?;
            self.providers.insert(provider.to_owned(), room);
        }
        let most = self.most;
        let is_due = self.room(provider).is_some_and(|room| {
            room.left == 0 && room.looked_at.elapsed() >= LOOK_EVERY || room.looked_at.elapsed() >= SHOWN_FOR
        });
        if is_due {
            let depth = self.look(provider).await?;
            if let Some(room) = self.room(provider) {
                room.depth = depth;
                room.left = most.saturating_sub(depth.ready + in_flight);
                room.looked_at = Instant::now();
            }
        }
        Ok(self.room(provider).is_some_and(|room| {
            let may = room.left > 0;
            room.left = room.left.saturating_sub(1);
            may
        }))
    }

    /// Returns when `take` would look again.
    pub async fn pause(&self) {
        sleep(LOOK_EVERY).await;
    }

    /// Of all queues, as of the last look.
    pub fn depth(&self) -> Depth {
        let none = Depth {
            ready: 0,
            consumers: 0,
        };
        self.providers
            .values()
            .fold(none, |sum, room| plus(sum, room.depth))
    }

    pub async fn close(&self) {
        self.inspector.close().await;
    }

    fn room(&mut self, provider: &str) -> Option<&mut Room> {
        self.providers.get_mut(provider)
    }

    /// Finds the queues of the partitions that exist: a publisher need not know how many there are.
    async fn find(&mut self, provider: &str) -> anyhow::Result<Room> {
        let topology = Topology::new(provider, self.config);
        let mut room = Room {
            queues: Vec::new(),
            left: 0,
            depth: Depth {
                ready: 0,
                consumers: 0,
            },
            looked_at: Instant::now(),
        };
        for partition in 0..Partition::MAX {
            let [(interactive, _), (bulk, _)] = topology.partition_queues(partition);
            let queue = if self.bulk { bulk } else { interactive };
            let Some(depth) = self.depth_of(&queue).await? else {
                break;
            };
            room.depth = plus(room.depth, depth);
            room.queues.push(queue);
        }
        room.left = self.most.saturating_sub(room.depth.ready);
        Ok(room)
    }

    async fn look(&mut self, provider: &str) -> anyhow::Result<Depth> {
        let queues = self.room(provider).map(|room| room.queues.clone());
        let mut sum = Depth {
            ready: 0,
            consumers: 0,
        };
        for queue in queues.unwrap_or_default() {
            if let Some(depth) = self.depth_of(&queue).await? {
                sum = plus(sum, depth);
            }
        }
        Ok(sum)
    }

    /// A lost connection is opened again, once.
    async fn depth_of(&mut self, queue: &str) -> anyhow::Result<Option<Depth>> {
        let mut looked = self.inspector.depth(queue).await;
        if let Err(InspectError::Lost { .. }) = looked {
            self.inspector = inspector(self.config).await?;
            looked = self.inspector.depth(queue).await;
        }
        looked.map_err(|error| exit::with(Exit::OutOfReach, error))
    }
}

fn plus(one: Depth, other: Depth) -> Depth {
    Depth {
        ready: one.ready + other.ready,
        consumers: one.consumers + other.consumers,
    }
}
