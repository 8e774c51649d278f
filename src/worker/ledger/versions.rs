//! Which success told a user's version last.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::LogPart;
use crate::contract::Version;

/// What a success told, kept with it.
#[derive(Debug)]
pub(super) struct Known {
    /// A hash of the user's id.
    pub(super) user: u64,
    pub(super) version: Version,
}

/// The latest success by its user. It holds no more than the events that are remembered.
#[derive(Debug, Default)]
pub(super) struct Versions(HashMap<u64, (Uuid, Timestamp)>);

impl Versions {
    pub(super) fn of(&self, user: u64) -> Option<Uuid> {
        self.0.get(&user).map(|(id, _)| *id)
    }

    /// The log's end is read in order, and clocks differ; its older part is read after what is newer.
    pub(super) fn told(&mut self, user: u64, id: Uuid, time: Timestamp, part: LogPart) {
        let known = self.0.entry(user).or_insert((id, time));
        if part == LogPart::End || known.1 <= time {
            *known = (id, time);
        }
    }

    pub(super) fn forget(&mut self, user: u64, id: Uuid) {
        if self.of(user) == Some(id) {
            self.0.remove(&user);
        }
    }
}
