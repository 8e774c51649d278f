//! The guard before the dead letters: a healthy queue is not drained into them.
//!
//! When too many of the latest commands would be dead letters, something is wrong that no command did: a
//! schema broke, a tenant was mixed up. Then nothing is dead-lettered until an operator says so.

use std::collections::VecDeque;

use tokio::time::Instant;

#[derive(Debug)]
pub struct Guard {
    share_max: f64,
    window: usize,
    /// The latest outcomes: whether each was to be a dead letter.
    latest: VecDeque<bool>,
    dead: usize,
    shut_at: Option<Instant>,
}

impl Guard {
    pub fn new(share_max: f64, window: usize) -> Self {
        Self {
            share_max,
            window: window.max(1),
            latest: VecDeque::new(),
            dead: 0,
            shut_at: None,
        }
    }

    /// Counts an outcome. False where it must not be settled now.
    pub fn admit(&mut self, dead_letter: bool, now: Instant) -> bool {
        if self.shut_at.is_some() {
            return !dead_letter;
        }
        self.latest.push_back(dead_letter);
        self.dead += usize::from(dead_letter);
        if self.latest.len() > self.window {
            let gone = self.latest.pop_front();
            self.dead -= usize::from(gone == Some(true));
        }
        if dead_letter && self.dead as f64 > self.share_max * self.window as f64 {
            self.shut_at = Some(now);
            return false;
        }
        true
    }

    pub fn shut_at(&self) -> Option<Instant> {
        self.shut_at
    }

    /// An operator has looked: the count begins anew.
    pub fn open(&mut self) {
        self.shut_at = None;
        self.latest.clear();
        self.dead = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_its_share_of_dead_letters_shuts_it_until_it_is_opened() {
        let now = Instant::now();
        let mut guard = Guard::new(0.5, 50);
        assert!((0..25).all(|_| guard.admit(true, now)));
        assert_eq!(guard.shut_at(), None);
        assert!(!guard.admit(true, now));
        assert!(guard.shut_at().is_some() && !guard.admit(true, now));
        assert!(guard.admit(false, now), "a success is settled all the same");
        guard.open();
        assert!(guard.admit(true, now));
    }

    #[test]
    fn dead_letters_among_enough_successes_pass() {
        let now = Instant::now();
        let mut guard = Guard::new(0.5, 50);
        assert!((0..1000).all(|n| guard.admit(n % 2 == 0, now)));
    }

    #[test]
    fn a_share_of_the_whole_never_shuts_it() {
        let now = Instant::now();
        let mut guard = Guard::new(1.0, 50);
        assert!((0..1000).all(|_| guard.admit(true, now)));
    }
}
