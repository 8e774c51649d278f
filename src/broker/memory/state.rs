//! What lies in the broker: queues, who consumes them, and the faults in force. Plain data, no waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Sink;
use super::routing::{NoExchange, QueueIndex, Router};
use crate::broker::topology::{Holds, Topology};
use crate::broker::{Link, Message};

pub(super) type ConsumerId = u64;
/// Never used twice: the tag of a delivery that was taken back finds nothing.
pub(super) type DeliveryTag = u64;

pub(super) struct State {
    pub(super) router: Router,
    pub(super) queues: Vec<Queue>,
    /// The first one is active, the others stand by in the order in which they came.
    consumers: VecDeque<ConsumerId>,
    consumers_made: ConsumerId,
    last_tag: DeliveryTag,
    /// Where the search for the next delivery starts, so that no queue starves another.
    turn: QueueIndex,
    pub(super) input_finished: bool,
    pub(super) faults: Faults,
}

pub(super) struct Queue {
    holds: Holds,
    ready: VecDeque<Ready>,
    unsettled: BTreeMap<DeliveryTag, Message>,
    pub(super) sink: Option<Arc<dyn Sink>>,
}

struct Ready {
    message: Message,
    redelivered: bool,
}

pub(super) struct Handed {
    pub(super) queue: QueueIndex,
    pub(super) tag: DeliveryTag,
    pub(super) message: Message,
    pub(super) redelivered: bool,
    pub(super) bulk: bool,
}

pub(super) enum Next {
    Delivery(Box<Handed>),
    Wait,
    End,
}

#[derive(Default)]
pub(super) struct Faults {
    /// Why nothing is connected.
    pub(super) down: Option<String>,
    pub(super) blocked: Option<String>,
    /// Counts connections: whatever began under another number is lost.
    pub(super) connection: u64,
    pub(super) confirm_delay: Duration,
    pub(super) confirms_held: bool,
    pub(super) taken_on_confirm: bool,
    pub(super) nacks: usize,
}

impl Faults {
    pub(super) fn consume_link(&self) -> Link {
        match &self.down {
            Some(reason) => Link::Down {
                reason: reason.clone(),
            },
            None => Link::Up,
        }
    }

    pub(super) fn publish_link(&self) -> Link {
        match (&self.down, &self.blocked) {
            (None, Some(reason)) => Link::Blocked {
                reason: reason.clone(),
            },
            _ => self.consume_link(),
        }
    }
}

impl Queue {
    fn new(holds: Holds) -> Self {
        Self {
            holds,
            ready: VecDeque::new(),
            unsettled: BTreeMap::new(),
            sink: None,
        }
    }

    pub(super) fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    pub(super) fn depth(&self) -> usize {
        self.ready.len() + self.unsettled.len()
    }

    pub(super) fn push(&mut self, message: Message) {
        self.ready.push_back(Ready {
            message,
            redelivered: false,
        });
    }

    pub(super) fn take(&mut self) -> Option<Message> {
        self.ready.pop_front().map(|ready| ready.message)
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        let ready = self.ready.iter().map(|ready| &ready.message);
        self.unsettled.values().chain(ready).cloned().collect()
    }

    /// False where the delivery was settled or taken back before.
    pub(super) fn settle(&mut self, tag: DeliveryTag) -> bool {
        self.unsettled.remove(&tag).is_some()
    }

    pub(super) fn is_unsettled(&self, tag: DeliveryTag) -> bool {
        self.unsettled.contains_key(&tag)
    }

    /// What is unsettled was delivered from the front, so all of it goes before what is ready.
    fn take_back(&mut self) {
        while let Some((_, message)) = self.unsettled.pop_last() {
            self.ready.push_front(Ready {
                message,
                redelivered: true,
            });
        }
    }
}

impl State {
    pub(super) fn new(topology: &Topology) -> Self {
        Self {
            router: Router::new(topology),
            queues: topology
                .queues
                .iter()
                .map(|queue| Queue::new(queue.holds))
                .collect(),
            consumers: VecDeque::new(),
            consumers_made: 0,
            last_tag: 0,
            turn: 0,
            input_finished: false,
            faults: Faults::default(),
        }
    }

    pub(super) fn add_queue(&mut self, name: &str) {
        if self.router.queue(name).is_none() {
            self.router.add_queue(name, self.queues.len());
            self.queues.push(Queue::new(Holds::Other));
        }
    }

    pub(super) fn queue(&mut self, name: &str) -> Option<&mut Queue> {
        let index = self.router.queue(name)?;
        self.queues.get_mut(index)
    }

    pub(super) fn route(&self, message: &Message) -> Result<Vec<QueueIndex>, NoExchange> {
        self.router.route(&message.exchange, &message.routing_key)
    }

    /// The fullest of the queues that the message goes to.
    pub(super) fn depth_ahead(&self, message: &Message) -> usize {
        let found = self.route(message).unwrap_or_default();
        found
            .into_iter()
            .filter_map(|index| self.queues.get(index))
            .map(Queue::depth)
            .max()
            .unwrap_or(0)
    }

    pub(super) fn store(&mut self, queues: &[QueueIndex], message: &Message) {
        for index in queues {
            if let Some(queue) = self.queues.get_mut(*index).filter(|queue| queue.sink.is_none()) {
                queue.push(message.clone());
            }
        }
    }

    pub(super) fn register(&mut self) -> ConsumerId {
        self.consumers_made += 1;
        self.join(self.consumers_made);
        self.consumers_made
    }

    /// Behind all others, unless it is there already.
    pub(super) fn join(&mut self, id: ConsumerId) {
        if !self.consumers.contains(&id) {
            self.consumers.push_back(id);
        }
    }

    pub(super) fn leave(&mut self, id: ConsumerId) {
        if self.consumers.front() == Some(&id) {
            self.take_back();
        }
        self.consumers.retain(|consumer| *consumer != id);
    }

    /// The active consumer goes to the end of those that stand by.
    pub(super) fn end_active(&mut self) {
        self.take_back();
        self.consumers.rotate_left(1.min(self.consumers.len()));
    }

    pub(super) fn take_back(&mut self) {
        for queue in &mut self.queues {
            queue.take_back();
        }
    }

    pub(super) fn next(&mut self, id: ConsumerId, prefetch: usize) -> Next {
        let idle = |queue: &Queue| queue.holds == Holds::Other || queue.depth() == 0;
        if self.input_finished && self.queues.iter().all(idle) {
            return Next::End;
        }
        if self.consumers.front() != Some(&id) || self.faults.down.is_some() {
            return Next::Wait;
        }
        let count = self.queues.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            let queue = &mut self.queues[index];
            if queue.holds == Holds::Other || queue.unsettled.len() >= prefetch {
                continue;
            }
            let Some(ready) = queue.ready.pop_front() else {
                continue;
            };
            self.turn = index + 1;
            self.last_tag += 1;
            queue.unsettled.insert(self.last_tag, ready.message.clone());
            return Next::Delivery(Box::new(Handed {
                queue: index,
                tag: self.last_tag,
                message: ready.message,
                redelivered: ready.redelivered,
                bulk: queue.holds == Holds::BulkCommands,
            }));
        }
        Next::Wait
    }
}
