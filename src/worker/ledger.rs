//! What became of commands lately: which were settled and which turns were begun, in this process and, by the
//! outcome log, in others. A command that comes again is judged by it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::broker::Message;
use crate::contract::event::{Event, EventBody, EventType};
use crate::contract::notice::{BARRIER, HANDED_BACK};
use crate::contract::outcome::Settlement;
use crate::contract::{Act, Failure, Ident, Outcome, WorkerId};

/// The turns at a command that have no outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Begun {
    /// Those that did not end in order: whoever had them died, or has them still.
    pub open: Vec<Act>,
    /// One that ended in order had called the provider.
    pub called: bool,
}

impl Begun {
    /// The workers that did not end their turns.
    pub fn workers(&self) -> usize {
        let mut workers: Vec<_> = self.open.iter().map(|turn| &turn.worker).collect();
        workers.sort();
        workers.dedup();
        workers.len()
    }
}

/// So many turns are remembered of one command.
const TURNS_MAX: usize = 32;

/// Shared by the worker's tasks.
#[derive(Debug)]
pub struct Ledger {
    state: Mutex<State>,
    /// The latest barrier of this worker that was read.
    barrier: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    me: WorkerId,
    seen: HashMap<Uuid, Seen>,
    oldest_first: VecDeque<(Uuid, Timestamp)>,
    events_max: usize,
    /// Nothing that happened since then is missing; `None`: nothing at all is.
    complete_since: Option<Timestamp>,
    /// The latest event of the log.
    latest: Option<Message>,
}

/// By the event's id. There are many: what most of them are takes no room of its own.
#[derive(Debug)]
enum Seen {
    Begun(Box<Begun>),
    Succeeded {
        changed: bool,
        attempts: u32,
        duration: Duration,
    },
    Failed(Box<Settlement>),
}

impl Seen {
    fn of(settlement: Settlement) -> Self {
        match settlement.outcome {
            Outcome::Success { changed } => Self::Succeeded {
                changed,
                attempts: settlement.attempts,
                duration: settlement.duration,
            },
            Outcome::Failure(_) => Self::Failed(Box::new(settlement)),
        }
    }

    fn settlement(&self) -> Option<Settlement> {
        match self {
            Self::Begun(_) => None,
            Self::Succeeded {
                changed,
                attempts,
                duration,
            } => Some(Settlement {
                outcome: Outcome::Success { changed: *changed },
                attempts: *attempts,
                duration: *duration,
            }),
            Self::Failed(settlement) => Some((**settlement).clone()),
        }
    }
}

impl Ledger {
    /// Of so many commands.
    pub fn new(me: WorkerId, commands_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                me,
                seen: HashMap::new(),
                oldest_first: VecDeque::new(),
                events_max: commands_max.saturating_mul(2).max(2),
                complete_since: None,
                latest: None,
            }),
            barrier: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the command ended, if it has.
    pub fn settled(&self, ident: &Ident) -> Option<Settlement> {
        let state = self.state();
        [EventType::Success, EventType::Fail]
            .into_iter()
            .find_map(|event_type| state.seen.get(&event_type.id(ident))?.settlement())
    }

    pub fn begun(&self, ident: &Ident) -> Begun {
        match self.state().seen.get(&EventType::Start.id(ident)) {
            Some(Seen::Begun(begun)) => (**begun).clone(),
            _ => Begun::default(),
        }
    }

    /// Whether a turn that was begun since then is known for sure.
    pub fn is_complete_since(&self, then: Timestamp) -> bool {
        self.state().complete_since.is_none_or(|since| since <= then)
    }

    /// A turn of this worker's own.
    pub fn begin(&self, ident: &Ident, turn: Act, now: Timestamp) {
        self.state().begin(EventType::Start.id(ident), turn, now);
    }

    /// It ended in order, without an outcome.
    pub fn hand_back(&self, ident: &Ident, turn: &Act, called: bool, now: Timestamp) {
        self.state()
            .hand_back(EventType::Start.id(ident), turn, called, now);
    }

    pub fn settle(&self, ident: &Ident, settlement: Settlement, now: Timestamp) {
        let id = settlement.outcome.event_type().id(ident);
        let mut state = self.state();
        state.settle(id, settlement, now);
        // Nobody asks for the turns of a command that has its outcome.
        state.seen.remove(&EventType::Start.id(ident));
    }

    /// The outcome log is read from then on.
    pub fn reads_since(&self, then: Timestamp) {
        self.state().complete_since = Some(then);
    }

    /// Takes in an event from the outcome log. Answers when it happened.
    pub fn read(&self, message: Message) -> Option<Timestamp> {
        let event: Event = serde_json::from_slice(&message.body).ok()?;
        let mut state = self.state();
        let (id, time) = (event.id, event.time);
        let barrier = message.properties.header_text(BARRIER);
        if let Some(barrier) = barrier.and_then(|text| Act::parse(&text)) {
            if barrier.worker == state.me {
                self.barrier.send_modify(|read| *read = barrier.number.max(*read));
            }
            return Some(time);
        }
        match event.body {
            EventBody::Start(_) => {
                if let Some(turn) = message.properties.app_id().and_then(Act::parse) {
                    match message.properties.header_text(HANDED_BACK) {
                        Some(how) => state.hand_back(id, &turn, how != "untouched", time),
                        None => state.begin(id, turn, time),
                    }
                }
            }
            EventBody::Success(ended) => {
                let outcome = Outcome::Success {
                    changed: ended.changed,
                };
                state.settle(id, settlement(outcome, ended.attempts, ended.duration_ms), time);
            }
            EventBody::Fail(ended) => {
                let failure = Failure {
                    status: ended.error.status,
                    code: ended.error.code,
                    pointer: ended.error.pointer,
                    ..Failure::new(ended.error.reason, "it ended so before")
                };
                let outcome = Outcome::Failure(failure);
                state.settle(id, settlement(outcome, ended.attempts, ended.duration_ms), time);
            }
        }
        state.latest = Some(message);
        Some(time)
    }

    /// The latest event of the log, as far as it was read.
    pub fn latest(&self) -> Option<Message> {
        self.state().latest.clone()
    }

    /// Waits until this barrier of our own, or a later one, is read.
    pub async fn barrier(&self, number: u64) {
        // The sender lives as long as this does.
        let _ = self.barrier.subscribe().wait_for(|read| *read >= number).await;
    }
}

fn settlement(outcome: Outcome, attempts: u32, duration_ms: u64) -> Settlement {
    Settlement {
        outcome,
        attempts,
        duration: Duration::from_millis(duration_ms),
    }
}

impl State {
    fn insert(&mut self, id: Uuid, seen: Seen, time: Timestamp) {
        if self.seen.insert(id, seen).is_some() {
            return;
        }
        self.oldest_first.push_back((id, time));
        while self.oldest_first.len() > self.events_max {
            if let Some((oldest, time)) = self.oldest_first.pop_front() {
                self.seen.remove(&oldest);
                self.complete_since = self.complete_since.max(Some(time));
            }
        }
    }

    fn turns(&mut self, id: Uuid, time: Timestamp) -> Option<&mut Begun> {
        if !self.seen.contains_key(&id) {
            self.insert(id, Seen::Begun(Box::default()), time);
        }
        match self.seen.get_mut(&id) {
            Some(Seen::Begun(begun)) => Some(begun),
            _ => None,
        }
    }

    fn begin(&mut self, id: Uuid, turn: Act, time: Timestamp) {
        if let Some(begun) = self.turns(id, time)
            && !begun.open.contains(&turn)
            && begun.open.len() < TURNS_MAX
        {
            begun.open.push(turn);
        }
    }

    fn hand_back(&mut self, id: Uuid, turn: &Act, called: bool, time: Timestamp) {
        if let Some(begun) = self.turns(id, time) {
            begun.open.retain(|open| open != turn);
            begun.called |= called;
        }
    }

    fn settle(&mut self, id: Uuid, settlement: Settlement, time: Timestamp) {
        self.insert(id, Seen::of(settlement), time);
    }
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
