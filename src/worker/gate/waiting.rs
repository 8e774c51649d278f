//! Commands of one traffic class that wait for their next call, in order within a partition. Partitions alternate, so
//! that a new one does not wait for all queued commands of the others.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::Permit;
use crate::broker::Partition;
use crate::contract::UserId;

/// A command that waits for its next call.
pub(super) struct Waiter {
    pub(super) partition: Partition,
    pub(super) user: UserId,
    pub(super) grant: oneshot::Sender<Permit>,
}

/// The next partition is first. No partition is empty.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<(Partition, VecDeque<Waiter>)>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Queues it behind the others of its partition.
    pub(super) fn push(&mut self, waiter: Waiter) {
        match self.0.iter_mut().find(|(of, _)| *of == waiter.partition) {
            Some((_, waiters)) => waiters.push_back(waiter),
            None => self.0.push_back((waiter.partition, VecDeque::from([waiter]))),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Waiter> {
        let (partition, mut waiters) = self.0.pop_front()?;
        let waiter = waiters.pop_front();
        if !waiters.is_empty() {
            self.0.push_back((partition, waiters));
        }
        waiter
    }

    /// The users of those that still wait.
    pub(super) fn users(&self) -> impl Iterator<Item = &UserId> {
        let there = |waiter: &&Waiter| !waiter.grant.is_closed();
        let waiters = self.0.iter().flat_map(|(_, waiters)| waiters);
        waiters.filter(there).map(|waiter| &waiter.user)
    }

    /// Takes the first waiter of this user that still waits.
    pub(super) fn take(&mut self, user: &UserId) -> Option<Waiter> {
        for (place, (_, waiters)) in self.0.iter_mut().enumerate() {
            let found = waiters
                .iter()
                .position(|waiter| waiter.user == *user && !waiter.grant.is_closed());
            if let Some(at) = found {
                let waiter = waiters.remove(at);
                if waiters.is_empty() {
                    self.0.remove(place);
                }
                return waiter;
            }
        }
        None
    }

    /// Puts back a waiter that was taken: it is the next again.
    pub(super) fn put_back(&mut self, waiter: Waiter) {
        let others = self.0.iter().position(|(of, _)| *of == waiter.partition);
        let partition = waiter.partition;
        let mut waiters = others.and_then(|at| self.0.remove(at)).unwrap_or_default().1;
        waiters.push_front(waiter);
        self.0.push_front((partition, waiters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(partition: Partition, user: &str) -> Waiter {
        Waiter {
            partition,
            user: UserId::parse(user).unwrap(),
            grant: oneshot::channel().0,
        }
    }

    #[test]
    fn partitions_take_turns_and_each_keeps_its_order() {
        let mut waiting = Waiting::default();
        for user in ["a1", "a2", "a3", "a4"] {
            waiting.push(waiter(0, user));
        }
        let first = waiting.pop().unwrap();
        waiting.push(waiter(7, "b1"));
        waiting.put_back(first);
        waiting.push(waiter(7, "b2"));
        let mut users = Vec::new();
        while let Some(next) = waiting.pop() {
            users.push(next.user.to_string());
        }
        assert_eq!(users, ["a1", "b1", "a2", "b2", "a3", "a4"]);
        assert!(waiting.is_empty());
    }
}
