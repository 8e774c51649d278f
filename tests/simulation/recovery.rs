//! The pace of a fleet comes back after whatever held it up: gates that tell each other what workers do, at a provider
//! with a sliding window.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use usher::contract::{Fault, Learned, Notice, WorkerId};
use usher::policy::pace::Rates;
use usher::simulator::quota::QuotaKind;
use usher::worker::gate::Gate;

use crate::pace::{Provider, Says};
use crate::seeds::runtime;
use crate::workers::{Workers, leases};
use crate::world::per_second;

const SECOND: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(60);
const TROUBLE: Duration = Duration::from_secs(12);
const AFTER: Duration = Duration::from_secs(60);

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
async fn recovery(fault: Fault, calls: u32, workers: usize) -> Result<(), String> {
    let kind = QuotaKind::Sliding {
        calls,
        window: SECOND,
    };
    let provider = Provider::new(kind, Says::Nothing, 7);
    let fleet = Workers::start(&per_second(calls), &leases(workers), calls, &provider, 7);
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
    let leases = leases(workers);
    let partitions: usize = leases.iter().map(Vec::len).sum();
    for (accepted, leases) in accepted.iter().zip(&leases) {
        let share = leases.len() as f64 / partitions as f64;
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
        for (calls, workers) in [
            (1, 1),
            (5, 1),
            (50, 1),
            (200, 1),
            (2000, 1),
            (1, 3),
            (5, 3),
            (50, 3),
            (200, 3),
            (2000, 3),
            (50, 8),
            (200, 8),
        ] {
            // At 2,000/s a simulated minute takes seconds, so one kind of trouble is tried.
            if calls == 2000 && !matches!(fault, Fault::Throttled { .. }) {
                continue;
            }
            if let Err(why) = runtime().block_on(recovery(fault, calls, workers)) {
                failed.push(format!("{fault:?} at {calls}/s, {workers} workers: {why}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The pace of the fleet as this worker believes it.
fn pace(gate: &Gate, leases: &[u16]) -> f64 {
    gate.pace_per_second() / leases.len() as f64 * 4.0
}

/// Three workers that learn: whatever happens, none stays below half of its fellows for ten seconds.
#[test]
fn no_worker_of_a_fleet_stays_far_below_the_others() {
    for (calls, seed) in [(5, 1), (50, 2), (50, 3), (200, 4)] {
        runtime().block_on(async {
            let kind = QuotaKind::Sliding {
                calls,
                window: SECOND,
            };
            let provider = Provider::new(kind, Says::Nothing, seed);
            let leases = leases(3);
            let fleet = Workers::start(&Rates::default(), &leases, calls, &provider, seed);
            let mut low_since = [None; 3];
            for second in 0..300 {
                match second {
                    60 => provider.change(kind.at_rate(calls / 4, 1)),
                    100 => provider.change(kind),
                    // One knows nothing any more.
                    140 => fleet.gates[0].on_notice(&slow("stranger")),
                    180 => provider.has_trouble(Some(Fault::Broken)),
                    192 => provider.has_trouble(None),
                    _ => {}
                }
                sleep(SECOND).await;
                let mut paces: Vec<_> = (0..3).map(|n| pace(&fleet.gates[n], &leases[n])).collect();
                let present = paces.clone();
                paces.sort_by(f64::total_cmp);
                for (low, pace) in low_since.iter_mut().zip(present) {
                    let since = *low.get_or_insert(second);
                    if pace >= paces[1] / 2.0 {
                        *low = None;
                    }
                    assert!(second - since <= 10, "{calls}/s, after {second} s: {paces:?}");
                }
            }
        });
    }
}

/// What a worker says that is at the end of its pace.
fn slow(worker: &str) -> Notice {
    Notice {
        worker: WorkerId::new(worker),
        leases: Vec::new(),
        leaving: false,
        orders: 0,
        stalled: None,
        paused: None,
        pace: Learned {
            slowdowns: 1000,
            floor: 0.1,
            plateau: 0.1,
            best: 0.1,
            age: 0.0,
        },
    }
}

/// What was found is used again after an idle hour, and by who takes over from a worker that is gone.
#[test]
fn the_pace_survives_idleness_and_is_handed_over() {
    runtime().block_on(async {
        let kind = QuotaKind::Sliding {
            calls: 50,
            window: SECOND,
        };
        let provider = Provider::new(kind, Says::Nothing, 1);
        let mut fleet = Workers::start(&Rates::default(), &leases(3), 50, &provider, 1);
        sleep(SECOND * 120).await;
        let found = fleet.gates[2].announcement().1;
        fleet.rest();
        sleep(SECOND * 3600).await;
        let idle = fleet.gates[2].announcement().1;
        assert_eq!(idle.plateau, found.plateau);
        assert!(idle.age - found.age <= 1.5, "{found:?} {idle:?}");
        let follower = Workers::start(&Rates::default(), &[vec![0]], 50, &provider, 2);
        follower.gates[0].on_notice(&Notice {
            pace: idle,
            ..slow("old")
        });
        let start = Instant::now();
        sleep(SECOND * 20).await;
        let used = until_nine_tenths(&provider.accepted(), start, 50.0);
        assert!(used.is_some_and(|seconds| seconds <= 5.0), "{used:?}");
    });
}
