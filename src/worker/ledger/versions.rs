//! The latest success of each user that has a version.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::LogPart;
use crate::contract::Version;

/// The user and version of a success.
#[derive(Debug)]
pub(super) struct Known {
    /// A hash of the user's id.
    pub(super) user: u64,
    pub(super) version: Version,
}

/// The latest success by user. It holds no more than the remembered events.
#[derive(Debug, Default)]
pub(super) struct Versions(HashMap<u64, (Uuid, Timestamp)>);

impl Versions {
    pub(super) fn of(&self, user: u64) -> Option<Uuid> {
        self.0.get(&user).map(|(id, _)| *id)
    }

    /// An event of the log's end replaces the known one, whatever its time: the end is read in order, and clocks
    /// differ. The older part is read later, so there the time decides.
    pub(super) fn record(&mut self, user: u64, id: Uuid, time: Timestamp, part: LogPart) {
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
