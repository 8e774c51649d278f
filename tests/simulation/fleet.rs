//! Several workers of one provider, on one partition or more: random runs by seed, and in the files beside this
//! one what is to be said of a fleet without dice.

mod leases;
mod lifecycle;
mod log;
mod notices;
mod older;
mod pauses;
mod quota;
mod takeover;

use std::time::Duration;

use tokio::time::sleep;

use crate::account::{self, Fate, Published};
use crate::commands::command;
use crate::seeds::{moody, runtime, under_seeds};
use crate::world::{Running, World};

const SEEDS: u64 = 60;

/// Fewer than make a command a suspect of poison, whatever it was doing at each of them.
const CRASHES_MAX: u32 = 5;

#[test]
fn promises_hold_for_a_fleet_under_seeds() {
    under_seeds(SEEDS, run);
}

#[test]
fn a_fleets_seed_replays_exactly() {
    for seed in 0..3 {
        let first = runtime().block_on(run(seed, false));
        assert_eq!(first, runtime().block_on(run(seed, false)), "seed {seed}");
    }
}

/// One run. Returns its story.
async fn run(seed: u64, tell: bool) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let latency_ms_max = *rng.choice(&[20, 200, 2000]).unwrap();
    let provider = moody(&mut rng, latency_ms_max).outliving().applying_late();
    let mut world = World::partitioned(provider, rng.u16(1..=8));
    world.seed = seed;
    world.log_end_max = rng.usize(1..100);
    world.prefetch = rng.u16(1..64);
    world.concurrency = rng.usize(1..32);
    world.rate = rng.bool().then(|| rng.u32(20..500));
    world.attempts = 15;
    world.grace_period = Duration::from_millis(rng.u64(0..3000));
    let publications = publications(&mut rng);
    let workers = rng.usize(2..=5);
    let publishing = publish(&world, &publications, rng.fork());
    let breaks = Breaks::new(&world, workers, rng.fork()).run(tell);
    let ((), workers) = tokio::join!(biased; publishing, breaks);
    let settled = world.settles_within(Duration::from_secs(3600)).await;
    if tell {
        for line in account::story(&world) {
            eprintln!("{line}");
        }
    }
    let states: Vec<_> = workers.iter().map(Running::state).collect();
    assert!(
        settled,
        "{} commands left after an hour; {states:#?}",
        world.waiting()
    );
    for running in workers {
        running.drain().await;
    }
    let published: Vec<_> = publications
        .into_iter()
        .filter(|publication| !publication.again)
        .map(|publication| publication.command)
        .collect();
    account::check(&world, &published);
    account::story(&world)
}

/// A command on its way to the broker.
struct Publication {
    command: Published,
    /// It was published before.
    again: bool,
}

/// Of some users in either class. Now and then an older command follows a newer one of its user once more.
fn publications(rng: &mut fastrand::Rng) -> Vec<Publication> {
    let users = rng.u64(3..40);
    let mut publications: Vec<Publication> = Vec::new();
    for number in 0..rng.u64(30..200) {
        let user = rng.u64(0..users);
        let command = Published {
            number,
            user: format!("ok-{user}"),
            bulk: user.is_multiple_of(3),
            fate: Fate::Success,
        };
        let older = publications
            .iter()
            .filter(|older| older.command.user == command.user)
            .map(|older| older.command.clone());
        let older: Vec<_> = older.collect();
        publications.push(Publication {
            command,
            again: false,
        });
        if let Some(command) = rng.choice(older)
            && rng.u8(0..5) == 0
        {
            publications.push(Publication { command, again: true });
        }
    }
    publications
}

async fn publish(world: &World, publications: &[Publication], mut rng: fastrand::Rng) {
    for Publication { command: of, .. } in publications {
        world.publish(&command(of.number, &of.user, of.bulk));
        if rng.u8(0..4) == 0 {
            sleep(Duration::from_millis(rng.u64(0..1500))).await;
        }
    }
}

/// Workers come, go and die, and the broker has its troubles.
struct Breaks<'a> {
    world: &'a World,
    running: Vec<Running>,
    /// Still finishing what is in flight.
    draining: Vec<Running>,
    crashes: u32,
    rng: fastrand::Rng,
}

impl<'a> Breaks<'a> {
    fn new(world: &'a World, workers: usize, rng: fastrand::Rng) -> Self {
        Self {
            world,
            running: (0..workers).map(|_| world.start()).collect(),
            draining: Vec::new(),
            crashes: 0,
            rng,
        }
    }

    /// In the end all is well again, and whoever still runs is handed over.
    async fn run(mut self, tell: bool) -> Vec<Running> {
        for _ in 0..self.rng.u32(0..25) {
            sleep(Duration::from_millis(self.rng.u64(0..4000))).await;
            let what = self.one().await;
            if tell {
                eprintln!("{:?} {what}", self.world.clock.now());
            }
        }
        self.world.broker.delay_confirms(Duration::ZERO);
        if self.running.is_empty() {
            self.running.push(self.world.start());
        }
        self.running.append(&mut self.draining);
        self.running
    }

    async fn one(&mut self) -> &'static str {
        let broker = &self.world.broker;
        match self.rng.u8(0..16) {
            0..4 => return self.crash().await,
            4..6 => {
                let leaver = self.any();
                let Some(leaver) = leaver else {
                    return "nobody drains";
                };
                leaver.shutdown.drain();
                self.draining.push(leaver);
                return "a worker drains";
            }
            6..9 if self.running.len() < 6 => {
                self.running.push(self.world.start());
                return "a worker starts";
            }
            6..10 => broker.drop_connection(),
            10 => broker.end_consumer(),
            11 => {
                broker.disconnect("gone");
                self.for_a_while(20_000).await;
                broker.reconnect();
                return "the broker was away";
            }
            12 => {
                broker.lose_unconfirmed(self.rng.bool());
                broker.hold_confirms(true);
                self.for_a_while(40_000).await;
                broker.hold_confirms(false);
                return "confirms were held";
            }
            13 => broker.delay_confirms(Duration::from_millis(self.rng.u64(0..2000))),
            14 => broker.nack_next(self.rng.usize(0..20)),
            _ => {
                self.crash().await;
                self.running.push(self.world.start());
                return "a worker is replaced";
            }
        }
        "the broker breaks something"
    }

    fn any(&mut self) -> Option<Running> {
        let count = self.running.len();
        (count > 0).then(|| self.running.remove(self.rng.usize(..count)))
    }

    async fn crash(&mut self) -> &'static str {
        if self.crashes < CRASHES_MAX
            && let Some(victim) = self.any()
        {
            victim.crash().await;
            self.crashes += 1;
            return "a worker crashes";
        }
        "nobody crashes"
    }

    async fn for_a_while(&mut self, ms_max: u64) {
        let span = Duration::from_millis(self.rng.u64(0..ms_max));
        let crash_at = Duration::from_millis(self.rng.u64(0..ms_max));
        if crash_at < span {
            sleep(crash_at).await;
            self.crash().await;
            sleep(span - crash_at).await;
        } else {
            sleep(span).await;
        }
    }
}
