//! What was published and what is not yet settled: by it the publishers keep a backlog that has an end.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::command::{Command, is_bulk};

/// Interactive and bulk commands that are not settled, at most.
const OPEN_MAX: [usize; 2] = [400, 200];
/// Of one user.
const OPEN_OF_USER_MAX: u32 = 8;

pub struct Board {
    state: Mutex<State>,
    moved: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// Every command, in the order in which they were first sent.
    published: Vec<Command>,
    open: HashSet<Command>,
    open_by_class: [usize; 2],
    open_by_user: HashMap<u32, u32>,
    repeats: u64,
}

impl Board {
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            moved: watch::Sender::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a command that is about to be sent for the first time; false where there is enough of its kind.
    pub fn admit(&self, command: Command) -> bool {
        let class = usize::from(is_bulk(command.user));
        let mut state = self.state();
        let of_user = state.open_by_user.get(&command.user).copied().unwrap_or_default();
        if state.open_by_class[class] >= OPEN_MAX[class] || of_user >= OPEN_OF_USER_MAX {
            return false;
        }
        state.open_by_class[class] += 1;
        *state.open_by_user.entry(command.user).or_default() += 1;
        state.open.insert(command);
        state.published.push(command);
        true
    }

    /// A command was sent again on purpose.
    pub fn repeated(&self) {
        self.state().repeats += 1;
    }

    /// A terminal event was seen, perhaps not for the first time.
    pub fn settled(&self, command: Command) {
        let mut state = self.state();
        if !state.open.remove(&command) {
            return;
        }
        state.open_by_class[usize::from(is_bulk(command.user))] -= 1;
        if let Some(open) = state.open_by_user.get_mut(&command.user) {
            *open -= 1;
        }
        drop(state);
        self.moved.send_replace(());
    }

    /// Notified whenever a command is settled.
    pub fn moves(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    pub fn open(&self) -> usize {
        self.state().open.len()
    }

    pub fn published(&self) -> Vec<Command> {
        self.state().published.clone()
    }

    pub fn repeats(&self) -> u64 {
        self.state().repeats
    }
}
