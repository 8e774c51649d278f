//! Per-user order as plain data: at most one command of a user runs, the rest wait in the user's lane.

use std::collections::{HashMap, VecDeque};

use crate::contract::{TrafficClass, UserId};

/// Commands queued behind the running command of one user. Interactive commands go before bulk ones; within a class,
/// they run in order of arrival.
#[derive(Debug)]
struct Lane<T> {
    interactive: VecDeque<T>,
    bulk: VecDeque<T>,
}

/// All users with a running command. A user without a lane has no command in this process.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: HashMap<UserId, Lane<T>>,
    queued: usize,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            queued: 0,
        }
    }
}

impl<T> Lanes<T> {
    /// Returns the command if it may run now; otherwise queues it.
    pub fn arrive(&mut self, user: &UserId, class: TrafficClass, command: T) -> Option<T> {
        let Some(lane) = self.lanes.get_mut(user) else {
            let lane = Lane {
                interactive: VecDeque::new(),
                bulk: VecDeque::new(),
            };
            self.lanes.insert(user.clone(), lane);
            return Some(command);
        };
        match class {
            TrafficClass::Interactive => lane.interactive.push_back(command),
            TrafficClass::Bulk => lane.bulk.push_back(command),
        }
        self.queued += 1;
        None
    }

    /// The running command of `user` is done. Returns the next one to run, if any.
    pub fn done(&mut self, user: &UserId) -> Option<T> {
        let lane = self.lanes.get_mut(user)?;
        let next = lane.interactive.pop_front().or_else(|| lane.bulk.pop_front());
        match next {
            Some(_) => self.queued -= 1,
            None => {
                self.lanes.remove(user);
            }
        }
        next
    }

    /// Takes queued commands of `user` and this class from the front, for as long as `is_wanted` holds.
    pub fn take_while(
        &mut self,
        user: &UserId,
        class: TrafficClass,
        mut is_wanted: impl FnMut(&T) -> bool,
    ) -> Vec<T> {
        let mut taken = Vec::new();
        let Some(lane) = self.lanes.get_mut(user) else {
            return taken;
        };
        let waiting = match class {
            TrafficClass::Interactive => &mut lane.interactive,
            // Interactive commands go first.
            TrafficClass::Bulk if lane.interactive.is_empty() => &mut lane.bulk,
            TrafficClass::Bulk => return taken,
        };
        while waiting.front().is_some_and(&mut is_wanted) {
            taken.extend(waiting.pop_front());
        }
        self.queued -= taken.len();
        taken
    }

    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Removes all queued commands. Users with a running command keep their lanes.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.queued = 0;
        self.lanes
            .values_mut()
            .flat_map(|lane| lane.interactive.drain(..).chain(lane.bulk.drain(..)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TrafficClass::{Bulk, Interactive};

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn one_command_of_a_user_runs_and_the_rest_follows_in_order() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.arrive(&user("a"), Interactive, 1), Some(1));
        assert_eq!(lanes.arrive(&user("a"), Interactive, 2), None);
        assert_eq!(lanes.arrive(&user("a"), Interactive, 3), None);
        assert_eq!(lanes.arrive(&user("b"), Interactive, 4), Some(4));
        assert_eq!(lanes.queued(), 2);
        assert_eq!(lanes.done(&user("a")), Some(2));
        assert_eq!(lanes.done(&user("a")), Some(3));
        assert_eq!(lanes.done(&user("a")), None);
        assert_eq!(lanes.arrive(&user("a"), Interactive, 5), Some(5));
    }

    #[test]
    fn interactive_commands_of_a_user_go_before_its_bulk_ones() {
        let mut lanes = Lanes::default();
        lanes.arrive(&user("a"), Bulk, 1);
        lanes.arrive(&user("a"), Bulk, 2);
        lanes.arrive(&user("a"), Interactive, 3);
        assert_eq!(lanes.done(&user("a")), Some(3));
        assert_eq!(lanes.done(&user("a")), Some(2));
    }

    #[test]
    fn queued_commands_of_one_class_can_be_taken_together() {
        let mut lanes = Lanes::default();
        for n in 0..5 {
            lanes.arrive(&user("a"), Bulk, n);
        }
        assert!(lanes.take_while(&user("a"), Interactive, |_| true).is_empty());
        assert_eq!(lanes.take_while(&user("a"), Bulk, |n| *n < 3), [1, 2]);
        assert_eq!(lanes.queued(), 2);
        lanes.arrive(&user("a"), Interactive, 5);
        let taken = lanes.take_while(&user("a"), Bulk, |_| true);
        assert!(taken.is_empty(), "another goes first");
        assert!(lanes.take_while(&user("b"), Bulk, |_| true).is_empty());
        assert_eq!(lanes.done(&user("a")), Some(5));
        assert_eq!(lanes.done(&user("a")), Some(3));
    }

    #[test]
    fn queued_commands_can_be_dropped() {
        let mut lanes = Lanes::default();
        for n in 0..3 {
            lanes.arrive(&user("a"), Interactive, n);
        }
        assert_eq!(lanes.drain().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(lanes.queued(), 0);
        assert_eq!(lanes.arrive(&user("a"), Interactive, 3), None, "0 runs still");
        assert_eq!(lanes.done(&user("a")), Some(3));
    }
}
