//! How much of a quota is used, and how many calls are throttled: the table.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use usher::policy::pace::Rates;
use usher::simulator::quota::QuotaKind;

use crate::pace::{Provider, Says};
use crate::seeds::runtime;
use crate::workers::{Workers, leases};
use crate::world::per_second;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Course {
    Steady,
    /// To a half at the start of what is measured, and back after 40 s.
    Halved,
    /// Beside a client that takes 30 %.
    Shared,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    kind: QuotaKind,
    calls: u32,
    known: bool,
    workers: usize,
    course: Course,
}

/// The share of the quota that is used, by all who call, and that of the calls that are throttled.
async fn measure(cell: Cell, seed: u64) -> (f64, f64) {
    let Cell {
        kind,
        calls,
        known,
        workers,
        course,
    } = cell;
    let says = if seed.is_multiple_of(2) {
        Says::Nothing
    } else {
        Says::Seconds
    };
    let provider = Provider::new(kind, says, seed);
    let rates = if known {
        per_second(calls)
    } else {
        Rates::default()
    };
    let start = Instant::now();
    let mut others = JoinSet::new();
    if course == Course::Shared {
        let provider = provider.clone();
        let gap = SECOND.div_f64(f64::from(calls) * 0.3);
        others.spawn(async move {
            let mut calling = JoinSet::new();
            for n in 0_u32.. {
                sleep_until(start + gap.mul_f64(f64::from(n) + fastrand::f64())).await;
                let provider = provider.clone();
                calling.spawn(async move {
                    let _ = provider.call().await;
                });
                while calling.try_join_next().is_some() {}
            }
        });
    }
    let fleet = Workers::start(&rates, &leases(workers), calls, &provider, seed);
    let from = if known { 5 } else { 60 };
    let span = match (course, calls) {
        (Course::Halved, _) => 100,
        (_, 2000) => 60,
        _ => 240,
    };
    sleep_until(start + SECOND * from).await;
    let mut allowed = f64::from(calls) * f64::from(span);
    if course == Course::Halved {
        provider.change(kind.at_rate(calls / 2, (calls / 2).max(1)));
        sleep(SECOND * 40).await;
        provider.change(kind);
        allowed -= 20.0 * f64::from(calls);
    }
    sleep_until(start + SECOND * (from + span)).await;
    drop(fleet);
    let (accepted, throttled) = provider.since(start + SECOND * from);
    (accepted / allowed, throttled / (accepted + throttled))
}

/// Every cell, the courses of a fleet before the next fleet.
fn cells() -> Vec<(&'static str, Cell)> {
    let mut cells = Vec::new();
    for calls in [1, 5, 50, 200, 2000] {
        let bucket = |burst| QuotaKind::Bucket {
            per_second: calls,
            burst,
        };
        let window = SECOND;
        let kinds = [
            ("bucket", bucket(calls / 20 + 1)),
            ("burst", bucket(calls)),
            ("fixed", QuotaKind::Fixed { calls, window }),
            ("sliding", QuotaKind::Sliding { calls, window }),
        ];
        for (name, kind) in kinds {
            for workers in [1, 3, 8] {
                for course in [Course::Steady, Course::Halved, Course::Shared] {
                    cells.extend([true, false].map(|known| {
                        let cell = Cell {
                            kind,
                            calls,
                            known,
                            workers,
                            course,
                        };
                        (name, cell)
                    }));
                }
            }
        }
    }
    cells
}

/// Prints the cells whose line has one of each group of words: `USHER_TEST_TABLE="L=5_|L=50_ w=1 Steady"`.
#[test]
#[ignore = "prints a table"]
fn the_table() {
    let wanted = std::env::var("USHER_TEST_TABLE").unwrap_or_default();
    for (name, cell) in cells() {
        let known = if cell.known { "known" } else { "learned" };
        let line = format!(
            "L={} {name} w={} {known} {:?} ",
            cell.calls, cell.workers, cell.course
        );
        let has = |part: &str| part.split('|').any(|part| line.contains(&part.replace('_', " ")));
        if !wanted.split(' ').all(has) {
            continue;
        }
        let seeds = if cell.calls > 50 { 1 } else { 4 };
        let (mut used, mut throttled) = (0.0, 0.0);
        for seed in 0..seeds {
            let one = runtime().block_on(measure(cell, seed));
            used += one.0 / seeds as f64;
            throttled += one.1 / seeds as f64;
        }
        eprintln!("{line}{used:.3} {:.2}%", throttled * 100.0);
    }
}
