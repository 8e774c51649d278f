//! The commands that this worker has in hand: each one's place and what it waits for, for operators who ask.
//!
//! A running command is the task's own (a task-local), so that its waits and calls are noted without being handed down.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use tokio::time::Instant;

use super::received::Received;
use super::waits::Wait;
use crate::clock::Clock;
use crate::contract::inquiry::{CallNow, CauseNow, CommandNow, NAMED_MAX, Question, UserNow, WaitNow};
use crate::metrics::WaitSeconds;
use crate::traces::{self, Process, Trace};

/// The answer to a call that went well.
pub(super) const OK: &str = "ok";

tokio::task_local! {
    /// The command that the task runs.
    static CURRENT: Arc<Command>;
}

/// All commands in hand, in the order of their arrival.
pub struct InHand {
    list: Mutex<List>,
    /// How long commands are queued behind others of their user.
    queued_seconds: WaitSeconds,
}

#[derive(Default)]
struct List {
    commands: BTreeMap<u64, Arc<Command>>,
    arrived: u64,
}

/// A command's place in the list. It is taken off when this is dropped.
pub struct Entry {
    list: Arc<InHand>,
    number: u64,
    command: Arc<Command>,
}

pub(super) struct Command {
    id: Option<String>,
    user: Option<String>,
    batch: Option<String>,
    bulk: bool,
    partition: u16,
    redelivered: bool,
    received_at: Instant,
    trace: Option<Arc<Trace>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether it runs; otherwise it is queued behind others of its user.
    runs: bool,
    waits: Option<(Wait, Instant)>,
    /// Whether calls are paused meanwhile.
    paused: bool,
    /// When the wait ends by itself.
    until: Option<Instant>,
    calls: VecDeque<Call>,
}

struct Call {
    kind: &'static str,
    at: Instant,
    took: Duration,
    answer: &'static str,
    status: Option<u16>,
}

/// Converts moments of the runtime's clock.
#[derive(Clone, Copy)]
struct Wall {
    now: Instant,
    wall: Timestamp,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for InHand {
    fn default() -> Self {
        Self {
            list: Mutex::default(),
            queued_seconds: WaitSeconds::of(Wait::Order.as_str()),
        }
    }
}

impl InHand {
    /// A command has arrived.
    pub(super) fn arrive(self: &Arc<Self>, received: &Received) -> Entry {
        let (delivery, ident) = (&received.delivery, &received.ident);
        let command = Arc::new(Command {
            id: ident.command_id.clone(),
            user: ident.user_id.clone(),
            batch: ident.batch_id.as_ref().map(|batch| batch.as_str().to_owned()),
            bulk: delivery.bulk,
            partition: delivery.partition,
            redelivered: delivery.redelivered,
            received_at: delivery.received_at,
            trace: delivery.trace.as_ref().map(Process::trace),
            state: Mutex::default(),
        });
        let mut list = lock(&self.list);
        list.arrived += 1;
        let number = list.arrived;
        list.commands.insert(number, command.clone());
        Entry {
            list: self.clone(),
            number,
            command,
        }
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.list).commands.len()
    }

    fn all(&self) -> Vec<Arc<Command>> {
        lock(&self.list).commands.values().cloned().collect()
    }

    /// The commands that are asked for, at most so many.
    pub(super) fn find(
        &self,
        question: &Question,
        most: usize,
        paused: bool,
        clock: Clock,
    ) -> Vec<CommandNow> {
        let is_asked_for = |command: &Command| match question {
            Question::Command(id) => command.id.as_deref() == Some(id),
            Question::User(user) => command.user.as_deref() == Some(user),
            Question::Waiting => false,
        };
        let (all, wall) = (self.all(), Wall::at(clock));
        let found = all
            .iter()
            .enumerate()
            .filter(|(_, command)| is_asked_for(command));
        found
            .take(most)
            .map(|(place, command)| command.now(&all[..place], paused, wall))
            .collect()
    }

    /// All commands, by what they wait for.
    pub(super) fn causes(&self, paused: bool, clock: Clock) -> Vec<CauseNow> {
        let wall = Wall::at(clock);
        let mut causes: BTreeMap<&'static str, (usize, Instant, Option<String>)> = BTreeMap::new();
        for command in self.all() {
            let (cause, since) = command.cause(paused);
            let (count, oldest_since, oldest) = causes.entry(cause).or_insert((0, since, None));
            *count += 1;
            if oldest.is_none() || since < *oldest_since {
                (*oldest_since, *oldest) = (since, command.id.clone());
            }
        }
        let now =
            |(cause, (commands, since, oldest)): (&'static str, (usize, Instant, Option<String>))| CauseNow {
                cause: cause.to_owned(),
                commands,
                oldest,
                since: wall.of(since),
            };
        causes.into_iter().map(now).collect()
    }

    /// How long the command that has waited longest has waited, by cause.
    pub fn longest_waits(&self, paused: bool) -> BTreeMap<&'static str, Duration> {
        let mut longest = BTreeMap::new();
        for command in self.all() {
            let (cause, since) = command.cause(paused);
            let longest: &mut Duration = longest.entry(cause).or_default();
            *longest = since.elapsed().max(*longest);
        }
        longest
    }

    /// How many users the commands are of.
    pub fn users_count(&self) -> usize {
        let all = self.all();
        let users: HashSet<_> = all.iter().filter_map(|command| command.user.as_deref()).collect();
        users.len()
    }

    /// The users with most commands.
    pub(super) fn users(&self) -> Vec<UserNow> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for user in self.all().iter().filter_map(|command| command.user.clone()) {
            *counts.entry(user).or_default() += 1;
        }
        let mut users: Vec<_> = counts
            .into_iter()
            .map(|(user_id, commands)| UserNow { user_id, commands })
            .collect();
        users.sort_by(|one, other| (other.commands, &one.user_id).cmp(&(one.commands, &other.user_id)));
        users.truncate(NAMED_MAX);
        users
    }
}

impl Entry {
    /// Runs the command as the task's own.
    pub(super) fn run<T>(&self, run: impl Future<Output = T>) -> impl Future<Output = T> {
        lock(&self.command.state).runs = true;
        self.list
            .queued_seconds
            .record(self.command.received_at.elapsed());
        let trace = self.command.trace.clone();
        if let Some(trace) = &trace {
            trace.waited(Wait::Order.as_str(), self.command.received_at);
        }
        // Not an async function, which would hold the large future twice.
        CURRENT.scope(self.command.clone(), traces::within(trace, run))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.list.list).commands.remove(&self.number);
    }
}

/// A wait that is noted for the task's command for as long as this lives.
pub(super) struct Noted {
    command: Option<Arc<Command>>,
    before: Option<(Wait, Instant)>,
}

/// The task's command, if any, waits.
pub(super) fn waits(wait: Wait, since: Instant) -> Noted {
    let command = CURRENT.try_with(Arc::clone).ok();
    let before = command.as_ref().and_then(|command| {
        let mut state = lock(&command.state);
        state.waits.replace((wait, since))
    });
    Noted { command, before }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some(command) = &self.command {
            let mut state = lock(&command.state);
            let ended = mem::replace(&mut state.waits, self.before);
            let paused = mem::take(&mut state.paused);
            state.until = None;
            if let (Some(trace), Some((wait, since))) = (&command.trace, ended) {
                drop(state);
                trace_wait(trace, wait, paused, since);
            }
        }
    }
}

/// The spans of calls and of publishes show the waits for an answer and for a confirm.
fn trace_wait(trace: &Trace, wait: Wait, paused: bool, since: Instant) {
    match wait {
        Wait::Answer | Wait::Confirm => {}
        Wait::Permit if paused => trace.waited(Wait::Pause.as_str(), since),
        wait => trace.waited(wait.as_str(), since),
    }
}

/// Says of the present wait of the task's command whether calls are paused, if anyone traces it.
pub(super) fn paused_if(is_paused: impl FnOnce() -> bool) {
    let _ = CURRENT.try_with(|command| {
        if command.trace.is_some() {
            let is_paused = is_paused();
            lock(&command.state).paused = is_paused;
        }
    });
}

/// The present wait of the task's command ends by itself then.
pub(super) fn until(at: Instant) {
    let _ = CURRENT.try_with(|command| lock(&command.state).until = Some(at));
}

/// The task's command has made a call.
pub(super) fn called(kind: &'static str, at: Instant, answer: &'static str, status: Option<u16>) {
    let _ = CURRENT.try_with(|command| {
        if let Some(trace) = &command.trace {
            trace.called(kind, at, answer, answer != OK, status);
        }
        let calls = &mut lock(&command.state).calls;
        if calls.len() == NAMED_MAX {
            calls.pop_front();
        }
        calls.push_back(Call {
            kind,
            at,
            took: at.elapsed(),
            answer,
            status,
        });
    });
}

impl Command {
    /// What it waits for, and since when. A running command that waits for nothing is with the worker itself.
    fn cause(&self, paused: bool) -> (&'static str, Instant) {
        let state = lock(&self.state);
        match state.waits {
            _ if !state.runs => (Wait::Order.as_str(), self.received_at),
            Some((Wait::Permit, since)) if paused => (Wait::Pause.as_str(), since),
            Some((wait, since)) => (wait.as_str(), since),
            None => ("running", self.received_at),
        }
    }

    fn now(&self, earlier: &[Arc<Self>], paused: bool, wall: Wall) -> CommandNow {
        let mut before = earlier.iter().filter(|other| other.user == self.user).peekable();
        let is_first = before.peek().is_none();
        let behind = before.clone().find(|other| lock(&other.state).runs);
        let behind = behind.and_then(|other| other.id.clone());
        let ahead = before
            .filter(|other| other.bulk == self.bulk || lock(&other.state).runs)
            .count();
        let (cause, since) = self.cause(paused);
        let state = lock(&self.state);
        let call = |call: &Call| CallNow {
            kind: call.kind.to_owned(),
            at: wall.of(call.at),
            took_ms: u64::try_from(call.took.as_millis()).unwrap_or(u64::MAX),
            answer: call.answer.to_owned(),
            status: call.status,
        };
        CommandNow {
            command_id: self.id.clone(),
            user_id: self.user.clone(),
            batch_id: self.batch.clone(),
            bulk: self.bulk,
            partition: self.partition,
            redelivered: self.redelivered,
            received_at: wall.of(self.received_at),
            waits: (cause != "running").then(|| WaitNow {
                cause: cause.to_owned(),
                since: wall.of(since),
                until: state.until.map(|until| wall.of(until)),
            }),
            behind: behind.filter(|_| !state.runs && !is_first),
            ahead: if state.runs { 0 } else { ahead },
            calls: state.calls.iter().map(call).collect(),
        }
    }
}

impl Wall {
    fn at(clock: Clock) -> Self {
        Self {
            now: Instant::now(),
            wall: clock.now(),
        }
    }

    fn of(self, at: Instant) -> Timestamp {
        let span = |span: Duration| SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        let moment = match at > self.now {
            true => self.wall.checked_add(span(at - self.now)),
            false => self.wall.checked_sub(span(self.now - at)),
        };
        let moment = moment.unwrap_or(self.wall);
        moment.round(Unit::Millisecond).unwrap_or(moment)
    }
}
