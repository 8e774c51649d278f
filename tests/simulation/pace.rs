//! The quota is used and kept: the gate on paused time before providers with quotas of every kind.
//!
//! `USHER_TEST_SEEDS` runs more seeds here, too, up to fifty; `USHER_TEST_SEED` replays one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use usher::contract::{Fault, TrafficClass, UserId};
use usher::policy::guard;
use usher::policy::health::{Call, Trouble};
use usher::policy::pace::{self, Rates};
use usher::policy::retry;
use usher::provider::ProviderError;
use usher::provider::simulated::quota::{Quota, QuotaKind};
use usher::worker::gate::{Gate, Settings};

use crate::seeds::{number, runtime};
use crate::world::per_second;

const SECOND: Duration = Duration::from_secs(1);
const CONCURRENCY: usize = 96;

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

    fn change(&self, kind: QuotaKind) {
        self.0.lock().unwrap().quota = Quota::new(kind);
    }

    pub fn has_trouble(&self, trouble: Option<Fault>) {
        self.0.lock().unwrap().trouble = trouble;
    }

    pub fn accepted(&self) -> Vec<Instant> {
        self.0.lock().unwrap().accepted.clone()
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
            calls[first..]
                .iter()
                .take_while(|at| **at < calls[first] + SECOND)
                .count()
        };
        (0..calls.len()).map(within).max().unwrap_or(0)
    }
}

fn gate(rates: Rates, seed: u64) -> Arc<Gate> {
    gate_for(rates, CONCURRENCY, seed)
}

pub fn gate_for(rates: Rates, concurrency: usize, seed: u64) -> Arc<Gate> {
    let retry = retry::Config::default();
    Gate::new(Settings {
        pace: pace::Settings {
            rates,
            share: 1.0,
            gap_max: retry.probe_gap_max,
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

/// Commands wait all the time; `during` says how long, and what happens.
async fn under_load(gate: &Arc<Gate>, provider: &Provider, during: impl Future<Output = ()>) {
    let mut calling = JoinSet::new();
    calling.spawn(gate.clone().keep_open());
    for n in 0..CONCURRENCY * 2 {
        let (gate, provider) = (gate.clone(), provider.clone());
        let user = UserId::parse(&format!("u{n}")).unwrap();
        calling.spawn(async move {
            loop {
                let permit = gate.permit(TrafficClass::Interactive, 0, &user).await;
                let answer = provider.call().await;
                permit.report(
                    &user,
                    Call::Write,
                    answer.as_ref().copied(),
                    &mut Trouble::default(),
                );
            }
        });
    }
    during.await;
    calling.shutdown().await;
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

/// Every kind of quota of so many calls, every way to say it, under seeds. The larger the quota, the fewer
/// seeds: they take as long.
fn each(calls: u32, run: impl AsyncFn(QuotaKind, Says, u64)) {
    let seeds = match (number("USHER_TEST_SEED"), number("USHER_TEST_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => 0..seeds.min(50),
        (None, None) => 0..u64::from(100 / calls).clamp(1, 10),
    };
    for seed in seeds {
        for kind in kinds(calls) {
            for says in [Says::Seconds, Says::Nothing] {
                let what = std::panic::AssertUnwindSafe(|| runtime().block_on(run(kind, says, seed)));
                if let Err(panic) = std::panic::catch_unwind(what) {
                    eprintln!("{kind:?} that says {says:?} failed with seed {seed}");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

async fn a_known_quota(calls: u32, kind: QuotaKind, says: Says, seed: u64) {
    let (gate, provider, start) = (
        gate(per_second(calls), seed),
        Provider::new(kind, says, seed),
        Instant::now(),
    );
    under_load(&gate, &provider, sleep(SECOND * 61)).await;
    let (used, throttled) = (provider.used(start, 1, 61, calls), provider.throttled(start, 0));
    assert!(used >= 0.97, "used {used}");
    assert!(throttled <= 0.001, "throttled {throttled}");
    let busiest = provider.busiest_second() as f64;
    assert!(busiest <= f64::from(calls) * 1.01, "{busiest} in a second");
}

async fn an_unknown_quota(calls: u32, kind: QuotaKind, says: Says, seed: u64) {
    let (gate, provider, start) = (
        gate(Rates::default(), seed),
        Provider::new(kind, says, seed),
        Instant::now(),
    );
    under_load(&gate, &provider, sleep(SECOND * 360)).await;
    let (used, throttled) = (
        provider.used(start, 60, 360, calls),
        provider.throttled(start, 60),
    );
    assert!(used >= 0.9, "used {used}");
    assert!(throttled <= 0.02, "throttled {throttled}");
}

/// Halves the quota and doubles it back, and sees when calls are at nine tenths of the new one.
async fn a_changing_quota(rates: Rates, calls: u32, kind: QuotaKind, says: Says, seed: u64) {
    let (gate, provider, start) = (gate(rates, seed), Provider::new(kind, says, seed), Instant::now());
    let (down, up) = (start + SECOND * 90, start + SECOND * 130);
    let changes = async {
        sleep_until(down).await;
        provider.change(kind.at_rate(calls / 2, burst(kind) / 2));
        sleep_until(up).await;
        provider.change(kind);
        sleep(SECOND * 15).await;
    };
    under_load(&gate, &provider, changes).await;
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
    for calls in [5, 50, 500] {
        each(calls, async |kind, says, seed| {
            a_known_quota(calls, kind, says, seed).await;
        });
    }
}

#[test]
fn an_unknown_quota_is_found_and_used() {
    for calls in [5, 50, 500] {
        each(calls, async |kind, says, seed| {
            an_unknown_quota(calls, kind, says, seed).await;
        });
    }
}

#[test]
fn a_quota_that_halves_and_doubles_back_is_followed_within_ten_seconds() {
    for calls in [50, 500] {
        each(calls, async |kind, says, seed| {
            a_changing_quota(per_second(calls), calls, kind, says, seed).await;
            a_changing_quota(Rates::default(), calls, kind, says, seed).await;
        });
    }
}
