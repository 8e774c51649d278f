//! What becomes of commands that were sent again, by the outcome log.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{Access, OperationError};
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{Delivery, InspectError, Message, StreamReader, Streamed};
use crate::contract::event::EventType;
use crate::contract::{Ident, decode};
use crate::operations::dead_letters::Letter;

/// So few outcomes say nothing about the rest.
const KNOWN_MIN: u64 = 10;

/// The log is read from so long before the first command: other clocks than this one wrote it.
const BEFORE: Duration = Duration::from_secs(60);

/// A command that failed and was sent again more often than this within [`BEFORE`] is not to be expected.
const EARLIER_FAILS: u32 = 50;

#[derive(Default)]
struct State {
    /// By the command's id.
    waiting: HashMap<String, Waiting>,
    waiting_count: u64,
    succeeded: u64,
    failed: u64,
    trouble: Option<InspectError>,
}

#[derive(Default)]
struct Waiting {
    count: u64,
    /// The ids of the FAIL events that made the dead letters, and of those before earlier redrives.
    told: HashSet<Uuid>,
}

/// Reads the log until it is dropped.
pub(super) struct Outcomes {
    shared: Arc<(Mutex<State>, Notify)>,
    _reading: AbortOnDropHandle<()>,
}

/// How commands ended, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) waiting: u64,
}

impl Known {
    /// Whether more than a fifth failed again.
    pub(super) fn too_many_failed(self) -> bool {
        self.failed * 5 > self.succeeded + self.failed
    }

    pub(super) fn is_bad(self) -> bool {
        self.succeeded + self.failed >= KNOWN_MIN && self.too_many_failed()
    }
}

impl Outcomes {
    pub(super) async fn read(access: &Access) -> Result<Self, OperationError> {
        let since = access.clock.now() - BEFORE;
        let reader = access.inspector.read(OUTCOME_LOG, Some(since)).await?;
        let shared = Arc::<(Mutex<State>, Notify)>::default();
        let reading = tokio::spawn(follow(reader, shared.clone()));
        Ok(Self {
            shared,
            _reading: AbortOnDropHandle::new(reading),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        state(&self.shared)
    }

    /// The command is about to be sent. One without an id can't be recognised.
    pub(super) fn expect(&self, letter: &Letter, delivery: &Delivery) {
        let redrives = u32::try_from(letter.redrives).unwrap_or(0);
        let ident = match decode(&delivery.body) {
            Ok(command) => Ident::of(&command, redrives),
            Err(_) => Ident::of_refused(&delivery.body, delivery.properties.message_id(), redrives),
        };
        let Some(id) = &ident.command_id else { return };
        let mut state = self.state();
        let waiting = state.waiting.entry(id.clone()).or_default();
        waiting.count += 1;
        let earlier = redrives.saturating_sub(EARLIER_FAILS)..=redrives;
        waiting
            .told
            .extend(earlier.map(|redrives| EventType::Fail.id(&ident.at(redrives))));
        state.waiting_count += 1;
    }

    pub(super) fn known(&self) -> Result<Known, OperationError> {
        let state = self.state();
        match &state.trouble {
            Some(error) => Err(error.clone().into()),
            None => Ok(Known {
                succeeded: state.succeeded,
                failed: state.failed,
                waiting: state.waiting_count,
            }),
        }
    }

    /// Returns when something has changed, or at this time.
    pub(super) async fn changed_until(&self, deadline: Instant, before: Known) {
        let mut changed = pin!(self.shared.1.notified());
        changed.as_mut().enable();
        if self.known().ok() != Some(before) {
            return;
        }
        tokio::select! {
            () = changed => {}
            () = sleep_until(deadline) => {}
        }
    }
}

fn state(shared: &(Mutex<State>, Notify)) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(mut reader: Box<dyn StreamReader>, shared: Arc<(Mutex<State>, Notify)>) {
    loop {
        match reader.next().await {
            Ok(Streamed::Message(message)) => {
                if state(&shared).take(&message) {
                    shared.1.notify_waiters();
                }
            }
            Ok(Streamed::Present) => {}
            Err(error) => {
                state(&shared).trouble = Some(error);
                shared.1.notify_waiters();
                return;
            }
        }
    }
}

impl State {
    /// Whether it is the outcome of a command that is waited for.
    fn take(&mut self, message: &Message) -> bool {
        let properties = &message.properties;
        let ended = properties.message_type().and_then(EventType::parse);
        let failed = match ended {
            Some(EventType::Success) => false,
            Some(EventType::Fail) => true,
            Some(EventType::Start) | None => return false,
        };
        let Some(id) = properties.correlation_id() else {
            return false;
        };
        let Some(waiting) = self.waiting.get_mut(id) else {
            return false;
        };
        let event = properties.message_id().and_then(|id| id.parse().ok());
        if failed && event.is_some_and(|event| waiting.told.contains(&event)) {
            return false;
        }
        waiting.count -= 1;
        if waiting.count == 0 {
            self.waiting.remove(id);
        }
        self.waiting_count -= 1;
        match failed {
            true => self.failed += 1,
            false => self.succeeded += 1,
        }
        true
    }
}
