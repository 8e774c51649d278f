//! Between lapin's thread and the worker: deliveries one way, the wish to take or to rest the other.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::broker::Delivery;

/// Prefetch bounds it, because an epoch's end empties it.
pub(super) struct Inbox {
    deliveries: Mutex<VecDeque<Delivery>>,
    arrived: Notify,
    intake: watch::Sender<Intake>,
}

#[derive(Clone, Copy)]
struct Intake {
    /// The worker wants deliveries: false while the consumer is suspended.
    wanted: bool,
    /// An epoch may hold some.
    open: bool,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            deliveries: Mutex::default(),
            arrived: Notify::new(),
            intake: watch::Sender::new(Intake {
                wanted: true,
                open: false,
            }),
        }
    }

    fn deliveries(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, delivery: Delivery) {
        self.deliveries().push_back(delivery);
        self.arrived.notify_one();
    }

    pub(super) async fn next(&self) -> Delivery {
        loop {
            let popped = self.deliveries().pop_front();
            match popped {
                Some(delivery) if delivery.usable() => return delivery,
                Some(stale) => drop(stale),
                None => self.arrived.notified().await,
            }
        }
    }

    pub(super) fn want(&self, wanted: bool) {
        self.intake.send_modify(|intake| intake.wanted = wanted);
    }

    pub(super) async fn wanted(&self, wanted: bool) {
        // The sender lives as long as this does.
        let _ = self
            .intake
            .subscribe()
            .wait_for(|intake| intake.wanted == wanted)
            .await;
    }

    /// Opens it for an epoch, where deliveries are wanted. In one step: whoever wants no more either
    /// prevents the epoch or knows that there is one to wait for.
    pub(super) fn open(&self) -> bool {
        let mut open = false;
        self.intake.send_modify(|intake| {
            intake.open = intake.wanted;
            open = intake.open;
        });
        open
    }

    /// The epoch has ended: what it left is stale.
    pub(super) fn close(&self) {
        self.deliveries().clear();
        self.intake.send_modify(|intake| intake.open = false);
    }

    pub(super) async fn closed(&self) {
        let _ = self.intake.subscribe().wait_for(|intake| !intake.open).await;
    }
}
