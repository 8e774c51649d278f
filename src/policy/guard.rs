//! The dead-letter guard: it keeps a healthy queue from being drained into the dead letters.
//!
//! It shuts in two cases. Too many of the latest commands would be dead letters: the cause is common to them, such as
//! a broken schema or a wrong tenant. Or no write has passed yet, and the provider has refused several users in the
//! same way: the configuration is probably wrong. While it is shut, nothing is dead-lettered and the other commands
//! run slowly. It opens when an operator resumes; in the second case also when a write passes. A command that is
//! invalid by itself, cancelled, or behind a failed one says nothing about the provider: it is neither counted nor held back.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::Reason;

/// How many commands are named when it shuts.
const EXAMPLES: usize = 3;

/// How many users may be refused in the same way while no write has passed.
const SAME_REFUSALS_MAX: usize = 9;

/// The gap between calls while the guard is shut.
pub const ONE_CALL_IN: Duration = Duration::from_secs(1);

/// When the guard shuts.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The share of the latest commands that may become dead letters.
    pub share_max: f64,
    /// How many commands count as the latest.
    pub window: usize,
    /// Whether the configuration is in doubt until a first write passes.
    pub doubts_configuration: bool,
}

#[derive(Debug)]
pub struct Guard {
    settings: Settings,
    /// The latest outcomes, with those that would be dead letters.
    latest: VecDeque<Option<DeadLetter>>,
    dead: usize,
    /// Whether a write has passed, or an operator has confirmed the configuration.
    proven: bool,
    shut: Option<Shut>,
    /// Commands that wait for the guard to open.
    held_back: usize,
}

/// A command that would become a dead letter.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub reason: Reason,
    pub status: Option<u16>,
    pub command_id: Option<String>,
    pub user: Option<String>,
}

#[derive(Debug)]
struct Shut {
    at: Instant,
    why: String,
    /// It shut because the configuration is in doubt: a write that passes opens it.
    by_doubt: bool,
}

impl Guard {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            latest: VecDeque::new(),
            dead: 0,
            proven: !settings.doubts_configuration,
            shut: None,
            held_back: 0,
        }
    }

    /// Counts an outcome. False: it must not be settled now.
    pub fn admit(&mut self, dead_letter: Option<&DeadLetter>, now: Instant) -> bool {
        let says_nothing = |reason: Reason| {
            reason.is_publisher_error() || matches!(reason, Reason::Cancelled | Reason::HeldBehind)
        };
        if dead_letter.is_some_and(|letter| says_nothing(letter.reason)) {
            return true;
        }
        if self.shut.is_some() {
            return dead_letter.is_none();
        }
        self.latest.push_back(dead_letter.cloned());
        self.dead += usize::from(dead_letter.is_some());
        if self.latest.len() > self.settings.window.max(1) {
            let gone = self.latest.pop_front();
            self.dead -= usize::from(gone.flatten().is_some());
        }
        let Some(letter) = dead_letter else { return true };
        let too_many = self.dead as f64 > self.settings.share_max * self.settings.window as f64;
        let why = match self.doubt(letter) {
            Some(doubt) => doubt,
            None if too_many => self.too_many(),
            None => return true,
        };
        self.shut = Some(Shut {
            at: now,
            why,
            by_doubt: !self.proven,
        });
        false
    }

    /// A write has passed. True if that opens the guard.
    pub fn write_passed(&mut self) -> bool {
        self.proven = true;
        let opens = self.shut.as_ref().is_some_and(|shut| shut.by_doubt);
        if opens {
            self.open();
        }
        opens
    }

    pub fn shut_at(&self) -> Option<Instant> {
        self.shut.as_ref().map(|shut| shut.at)
    }

    /// What shut the guard: the reasons with their counts and some of the commands, or what to check.
    pub fn shut_by(&self) -> Option<&str> {
        self.shut.as_ref().map(|shut| shut.why.as_str())
    }

    /// Counts one more waiting command, or one fewer. Returns their number.
    pub fn holds_back(&mut self, more: bool) -> usize {
        self.held_back = match more {
            true => self.held_back + 1,
            false => self.held_back.saturating_sub(1),
        };
        self.held_back
    }

    /// Why the configuration is in doubt after this dead letter, if it is.
    fn doubt(&self, letter: &DeadLetter) -> Option<String> {
        if self.proven || !letter.reason.is_provider_refusal() {
            return None;
        }
        let same = |other: &&DeadLetter| (other.reason, other.status) == (letter.reason, letter.status);
        let users: HashSet<_> = self
            .latest
            .iter()
            .flatten()
            .filter(same)
            .map(|other| &other.user)
            .collect();
        let status = letter.status.map_or(String::new(), |status| format!(" {status}"));
        (users.len() > SAME_REFUSALS_MAX).then(|| {
            format!(
                "no write has passed yet, and the provider refused {} users in the same way ({}{status}){}: see {}",
                users.len(),
                letter.reason,
                self.such_as(),
                look_at(letter.status)
            )
        })
    }

    fn too_many(&self) -> String {
        let dead = || self.latest.iter().flatten();
        let count = |reason| dead().filter(|letter| letter.reason == reason).count();
        let mut counts: Vec<_> = Reason::ALL.map(|reason| (reason, count(reason))).into();
        counts.retain(|(_, count)| *count > 0);
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let counts: Vec<_> = counts
            .iter()
            .map(|(reason, count)| format!("{reason}: {count}"))
            .collect();
        format!(
            "{} of the latest {} commands would be dead letters ({}){}",
            self.dead,
            self.latest.len(),
            counts.join(", "),
            self.such_as()
        )
    }

    /// Some of the latest commands.
    fn such_as(&self) -> String {
        let ids = self.latest.iter().flatten().rev();
        let mut ids: Vec<_> = ids
            .filter_map(|letter| letter.command_id.as_deref())
            .take(EXAMPLES)
            .collect();
        ids.reverse();
        match ids.is_empty() {
            true => String::new(),
            false => format!(", such as {}", ids.join(", ")),
        }
    }

    /// Opens the guard: counting starts again, and the configuration is taken to be right.
    pub fn open(&mut self) {
        self.shut = None;
        self.latest.clear();
        self.dead = 0;
        self.proven = true;
    }
}

/// What to check when every user is refused, by the status.
fn look_at(status: Option<u16>) -> &'static str {
    match status {
        Some(404 | 410) => "provider.base_url, and whether its tenant has these users",
        Some(405 | 501) => "provider.base_url, and the method that provider.kind uses",
        Some(406 | 411 | 413 | 414 | 415 | 431) => {
            "provider.base_url, and the form of request that the provider expects"
        }
        Some(412 | 428) => "whether the provider requires the user's version with each write",
        _ => "provider.kind and its own settings, and the fields that the provider expects",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(share_max: f64, window: usize) -> Guard {
        Guard::new(Settings {
            share_max,
            window,
            doubts_configuration: false,
        })
    }

    fn letter(reason: Reason, id: &str) -> DeadLetter {
        DeadLetter {
            reason,
            status: None,
            command_id: Some(id.to_owned()),
            user: None,
        }
    }

    fn admit(guard: &mut Guard, dead_letter: bool) -> bool {
        let letter = letter(Reason::NotFound, "c");
        guard.admit(dead_letter.then_some(&letter), Instant::now())
    }

    #[test]
    fn too_many_dead_letters_shut_the_guard_until_it_is_opened() {
        let mut guard = guard(0.5, 50);
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
        let mut guard = guard(0.5, 50);
        assert!((0..1000).all(|n| admit(&mut guard, n % 2 == 0)));
    }

    #[test]
    fn a_share_of_the_whole_never_shuts_it() {
        let mut guard = guard(1.0, 50);
        assert!((0..1000).all(|_| admit(&mut guard, true)));
    }

    #[test]
    fn failures_by_the_commands_own_fault_neither_shut_the_guard_nor_wait() {
        let now = Instant::now();
        let mut guard = guard(0.5, 10);
        let wrong = [
            Reason::Undecodable,
            Reason::Invalid,
            Reason::UnsupportedField,
            Reason::Oversized,
            Reason::Expired,
            Reason::IdReused,
        ];
        for _ in 0..100 {
            assert!(
                wrong
                    .iter()
                    .all(|reason| guard.admit(Some(&letter(*reason, "w")), now))
            );
        }
        assert!((0..5).all(|_| admit(&mut guard, true)), "they were not counted");
        assert!(!admit(&mut guard, true));
        assert!(
            wrong
                .iter()
                .all(|reason| guard.admit(Some(&letter(*reason, "w")), now))
        );
    }

    #[test]
    fn the_reason_of_a_shut_guard_has_counts_and_three_commands() {
        let now = Instant::now();
        let mut guard = guard(0.5, 8);
        assert!(guard.admit(None, now));
        assert!(guard.admit(Some(&letter(Reason::Rejected, "a")), now));
        for id in ["b", "c", "d"] {
            assert!(guard.admit(Some(&letter(Reason::NotFound, id)), now));
        }
        assert!(!guard.admit(Some(&letter(Reason::NotFound, "e")), now));
        assert_eq!(
            guard.shut_by(),
            Some(
                "5 of the latest 6 commands would be dead letters (not_found: 4, rejected: 1), such as c, d, e"
            )
        );
        guard.open();
        assert_eq!(guard.shut_by(), None);
    }

    /// Of a user of its own.
    fn refused(n: usize, reason: Reason, status: u16) -> DeadLetter {
        DeadLetter {
            status: Some(status),
            user: Some(format!("u{n}")),
            ..letter(reason, &format!("c{n}"))
        }
    }

    fn doubting() -> Guard {
        Guard::new(Settings {
            share_max: 1.0,
            window: 50,
            doubts_configuration: true,
        })
    }

    #[test]
    fn the_same_refusal_of_ten_users_before_any_write_passed_shuts_it_and_names_what_to_look_at() {
        let now = Instant::now();
        for (reason, status, look_at) in [
            (Reason::NotFound, 404, "base_url"),
            (Reason::Rejected, 405, "method"),
            (Reason::Rejected, 428, "version"),
            (Reason::Rejected, 400, "fields"),
        ] {
            let mut guard = doubting();
            assert!((0..9).all(|n| guard.admit(Some(&refused(n, reason, status)), now)));
            assert!(!guard.admit(Some(&refused(9, reason, status)), now));
            let why = guard.shut_by().unwrap();
            assert!(
                why.contains(look_at) && why.contains(&format!("{reason} {status}")),
                "{why}"
            );
            assert!(why.contains("c7, c8, c9"), "{why}");
            assert!(guard.write_passed(), "it was no wrong guess");
            assert!((0..100).all(|n| guard.admit(Some(&refused(n, reason, status)), now)));
        }
    }

    #[test]
    fn other_refusals_of_one_user_and_those_after_a_write_do_not_shut_it() {
        let now = Instant::now();
        let mut guard = doubting();
        assert!((0..100).all(|_| guard.admit(Some(&refused(1, Reason::NotFound, 404)), now)));
        let mut guard = doubting();
        for n in 0..9 {
            assert!(guard.admit(Some(&refused(n, Reason::NotFound, 404)), now));
            assert!(guard.admit(Some(&refused(n + 100, Reason::Rejected, 422)), now));
            assert!(guard.admit(Some(&refused(n, Reason::RetriesExhausted, 500)), now));
        }
        assert!(!guard.write_passed());
        assert!((0..100).all(|n| guard.admit(Some(&refused(n, Reason::NotFound, 404)), now)));
    }

    #[test]
    fn an_operator_vouches_for_the_configuration() {
        let now = Instant::now();
        let mut guard = doubting();
        for n in 0..10 {
            guard.admit(Some(&refused(n, Reason::NotFound, 404)), now);
        }
        assert!(guard.shut_at().is_some());
        guard.open();
        assert!((0..100).all(|n| guard.admit(Some(&refused(n, Reason::NotFound, 404)), now)));
    }
}
