//! What became of a batch's commands, by the outcome log. Each command takes a small, fixed room, and no value.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::series::{Recent, Series};
use crate::contract::event::{Event, EventBody, Started};
use crate::contract::{BatchId, CommandId, Reason};

/// The most commands that are told apart. Each takes 40 bytes, and the table that holds them has up to 2.3 places for each:
/// about 90 MB for a million commands, 350 MB for all of them.
const COMMANDS_MAX: usize = 5_000_000;

/// A command's id, in an order that needs no padding.
type Key = (u64, u64);

/// What is known of one command.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The latest START, by its event's id; 0: none.
    begun: u64,
    /// The latest outcome, by its event's id; 0: none.
    ended: u64,
    outcome: Outcome,
    /// How many outcomes it had before the latest one.
    earlier: u8,
    /// It has ended, and has a START since.
    again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    InFlight,
    Succeeded,
    Unchanged,
    Failed(Reason),
}

/// How many commands have which outcome. A redriven command counts by its last outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub succeeded: u64,
    pub unchanged: u64,
    pub failed: u64,
    pub reasons: BTreeMap<Reason, u64>,
    /// They have a START and no outcome.
    pub in_flight: u64,
    /// They have an outcome, by which they count, and run once more.
    pub running_again: u64,
}

impl Counts {
    pub fn ended(&self) -> u64 {
        self.succeeded + self.unchanged + self.failed
    }

    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::InFlight => self.in_flight += 1,
            Outcome::Succeeded => self.succeeded += 1,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Failed(reason) => {
                self.failed += 1;
                *self.reasons.entry(reason).or_default() += 1;
            }
        }
    }

    fn remove(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::InFlight => self.in_flight -= 1,
            Outcome::Succeeded => self.succeeded -= 1,
            Outcome::Unchanged => self.unchanged -= 1,
            Outcome::Failed(reason) => {
                self.failed -= 1;
                *self.reasons.entry(reason).or_insert(1) -= 1;
                self.reasons.retain(|_, count| *count > 0);
            }
        }
    }
}

/// The commands of one batch of one provider.
#[derive(Debug)]
pub struct Tally {
    source: String,
    batch: BatchId,
    /// What stands in the bytes of an event of the batch.
    mark: Vec<u8>,
    commands: HashMap<Key, State>,
    commands_max: usize,
    pub counts: Counts,
    /// Events of commands beyond the most that are told apart: the counts are partial.
    pub uncounted: u64,
    /// The first and the last event of the batch.
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    pub series: Option<Series>,
    pub(super) recent: Recent,
}

/// Whether a command that has ended was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    Yes,
    /// It failed before its write.
    No,
    /// It failed, and part of it may have been applied.
    Perhaps,
}

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub applied: Applied,
    /// Whether it had ended before, and was sent again.
    pub redriven: bool,
}

/// A command's last outcome.
#[derive(Debug, PartialEq, Eq)]
pub struct Last {
    pub event: Event,
    /// How many outcomes it had before.
    pub redrives: u8,
}

impl Tally {
    pub fn new(source: String, batch: &BatchId) -> Self {
        let name = serde_json::to_string(batch.as_str()).unwrap_or_default();
        Self {
            source,
            batch: batch.clone(),
            mark: format!("\"batchId\":{name}").into_bytes(),
            commands: HashMap::new(),
            commands_max: COMMANDS_MAX,
            counts: Counts::default(),
            uncounted: 0,
            first_at: None,
            last_at: None,
            series: None,
            recent: Recent::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn of_at_most(mut self, commands_max: usize) -> Self {
        self.commands_max = commands_max;
        self
    }

    /// The event, if it is of a command of the batch. The bytes are looked at first: most events may be others'.
    fn read(&self, body: &[u8]) -> Option<Event> {
        if !contains(body, &self.mark) {
            return None;
        }
        let event: Event = serde_json::from_slice(body).ok()?;
        let is_its = event.source == self.source && started(&event).batch_id.as_ref() == Some(&self.batch);
        is_its.then_some(event)
    }

    /// Takes an event of the outcome log, whosever it is.
    pub fn take(&mut self, body: &[u8]) {
        if let Some(event) = self.read(body) {
            self.count(&event);
        }
    }

    fn count(&mut self, event: &Event) {
        let is_full = self.commands.len() >= self.commands_max;
        let state = match self.commands.entry(key(event)) {
            Entry::Vacant(_) if is_full => {
                self.uncounted += 1;
                return;
            }
            Entry::Vacant(place) => {
                self.counts.add(Outcome::InFlight);
                place.insert(State {
                    begun: 0,
                    ended: 0,
                    outcome: Outcome::InFlight,
                    earlier: 0,
                    again: false,
                })
            }
            Entry::Occupied(known) => known.into_mut(),
        };
        let id = mark(event);
        let outcome = match &event.body {
            EventBody::Start(_) => None,
            EventBody::Success(done) if done.changed => Some(Outcome::Succeeded),
            EventBody::Success(_) => Some(Outcome::Unchanged),
            EventBody::Fail(failed) => Some(Outcome::Failed(failed.error.reason)),
        };
        // A repeat has the same id.
        if id
            == (if outcome.is_some() {
                state.ended
            } else {
                state.begun
            })
        {
            return;
        }
        self.first_at.get_or_insert(event.time);
        self.last_at = self.last_at.max(Some(event.time));
        let Some(outcome) = outcome else {
            state.begun = id;
            if state.ended != 0 && !state.again {
                state.again = true;
                self.counts.running_again += 1;
            }
            return;
        };
        let is_first = state.ended == 0;
        self.counts.remove(state.outcome);
        self.counts.add(outcome);
        self.counts.running_again -= u64::from(state.again);
        *state = State {
            ended: id,
            outcome,
            earlier: state.earlier.saturating_add(u8::from(!is_first)),
            again: false,
            ..*state
        };
        self.recent.take(event.time);
        let series = self.series.get_or_insert_with(|| Series::beginning(event.time));
        series.take(event.time, is_first, matches!(outcome, Outcome::Failed(_)));
    }

    /// How the command ended. `None`: the log has no end of it.
    pub fn ended(&self, id: CommandId) -> Option<Ended> {
        let state = self.commands.get(&id.as_u64_pair())?;
        let redriven = state.earlier > 0;
        let applied = match state.outcome {
            Outcome::InFlight => return None,
            Outcome::Succeeded | Outcome::Unchanged => Applied::Yes,
            // Its earlier runs may have been refused elsewhere.
            Outcome::Failed(reason) if !redriven && is_before_the_write(reason) => Applied::No,
            Outcome::Failed(_) => Applied::Perhaps,
        };
        Some(Ended { applied, redriven })
    }

    /// The event, if it is the last outcome of a command. Once for each command: a repeat of it is not told.
    pub fn take_last(&mut self, body: &[u8]) -> Option<Last> {
        let event = self.read(body)?;
        let state = self.commands.get_mut(&key(&event))?;
        if state.ended == 0 || state.ended != mark(&event) || matches!(event.body, EventBody::Start(_)) {
            return None;
        }
        let redrives = state.earlier;
        state.ended = 0;
        Some(Last { event, redrives })
    }
}

/// Other refusals may follow on the first calls of a write that takes several.
fn is_before_the_write(reason: Reason) -> bool {
    use Reason::{Cancelled, Expired, HeldBehind, Invalid, Oversized, Undecodable, UnsupportedField};
    matches!(
        reason,
        Undecodable | Invalid | UnsupportedField | Oversized | Expired | Cancelled | HeldBehind
    )
}

fn started(event: &Event) -> &Started {
    match &event.body {
        EventBody::Start(started) => started,
        EventBody::Success(succeeded) => &succeeded.command,
        EventBody::Fail(failed) => &failed.command,
    }
}

/// A command without an id can't be told from another one: each of its events is a command of its own.
fn key(event: &Event) -> Key {
    let id = started(event).command_id.as_deref();
    let key = id.map_or(event.id, |id| {
        Uuid::parse_str(id).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()))
    });
    key.as_u64_pair()
}

/// Tells the events of one command apart. They are UUIDs of version 5, so half of one is enough.
fn mark(event: &Event) -> u64 {
    event.id.as_u64_pair().0
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_takes_forty_bytes() {
        assert_eq!(size_of::<(Key, State)>(), 40);
    }
}
