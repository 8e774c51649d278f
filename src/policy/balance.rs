//! Who holds how many leases, and which of them should move. They move only where shares differ by more
//! than one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::WorkerId;

/// A worker that was not heard of for so long takes part no more.
const SILENT_FOR: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Balance {
    me: WorkerId,
    partitions: usize,
    others: BTreeMap<WorkerId, Other>,
}

#[derive(Debug)]
struct Other {
    leases: usize,
    leaving: bool,
    heard_at: Instant,
}

impl Balance {
    pub fn new(me: WorkerId, partitions: u16) -> Self {
        Self {
            me,
            partitions: partitions.into(),
            others: BTreeMap::new(),
        }
    }

    pub fn heard(&mut self, worker: &WorkerId, leases: usize, leaving: bool, now: Instant) {
        if *worker == self.me {
            return;
        }
        let other = Other {
            leases,
            leaving,
            heard_at: now,
        };
        self.others.insert(worker.clone(), other);
        self.others
            .retain(|_, other| now.duration_since(other.heard_at) < SILENT_FOR);
    }

    fn present(&self, now: Instant) -> impl Iterator<Item = (&WorkerId, &Other)> {
        let silent = move |other: &Other| now.duration_since(other.heard_at) >= SILENT_FOR;
        self.others.iter().filter(move |(_, other)| !silent(other))
    }

    /// Whether this worker, which holds so many, is to give one up. The richest does, one at a time for
    /// each lease that is missing elsewhere; what is on its way counts as arrived where it is needed.
    pub fn gives_one_up(&self, held: usize, now: Instant) -> bool {
        let takers = self.present(now).filter(|(_, other)| !other.leaving);
        let Some(poorest) = takers.map(|(_, other)| other.leases).min() else {
            return false;
        };
        let richer = |(worker, other): (&WorkerId, &Other)| {
            other.leases > held || (other.leases == held && *worker < self.me)
        };
        if self.present(now).any(richer) {
            return false;
        }
        let known = held + self.present(now).map(|(_, other)| other.leases).sum::<usize>();
        let on_their_way = self.partitions.saturating_sub(known);
        held > poorest + on_their_way + 1
    }

    /// Whether a lease that came to this worker, which holds so many others, belongs to somebody else.
    pub fn passes_on(&self, held: usize, now: Instant) -> bool {
        self.present(now)
            .any(|(_, other)| !other.leaving && other.leases < held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> WorkerId {
        WorkerId::new(name)
    }

    fn fleet(me: &str, partitions: u16, others: &[(&str, usize)]) -> Balance {
        let mut fleet = Balance::new(id(me), partitions);
        for (name, leases) in others {
            fleet.heard(&id(name), *leases, false, Instant::now());
        }
        fleet
    }

    #[tokio::test(start_paused = true)]
    async fn a_difference_of_one_moves_nothing() {
        let now = Instant::now();
        assert!(!fleet("a", 5, &[("b", 2)]).gives_one_up(3, now));
        assert!(!fleet("b", 5, &[("a", 3)]).passes_on(2, now));
        assert!(!fleet("a", 5, &[]).gives_one_up(5, now));
    }

    #[tokio::test(start_paused = true)]
    async fn the_richest_gives_to_the_poorest_one_for_each_that_is_missing() {
        let now = Instant::now();
        assert!(fleet("a", 4, &[("b", 0)]).gives_one_up(4, now));
        // One is on its way.
        assert!(fleet("a", 4, &[("b", 0)]).gives_one_up(3, now));
        assert!(!fleet("a", 4, &[("b", 0)]).gives_one_up(2, now));
        // Of two as rich, one does.
        let pair = [("a", 3), ("c", 0)];
        assert!(!fleet("b", 6, &pair).gives_one_up(3, now));
        assert!(fleet("a", 6, &[("b", 3), ("c", 0)]).gives_one_up(3, now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_goes_on_to_whoever_has_fewer_and_stays() {
        let now = Instant::now();
        let mut fleet = fleet("a", 8, &[("b", 1), ("c", 2)]);
        assert!(fleet.passes_on(2, now) && !fleet.passes_on(1, now));
        fleet.heard(&id("b"), 1, true, now);
        assert!(!fleet.passes_on(2, now), "b is leaving");
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_take_no_part() {
        let fleet = fleet("a", 4, &[("b", 0)]);
        tokio::time::advance(SILENT_FOR).await;
        let now = Instant::now();
        assert!(!fleet.gives_one_up(4, now) && !fleet.passes_on(3, now));
    }

    /// Any start comes to rest with shares that differ by one at most, and stays there.
    #[tokio::test(start_paused = true)]
    async fn whoever_joins_or_leaves_shares_come_to_differ_by_one_at_most() {
        let now = Instant::now();
        let mut rng = fastrand::Rng::with_seed(7);
        for partitions in [1, 2, 7, 16] {
            for workers in 1..=9_usize {
                let names: Vec<_> = (0..workers).map(|n| id(&format!("w{n}"))).collect();
                let mut held = vec![0; workers];
                for _ in 0..partitions {
                    held[rng.usize(..workers)] += 1;
                }
                let mut moves = 0;
                loop {
                    let gives = (0..workers).find(|n| {
                        let mut fleet = Balance::new(names[*n].clone(), partitions);
                        for (other, leases) in held.iter().enumerate() {
                            fleet.heard(&names[other], *leases, false, now);
                        }
                        fleet.gives_one_up(held[*n], now)
                    });
                    let Some(giver) = gives else { break };
                    held[giver] -= 1;
                    let poorest = (0..workers).min_by_key(|n| held[*n]).unwrap();
                    held[poorest] += 1;
                    moves += 1;
                    assert!(moves <= partitions, "{held:?}");
                }
                assert!(
                    held.iter().max().unwrap() - held.iter().min().unwrap() <= 1,
                    "{held:?}"
                );
            }
        }
    }
}
