//! The broker's state: queues, their consumers, and the injected faults. Plain data, no waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::Sink;
use super::lease_queues::{LeaseChange, LeaseQueues};
use super::routing::{NoExchange, QueueIndex, Router};
use crate::broker::topology::{BROKER_DEAD_LETTERS, OUTCOME_LOG, Topology};
use crate::broker::{Lease, Limits, Link, Message, Partition};
use crate::clock::Clock;

pub(super) type ConsumerId = u64;
pub(super) type ListenerId = u64;
/// Never used twice: the tag of a requeued delivery matches nothing.
pub(super) type DeliveryTag = u64;

pub(super) struct State {
    pub(super) router: Router,
    pub(super) queues: Vec<Queue>,
    pub(super) lease_queues: LeaseQueues,
    clock: Clock,
    /// When each message of the outcome log was stored.
    logged_at: Vec<Timestamp>,
    /// Notices that listeners have not received yet.
    notices: BTreeMap<ListenerId, VecDeque<Bytes>>,
    /// Queues that also receive the fleet's notices.
    inboxes: Vec<String>,
    /// The number of consumers, listeners and inboxes made so far.
    made: u64,
    last_tag: DeliveryTag,
    /// Where the search for the next delivery starts, so that no queue starves another.
    next_queue: QueueIndex,
    pub(super) input_finished: bool,
    pub(super) faults: Faults,
}

pub(super) struct Queue {
    /// For a command queue: its partition, and whether it is for bulk traffic.
    commands: Option<(Partition, bool)>,
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
    pub(super) from: (Partition, bool),
}

pub(super) enum Next {
    Lease(LeaseChange),
    Delivery(Box<Handed>),
    /// A body was too large, and was dead-lettered.
    Rejected,
    Wait,
    End,
}

#[derive(Default)]
pub(super) struct Faults {
    /// Why nothing is connected.
    pub(super) down: Option<String>,
    pub(super) blocked: Option<String>,
    /// The connection's number: an operation that began under another one is lost.
    pub(super) connection: u64,
    pub(super) confirm_delay: Duration,
    pub(super) confirms_held: bool,
    pub(super) log_held: bool,
    pub(super) earlier_held: bool,
    pub(super) log_refused: bool,
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
    fn new(commands: Option<(Partition, bool)>) -> Self {
        Self {
            commands,
            ready: VecDeque::new(),
            unsettled: BTreeMap::new(),
            sink: None,
        }
    }

    pub(super) fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    fn unsettled_bytes(&self) -> usize {
        self.unsettled.values().map(|message| message.body.len()).sum()
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
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

    /// The n-th stored message, provided that none was removed.
    pub(super) fn nth(&self, n: usize) -> Option<Message> {
        self.ready.get(n).map(|ready| ready.message.clone())
    }

    /// False if the delivery was settled or requeued before.
    pub(super) fn settle(&mut self, tag: DeliveryTag) -> bool {
        self.unsettled.remove(&tag).is_some()
    }

    pub(super) fn is_unsettled(&self, tag: DeliveryTag) -> bool {
        self.unsettled.contains_key(&tag)
    }

    /// Unsettled messages were delivered from the front, so all of them go before the ready ones.
    pub(super) fn take_back(&mut self) {
        while let Some((_, message)) = self.unsettled.pop_last() {
            self.ready.push_front(Ready {
                message,
                redelivered: true,
            });
        }
    }
}

impl State {
    pub(super) fn new(topology: &Topology, clock: Clock) -> Self {
        let commands = |name: &str| {
            (0..topology.partitions).find_map(|partition| {
                let queues = topology.partition_queues(partition);
                let (_, bulk) = queues.into_iter().find(|(queue, _)| queue == name)?;
                Some((partition, bulk))
            })
        };
        Self {
            router: Router::new(topology),
            queues: topology
                .queues
                .iter()
                .map(|queue| Queue::new(commands(&queue.name)))
                .collect(),
            lease_queues: LeaseQueues::new(topology.partitions),
            clock,
            logged_at: Vec::new(),
            notices: BTreeMap::new(),
            inboxes: Vec::new(),
            made: 0,
            last_tag: 0,
            next_queue: 0,
            input_finished: false,
            faults: Faults::default(),
        }
    }

    pub(super) fn add_queue(&mut self, name: &str) {
        if self.router.queue(name).is_none() {
            self.router.add_queue(name, self.queues.len());
            self.queues.push(Queue::new(None));
        }
    }

    /// Its place in the list stays, and nothing leads there any more.
    pub(super) fn remove_queue(&mut self, name: &str) {
        if let Some(index) = self.router.remove_queue(name) {
            self.queues[index] = Queue::new(None);
        }
    }

    pub(super) fn queue(&mut self, name: &str) -> Option<&mut Queue> {
        let index = self.router.queue(name)?;
        self.queues.get_mut(index)
    }

    pub(super) fn route(&self, message: &Message) -> Result<Vec<QueueIndex>, NoExchange> {
        self.router.route(&message.exchange, &message.routing_key)
    }

    /// The depth of the fullest queue that the message goes to.
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
        let log = self.router.queue(OUTCOME_LOG);
        for index in queues {
            if Some(*index) == log {
                self.logged_at.push(self.clock.now());
            }
            if let Some(queue) = self.queues.get_mut(*index).filter(|queue| queue.sink.is_none()) {
                queue.push(message.clone());
            }
        }
    }

    /// The index of the outcome log's first message that was stored then or later, and the number of its messages.
    pub(super) fn logged_since(&self, then: Timestamp) -> (usize, usize) {
        let first = self.logged_at.partition_point(|at| *at < then);
        (first, self.logged_at.len())
    }

    pub(super) fn register(&mut self) -> ConsumerId {
        self.made += 1;
        self.made
    }

    /// How many commands of each partition are ready to be delivered.
    pub(super) fn ready(&self) -> Vec<u64> {
        let mut ready = Vec::new();
        for queue in &self.queues {
            let Some((partition, _)) = queue.commands else {
                continue;
            };
            let at = usize::from(partition);
            ready.resize(ready.len().max(at + 1), 0);
            ready[at] += queue.ready.len() as u64;
        }
        ready
    }

    pub(super) fn claim(&mut self, id: ConsumerId, partition: Partition) {
        self.lease_queues.join(id, partition);
        self.grant();
    }

    pub(super) fn consume(&mut self, id: ConsumerId, lease: Lease) {
        self.lease_queues.consume(id, lease);
    }

    pub(super) fn release(&mut self, id: ConsumerId, partition: Partition) {
        if self.lease_queues.remove(id, partition) {
            self.take_back(partition);
        }
        self.grant();
    }

    /// The consumer is gone.
    pub(super) fn remove_consumer(&mut self, id: ConsumerId) {
        for partition in self.lease_queues.partitions() {
            self.release(id, partition);
        }
        self.lease_queues.forget(id);
    }

    /// Every holder of a lease loses it, and goes to the end of its queue.
    pub(super) fn end_leases(&mut self) {
        for partition in self.lease_queues.partitions() {
            self.lease_queues.lose(partition);
            self.take_back(partition);
        }
    }

    /// Grants each free lease to the first in its queue.
    pub(super) fn grant(&mut self) {
        if self.faults.down.is_none() {
            self.lease_queues.grant();
        }
    }

    fn take_back(&mut self, partition: Partition) {
        for queue in &mut self.queues {
            if queue.commands.is_some_and(|(of, _)| of == partition) {
                queue.take_back();
            }
        }
    }

    /// The broker's own dead letters, one at a time, for the listener that was registered first.
    pub(super) fn broker_dead_letter(&mut self, id: ListenerId) -> Option<Handed> {
        if self.notices.keys().next() != Some(&id) {
            return None;
        }
        if !self.queue(BROKER_DEAD_LETTERS)?.unsettled.is_empty() {
            return None;
        }
        self.hold_next(BROKER_DEAD_LETTERS)
    }

    /// Hands out the first ready message of a queue to whoever holds its messages.
    pub(super) fn hold_next(&mut self, name: &str) -> Option<Handed> {
        let index = self.router.queue(name)?;
        let queue = self.queues.get_mut(index)?;
        let ready = queue.ready.pop_front()?;
        self.last_tag += 1;
        queue.unsettled.insert(self.last_tag, ready.message.clone());
        Some(Handed {
            queue: index,
            tag: self.last_tag,
            message: ready.message,
            redelivered: ready.redelivered,
            from: (0, false),
        })
    }

    /// The holder of a queue's messages has gone.
    pub(super) fn release_held(&mut self, name: &str) {
        if let Some(queue) = self.queue(name) {
            queue.take_back();
        }
    }

    /// Dead-letters a rejected message, as RabbitMQ does.
    fn dead_letter(&mut self, from: QueueIndex, message: &Message) {
        let Some(queue) = self.router.name(from).map(str::to_owned) else {
            return;
        };
        let letter = Message {
            exchange: BROKER_DEAD_LETTERS.to_owned(),
            properties: message
                .properties
                .clone()
                .with_x_death("rejected", &queue, message),
            ..message.clone()
        };
        let queues = self.route(&letter).unwrap_or_default();
        self.store(&queues, &letter);
    }

    pub(super) fn listen(&mut self) -> ListenerId {
        let id = self.register();
        self.notices.insert(id, VecDeque::new());
        id
    }

    pub(super) fn stop_listening(&mut self, id: ListenerId) {
        if self.notices.keys().next() == Some(&id) {
            self.requeue_broker_dead_letters();
        }
        self.notices.remove(&id);
    }

    pub(super) fn requeue_broker_dead_letters(&mut self) {
        self.release_held(BROKER_DEAD_LETTERS);
    }

    pub(super) fn broadcast(&mut self, notice: &Message) {
        for unread in self.notices.values_mut() {
            unread.push_back(notice.body.clone());
        }
        for name in self.inboxes.clone() {
            if let Some(queue) = self.queue(&name) {
                queue.push(notice.clone());
            }
        }
    }

    /// Makes a queue for replies, which also receives notices if it is for the `fleet`. Returns its name.
    pub(super) fn open_inbox(&mut self, fleet: bool) -> String {
        let name = format!("inbox.{}", self.register());
        self.add_queue(&name);
        if fleet {
            self.inboxes.push(name.clone());
        }
        name
    }

    pub(super) fn close_inbox(&mut self, name: &str) {
        self.inboxes.retain(|open| open != name);
    }

    pub(super) fn next_notice(&mut self, id: ListenerId) -> Option<Bytes> {
        self.notices.get_mut(&id)?.pop_front()
    }

    pub(super) fn next(&mut self, id: ConsumerId, prefetch: usize, limits: Limits) -> Next {
        if let Some(change) = self.lease_queues.next_change(id) {
            return Next::Lease(change);
        }
        let idle = |queue: &Queue| queue.commands.is_none() || queue.depth() == 0;
        if self.input_finished && self.queues.iter().all(idle) {
            return Next::End;
        }
        let held: usize = match limits.held_bytes {
            usize::MAX => 0,
            _ => self.queues.iter().map(Queue::unsettled_bytes).sum(),
        };
        let count = self.queues.len();
        for step in 0..count {
            let index = (self.next_queue + step) % count;
            let queue = &mut self.queues[index];
            let Some(from) = queue
                .commands
                .filter(|(of, _)| self.lease_queues.consumes(id, *of))
            else {
                continue;
            };
            if queue.unsettled.len() >= prefetch {
                continue;
            }
            let Some(bytes) = queue.ready.front().map(|ready| ready.message.body.len()) else {
                continue;
            };
            if held > 0 && held.saturating_add(bytes) > limits.held_bytes {
                continue;
            }
            let Some(ready) = queue.ready.pop_front() else {
                continue;
            };
            if bytes > limits.body_bytes {
                self.dead_letter(index, &ready.message);
                return Next::Rejected;
            }
            self.next_queue = index + 1;
            self.last_tag += 1;
            queue.unsettled.insert(self.last_tag, ready.message.clone());
            return Next::Delivery(Box::new(Handed {
                queue: index,
                tag: self.last_tag,
                message: ready.message,
                redelivered: ready.redelivered,
                from,
            }));
        }
        Next::Wait
    }
}
