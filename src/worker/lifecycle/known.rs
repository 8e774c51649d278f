//! What of one kind of trouble was published last. The outcome log has the events of this worker's predecessors.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use uuid::Uuid;

use crate::worker::ledger::LogPart;

/// A beginning that was published, and not its end yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published<C> {
    pub(super) id: Uuid,
    pub(super) cause: C,
    pub(super) since: Timestamp,
    /// Whether this worker observed it itself.
    pub(super) seen: bool,
}

#[derive(Debug)]
pub(super) struct Known<C> {
    published: Mutex<Option<Published<C>>>,
    /// `published` is the latest: events of the log's older part no longer matter.
    latest: AtomicBool,
}

/// What is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<C> {
    Begins(C),
    Ends(Published<C>),
}

impl<C> Default for Known<C> {
    fn default() -> Self {
        Self {
            published: Mutex::new(None),
            latest: AtomicBool::new(false),
        }
    }
}

impl<C: Copy + PartialEq> Known<C> {
    fn published(&self) -> MutexGuard<'_, Option<Published<C>>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an event of the outcome log. `None`: it is an end.
    pub(super) fn read(&self, event: Option<Published<C>>, part: LogPart) {
        match part {
            LogPart::Earlier if self.latest.load(Ordering::Acquire) => return,
            LogPart::Earlier => {}
            LogPart::End => self.latest.store(true, Ordering::Release),
        }
        let mut published = self.published();
        let repeats = |event: &Published<C>| published.is_some_and(|published| published.id == event.id);
        if !event.as_ref().is_some_and(repeats) {
            *published = event;
        }
    }

    /// `present`: the trouble that there is now. `is_over` is told whether this worker observed the beginning.
    pub(super) fn change(&self, present: Option<C>, is_over: impl FnOnce(bool) -> bool) -> Option<Change<C>> {
        match (*self.published(), present) {
            (Some(published), Some(cause)) if published.cause == cause => None,
            (_, Some(cause)) => Some(Change::Begins(cause)),
            (Some(published), None) if is_over(published.seen) => Some(Change::Ends(published)),
            (_, None) => None,
        }
    }

    /// This worker has published a beginning, or an end.
    pub(super) fn was_published(&self, event: Option<Published<C>>) {
        self.latest.store(true, Ordering::Release);
        *self.published() = event;
    }
}
