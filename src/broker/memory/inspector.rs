//! The port's inspector over the broker in memory. A stream is a queue that is never emptied.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Shared;
use crate::broker::inspect::{Depth, Holder, Inbox, InspectError, Inspector, StreamReader, Streamed};
use crate::broker::topology::OUTCOME_LOG;
use crate::broker::{Delivery, Message};

pub(super) struct MemoryInspector {
    shared: Arc<Shared>,
}

impl MemoryInspector {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Nothing can be looked at while the broker is away.
    fn connected(&self) -> Result<(), InspectError> {
        match self.shared.state().faults.down.clone() {
            Some(reason) => Err(InspectError::Lost { reason }),
            None => Ok(()),
        }
    }

    fn ready(&self, queue: &str) -> Result<usize, InspectError> {
        self.connected()?;
        let mut state = self.shared.state();
        let found = state.queue(queue).map(|queue| queue.ready());
        found.ok_or_else(|| InspectError::NoQueue {
            queue: queue.to_owned(),
        })
    }
}

#[async_trait]
impl Inspector for MemoryInspector {
    async fn depth(&self, queue: &str) -> Result<Option<Depth>, InspectError> {
        match self.ready(queue) {
            Ok(ready) => Ok(Some(Depth {
                ready: ready as u64,
                consumers: 0,
            })),
            Err(InspectError::NoQueue { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read(
        &self,
        stream: &str,
        since: Option<Timestamp>,
    ) -> Result<Box<dyn StreamReader>, InspectError> {
        let present = self.ready(stream)?;
        // Only the outcome log knows when its messages were stored.
        let next = match since {
            Some(since) if stream == OUTCOME_LOG => self.shared.state().logged_since(since).0,
            _ => 0,
        };
        Ok(Box::new(MemoryStreamReader {
            shared: self.shared.clone(),
            stream: stream.to_owned(),
            next,
            present: Some(present),
        }))
    }

    async fn hold(&self, queue: &str) -> Result<Box<dyn Holder>, InspectError> {
        let left = self.ready(queue)?;
        Ok(Box::new(MemoryHolder {
            shared: self.shared.clone(),
            queue: queue.to_owned(),
            left,
        }))
    }

    async fn declare_queue(&self, queue: &str) -> Result<(), InspectError> {
        self.connected()?;
        self.shared.state().add_queue(queue);
        Ok(())
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), InspectError> {
        self.connected()?;
        self.shared.state().remove_queue(queue);
        Ok(())
    }

    async fn inbox(&self, exchange: Option<&str>) -> Result<Box<dyn Inbox>, InspectError> {
        let fleet = exchange.is_some_and(|exchange| exchange == self.shared.fleet);
        let name = self.shared.state().open_inbox(fleet);
        Ok(Box::new(MemoryInbox {
            shared: self.shared.clone(),
            name,
        }))
    }

    async fn close(&self) {}
}

struct MemoryInbox {
    shared: Arc<Shared>,
    name: String,
}

#[async_trait]
impl Inbox for MemoryInbox {
    fn name(&self) -> &str {
        &self.name
    }

    async fn next(&mut self) -> Result<Message, InspectError> {
        loop {
            let mut changed = pin!(self.shared.deliverable.notified());
            changed.as_mut().enable();
            let next = self
                .shared
                .state()
                .queue(&self.name)
                .and_then(|queue| queue.take());
            if let Some(message) = next {
                return Ok(message);
            }
            changed.await;
        }
    }
}

impl Drop for MemoryInbox {
    fn drop(&mut self) {
        self.shared.state().close_inbox(&self.name);
    }
}

struct MemoryStreamReader {
    shared: Arc<Shared>,
    stream: String,
    next: usize,
    /// `None`: `Present` was returned.
    present: Option<usize>,
}

impl MemoryStreamReader {
    fn next_now(&mut self) -> Option<Streamed> {
        if self.present.is_some_and(|present| self.next >= present) {
            self.present = None;
            return Some(Streamed::Present);
        }
        let message = self.shared.state().queue(&self.stream)?.nth(self.next)?;
        self.next += 1;
        Some(Streamed::Message(message))
    }
}

#[async_trait]
impl StreamReader for MemoryStreamReader {
    async fn next(&mut self) -> Result<Streamed, InspectError> {
        let shared = self.shared.clone();
        loop {
            let mut changed = pin!(shared.deliverable.notified());
            changed.as_mut().enable();
            if let Some(next) = self.next_now() {
                return Ok(next);
            }
            changed.await;
        }
    }
}

struct MemoryHolder {
    shared: Arc<Shared>,
    queue: String,
    left: usize,
}

#[async_trait]
impl Holder for MemoryHolder {
    async fn next(&mut self) -> Result<Option<Delivery>, InspectError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let handed = self.shared.state().hold_next(&self.queue);
        Ok(handed.map(|handed| handed.into_delivery(&self.shared)))
    }

    async fn release(self: Box<Self>) {}
}

impl Drop for MemoryHolder {
    fn drop(&mut self) {
        self.shared.state().release_held(&self.queue);
        self.shared.deliverable.notify_waiters();
    }
}
