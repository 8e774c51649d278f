//! Gates that tell each other what workers do, beside a monitor that scrapes them: what a fleet is to the pace.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use usher::clock::Clock;
use usher::contract::{Notice, TrafficClass, UserId, WorkerId};
use usher::policy::health::{Call, Trouble};
use usher::policy::pace::Rates;
use usher::worker::gate::Gate;

use crate::pace::{Provider, gate_for};

/// As a worker tells its fellows.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// As a monitor scrapes.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);

/// The partitions of each worker: one has them all, three share four, and eight have one each.
pub fn leases(workers: usize) -> Vec<Vec<u16>> {
    match workers {
        3 => vec![vec![0], vec![1], vec![2, 3]],
        _ => (0..workers as u16).map(|partition| vec![partition]).collect(),
    }
}

/// The workers of a provider, each with its partitions, and what each of them called with success.
pub struct Workers {
    pub gates: Vec<Arc<Gate>>,
    pub accepted: Arc<Mutex<Vec<Vec<Instant>>>>,
    tasks: JoinSet<()>,
}

impl Workers {
    pub fn start(rates: &Rates, leases: &[Vec<u16>], calls: u32, provider: &Provider, seed: u64) -> Self {
        let partitions: usize = leases.iter().map(Vec::len).sum();
        let clock = Clock::anchored("2026-11-21T10:00:00Z".parse().unwrap());
        let gates: Vec<_> = (0..)
            .zip(leases)
            .map(|(n, leases)| {
                let gate = gate_for(rates.clone(), concurrency(calls), clock, seed * 100 + n);
                gate.set_quota_share(leases, u16::try_from(partitions).unwrap());
                gate
            })
            .collect();
        let mut fleet = Self {
            accepted: Arc::new(Mutex::new(vec![Vec::new(); gates.len()])),
            gates,
            tasks: JoinSet::new(),
        };
        for worker in 0..fleet.gates.len() {
            fleet.works(worker, concurrency(calls), provider);
        }
        let gates = fleet.gates.clone();
        fleet.tasks.spawn(async move {
            loop {
                sleep(TELL_EVERY).await;
                tell(&gates);
            }
        });
        let gates = fleet.gates.clone();
        fleet.tasks.spawn(async move {
            loop {
                sleep(SCRAPE_EVERY).await;
                for gate in &gates {
                    assert!(gate.pace_per_second() > 0.0);
                }
            }
        });
        fleet
    }

    /// Its commands wait all the time.
    fn works(&mut self, worker: usize, concurrency: usize, provider: &Provider) {
        self.tasks.spawn(self.gates[worker].clone().keep_open());
        for n in 0..concurrency {
            let (gate, provider, accepted) = (
                self.gates[worker].clone(),
                provider.clone(),
                self.accepted.clone(),
            );
            let user = UserId::parse(&format!("w{worker}-u{n}")).unwrap();
            self.tasks.spawn(async move {
                loop {
                    let permit = gate.permit(TrafficClass::Interactive, 0, &user).await;
                    let answer = provider.call().await;
                    if answer.is_ok() {
                        accepted.lock().unwrap()[worker].push(Instant::now());
                    }
                    permit.report(
                        &user,
                        Call::Write,
                        answer.as_ref().copied(),
                        &mut Trouble::default(),
                    );
                }
            });
        }
    }
}

impl Workers {
    /// Nobody has anything to do any more.
    pub fn rest(&mut self) {
        self.tasks.abort_all();
    }
}

fn tell(gates: &[Arc<Gate>]) {
    for (n, from) in gates.iter().enumerate() {
        let (paused, pace) = from.announcement();
        let notice = Notice {
            worker: WorkerId::new(format!("w{n}")),
            leases: Vec::new(),
            leaving: false,
            orders: 0,
            stalled: None,
            paused,
            pace,
        };
        for (_, to) in gates.iter().enumerate().filter(|(other, _)| *other != n) {
            to.on_notice(&notice);
        }
    }
}

/// A call takes up to a tenth of a second.
fn concurrency(calls: u32) -> usize {
    (calls as usize / 5).max(32)
}
