//! What was announced of a batch: BATCH_OPENED and BATCH_CLOSED of each of its files.

use jiff::Timestamp;
use uuid::Uuid;

use crate::contract::lifecycle::{Digest, LifecycleBody, LifecycleEvent};

/// The most files of one batch. Those beyond it are not counted, and that is said.
const FILES_MAX: usize = 10_000;

/// The announcements of one batch for one provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    openings: Vec<Opening>,
    closings: Vec<Closing>,
    /// Whether there were more files than are counted.
    pub overflowed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opening {
    event: Uuid,
    at: Timestamp,
    bulk: bool,
    commands: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Closing {
    event: Uuid,
    at: Timestamp,
    commands: u64,
    ids: Digest,
}

impl Announced {
    /// Takes an event of this batch. A repeat has the same id, and counts once.
    pub fn take(&mut self, event: &LifecycleEvent) {
        match &event.body {
            LifecycleBody::BatchOpened(opened) => {
                if self.openings.iter().any(|known| known.event == event.id) {
                    return;
                }
                if self.openings.len() == FILES_MAX {
                    self.overflowed = true;
                    return;
                }
                self.openings.push(Opening {
                    event: event.id,
                    at: event.time,
                    bulk: opened.bulk,
                    commands: opened.commands,
                });
            }
            LifecycleBody::BatchClosed(closed) => {
                // A file that is published again ends with the numbers of its last run.
                self.closings.retain(|known| known.event != event.id);
                if self.closings.len() == FILES_MAX {
                    self.overflowed = true;
                    return;
                }
                self.closings.push(Closing {
                    event: event.id,
                    at: event.time,
                    commands: closed.commands,
                    ids: closed.ids,
                });
            }
            _ => {}
        }
    }

    pub fn is_known(&self) -> bool {
        !self.openings.is_empty() || !self.closings.is_empty()
    }

    pub fn files(&self) -> usize {
        self.openings.len().max(self.closings.len())
    }

    pub fn opened_at(&self) -> Option<Timestamp> {
        self.openings.iter().map(|opening| opening.at).min()
    }

    /// The id of the event that opened the batch first.
    pub(super) fn first_event(&self) -> Option<Uuid> {
        let first = self.openings.iter().min_by_key(|opening| opening.at);
        first.map(|opening| opening.event)
    }

    /// Whether any file of it is bulk traffic.
    pub fn is_bulk(&self) -> bool {
        self.openings.iter().any(|opening| opening.bulk)
    }

    /// Whether all of its files are published.
    pub fn is_closed(&self) -> bool {
        !self.closings.is_empty() && self.unclosed().is_empty()
    }

    /// When its last file was published, if all are.
    pub fn closed_at(&self) -> Option<Timestamp> {
        let last = self.closings.iter().map(|closing| closing.at).max();
        last.filter(|_| self.is_closed())
    }

    /// How many commands it has: of files that are closed what was published, of others what was counted before.
    /// `None`: nothing was announced, or a file that is open was not counted.
    pub fn commands(&self) -> Option<u64> {
        if !self.is_known() {
            return None;
        }
        let closed: u64 = self.closings.iter().map(|closing| closing.commands).sum();
        let open: Option<u64> = self.unclosed().iter().map(|opening| opening.commands).sum();
        Some(closed.saturating_add(open?))
    }

    /// The digest of the ids of all closed files.
    pub fn ids(&self) -> Option<Digest> {
        let mut ids = Digest::default();
        self.closings.iter().for_each(|closing| ids.join(closing.ids));
        self.is_closed().then_some(ids)
    }

    /// The files that are open. The events don't say which closing belongs to which opening: the earliest opening with that
    /// number, or else the earliest one.
    fn unclosed(&self) -> Vec<Opening> {
        let mut open = self.openings.clone();
        open.sort_by_key(|opening| opening.at);
        for closing in &self.closings {
            let of_that_number = open
                .iter()
                .position(|opening| opening.commands == Some(closing.commands));
            let uncounted = || open.iter().position(|opening| opening.commands.is_none());
            let place = of_that_number.or_else(uncounted).unwrap_or(0);
            if place < open.len() {
                open.remove(place);
            }
        }
        open
    }
}
