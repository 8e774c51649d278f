//! Orders for all workers of a provider: pause, pace, batches.
//!
//! The orders in force are the latest message of a stream. A change is a message with the next revision; of two changes of
//! the same revision the earlier one counts, and the other is made again on top of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::broker::topology::{fleet_exchange, orders_stream};
use crate::broker::{InspectError, Inspector, Message, PublishError, Publisher};
use crate::contract::lifecycle::{
    BatchOrdered, Counts, LifecycleBody, LifecycleEvent, Operation, OperationKind,
};
use crate::contract::notice::PACE_MAX;
use crate::contract::orders::{
    BATCHES_MAX, BatchOrder, BatchState, HOLDS_MAX, HoldOrder, Orders, PaceOrder, PauseOrder, TEXT_MAX,
};
use crate::contract::{BatchId, Notice, ProviderName};
use crate::operations::operation::at_once;
use crate::operations::stream::read_to_present;
use crate::worker::{lifecycle, order_book};

/// How often a change is made again because another one came first.
const TRIES_MAX: usize = 10;

/// Each worker publishes a notice once a second, and as soon as it follows other orders.
pub const HEARD_WITHIN: Duration = Duration::from_millis(1500);

/// The stream of orders is short.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Why an order was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SteeringError {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("the order may not have been given: {0}; look with `usher pace show`, and give it again")]
    Publish(#[from] PublishError),
    #[error("others kept changing the orders at the same moment; give the order again")]
    Contended,
    #[error("{0}")]
    Refused(String),
}

impl SteeringError {
    /// Whether the broker is to blame, and not what was asked for.
    pub fn is_out_of_reach(&self) -> bool {
        !matches!(
            self,
            Self::Refused(_) | Self::Inspect(InspectError::NoQueue { .. })
        )
    }
}

/// An order about all calls to the provider.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    Pause(PauseOrder),
    /// Lifts the pause, and makes workers that paused by themselves try again.
    Resume,
    Pin(PaceOrder),
    Unpin,
}

impl Order {
    fn apply(&self, orders: &mut Orders) -> Result<(), SteeringError> {
        match self {
            Self::Pause(order) => pause(orders, order),
            Self::Resume => resume(orders),
            Self::Pin(order) => pin(orders, order),
            Self::Unpin => unpin(orders),
        }
    }

    fn kind(&self) -> OperationKind {
        match self {
            Self::Pause(_) => OperationKind::Pause,
            Self::Resume => OperationKind::Resume,
            Self::Pin(_) => OperationKind::Pin,
            Self::Unpin => OperationKind::Unpin,
        }
    }

    /// What is told of it, by the names of the command line's options.
    fn options(&self) -> BTreeMap<String, String> {
        let (mut options, until) = match self {
            Self::Pause(order) => {
                let reason = ("reason".to_owned(), order.reason.clone());
                let bulk_only = order
                    .bulk_only
                    .then(|| ("bulk-only".to_owned(), "true".to_owned()));
                (
                    BTreeMap::from_iter([reason].into_iter().chain(bulk_only)),
                    order.until,
                )
            }
            Self::Pin(order) => {
                let rate = ("rate".to_owned(), format!("{}/s", order.per_second));
                (BTreeMap::from([rate]), order.until)
            }
            Self::Resume | Self::Unpin => (BTreeMap::new(), None),
        };
        options.extend(until.map(|until| ("until".to_owned(), until.to_string())));
        options
    }
}

/// Gives orders to the workers of one provider.
pub struct Steering {
    inspector: Arc<dyn Inspector>,
    publisher: Arc<dyn Publisher>,
    provider: ProviderName,
    stream: String,
    fleet: String,
}

/// Which workers follow which orders.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// The latest notice of each worker.
    pub notices: Vec<Notice>,
}

impl Heard {
    /// Workers that follow orders of this revision or later.
    pub fn following(&self, revision: u64) -> usize {
        self.notices
            .iter()
            .filter(|notice| notice.orders >= revision)
            .count()
    }
}

impl Steering {
    pub fn new(
        inspector: Arc<dyn Inspector>,
        publisher: Arc<dyn Publisher>,
        provider: &ProviderName,
    ) -> Self {
        Self {
            inspector,
            publisher,
            provider: provider.clone(),
            stream: orders_stream(provider),
            fleet: fleet_exchange(provider),
        }
    }

    /// The orders in force.
    pub async fn orders(&self) -> Result<Orders, SteeringError> {
        Ok(self.read(None).await?.0)
    }

    /// Changes the orders. Returns those in force afterwards, which are confirmed to be the broker's.
    pub async fn change(
        &self,
        change: impl Fn(&mut Orders) -> Result<(), SteeringError>,
    ) -> Result<Orders, SteeringError> {
        for _ in 0..TRIES_MAX {
            let mut orders = self.orders().await?;
            change(&mut orders)?;
            orders.revision += 1;
            let mine = Uuid::new_v4().to_string();
            self.publisher
                .publish(&order_book::message(&self.stream, &orders, &mine))
                .await?;
            let (_, at_revision) = self.read(Some(orders.revision)).await?;
            if at_revision.as_deref() == Some(mine.as_str()) {
                return Ok(orders);
            }
        }
        Err(SteeringError::Contended)
    }

    /// The orders in force, and the id of the message that counted at this revision.
    async fn read(&self, revision: Option<u64>) -> Result<(Orders, Option<String>), SteeringError> {
        let mut reader = self.inspector.read(&self.stream, None).await?;
        let (mut latest, mut at_revision) = (Orders::default(), None);
        let take = |message: &Message| {
            let Ok(orders) = Orders::read(&message.body) else {
                return;
            };
            if orders.revision > latest.revision {
                if Some(orders.revision) == revision {
                    at_revision = message.properties.message_id().map(str::to_owned);
                }
                latest = orders;
            }
        };
        // Orders that are not known may not be replaced.
        if !read_to_present(&mut *reader, READ_WITHIN, take).await? {
            let reason = format!("{} fell silent before its end", self.stream);
            return Err(InspectError::Lost { reason }.into());
        }
        Ok((latest, at_revision))
    }

    /// Listens to the workers' notices for this long.
    pub async fn listen(&self, patience: Duration) -> Result<Heard, SteeringError> {
        let until = Instant::now() + patience;
        let mut inbox = self.inspector.inbox(Some(&self.fleet)).await?;
        let mut heard = Heard::default();
        while let Ok(message) = timeout_at(until, inbox.next()).await {
            // The number of partitions is the workers' affair.
            let Ok(notice) = Notice::read(&message?.body, u16::MAX) else {
                continue;
            };
            heard.notices.retain(|known| known.worker != notice.worker);
            heard.notices.push(notice);
        }
        heard.notices.sort_by(|one, other| one.worker.cmp(&other.worker));
        Ok(heard)
    }

    /// Gives an order, and tells the audit log who gave it. Returns the orders in force.
    pub async fn order(
        &self,
        order: &Order,
        (by, since): (&str, Timestamp),
    ) -> Result<Orders, SteeringError> {
        let orders = self.change(|orders| order.apply(orders)).await?;
        let what = (order.kind(), BTreeMap::new(), order.options());
        self.tell(what, (by, since)).await?;
        Ok(orders)
    }

    /// Pauses or cancels a batch, and tells so in the logs; `None` lifts what was ordered. Returns the orders in force.
    pub async fn order_batch(
        &self,
        id: &BatchId,
        state: Option<BatchState>,
        (by, since): (&str, Timestamp),
    ) -> Result<Orders, SteeringError> {
        let orders = self
            .change(|orders| batch(orders, id, state, (by, since)))
            .await?;
        let ordered = BatchOrdered {
            batch_id: id.clone(),
            by: by.to_owned(),
        };
        let body = match state {
            Some(BatchState::Paused) => LifecycleBody::BatchPaused(ordered),
            Some(BatchState::Cancelled) => LifecycleBody::BatchCancelled(ordered),
            None => LifecycleBody::BatchResumed(ordered),
        };
        let event = LifecycleEvent::about(&self.provider, id.as_str(), body, orders.revision, since);
        self.publish_event(&event).await?;
        if state == Some(BatchState::Cancelled) {
            let filter = BTreeMap::from([("batch".to_owned(), id.as_str().to_owned())]);
            let what = (OperationKind::Cancel, filter, BTreeMap::new());
            self.tell(what, (by, since)).await?;
        }
        Ok(orders)
    }

    /// So that it is among the operations.
    async fn tell(
        &self,
        (kind, filter, options): (OperationKind, BTreeMap<String, String>, BTreeMap<String, String>),
        (by, since): (&str, Timestamp),
    ) -> Result<(), SteeringError> {
        let operation = Operation {
            operation_id: Uuid::new_v4(),
            kind,
            by: by.to_owned(),
            filter,
            options,
            counts: Counts {
                planned: 1,
                ..Counts::default()
            },
        };
        let id = operation.operation_id.to_string();
        for body in at_once(operation) {
            let event = LifecycleEvent::about(&self.provider, &id, body, 0, since);
            self.publish_event(&event).await?;
        }
        Ok(())
    }

    /// Publishes what happened to a batch or an operation.
    pub async fn publish_event(&self, event: &LifecycleEvent) -> Result<(), SteeringError> {
        let message = lifecycle::message(&self.provider, event);
        Ok(self.publisher.publish(&message).await?)
    }
}

/// A name or a reason, as orders hold it.
pub fn text(what: &str, text: &str) -> Result<String, SteeringError> {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.chars().count() > TEXT_MAX || trimmed.chars().any(char::is_control) {
        return Err(SteeringError::Refused(format!(
            "{what} needs 1 to {TEXT_MAX} characters on one line"
        )));
    }
    Ok(trimmed.to_owned())
}

/// Calls per second, from `20`, `20/s`, `600/min` or `1000/h`.
pub fn rate(text: &str) -> Result<f64, String> {
    let (number, seconds) = match text.split_once('/') {
        None => (text, 1.0),
        Some((number, "s" | "second")) => (number, 1.0),
        Some((number, "m" | "min" | "minute")) => (number, 60.0),
        Some((number, "h" | "hour")) => (number, 3600.0),
        Some(_) => ("", 1.0),
    };
    let rate = number.trim().parse::<f64>().map(|number| number / seconds);
    rate.ok()
        .filter(|rate| *rate > 0.0 && *rate <= PACE_MAX)
        .ok_or_else(|| "write calls per second, such as 20/s, or 600/min".to_owned())
}

/// Pauses the provider.
pub fn pause(orders: &mut Orders, pause: &PauseOrder) -> Result<(), SteeringError> {
    orders.pause = Some(pause.clone());
    Ok(())
}

/// Lifts the pause, and makes workers that paused by themselves try again.
pub fn resume(orders: &mut Orders) -> Result<(), SteeringError> {
    orders.pause = None;
    orders.resumes += 1;
    Ok(())
}

pub fn pin(orders: &mut Orders, pace: &PaceOrder) -> Result<(), SteeringError> {
    orders.pace = Some(pace.clone());
    Ok(())
}

pub fn unpin(orders: &mut Orders) -> Result<(), SteeringError> {
    orders.pace = None;
    Ok(())
}

/// Pauses or cancels a batch; `None` lifts what was ordered.
pub fn batch(
    orders: &mut Orders,
    id: &BatchId,
    state: Option<BatchState>,
    (by, since): (&str, Timestamp),
) -> Result<(), SteeringError> {
    let Some(state) = state else {
        return match orders.batches.remove(id.as_str()) {
            Some(_) => Ok(()),
            None => Err(SteeringError::Refused(format!(
                "the batch {} is neither paused nor cancelled",
                id.as_str()
            ))),
        };
    };
    if orders.batches.len() >= BATCHES_MAX && !orders.batches.contains_key(id.as_str()) {
        return Err(SteeringError::Refused(format!(
            "{BATCHES_MAX} batches are paused or cancelled, which is the most: lift orders for finished ones with `usher \
             batch resume`"
        )));
    }
    let order = BatchOrder {
        state,
        by: by.to_owned(),
        since,
    };
    orders.batches.insert(id.as_str().to_owned(), order);
    Ok(())
}

/// From now on, a failure in the batch holds back the user's later commands of it.
pub fn hold(orders: &mut Orders, id: &BatchId, (by, since): (&str, Timestamp)) -> Result<(), SteeringError> {
    if orders.holds.contains_key(id.as_str()) {
        return Ok(());
    }
    if orders.holds.len() >= HOLDS_MAX {
        // The oldest batch that holds back nobody gives way.
        let idle = orders.holds.iter().filter(|(_, hold)| hold.users.is_empty());
        let oldest = idle.min_by_key(|(_, hold)| hold.since).map(|(id, _)| id.clone());
        let Some(oldest) = oldest else {
            return Err(SteeringError::Refused(format!(
                "{HOLDS_MAX} batches hold back commands behind failed ones, which is the most: redrive or discard the failed ones"
            )));
        };
        orders.holds.remove(&oldest);
    }
    let hold = HoldOrder {
        by: by.to_owned(),
        since,
        users: BTreeMap::new(),
    };
    orders.holds.insert(id.as_str().to_owned(), hold);
    Ok(())
}

/// From now on, the batch goes on after a failure.
pub fn unhold(orders: &mut Orders, id: &BatchId) -> Result<(), SteeringError> {
    orders.holds.remove(id.as_str());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_in_several_units() {
        for (text, expected) in [
            ("20", 20.0),
            ("20/s", 20.0),
            ("0.5/s", 0.5),
            ("600/min", 10.0),
            ("36/h", 0.01),
        ] {
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "-1", "fast", "20/day", "NaN", "inf", "1e9"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
