//! The port's publisher over the broker in memory: a confirm means that every queue or sink has it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Shared;
use crate::broker::in_flight::InFlight;
use crate::broker::{Link, Message, PublishError, Publisher, SHORT_TEXT_BYTES_MAX};

/// RabbitMQ's bound for the default frame size.
const HEADERS_BYTES_MAX: usize = 124 * 1024;

pub(super) struct MemoryPublisher {
    shared: Arc<Shared>,
    confirm_timeout: Duration,
    closed: AtomicBool,
    in_flight: InFlight,
}

impl MemoryPublisher {
    pub(super) fn new(shared: Arc<Shared>, confirm_timeout: Duration) -> Self {
        Self {
            shared,
            confirm_timeout,
            closed: AtomicBool::new(false),
            in_flight: InFlight::default(),
        }
    }

    async fn confirmed(&self, message: &Message) -> Result<(), PublishError> {
        let connection = self.until_open().await;
        let (delay, late) = {
            let mut state = self.shared.state();
            let faults = &mut state.faults;
            if faults.nacks > 0 {
                faults.nacks -= 1;
                return Err(PublishError::Nacked);
            }
            (faults.confirm_delay, faults.taken_on_confirm)
        };
        if !late {
            self.shared.take(message).await?;
        }
        if !delay.is_zero() {
            sleep(delay).await;
        }
        self.until_released(connection).await?;
        if late {
            self.shared.take(message).await?;
        }
        Ok(())
    }

    /// Waits until publishing is possible. Returns the connection's number.
    async fn until_open(&self) -> u64 {
        loop {
            let mut changed = pin!(self.shared.publishable.notified());
            changed.as_mut().enable();
            {
                let state = self.shared.state();
                if state.faults.publish_link() == Link::Up {
                    return state.faults.connection;
                }
            }
            changed.await;
        }
    }

    async fn until_released(&self, connection: u64) -> Result<(), PublishError> {
        loop {
            let mut changed = pin!(self.shared.publishable.notified());
            changed.as_mut().enable();
            {
                let state = self.shared.state();
                if state.faults.connection != connection {
                    return Err(PublishError::Unconfirmed);
                }
                if !state.faults.confirms_held {
                    return Ok(());
                }
            }
            changed.await;
        }
    }
}

#[async_trait]
impl Publisher for MemoryPublisher {
    async fn publish(&self, message: &Message) -> Result<(), PublishError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PublishError::Unconfirmed);
        }
        if message.routing_key.len() > SHORT_TEXT_BYTES_MAX {
            return Err(PublishError::Returned);
        }
        let _counted = InFlight::enter(&self.in_flight);
        let confirmed = timeout(self.confirm_timeout, self.confirmed(message)).await;
        confirmed.unwrap_or(Err(PublishError::Unconfirmed))
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.shared.publish_link.subscribe()
    }

    fn unconfirmed(&self) -> usize {
        self.in_flight.count()
    }

    fn headers_bytes_max(&self) -> usize {
        HEADERS_BYTES_MAX
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.in_flight.none().await;
    }
}
