//! The quota is used and kept: the gates of fleets on paused time before providers with quotas of every kind.
//!
//! `USHER_TEST_SEEDS` runs more seeds here, too, up to fifty; `USHER_TEST_SEED` replays one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use usher::clock::Clock;
use usher::contract::Fault;
use usher::policy::guard;
use usher::policy::pace::{self, Rates};
use usher::policy::retry;
use usher::provider::ProviderError;
use usher::simulator::quota::{Quota, QuotaKind};
use usher::worker::gate::{Gate, Settings};

use crate::seeds::{number, side_by_side};
use crate::workers::{Workers, leases};
use crate::world::per_second;

const SECOND: Duration = Duration::from_secs(1);

/// What a 429 says of the wait.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    Seconds,
    Nothing,
}

#[derive(Clone)]
pub struct Provider(Arc<Mutex<State>>);

struct State {
    quota: Quota,
    says: Says,
    latency: Duration,
    /// What every call is answered, whatever the quota.
    trouble: Option<Fault>,
    rng: fastrand::Rng,
    accepted: Vec<Instant>,
    throttled: Vec<Instant>,
}

impl Provider {
    pub fn new(kind: QuotaKind, says: Says, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let latency = Duration::from_millis(rng.u64(5..100));
        Self(Arc::new(Mutex::new(State {
            quota: Quota::new(kind),
            says,
            latency,
            trouble: None,
            rng,
            accepted: Vec::new(),
            throttled: Vec::new(),
        })))
    }

    pub fn change(&self, kind: QuotaKind) {
        self.0.lock().unwrap().quota = Quota::new(kind);
    }

    pub fn has_trouble(&self, trouble: Option<Fault>) {
        self.0.lock().unwrap().trouble = trouble;
    }

    pub fn accepted(&self) -> Vec<Instant> {
        self.0.lock().unwrap().accepted.clone()
    }

    /// Calls that were accepted and that were throttled since then.
    pub fn since(&self, from: Instant) -> (f64, f64) {
        let state = self.0.lock().unwrap();
        let since = |log: &[Instant]| log.iter().filter(|at| **at >= from).count() as f64;
        (since(&state.accepted), since(&state.throttled))
    }

    pub async fn call(&self) -> Result<(), ProviderError> {
        let (there, back) = {
            let mut state = self.0.lock().unwrap();
            let (latency, jitter) = (state.latency / 2, state.rng.f64() / 10.0);
            (latency.mul_f64(1.0 + jitter), latency)
        };
        sleep(there).await;
        let trouble = self.0.lock().unwrap().trouble;
        if let Some(fault) = trouble {
            sleep(back).await;
            return Err(ProviderError::new(fault, "as the test says"));
        }
        let answer = {
            let mut state = self.0.lock().unwrap();
            let State {
                quota,
                says,
                accepted,
                throttled,
                ..
            } = &mut *state;
            let answer = quota.take();
            let log = if answer.is_ok() { accepted } else { throttled };
            log.push(Instant::now());
            answer.map_err(|wait| match says {
                Says::Seconds => Some(Duration::from_secs_f64(wait.as_secs_f64().ceil())),
                Says::Nothing => None,
            })
        };
        sleep(back).await;
        answer.map_err(|retry_after| ProviderError::new(Fault::Throttled { retry_after }, "slow down"))
    }

    /// Accepted calls between two moments of the run, as a share of what the quota allows.
    fn used(&self, start: Instant, from: u64, to: u64, quota: u32) -> f64 {
        let (from, to) = (
            start + SECOND * u32::try_from(from).unwrap(),
            start + SECOND * u32::try_from(to).unwrap(),
        );
        let state = self.0.lock().unwrap();
        let accepted = state.accepted.iter().filter(|at| (from..to).contains(at)).count();
        accepted as f64 / (f64::from(quota) * (to - from).as_secs_f64())
    }

    /// Throttled calls from a moment of the run on, as a share of all.
    fn throttled(&self, start: Instant, from: u64) -> f64 {
        let from = start + Duration::from_secs(from);
        let state = self.0.lock().unwrap();
        let since = |log: &[Instant]| log.iter().filter(|at| **at >= from).count() as f64;
        let throttled = since(&state.throttled);
        throttled / (throttled + since(&state.accepted))
    }

    /// The most calls that came within any second.
    fn busiest_second(&self) -> usize {
        let state = self.0.lock().unwrap();
        let mut calls: Vec<_> = state.accepted.iter().chain(&state.throttled).copied().collect();
        calls.sort();
        let within = |first: usize| {
            let until = calls[first] + SECOND;
            calls[first..].partition_point(|at| *at < until)
        };
        (0..calls.len()).map(within).max().unwrap_or(0)
    }
}

pub fn gate_for(rates: Rates, concurrency: usize, clock: Clock, seed: u64) -> Arc<Gate> {
    let retry = retry::Config::default();
    Gate::new(Settings {
        pace: pace::Settings {
            rates,
            share: 1.0,
            gap_max: retry.probe_gap_max,
            clock,
        },
        concurrency,
        retry,
        bulk_share_min: 0.05,
        guard: guard::Settings {
            share_max: 1.0,
            window: 50,
            doubts_configuration: false,
        },
        can_read: false,
        seed,
    })
}

fn kinds(calls: u32) -> [QuotaKind; 4] {
    let bucket = |burst| QuotaKind::Bucket {
        per_second: calls,
        burst,
    };
    [
        bucket(calls.div_ceil(20) + 1),
        bucket(calls),
        QuotaKind::Fixed {
            calls,
            window: SECOND,
        },
        QuotaKind::Sliding {
            calls,
            window: SECOND,
        },
    ]
}

/// A quota, who calls, and the seed.
#[derive(Debug, Clone, Copy)]
struct Case {
    calls: u32,
    workers: usize,
    kind: QuotaKind,
    says: Says,
    seed: u64,
}

impl Case {
    fn start(&self, rates: &Rates) -> (Workers, Provider, Instant) {
        let provider = Provider::new(self.kind, self.says, self.seed);
        let workers = Workers::start(rates, &leases(self.workers), self.calls, &provider, self.seed);
        (workers, provider, Instant::now())
    }
}

/// Every kind of quota of so many calls, every way to say it, under seeds. The larger the quota and the fleet, the fewer
/// seeds: they take as long.
fn each(quotas: &[(u32, usize)], run: impl AsyncFn(Case) + Sync) {
    let mut cases = Vec::new();
    for &(calls, workers) in quotas {
        let seeds = match (number("USHER_TEST_SEED"), number("USHER_TEST_SEEDS")) {
            (Some(seed), _) => seed..seed + 1,
            (None, Some(seeds)) => 0..seeds.min(50),
            (None, None) => 0..u64::from(100 / calls).clamp(1, if workers == 1 { 10 } else { 2 }),
        };
        for seed in seeds {
            for kind in kinds(calls) {
                cases.extend([Says::Seconds, Says::Nothing].map(|says| Case {
                    calls,
                    workers,
                    kind,
                    says,
                    seed,
                }));
            }
        }
    }
    side_by_side(&cases, run);
}

async fn a_known_quota(case: Case) {
    let (_workers, provider, start) = case.start(&per_second(case.calls));
    sleep(SECOND * 61).await;
    let (used, throttled) = (
        provider.used(start, 1, 61, case.calls),
        provider.throttled(start, 0),
    );
    // The first round of a fleet's moments is not used, which counts where there are few.
    let least = if case.calls == 1 { 0.95 } else { 0.97 };
    assert!(used >= least, "used {used}");
    assert!(throttled <= 0.001, "throttled {throttled}");
    let busiest = provider.busiest_second() as f64;
    assert!(busiest <= f64::from(case.calls) * 1.01, "{busiest} in a second");
}

async fn an_unknown_quota(case: Case) {
    let (_workers, provider, start) = case.start(&Rates::default());
    sleep(SECOND * 360).await;
    let (used, throttled) = (
        provider.used(start, 60, 360, case.calls),
        provider.throttled(start, 60),
    );
    // Few calls of several workers meet by chance while the pace moves.
    let least = if case.workers > 1 && case.calls < 50 {
        0.8
    } else {
        0.9
    };
    assert!(used >= least, "used {used}");
    assert!(throttled <= 0.02, "throttled {throttled}");
}

/// Halves the quota and doubles it back, and sees when calls are at nine tenths of the new one.
async fn a_changing_quota(rates: &Rates, case: Case) {
    let (_workers, provider, start) = case.start(rates);
    let (down, up) = (start + SECOND * 90, start + SECOND * 130);
    sleep_until(down).await;
    let (calls, kind) = (case.calls, case.kind);
    provider.change(kind.at_rate(calls / 2, burst(kind) / 2));
    sleep_until(up).await;
    provider.change(kind);
    sleep(SECOND * 15).await;
    for (at, quota) in [(down, calls / 2), (up, calls)] {
        let state = provider.0.lock().unwrap();
        // Two seconds at nine tenths, a call more or less.
        let enough = (f64::from(quota) * 0.9 * 2.0).floor() as usize;
        let since: Vec<_> = state
            .accepted
            .iter()
            .filter(|accepted| **accepted >= at)
            .collect();
        let reached = since
            .windows(enough)
            .find(|calls| *calls[enough - 1] - *calls[0] <= SECOND * 2);
        let took = reached.map(|calls| *calls[0] - at);
        assert!(
            took.is_some_and(|took| took <= SECOND * 10),
            "{took:?} to {quota}"
        );
    }
}

fn burst(kind: QuotaKind) -> u32 {
    match kind {
        QuotaKind::Bucket { burst, .. } => burst,
        _ => 1,
    }
}

#[test]
fn a_known_quota_is_used_and_kept() {
    let cases = [
        (1, 3),
        (5, 1),
        (5, 3),
        (5, 8),
        (50, 1),
        (50, 3),
        (50, 8),
        (500, 1),
    ];
    each(&cases, a_known_quota);
}

#[test]
fn an_unknown_quota_is_found_and_used() {
    let cases = [(5, 1), (5, 3), (5, 8), (50, 1), (50, 3), (50, 8), (500, 1)];
    each(&cases, an_unknown_quota);
}

#[test]
fn a_quota_that_halves_and_doubles_back_is_followed_within_ten_seconds() {
    each(&[(50, 1), (50, 3), (500, 1)], async |case| {
        a_changing_quota(&per_second(case.calls), case).await;
        a_changing_quota(&Rates::default(), case).await;
    });
}
