//! How many leases each worker holds, and whether one should move. Leases move only where the workers' counts
//! differ by more than one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::WorkerId;

/// A worker that has sent no notice for this long is no longer counted.
const SILENT_FOR: Duration = Duration::from_secs(5);

/// The most workers that are remembered.
const FLEET_MAX: usize = 1000;

/// Silent workers are forgotten no more often than this, so that a notice costs as much however many are remembered.
const FORGETS_EVERY: Duration = Duration::from_secs(1);

/// A worker that wants a lease holds one more within this time after it was offered; otherwise it wants none. Its
/// notice alone is no proof.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);

/// After a lease that none of the intended workers took, none is released for this long, doubled each time.
const QUIET_MIN: Duration = Duration::from_secs(20);
const QUIET_MAX: Duration = Duration::from_secs(10 * 60);

#[derive(Debug)]
pub struct Balance {
    me: WorkerId,
    partitions: usize,
    others: BTreeMap<WorkerId, Other>,
    forgot_at: Option<Instant>,
    offer: Option<Offer>,
    /// Offers in a row that no worker took.
    untaken: u32,
    quiet_until: Option<Instant>,
}

#[derive(Debug)]
struct Other {
    leases: usize,
    leaving: bool,
    /// It was offered a lease while it held this many, and took none.
    takes_none: bool,
    noticed_at: Instant,
}

/// A lease was released for these workers, each of which held `had`.
#[derive(Debug)]
struct Offer {
    at: Instant,
    to: Vec<WorkerId>,
    had: usize,
}

impl Balance {
    pub fn new(me: WorkerId, partitions: u16) -> Self {
        Self {
            me,
            partitions: partitions.into(),
            others: BTreeMap::new(),
            forgot_at: None,
            offer: None,
            untaken: 0,
            quiet_until: None,
        }
    }

    pub fn on_notice(&mut self, worker: &WorkerId, leases: usize, leaving: bool, now: Instant) {
        if *worker == self.me {
            return;
        }
        let before = self.others.get(worker);
        let takes_none = before.is_some_and(|before| before.takes_none && before.leases == leases);
        if before.is_none() {
            self.forget_the_silent(now);
            if self.others.len() >= FLEET_MAX {
                return;
            }
        }
        let other = Other {
            leases,
            leaving,
            takes_none,
            noticed_at: now,
        };
        self.others.insert(worker.clone(), other);
    }

    fn forget_the_silent(&mut self, now: Instant) {
        if self
            .forgot_at
            .is_some_and(|at| now.duration_since(at) < FORGETS_EVERY)
        {
            return;
        }
        self.forgot_at = Some(now);
        self.others
            .retain(|_, other| now.duration_since(other.noticed_at) < SILENT_FOR);
    }

    fn present(&self, now: Instant) -> impl Iterator<Item = (&WorkerId, &Other)> {
        let silent = move |other: &Other| now.duration_since(other.noticed_at) >= SILENT_FOR;
        self.others.iter().filter(move |(_, other)| !silent(other))
    }

    /// Whether another worker holds leases.
    pub fn others_hold_some(&self, now: Instant) -> bool {
        self.present(now).any(|(_, other)| other.leases > 0)
    }

    /// The workers that would take a lease.
    fn takers(&self, now: Instant) -> impl Iterator<Item = (&WorkerId, &Other)> {
        self.present(now)
            .filter(|(_, other)| !other.leaving && !other.takes_none)
    }

    /// Whether this worker, which holds `held` leases, should release one. The worker with the most does, one at a time
    /// for each lease that is missing elsewhere; a lease in transit counts for the worker with the fewest.
    pub fn gives_one_up(&mut self, held: usize, now: Instant) -> bool {
        if self.is_quiet(now) {
            return false;
        }
        let Some(poorest) = self.takers(now).map(|(_, other)| other.leases).min() else {
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
        let gives = held > poorest + on_their_way + 1;
        if gives {
            self.offer(poorest, now);
        }
        gives
    }

    /// Whether this worker, which holds `held` other leases, should pass a new one on to another worker.
    pub fn passes_on(&mut self, held: usize, now: Instant) -> bool {
        if self.is_quiet(now) {
            return false;
        }
        let poorest = self.takers(now).map(|(_, other)| other.leases).min();
        let Some(poorest) = poorest.filter(|poorest| *poorest < held) else {
            return false;
        };
        self.offer(poorest, now);
        true
    }

    fn offer(&mut self, had: usize, now: Instant) {
        if self.offer.is_none() {
            let to = self.takers(now).filter(|(_, other)| other.leases == had);
            let to = to.map(|(worker, _)| worker.clone()).collect();
            self.offer = Some(Offer { at: now, to, had });
        }
    }

    /// Whether the last offer was not taken, so that nothing is offered for now.
    fn is_quiet(&mut self, now: Instant) -> bool {
        if let Some(offer) = &self.offer {
            let took = |worker: &WorkerId| {
                self.others
                    .get(worker)
                    .is_some_and(|other| other.leases > offer.had)
            };
            if offer.to.iter().any(took) {
                self.offer = None;
                self.untaken = 0;
            } else if now.duration_since(offer.at) >= TAKEN_WITHIN {
                for worker in &offer.to {
                    if let Some(other) = self.others.get_mut(worker) {
                        other.takes_none = true;
                    }
                }
                let quiet = QUIET_MIN.saturating_mul(1 << self.untaken.min(10)).min(QUIET_MAX);
                self.quiet_until = Some(now + quiet);
                self.untaken += 1;
                self.offer = None;
            }
        }
        self.quiet_until.is_some_and(|until| until > now)
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
            fleet.on_notice(&id(name), *leases, false, Instant::now());
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
    async fn the_worker_with_most_leases_releases_one_for_each_missing_lease() {
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
    async fn a_lease_is_passed_on_once_to_a_worker_with_fewer() {
        let now = Instant::now();
        let mut fleet = fleet("a", 8, &[("b", 1), ("c", 2)]);
        assert!(fleet.passes_on(2, now) && !fleet.passes_on(1, now));
        fleet.on_notice(&id("b"), 1, true, now);
        assert!(!fleet.passes_on(2, now), "b is leaving");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_workers_do_not_count() {
        let mut fleet = fleet("a", 4, &[("b", 0)]);
        tokio::time::advance(SILENT_FOR).await;
        let now = Instant::now();
        assert!(!fleet.gives_one_up(4, now) && !fleet.passes_on(3, now));
    }

    /// It claims to hold nothing, and never takes what it is given: that comes back, and is given no more.
    #[tokio::test(start_paused = true)]
    async fn a_worker_that_takes_no_lease_moves_few_leases() {
        let mut fleet = fleet("a", 8, &[]);
        let mut given = 0;
        for second in 0..3600 {
            let now = Instant::now();
            fleet.on_notice(&id("stranger"), 0, false, now);
            if fleet.gives_one_up(8, now) {
                given += 1;
                assert!(second <= TAKEN_WITHIN.as_secs(), "after {second} s");
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(given > 0);
        // Another one is no worse off for it.
        let now = Instant::now();
        fleet.on_notice(&id("b"), 0, false, now);
        assert!(fleet.gives_one_up(8, now));
        fleet.on_notice(&id("b"), 1, false, now);
        assert!(fleet.gives_one_up(7, now));
    }

    #[tokio::test(start_paused = true)]
    async fn notices_of_thousands_of_unknown_workers_take_little_memory() {
        let mut fleet = fleet("a", 8, &[]);
        let mut seconds_of_giving = 0;
        for second in 0..1200 {
            let now = Instant::now();
            for n in 0..300 {
                fleet.on_notice(&id(&format!("s{second}-{n}")), 0, false, now);
            }
            seconds_of_giving += u32::from(fleet.gives_one_up(8, now));
            assert!(fleet.others.len() <= FLEET_MAX);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(seconds_of_giving < 120, "{seconds_of_giving}");
    }

    /// Any start comes to rest with shares that differ by one at most, and stays there.
    #[tokio::test(start_paused = true)]
    async fn shares_differ_by_one_at_most_after_workers_join_or_leave() {
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
                            fleet.on_notice(&names[other], *leases, false, now);
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
