//! One pass over a queue: the chosen dead letters leave it, each once a confirmed copy lies elsewhere, or for good.

use std::collections::HashSet;

use uuid::Uuid;

use super::emptiness::is_mark;
use super::lanes::Lanes;
use super::{Access, OperationError};
use crate::broker::topology::{DEAD_LETTERS, operation_queue};
use crate::broker::{Added, Delivery, Message, Properties, PublishError, Publisher};
use crate::contract::dead_letter::HEADERS_CUT;
use crate::operations::dead_letters::Letter;
use crate::worker::Shutdown;

/// Where the chosen ones go.
#[derive(Debug, Clone, Copy)]
pub(super) enum To {
    Operation(Uuid),
    DeadLetters,
    Nowhere,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// How many left the queue.
    pub(super) left: u64,
    /// How many of these had a copy already, where copies are made.
    pub(super) copied_before: u64,
    pub(super) interrupted: bool,
}

/// What one pass moves, and what it leaves.
pub(super) struct Pass<'a> {
    pub(super) access: &'a Access,
    pub(super) from: &'a str,
    pub(super) to: To,
    pub(super) chooses: &'a (dyn Fn(&Letter) -> bool + Send + Sync),
    /// Those that lie where they go already: an earlier process copied them, and did not get to ack them.
    pub(super) copied: &'a HashSet<Uuid>,
    pub(super) shutdown: &'a Shutdown,
}

impl Pass<'_> {
    /// `moved` is called with the number that left so far.
    pub(super) async fn run(
        &self,
        mut moved: impl AsyncFnMut(u64) -> Result<(), OperationError>,
    ) -> Result<Passed, OperationError> {
        let mut holder = self.access.inspector.hold(self.from).await?;
        let mut lanes = Lanes::new();
        let mut passed = Passed::default();
        let mut ended = Ok(());
        while ended.is_ok() {
            if self.shutdown.is_draining() {
                passed.interrupted = true;
                break;
            }
            let delivery = match holder.next().await {
                Ok(Some(delivery)) => delivery,
                Ok(None) => break,
                Err(error) => {
                    ended = Err(error.into());
                    break;
                }
            };
            if is_mark(&delivery.properties) {
                ended = delivery.ack().await.map_err(|_| OperationError::Stale);
                continue;
            }
            let letter = Letter::of(&delivery.properties, &delivery.body);
            if !(self.chooses)(&letter) {
                continue;
            }
            let user = letter.routing_key.clone().unwrap_or_default();
            while ended.is_ok()
                && let Some(done) = lanes.make_room(&user).await
            {
                ended = counted(done, &mut passed);
            }
            if ended.is_ok() {
                let copy = self.copy(&letter, &delivery);
                let copied_before = copy.is_none();
                lanes.begin(user, async move {
                    settle(copy, delivery).await?;
                    Ok(copied_before)
                });
                ended = moved(passed.left).await;
            }
        }
        // What is in flight is finished, whatever ended the pass.
        while let Some(done) = lanes.next().await {
            ended = counted(done, &mut passed).and(ended);
        }
        holder.release().await;
        ended.map(|()| passed)
    }

    /// `None`: there is one already, or none is wanted.
    fn copy(&self, letter: &Letter, delivery: &Delivery) -> Option<(std::sync::Arc<dyn Publisher>, Message)> {
        let (exchange, routing_key) = match self.to {
            To::Nowhere => return None,
            To::Operation(id) => (String::new(), operation_queue(&id)),
            To::DeadLetters => (DEAD_LETTERS.to_owned(), key_of(letter)),
        };
        if self
            .copied
            .contains(&letter.key(&delivery.properties, &delivery.body))
        {
            return None;
        }
        let publisher = self.access.publisher.clone();
        let message = Message {
            exchange,
            routing_key,
            properties: unchanged(&delivery.properties, &*publisher),
            body: delivery.body.clone(),
            mandatory: true,
        };
        Some((publisher, message))
    }
}

fn counted(done: Result<bool, OperationError>, passed: &mut Passed) -> Result<(), OperationError> {
    let copied_before = done?;
    passed.left += 1;
    passed.copied_before += u64::from(copied_before);
    Ok(())
}

/// The routing key of a dead letter in its exchange.
fn key_of(letter: &Letter) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}.{}", part(&letter.provider), part(&letter.reason))
}

/// A dead letter's properties, as another queue gets them.
pub(super) fn unchanged(properties: &Properties, publisher: &dyn Publisher) -> Properties {
    let properties = properties.clone().without_counts();
    properties.for_another_publish(Added {
        headers: Vec::new(),
        replaces: "x-delivery-count",
        cut: HEADERS_CUT,
        bytes_max: publisher.headers_bytes_max(),
    })
}

/// An ack before the confirm could lose the dead letter.
pub(super) async fn settle(
    copy: Option<(std::sync::Arc<dyn Publisher>, Message)>,
    delivery: Delivery,
) -> Result<(), OperationError> {
    if let Some((publisher, message)) = copy {
        // One that is refused is not there, and may be published again. One that is not confirmed may be there.
        let published = match publisher.publish(&message).await {
            Err(PublishError::Nacked) => publisher.publish(&message).await,
            published => published,
        };
        published?;
    }
    delivery.ack().await.map_err(|_| OperationError::Stale)
}

/// The keys of what lies in a queue.
pub(super) async fn keys(access: &Access, queue: &str) -> Result<HashSet<Uuid>, OperationError> {
    let mut holder = access.inspector.hold(queue).await?;
    let mut keys = HashSet::new();
    while let Some(delivery) = holder.next().await? {
        if is_mark(&delivery.properties) {
            continue;
        }
        let letter = Letter::of(&delivery.properties, &delivery.body);
        keys.insert(letter.key(&delivery.properties, &delivery.body));
    }
    holder.release().await;
    Ok(keys)
}
