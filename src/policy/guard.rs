//! The guard before the dead letters: a healthy queue is not drained into them.
//!
//! When too many of the latest commands would be dead letters, something is wrong that no command did: a
//! schema broke, a tenant was mixed up. Then nothing is dead-lettered until an operator says so. A command that is
//! wrong by itself says nothing of the provider: it is neither counted nor held back.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::contract::Reason;

/// How many of the commands are named when it shuts.
const EXAMPLES: usize = 3;

#[derive(Debug)]
pub struct Guard {
    share_max: f64,
    window: usize,
    /// The latest outcomes: which of them were to be dead letters.
    latest: VecDeque<Option<DeadLetter>>,
    dead: usize,
    shut: Option<Shut>,
}

#[derive(Debug)]
struct DeadLetter {
    reason: Reason,
    command_id: Option<String>,
}

#[derive(Debug)]
struct Shut {
    at: Instant,
    why: String,
}

impl Guard {
    pub fn new(share_max: f64, window: usize) -> Self {
        Self {
            share_max,
            window: window.max(1),
            latest: VecDeque::new(),
            dead: 0,
            shut: None,
        }
    }

    /// Counts the outcome of a command with this id. False where it must not be settled now.
    pub fn admit(&mut self, dead_letter: Option<Reason>, command_id: Option<&str>, now: Instant) -> bool {
        if dead_letter.is_some_and(Reason::is_the_publishers) {
            return true;
        }
        if self.shut.is_some() {
            return dead_letter.is_none();
        }
        self.latest.push_back(dead_letter.map(|reason| DeadLetter {
            reason,
            command_id: command_id.map(str::to_owned),
        }));
        self.dead += usize::from(dead_letter.is_some());
        if self.latest.len() > self.window {
            let gone = self.latest.pop_front();
            self.dead -= usize::from(gone.flatten().is_some());
        }
        if dead_letter.is_some() && self.dead as f64 > self.share_max * self.window as f64 {
            let why = self.why();
            self.shut = Some(Shut { at: now, why });
            return false;
        }
        true
    }

    pub fn shut_at(&self) -> Option<Instant> {
        self.shut.as_ref().map(|shut| shut.at)
    }

    /// What shut it: the reasons and how often each, and some of the commands.
    pub fn shut_by(&self) -> Option<&str> {
        self.shut.as_ref().map(|shut| shut.why.as_str())
    }

    fn why(&self) -> String {
        let dead = || self.latest.iter().flatten();
        let count = |reason| dead().filter(|letter| letter.reason == reason).count();
        let mut counts: Vec<_> = Reason::ALL.map(|reason| (reason, count(reason))).into();
        counts.retain(|(_, count)| *count > 0);
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let counts: Vec<_> = counts
            .iter()
            .map(|(reason, count)| format!("{reason}: {count}"))
            .collect();
        let ids = dead().rev().filter_map(|letter| letter.command_id.as_deref());
        let mut ids: Vec<_> = ids.take(EXAMPLES).collect();
        ids.reverse();
        let such_as = if ids.is_empty() { "" } else { ", such as " };
        format!(
            "{} of the latest {} commands would be dead letters ({}){such_as}{}",
            self.dead,
            self.latest.len(),
            counts.join(", "),
            ids.join(", ")
        )
    }

    /// An operator has looked: the count begins anew.
    pub fn open(&mut self) {
        self.shut = None;
        self.latest.clear();
        self.dead = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(guard: &mut Guard, dead_letter: bool) -> bool {
        guard.admit(dead_letter.then_some(Reason::NotFound), Some("c"), Instant::now())
    }

    #[test]
    fn more_than_its_share_of_dead_letters_shuts_it_until_it_is_opened() {
        let mut guard = Guard::new(0.5, 50);
        assert!((0..25).all(|_| admit(&mut guard, true)));
        assert_eq!(guard.shut_at(), None);
        assert!(!admit(&mut guard, true));
        assert!(guard.shut_at().is_some() && !admit(&mut guard, true));
        assert!(admit(&mut guard, false), "a success is settled all the same");
        guard.open();
        assert!(admit(&mut guard, true));
    }

    #[test]
    fn dead_letters_among_enough_successes_pass() {
        let mut guard = Guard::new(0.5, 50);
        assert!((0..1000).all(|n| admit(&mut guard, n % 2 == 0)));
    }

    #[test]
    fn a_share_of_the_whole_never_shuts_it() {
        let mut guard = Guard::new(1.0, 50);
        assert!((0..1000).all(|_| admit(&mut guard, true)));
    }

    #[test]
    fn what_a_command_says_alone_neither_shuts_it_nor_is_held_back() {
        let now = Instant::now();
        let mut guard = Guard::new(0.5, 10);
        let wrong = [
            Reason::Undecodable,
            Reason::Invalid,
            Reason::UnsupportedField,
            Reason::Oversized,
            Reason::Expired,
            Reason::IdReused,
        ];
        for _ in 0..100 {
            assert!(wrong.iter().all(|reason| guard.admit(Some(*reason), None, now)));
        }
        assert!((0..5).all(|_| admit(&mut guard, true)), "they were not counted");
        assert!(!admit(&mut guard, true));
        assert!(wrong.iter().all(|reason| guard.admit(Some(*reason), None, now)));
    }

    #[test]
    fn what_shut_it_is_named_with_counts_and_three_commands() {
        let now = Instant::now();
        let mut guard = Guard::new(0.5, 8);
        assert!(guard.admit(None, Some("good"), now));
        assert!(guard.admit(Some(Reason::Rejected), Some("a"), now));
        for id in ["b", "c", "d"] {
            assert!(guard.admit(Some(Reason::NotFound), Some(id), now));
        }
        assert!(!guard.admit(Some(Reason::NotFound), Some("e"), now));
        assert_eq!(
            guard.shut_by(),
            Some(
                "5 of the latest 6 commands would be dead letters (not_found: 4, rejected: 1), such as c, d, e"
            )
        );
        guard.open();
        assert_eq!(guard.shut_by(), None);
    }
}
