//! The recent runs of commands and their outcomes, in this process and, by the outcome log, in others. It decides what
//! to do with a command that is redelivered.
//!
//! A command has several runs when it failed and was published again: a dead letter that was moved back, or another
//! message with the same id. Each has a number (how often the command was redriven), and so its own events.

mod earlier;
mod logged;
mod reading;
mod versions;

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use self::earlier::Earlier;
use self::logged::{Logged, What};
use self::versions::{Known, Versions};
use crate::broker::Message;
use crate::contract::event::EventType;
use crate::contract::notice::{BARRIER, HANDED_BACK};
use crate::contract::outcome::Settlement;
use crate::contract::{CommandId, Ident, Outcome, RunId, UserId, Version, WorkerId};

/// Which part of the outcome log an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPart {
    /// The end, which is read in order and continues with new events.
    End,
    /// The part before it, also read in order.
    Earlier,
}

/// The runs of a command that have no outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenRuns {
    /// Those that were not handed back: their workers died, or still run them.
    pub open: Vec<RunId>,
    /// Whether one that was handed back may have called the provider.
    pub called: bool,
}

impl OpenRuns {
    /// The workers that did not end their runs.
    pub fn workers(&self) -> usize {
        let mut workers: Vec<_> = self.open.iter().map(|run| &run.worker).collect();
        workers.sort();
        workers.dedup();
        workers.len()
    }
}

/// The most open runs that are remembered of one command.
const RUNS_MAX: usize = 32;

/// In how many earlier runs of a command to look for a success. Only a redriven command has earlier runs.
const RUNS_BACK_MAX: u32 = 32;

/// The most failed commands with a lost ack that are remembered. The next delivery of any other is run again.
const ACKS_LOST_MAX: usize = 1024;

/// How a command has succeeded before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succeeded {
    /// The run that did.
    pub ident: Ident,
    pub settlement: Settlement,
    /// Whether its body differs from the current one, as far as is known.
    pub other_body: bool,
}

/// Shared by the worker's tasks.
#[derive(Debug)]
pub struct Ledger {
    state: Mutex<State>,
    /// Differs in each process: a hash identifies a body here, and reveals nothing of it elsewhere.
    hasher: RandomState,
    /// This worker's latest barrier that was read.
    barrier: watch::Sender<u64>,
    /// Whether any event of the log was read.
    spoke: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    me: WorkerId,
    seen: HashMap<Uuid, Seen>,
    oldest_first: VecDeque<(Uuid, Timestamp)>,
    events_max: usize,
    /// No event since then is missing; `None`: no event at all is.
    complete_since: Option<Timestamp>,
    /// Events are missing before the next one that is read, of the older part or, after that, of the end.
    cut: bool,
    /// `None`: the older part of the log is read.
    earlier: Option<Earlier>,
    /// The time of the first event that the current reading of the log's end brought. None since then is missing.
    end_since: Option<Timestamp>,
    /// The latest event of the log.
    latest: Option<Message>,
    /// Bodies of commands that failed and whose ack is known to be lost, by the command.
    acks_lost: HashMap<Uuid, u64>,
    versions: Versions,
}

/// By the event's id. There are many, so the large and rare parts are boxed.
#[derive(Debug)]
enum Seen {
    OpenRuns(Box<OpenRuns>),
    Succeeded {
        changed: bool,
        attempts: u32,
        duration: Duration,
        merged_into: Option<CommandId>,
        /// A hash of its field names.
        fields: u64,
        /// A hash of its body; `None` where another process had it.
        body: Option<u64>,
        version: Option<Box<Known>>,
    },
    Failed,
}

impl Ledger {
    /// Remembers at most `commands_max` commands.
    pub fn new(me: WorkerId, commands_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                me,
                seen: HashMap::new(),
                oldest_first: VecDeque::new(),
                events_max: commands_max.saturating_mul(2).max(2),
                complete_since: None,
                cut: false,
                earlier: None,
                end_since: None,
                latest: None,
                acks_lost: HashMap::new(),
                versions: Versions::default(),
            }),
            hasher: RandomState::new(),
            barrier: watch::Sender::new(0),
            spoke: watch::Sender::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the command on to its next run: the first one from its own number on that is not known to have ended.
    /// Returns a success, if one of the runs is known to have succeeded.
    pub fn next_run(&self, ident: &mut Ident, body: &[u8]) -> Option<Box<Succeeded>> {
        let state = self.state();
        let mut succeeded = (ident.redrives.saturating_sub(RUNS_BACK_MAX)..ident.redrives)
            .map(|earlier| ident.at(earlier))
            .find_map(|earlier| self.success(&state, &earlier, ident, body));
        loop {
            if let Some(success) = self.success(&state, ident, ident, body) {
                succeeded = Some(success);
            } else if !state.seen.contains_key(&EventType::Fail.id(ident)) {
                return succeeded;
            }
            let Some(next) = ident.redrives.checked_add(1) else {
                return succeeded;
            };
            *ident = ident.at(next);
        }
    }

    fn success(&self, state: &State, run: &Ident, now: &Ident, body: &[u8]) -> Option<Box<Succeeded>> {
        let seen = state.seen.get(&EventType::Success.id(run))?;
        let Seen::Succeeded {
            changed,
            attempts,
            duration,
            merged_into,
            fields,
            body: remembered,
            version,
        } = seen
        else {
            return None;
        };
        let other = |hash: u64| hash != self.hasher.hash_one(body);
        Some(Box::new(Succeeded {
            ident: run.clone(),
            settlement: Settlement {
                outcome: Outcome::Success {
                    changed: *changed,
                    version: version.as_ref().map(|known| known.version.clone()),
                },
                attempts: *attempts,
                duration: *duration,
                merged_into: *merged_into,
            },
            other_body: *fields != self.hash_of_names(&now.fields) || remembered.is_some_and(other),
        }))
    }

    /// The user's version by its latest known success.
    pub fn version(&self, user_id: &UserId) -> Option<Version> {
        let state = self.state();
        let id = state.versions.of(self.hasher.hash_one(user_id.as_str()))?;
        match state.seen.get(&id)? {
            Seen::Succeeded { version, .. } => version.as_ref().map(|known| known.version.clone()),
            _ => None,
        }
    }

    fn known(&self, user_id: Option<&str>, version: Option<Version>) -> Option<Box<Known>> {
        let user = self.hasher.hash_one(user_id?);
        Some(Box::new(Known {
            user,
            version: version?,
        }))
    }

    fn hash_of_names(&self, names: &[impl Borrow<str>]) -> u64 {
        let mut names: Vec<&str> = names.iter().map(Borrow::borrow).collect();
        names.sort_unstable();
        self.hasher.hash_one(names)
    }

    /// A command that failed here was not acked, though the broker has its dead letter and event: it is redelivered.
    pub fn ack_lost(&self, ident: &Ident, body: &[u8]) {
        let hash = self.hasher.hash_one(body);
        let mut state = self.state();
        if state.acks_lost.len() >= ACKS_LOST_MAX {
            state.acks_lost.clear();
        }
        state.acks_lost.insert(ident.key, hash);
    }

    /// Whether this is the command whose ack was lost. True only once for each.
    pub fn only_ack_was_lost(&self, ident: &Ident, body: &[u8]) -> bool {
        let mut state = self.state();
        if state.acks_lost.is_empty() {
            return false;
        }
        let lost = state.acks_lost.get(&ident.key) == Some(&self.hasher.hash_one(body));
        lost && state.acks_lost.remove(&ident.key).is_some()
    }

    pub fn begun(&self, ident: &Ident) -> OpenRuns {
        match self.state().seen.get(&EventType::Start.id(ident)) {
            Some(Seen::OpenRuns(begun)) => (**begun).clone(),
            _ => OpenRuns::default(),
        }
    }

    /// Records a run of this worker.
    pub fn begin(&self, ident: &Ident, run: RunId, now: Timestamp) {
        let id = EventType::Start.id(ident);
        self.state().begin(id, run, now, LogPart::End);
    }

    /// Records that a run was handed back, without an outcome.
    pub fn hand_back(&self, ident: &Ident, run: &RunId, called: bool, now: Timestamp) {
        let id = EventType::Start.id(ident);
        self.state().hand_back(id, run, called, now, LogPart::End);
    }

    pub fn settle(&self, ident: &Ident, settlement: &Settlement, body: &[u8], now: Timestamp) {
        let seen = match &settlement.outcome {
            Outcome::Success { changed, version } => Seen::Succeeded {
                changed: *changed,
                attempts: settlement.attempts,
                duration: settlement.duration,
                merged_into: settlement.merged_into,
                fields: self.hash_of_names(&ident.fields),
                body: Some(self.hasher.hash_one(body)),
                version: self.known(ident.user_id.as_deref(), version.clone()),
            },
            Outcome::Failure(_) => Seen::Failed,
        };
        let id = settlement.outcome.event_type().id(ident);
        let mut state = self.state();
        state.insert(id, seen, now, LogPart::End);
        // The open runs of a command that has its outcome are no longer needed.
        state.seen.remove(&EventType::Start.id(ident));
    }

    /// How many events it can hold.
    pub fn events_max(&self) -> usize {
        self.state().events_max
    }

    /// Takes in an event from the outcome log.
    pub fn read(&self, message: Message, part: LogPart) {
        let Some(logged) = Logged::read(&message.properties, &message.body) else {
            return;
        };
        let (id, time) = (logged.id, logged.time);
        let barrier = message.properties.header_text(BARRIER);
        let seen = match logged.what {
            What::Started => None,
            What::Succeeded(success) => {
                let fields: Vec<&str> = success.fields().collect();
                Some(Seen::Succeeded {
                    changed: success.changed,
                    attempts: success.attempts,
                    duration: Duration::from_millis(success.duration_ms),
                    merged_into: success.merged_into,
                    fields: self.hash_of_names(&fields),
                    body: None,
                    version: logged
                        .version
                        .and_then(|(user, version)| self.known(Some(&user), Some(version))),
                })
            }
            What::Failed => Some(Seen::Failed),
        };
        let mut state = self.state();
        if state.cut && (part == LogPart::Earlier || state.earlier.is_none()) {
            state.cut = false;
            state.complete_since = state.complete_since.max(Some(time));
        }
        if let Some(barrier) = barrier.and_then(|text| RunId::parse(&text)) {
            if barrier.worker == state.me {
                self.barrier.send_modify(|read| *read = barrier.number.max(*read));
            }
            return;
        }
        if part == LogPart::End {
            state.end_since.get_or_insert(time);
        }
        match seen {
            Some(seen) => state.end(id, seen, time, part),
            None => {
                if let Some(run) = message.properties.app_id().and_then(RunId::parse) {
                    match message.properties.header_text(HANDED_BACK) {
                        Some(how) => state.hand_back(id, &run, how != "untouched", time, part),
                        None => state.begin(id, run, time, part),
                    }
                }
            }
        }
        if part == LogPart::End || state.latest.is_none() {
            state.latest = Some(message);
        }
        drop(state);
        self.spoke
            .send_if_modified(|spoke| !std::mem::replace(spoke, true));
    }

    /// The latest event of the log that was read.
    pub fn latest(&self) -> Option<Message> {
        self.state().latest.clone()
    }

    /// Waits for the latest event of the log.
    pub async fn any(&self) -> Message {
        loop {
            // The sender lives as long as this does.
            let _ = self.spoke.subscribe().wait_for(|spoke| *spoke).await;
            if let Some(latest) = self.latest() {
                return latest;
            }
        }
    }

    /// Waits until this worker's barrier of this number, or a later one, is read.
    pub async fn barrier(&self, number: u64) {
        // The sender lives as long as this does.
        let _ = self.barrier.subscribe().wait_for(|read| *read >= number).await;
    }
}

impl State {
    fn insert(&mut self, id: Uuid, seen: Seen, time: Timestamp, part: LogPart) {
        let user = user_of(&seen);
        if self.seen.insert(id, seen).is_some() {
            return;
        }
        if let Some(user) = user {
            self.versions.record(user, id, time, part);
        }
        match &mut self.earlier {
            Some(earlier) if part == LogPart::Earlier => earlier.oldest_first.push_back((id, time)),
            _ => self.oldest_first.push_back((id, time)),
        }
        while let Some((oldest, time)) = self.one_too_many() {
            if let Some(user) = self.seen.remove(&oldest).as_ref().and_then(user_of) {
                self.versions.forget(user, oldest);
            }
            if let Some(earlier) = &mut self.earlier {
                earlier.ended.remove(&oldest);
            }
            self.complete_since = self.complete_since.max(Some(time));
        }
    }

    /// Removes the oldest event if there are too many.
    fn one_too_many(&mut self) -> Option<(Uuid, Timestamp)> {
        let earlier = self.earlier.as_mut().map(|earlier| &mut earlier.oldest_first);
        let count = earlier.as_ref().map_or(0, |earlier| earlier.len()) + self.oldest_first.len();
        if count <= self.events_max {
            return None;
        }
        let oldest = earlier.and_then(VecDeque::pop_front);
        oldest.or_else(|| self.oldest_first.pop_front())
    }

    fn runs(&mut self, id: Uuid, time: Timestamp, part: LogPart) -> Option<&mut OpenRuns> {
        if !self.seen.contains_key(&id) {
            self.insert(id, Seen::OpenRuns(Box::default()), time, part);
        }
        match self.seen.get_mut(&id) {
            Some(Seen::OpenRuns(begun)) => Some(begun),
            _ => None,
        }
    }

    fn begin(&mut self, id: Uuid, run: RunId, time: Timestamp, part: LogPart) {
        if part == LogPart::Earlier
            && self
                .earlier
                .as_ref()
                .is_some_and(|earlier| earlier.ended(id, &run))
        {
            return;
        }
        if let Some(begun) = self.runs(id, time, part)
            && !begun.open.contains(&run)
            && begun.open.len() < RUNS_MAX
        {
            begun.open.push(run);
        }
    }

    fn hand_back(&mut self, id: Uuid, run: &RunId, called: bool, time: Timestamp, part: LogPart) {
        let Some(begun) = self.runs(id, time, part) else {
            return;
        };
        let known = begun.open.len();
        begun.open.retain(|open| open != run);
        begun.called |= called;
        if begun.open.len() == known
            && let Some(earlier) = &mut self.earlier
        {
            earlier.ends(id, run);
        }
    }

    /// Takes an outcome from the log. An outcome of this process is kept: it says more.
    fn end(&mut self, id: Uuid, seen: Seen, time: Timestamp, part: LogPart) {
        if !self.seen.contains_key(&id) {
            self.insert(id, seen, time, part);
        }
    }
}

/// The user whose version it holds.
fn user_of(seen: &Seen) -> Option<u64> {
    match seen {
        Seen::Succeeded { version, .. } => version.as_ref().map(|known| known.user),
        Seen::OpenRuns(_) | Seen::Failed => None,
    }
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
