//! The pace of a fleet comes back after whatever held it up: gates that tell each other what workers do, at a provider
//! with a sliding window.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use usher::contract::{Fault, Notice, TrafficClass, UserId, WorkerId};
use usher::policy::health::{Call, Trouble};
use usher::policy::pace::Rates;
use usher::provider::simulated::quota::QuotaKind;
use usher::worker::gate::Gate;

use crate::pace::{Provider, Says, gate_for};
use crate::seeds::runtime;
use crate::world::per_second;

const SECOND: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(60);
const TROUBLE: Duration = Duration::from_secs(12);
const AFTER: Duration = Duration::from_secs(60);

/// As a worker tells its fellows.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// As a monitor scrapes.
const SCRAPE_EVERY: Duration = SECOND;

/// The workers of a provider, each with as large a share of the leases as `shares` says, and what each of them called
/// with success.
struct Fleet {
    gates: Vec<Arc<Gate>>,
    accepted: Arc<Mutex<Vec<Vec<Instant>>>>,
    tasks: JoinSet<()>,
}

impl Fleet {
    fn start(rates: &Rates, shares: &[f64], calls: u32, provider: &Provider, seed: u64) -> Self {
        let gates: Vec<_> = (0..)
            .zip(shares)
            .map(|(n, share)| {
                let gate = gate_for(rates.clone(), concurrency(calls), seed * 100 + n);
                gate.set_part(*share);
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

fn tell(gates: &[Arc<Gate>]) {
    for (n, from) in gates.iter().enumerate() {
        let (paused, pace, throttled) = from.to_tell();
        let notice = Notice {
            worker: WorkerId::new(format!("w{n}")),
            leases: Vec::new(),
            leaving: false,
            paused,
            pace,
            throttled,
        };
        for (_, to) in gates.iter().enumerate().filter(|(other, _)| *other != n) {
            to.hear(&notice);
        }
    }
}

/// A call takes up to a tenth of a second.
fn concurrency(calls: u32) -> usize {
    (calls as usize / 5).max(32)
}

/// Seconds from `since` to the first span of two seconds that has nine tenths of the calls that the quota allows (ten
/// seconds for a quota below five calls per second).
fn until_nine_tenths(calls: &[Instant], since: Instant, per_second: f64) -> Option<f64> {
    let mut calls: Vec<_> = calls.iter().copied().filter(|at| *at >= since).collect();
    calls.sort();
    let span = SECOND * if per_second < 5.0 { 10 } else { 2 };
    let enough = (per_second * 0.9 * span.as_secs_f64()).floor().max(1.0) as usize;
    let begin = calls
        .windows(enough)
        .find(|calls| calls[enough - 1] - calls[0] <= span)?;
    Some((begin[0] - since).as_secs_f64())
}

/// From the end of the trouble on.
async fn recovery(fault: Fault, calls: u32, shares: &[f64]) -> Result<(), String> {
    let kind = QuotaKind::Sliding {
        calls,
        window: SECOND,
    };
    let provider = Provider::new(kind, Says::Nothing, 7);
    let fleet = Fleet::start(&per_second(calls), shares, calls, &provider, 7);
    sleep(QUIET).await;
    provider.has_trouble(Some(fault));
    sleep(TROUBLE).await;
    provider.has_trouble(None);
    let end = Instant::now();
    sleep(AFTER).await;
    let whole = until_nine_tenths(&provider.accepted(), end, f64::from(calls));
    // Where a call takes a second, the pauses between probes are a good part of it.
    let most = if calls == 1 { 20.0 } else { 10.0 };
    if whole.is_none_or(|seconds| seconds > most) {
        return Err(format!("nine tenths of the quota after {whole:?} s"));
    }
    let (from, span) = (end + SECOND * 10, AFTER - SECOND * 10);
    let accepted = fleet.accepted.lock().unwrap();
    for (accepted, share) in accepted.iter().zip(shares) {
        let calls = f64::from(calls) * share * span.as_secs_f64();
        let used = accepted.iter().filter(|at| **at >= from).count() as f64 / calls;
        if !(0.5..=1.5).contains(&used) {
            return Err(format!("a worker used {used:.2} of its share"));
        }
    }
    Ok(())
}

#[test]
fn a_known_quota_is_used_again_within_ten_seconds_of_the_end_of_any_trouble() {
    let mut failed = Vec::new();
    for fault in [
        Fault::Throttled { retry_after: None },
        Fault::Broken,
        Fault::Unreachable,
        Fault::Credentials,
    ] {
        for (calls, shares) in [
            (1, &[1.0][..]),
            (5, &[1.0]),
            (50, &[1.0]),
            (200, &[1.0]),
            (2000, &[1.0]),
            (50, &[0.25, 0.25, 0.5]),
            (200, &[0.25, 0.25, 0.5]),
            (2000, &[0.25, 0.25, 0.5]),
        ] {
            let workers = shares.len();
            // At 2,000/s a simulated minute takes seconds, so one kind of trouble is tried.
            if calls == 2000 && !matches!(fault, Fault::Throttled { .. }) {
                continue;
            }
            if let Err(why) = runtime().block_on(recovery(fault, calls, shares)) {
                failed.push(format!("{fault:?} at {calls}/s, {workers} workers: {why}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
