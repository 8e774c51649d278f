//! Random runs: from a seed come the commands, the provider's moods and the broker's troubles.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use usher::contract::{Fault, Reason};

use crate::account::{self, Fate, Published};
use crate::commands::{body, command, message};
use crate::provider::{Answer, Scripted};
use crate::world::World;

const SEEDS: u64 = 400;

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// What an environment variable asks for.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect(name))
}

/// Runs every seed that is asked for, or this many. A single one tells its story.
pub fn under_seeds(seeds: u64, run: impl AsyncFn(u64, bool) -> Vec<String> + Sync) {
    let alone = number("USHER_TEST_SEED");
    let seeds = match alone {
        Some(seed) => seed..seed + 1,
        None => 0..number("USHER_TEST_SEEDS").unwrap_or(seeds),
    };
    let seeds: Vec<_> = seeds.collect();
    side_by_side(&seeds, async |seed| drop(run(seed, alone.is_some()).await));
}

/// Runs the cases on two threads, each case with a paused clock of its own, and says which one fails.
pub fn side_by_side<C: Copy + Debug + Sync>(cases: &[C], run: impl AsyncFn(C) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let once = AssertUnwindSafe(|| runtime().block_on(run(*case)));
                    if let Err(panic) = catch_unwind(once) {
                        eprintln!("{case:?} failed; a seed is replayed with USHER_TEST_SEED");
                        resume_unwind(panic);
                    }
                }
            });
        }
    });
}

#[test]
fn promises_hold_under_seeds() {
    under_seeds(SEEDS, run);
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..10 {
        let first = runtime().block_on(run(seed, false));
        assert_eq!(first, runtime().block_on(run(seed, false)), "seed {seed}");
    }
}

/// One run. Returns its story.
async fn run(seed: u64, tell: bool) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::new(moody(&mut rng, 200));
    world.seed = seed;
    world.prefetch = rng.u16(1..64);
    world.concurrency = rng.usize(1..32);
    world.rate = rng.bool().then(|| rng.u32(20..500));
    world.attempts = 15;
    world.grace_period = Duration::from_millis(rng.u64(0..500));
    let mut published = commands(&mut rng);
    if published
        .iter()
        .any(|command| command.fate == Fate::Fails(Reason::Forbidden))
    {
        // A denied user whose commands fill the prefetch keeps the others away that would tell.
        world.prefetch = 256;
    }
    let publishing = publish(&world, &published, rng.fork());
    let troubles = troubles(&world, rng.fork());
    tokio::join!(biased; publishing, troubles);
    let running = world.start();
    published.extend(others(&world, published.len() as u64).await);
    let settled = world.settles().await;
    if tell {
        for line in account::story(&world) {
            eprintln!("{line}");
        }
    }
    assert!(
        settled,
        "{} commands left after a day; {:?}",
        world.waiting(),
        running.gate.pause()
    );
    running.drain().await;
    account::check(&world, &published);
    account::story(&world)
}

/// A provider with moods: calm, failing now and then, throttling, down, refusing the credentials.
pub fn moody(rng: &mut fastrand::Rng, latency_ms_max: u64) -> Scripted {
    let start = Instant::now();
    let moods: Vec<u8> = (0..20).map(|_| rng.u8(0..8)).collect();
    let (trouble, lost) = (rng.f64() * 0.15, rng.f64() * 0.1);
    let script = move |user: &str, write: bool, rng: &mut fastrand::Rng| {
        let mood = moods
            .get(usize::try_from(start.elapsed().as_secs()).unwrap())
            .copied()
            .unwrap_or(0);
        let throttled = Fault::Throttled {
            retry_after: rng.bool().then(|| Duration::from_millis(rng.u64(0..3000))),
        };
        let chance = rng.f64();
        match (user.split('-').next().unwrap_or_default(), mood) {
            ("missing", 0..5) => Answer::Fail(Fault::Command(Reason::NotFound)),
            ("rejected", 0..5) if write => Answer::Fail(Fault::Command(Reason::Rejected)),
            ("denied", 0..5) if write => Answer::Fail(Fault::Denied),
            (_, 4) => Answer::Fail(throttled),
            (_, 5) => Answer::Fail(Fault::Broken),
            (_, 6) => Answer::Fail(Fault::Unreachable),
            (_, 7) => Answer::Fail(Fault::Credentials),
            _ if chance < trouble => Answer::Fail(Fault::Broken),
            _ if chance < trouble + lost / 2.0 => Answer::Fail(Fault::Unknown),
            _ if chance < trouble + lost => Answer::ApplyAnd(Fault::Unknown),
            _ if chance < trouble + lost * 1.5 => Answer::ApplyAnd(throttled),
            _ => Answer::Ok,
        }
    };
    Scripted::new(
        rng.u64(..),
        Duration::from_millis(rng.u64(1..latency_ms_max)),
        Box::new(script),
    )
}

fn commands(rng: &mut fastrand::Rng) -> Vec<Published> {
    let users = rng.u64(2..30);
    let kinds = [
        "ok", "ok", "ok", "ok", "ok", "ok", "ok", "missing", "rejected", "denied",
    ];
    (0..rng.u64(20..200))
        .map(|number| {
            let user = rng.u64(0..users);
            let kind = kinds[usize::try_from(user).unwrap() % kinds.len()];
            let fate = match kind {
                _ if rng.u8(0..30) == 0 => Fate::Fails(Reason::Invalid),
                "missing" => Fate::Fails(Reason::NotFound),
                "rejected" => Fate::Fails(Reason::Rejected),
                "denied" => Fate::Fails(Reason::Forbidden),
                _ => Fate::Success,
            };
            Published {
                number,
                user: format!("{kind}-{user}"),
                // A third of the users get both classes.
                bulk: if user.is_multiple_of(3) {
                    rng.bool()
                } else {
                    user.is_multiple_of(2)
                },
                fate,
            }
        })
        .collect()
}

async fn publish(world: &World, published: &[Published], mut rng: fastrand::Rng) {
    for Published {
        number,
        user,
        bulk,
        fate,
    } in published
    {
        if *fate == Fate::Fails(Reason::Invalid) {
            let mut bad = body(*number, user, *bulk);
            bad["update"]["email"] = json!(17);
            world.publish(&message(&bad, user, *bulk));
        } else {
            world.publish(&command(*number, user, *bulk));
        }
        if rng.u8(0..4) == 0 {
            sleep(Duration::from_millis(rng.u64(0..500))).await;
        }
    }
}

/// Others pass, now that all is well: a worker that was started last must see somebody pass before it
/// can tell a denied user from refused credentials.
async fn others(world: &World, first: u64) -> Vec<Published> {
    let mut published = Vec::new();
    for number in first..first + 3 {
        sleep(Duration::from_secs(30)).await;
        let user = "ok-other".to_owned();
        world.publish(&command(number, &user, false));
        published.push(Published {
            number,
            user,
            bulk: false,
            fate: Fate::Success,
        });
    }
    published
}

/// Workers come and go, and the broker has its troubles. In the end all is well again, but for the worker.
async fn troubles(world: &World, mut rng: fastrand::Rng) {
    let mut running = Some(world.start());
    for _ in 0..rng.u32(0..12) {
        sleep(Duration::from_millis(rng.u64(0..3000))).await;
        let broker = &world.broker;
        match rng.u8(0..9) {
            0 => broker.drop_connection(),
            1 => broker.end_consumer(),
            2 => broker.delay_confirms(Duration::from_millis(rng.u64(0..2000))),
            3 => broker.nack_next(rng.usize(0..20)),
            4 => {
                broker.lose_unconfirmed(rng.bool());
                broker.hold_confirms(true);
                sleep(Duration::from_millis(rng.u64(0..90_000))).await;
                broker.hold_confirms(false);
            }
            5 => {
                broker.block("memory");
                sleep(Duration::from_millis(rng.u64(0..60_000))).await;
                broker.unblock();
            }
            6 => {
                broker.disconnect("gone");
                sleep(Duration::from_millis(rng.u64(0..60_000))).await;
                broker.reconnect();
            }
            7 => {
                if let Some(running) = running.take() {
                    running.crash().await;
                }
                running = Some(world.start());
            }
            _ => {
                if let Some(running) = running.take() {
                    running.drain().await;
                }
                running = Some(world.start());
            }
        }
    }
    world.broker.delay_confirms(Duration::ZERO);
    if let Some(running) = running {
        running.drain().await;
    }
}
