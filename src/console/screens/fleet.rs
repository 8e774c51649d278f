//! Who holds which partition, what the windows are full of, the pace, and what operators ordered.

use std::sync::Arc;

use jiff::Timestamp;

use super::Ask;
use crate::broker::Topology;
use crate::console::block::{Block, Cell, Mood, Table};
use crate::console::link::{Ports, Trouble};
use crate::console::{Console, Seen, chart};
use crate::contract::inquiry::{Answer, Question};
use crate::contract::orders::{PaceOrder, PauseOrder};
use crate::contract::{BatchState, Orders, ProviderName};
use crate::operations::steering::{HEARD_WITHIN, Heard, Steering, SteeringError};
use crate::operations::why::Asking;

/// The most paused batches that are named.
const BATCHES_SHOWN: usize = 5;

/// What the workers say, and what waits for them.
pub struct Fleet {
    pub answers: Vec<Answer>,
    pub heard: Heard,
    /// Or why they can't be read.
    pub orders: Result<Orders, String>,
    /// Of each partition: what is ready, interactive and bulk.
    pub partitions: Vec<[u64; 2]>,
}

impl Fleet {
    pub async fn look(
        ports: Arc<Ports>,
        provider: ProviderName,
        topology: Topology,
    ) -> Result<Self, Trouble> {
        let (inspector, publisher) = (ports.inspector.clone(), ports.publisher.clone());
        let steering = Steering::new(inspector.clone(), publisher.clone(), &provider);
        let asking = Asking {
            inspector: inspector.clone(),
            publisher,
            topology: topology.clone(),
        };
        let (answers, heard, orders) = tokio::join!(
            asking.ask(Question::Waiting, |_| false),
            steering.listen(HEARD_WITHIN),
            steering.orders()
        );
        let orders = match orders {
            Ok(orders) => Ok(orders),
            Err(SteeringError::Inspect(error)) => match Trouble::from(error) {
                Trouble::Refused(reason) => Err(reason),
                trouble => return Err(trouble),
            },
            Err(error) => return Err(error.into()),
        };
        let mut partitions = Vec::new();
        for partition in 0..u16::MAX {
            let mut ready = [0; 2];
            let mut is_there = false;
            for (place, (queue, _)) in topology.partition_queues(partition).into_iter().enumerate() {
                if let Some(depth) = inspector.depth(&queue).await? {
                    ready[place] = depth.ready;
                    is_there = true;
                }
            }
            if !is_there {
                break;
            }
            partitions.push(ready);
        }
        Ok(Self {
            answers: answers?,
            heard: heard?,
            orders,
            partitions,
        })
    }

    pub fn pause(&self, now: Timestamp) -> Option<&PauseOrder> {
        self.orders.as_ref().ok()?.pause_at(now)
    }

    pub fn pin(&self, now: Timestamp) -> Option<&PaceOrder> {
        self.orders.as_ref().ok()?.pace_at(now)
    }

    pub fn ready(&self) -> u64 {
        self.partitions.iter().flatten().sum()
    }

    /// Calls per second of all workers.
    pub fn pace(&self) -> f64 {
        self.answers.iter().map(|answer| answer.pace).sum()
    }

    pub fn holder(&self, partition: u16) -> Option<&Answer> {
        self.answers
            .iter()
            .find(|answer| answer.leases.contains(&partition))
    }

    /// Partitions that no worker holds that answers.
    pub fn unheld(&self) -> usize {
        let partitions = 0..u16::try_from(self.partitions.len()).unwrap_or(u16::MAX);
        partitions
            .filter(|partition| self.holder(*partition).is_none())
            .count()
    }
}

impl Console {
    pub async fn fleet(&self, ask: Ask<'_>) -> Result<Seen<Fleet>, Trouble> {
        let (provider, topology) = (self.provider.clone(), self.topology());
        let patience = ask.patience(4);
        let look = |ports| Fleet::look(ports, provider, topology);
        self.look(&self.fleet, patience, look).await
    }
}

pub async fn shown(console: &Console, ask: Ask<'_>) -> Result<Vec<Block>, Trouble> {
    let (fleet, now) = (console.fleet(ask).await?, console.clock.now());
    let fleet = &fleet.value;
    let mut blocks = vec![verdict(fleet)];
    blocks.extend(orders(fleet, now));
    let (is_paused, is_pinned) = (fleet.pause(now).is_some(), fleet.pin(now).is_some());
    blocks.push(Block::Table(workers(fleet, now)));
    blocks.push(Block::Table(partitions(fleet, now)));
    blocks.push(Block::Table(waiting(fleet, now)));
    blocks.extend(super::actions::on_fleet(ask, is_paused, is_pinned));
    Ok(blocks)
}

fn verdict(fleet: &Fleet) -> Block {
    let (workers, partitions, unheld) = (fleet.answers.len(), fleet.partitions.len(), fleet.unheld());
    let (mood, text) = match (workers, unheld) {
        (0, _) => (
            Mood::Bad,
            "No worker answers: none runs, or none has reached the broker.".to_owned(),
        ),
        (_, 0) => (
            Mood::Good,
            format!(
                "{} all {}.",
                match workers {
                    1 => "1 worker holds".to_owned(),
                    workers => format!("{workers} workers hold"),
                },
                super::counted(partitions as u64, "partition")
            ),
        ),
        (_, unheld) => (
            Mood::Bad,
            format!("{unheld} of {partitions} partitions: no holder that answers, so their commands wait."),
        ),
    };
    Block::Verdict { mood, text }
}

/// What operators ordered.
pub fn orders(fleet: &Fleet, now: Timestamp) -> Vec<Block> {
    let mut blocks = Vec::new();
    if let Err(reason) = &fleet.orders {
        let text =
            format!("The orders can't be read, so it is not told whether an operator paused: {reason}");
        blocks.push(Block::note(Mood::Unknown, text));
    }
    if let Some(pause) = fleet.pause(now) {
        let what = if pause.bulk_only {
            "Bulk traffic is"
        } else {
            "All calls are"
        };
        let until = match pause.until {
            Some(until) => format!("until {until:.0}"),
            None => "until somebody resumes".to_owned(),
        };
        let text = format!(
            "{what} paused by {} since {:.0}, {until}: {}",
            pause.by, pause.since, pause.reason
        );
        blocks.push(Block::note(Mood::Waits, text));
    }
    if let Some(pin) = fleet.pin(now) {
        let until = match pin.until {
            Some(until) => format!("until {until:.0}"),
            None => "until somebody unpins it".to_owned(),
        };
        let text = format!(
            "The pace is pinned to {}/s by {} since {:.0}, {until}.",
            pin.per_second, pin.by, pin.since
        );
        blocks.push(Block::note(Mood::Waits, text));
    }
    let batches = fleet.orders.iter().flat_map(|orders| &orders.batches);
    for (id, order) in batches
        .filter(|(_, order)| order.state == BatchState::Paused)
        .take(BATCHES_SHOWN)
    {
        let text = format!(
            "The batch {id} is paused by {} since {:.0}.",
            order.by, order.since
        );
        blocks.push(Block::note(Mood::Waits, text));
    }
    blocks
}

fn workers(fleet: &Fleet, now: Timestamp) -> Table {
    let heads = [
        "Worker",
        "State",
        "Since",
        "Next call",
        "Partitions",
        "In hand",
        "Window",
        "Fill",
        "Mostly waits for",
        "Calls/s",
        "Orders",
        "Version",
    ];
    let mut table = Table::new("workers", "Workers", &heads)
        .empty("No worker answers: none runs, or none has reached the broker.");
    let latest = fleet.orders.as_ref().map_or(0, |orders| orders.revision);
    for answer in &fleet.answers {
        let pause = answer.pause.as_ref();
        let (mood, word) = match pause {
            Some(pause) => (mood_of(&pause.cause), format!("paused: {}", pause.cause)),
            None if answer.in_hand > 0 => (Mood::Busy, "working".to_owned()),
            None if answer.leases.is_empty() => (Mood::Good, "standby".to_owned()),
            None => (Mood::Good, "idle".to_owned()),
        };
        let cause = answer.causes.iter().max_by_key(|cause| cause.commands);
        let notice = fleet
            .heard
            .notices
            .iter()
            .find(|notice| notice.worker == answer.worker);
        let follows = match notice {
            Some(notice) if notice.orders >= latest => Cell::state(Mood::Good, "follows"),
            Some(_) => Cell::state(Mood::Waits, "not yet"),
            None => Cell::state(Mood::Unknown, "not heard"),
        };
        let (in_hand, window) = (answer.in_hand as u64, answer.window as u64);
        table.rows.push(vec![
            Cell::Code(answer.worker.to_string()),
            Cell::state(mood, word),
            Cell::time(pause.map(|pause| pause.since), now),
            Cell::time(pause.and_then(|pause| pause.until), now),
            Cell::text(ranges(&answer.leases)),
            Cell::Number(in_hand),
            Cell::Number(window),
            Cell::Drawn(chart::gauge(
                "In hand of the window, as in the row",
                in_hand as f64,
                None,
                window as f64,
            )),
            cause.map_or(Cell::None, |cause| {
                Cell::text(format!("{} ({})", word_of(&cause.cause), cause.commands))
            }),
            Cell::Amount(format!("{:.1}", answer.pace)),
            follows,
            Cell::maybe(answer.version.as_deref()),
        ]);
    }
    table
}

fn partitions(fleet: &Fleet, now: Timestamp) -> Table {
    let heads = [
        "Partition",
        "Holder",
        "Since",
        "Ready, interactive",
        "Ready, bulk",
    ];
    let mut table = Table::new("partitions", "Partitions", &heads)
        .empty("The broker has no queue for this provider: check its name, or run `usher topology declare`.");
    for (partition, ready) in fleet.partitions.iter().enumerate() {
        let holder = u16::try_from(partition)
            .ok()
            .and_then(|partition| fleet.holder(partition));
        table.rows.push(vec![
            Cell::Number(partition as u64),
            match holder {
                Some(answer) => Cell::Code(answer.worker.to_string()),
                None => Cell::state(Mood::Bad, "nobody that answers"),
            },
            Cell::time(holder.and_then(|answer| since(answer, partition)), now),
            Cell::Number(ready[0]),
            Cell::Number(ready[1]),
        ]);
    }
    table
}

/// Since when a worker holds a partition.
fn since(answer: &Answer, partition: usize) -> Option<Timestamp> {
    let mut leases = answer.leases.iter().zip(&answer.leased_since);
    leases
        .find(|(lease, _)| usize::from(**lease) == partition)
        .map(|(_, since)| *since)
}

/// What the commands in hand wait for, of all workers.
pub fn waiting(fleet: &Fleet, now: Timestamp) -> Table {
    let heads = ["Commands", "Wait for", "Longest", "Since", "Worker"];
    let mut table = Table::new("waiting", "Waiting, by cause", &heads).empty("No command in hand waits.");
    for answer in &fleet.answers {
        for cause in &answer.causes {
            let oldest = cause.oldest.as_deref();
            table.rows.push(vec![
                Cell::Number(cause.commands as u64),
                Cell::text(word_of(&cause.cause)),
                oldest.map_or(Cell::None, |id| {
                    Cell::link(
                        id,
                        format!("/why?command={}", crate::console::address::encoded(id)),
                    )
                }),
                Cell::time(Some(cause.since), now),
                Cell::Code(answer.worker.to_string()),
            ]);
        }
    }
    table
}

pub fn mood_of(cause: &str) -> Mood {
    match cause {
        "throttled" | "operator" => Mood::Waits,
        _ => Mood::Bad,
    }
}

/// What a cause of the closed list is called here.
fn word_of(cause: &str) -> String {
    let word = match cause {
        "order" => "an earlier command of the user",
        "log" => "the outcome log",
        "batch" => "the batch, which is paused",
        "alone" => "running alone",
        "slot" => "room to begin",
        "confirm" => "the broker's confirm",
        "permit" => "a permit: the pace",
        "pause" => "the end of the pause",
        "retry" => "the next attempt",
        "answer" => "the provider's answer",
        "guard" => "the dead-letter guard",
        other => other,
    };
    word.to_owned()
}

/// Such as `0–3, 7`.
fn ranges(leases: &[u16]) -> String {
    let mut leases = leases.to_vec();
    leases.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for lease in leases {
        match ranges.last_mut() {
            Some((_, last)) if lease == last.saturating_add(1) => *last = lease,
            _ => ranges.push((lease, lease)),
        }
    }
    let said: Vec<_> = ranges
        .iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}–{last}"),
        })
        .collect();
    match said.is_empty() {
        true => "none".to_owned(),
        false => said.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_in_a_row_are_one_range() {
        assert_eq!(ranges(&[3, 0, 1, 2, 7]), "0–3, 7");
        assert_eq!(ranges(&[]), "none");
    }
}
