//! The older part of the outcome log, while it is read after the end.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use uuid::Uuid;

use super::RUNS_MAX;
use crate::contract::RunId;

#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// Events that were read from it. They are older than all others, so they are forgotten first.
    pub(super) oldest_first: VecDeque<(Uuid, Timestamp)>,
    /// Runs that were handed back and whose START is in the older part, by START's id: reading that START opens none of
    /// them. They are forgotten with the command's events.
    pub(super) ended: HashMap<Uuid, Vec<RunId>>,
}

impl Earlier {
    pub(super) fn ends(&mut self, id: Uuid, run: &RunId) {
        let ended = self.ended.entry(id).or_default();
        if ended.len() < RUNS_MAX {
            ended.push(run.clone());
        }
    }

    pub(super) fn ended(&self, id: Uuid, run: &RunId) -> bool {
        self.ended.get(&id).is_some_and(|ended| ended.contains(run))
    }
}
