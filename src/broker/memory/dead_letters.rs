//! A look at the dead letters of the broker in memory.

use std::sync::Arc;

use async_trait::async_trait;

use super::Shared;
use super::consumer::MemoryAcker;
use super::state::DeliveryTag;
use crate::broker::topology::DEAD_LETTERS;
use crate::broker::{DeadLetterQueue, Delivery, Hold, PickError, Picked, Wanted};

pub(super) struct MemoryDeadLetters {
    shared: Arc<Shared>,
}

impl MemoryDeadLetters {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl DeadLetterQueue for MemoryDeadLetters {
    async fn pick(&self, wanted: Wanted) -> Result<Picked, PickError> {
        let held = {
            let mut state = self.shared.state();
            if let Some(reason) = state.faults.down.clone() {
                return Err(PickError { reason });
            }
            state.hold(DEAD_LETTERS)
        };
        let hold = MemoryHold {
            shared: self.shared.clone(),
            tags: held.iter().map(|handed| handed.tag).collect(),
        };
        let mut letters = Vec::new();
        for handed in held.into_iter().filter(|handed| wanted(&handed.message)) {
            let acker = Box::new(MemoryAcker {
                shared: self.shared.clone(),
                queue: handed.queue,
                tag: handed.tag,
            });
            letters.push(Delivery::new(
                handed.message,
                handed.redelivered,
                handed.from,
                acker,
            ));
        }
        Ok(Picked::new(letters, false, Box::new(hold)))
    }
}

struct MemoryHold {
    shared: Arc<Shared>,
    tags: Vec<DeliveryTag>,
}

#[async_trait]
impl Hold for MemoryHold {
    async fn release(self: Box<Self>) {}
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        if let Some(queue) = self.shared.state().queue(DEAD_LETTERS) {
            queue.release(&self.tags);
        }
    }
}
