//! The older part of the outcome log, while it is read after the end.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use uuid::Uuid;

use super::RUNS_MAX;
use crate::contract::RunId;

#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// What came of it: older than all else that is known, so given up before that.
    pub(super) oldest_first: VecDeque<(Uuid, Timestamp)>,
    /// Turns that were handed back, by START's id, where START stands in the older part: it opens none of them. Given up
    /// with what else is known of the command.
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
