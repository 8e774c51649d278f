//! The quota is the fleet's: so many workers as there are, they use it together and keep it together.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::commands::{PROVIDER, command};
use crate::provider::{Answer, Call, Scripted};
use crate::seeds::side_by_side;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const PARTITIONS: u16 = 16;

/// How many workers there are, and for how many seconds.
const FLEETS: [(usize, u32); 6] = [(1, 5), (2, 5), (4, 5), (8, 10), (5, 5), (1, 5)];
const WORKERS_MAX: usize = 8;

/// Workers join and leave while there is always more to do.
async fn calls_under_load(rate: u32) -> Vec<Call> {
    let mut world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
    world.rate = Some(rate);
    let seconds: u32 = FLEETS.iter().map(|(_, seconds)| seconds).sum();
    let users = 40 * u64::from(PARTITIONS);
    for n in 0..u64::from(rate * seconds * 3 / 2) {
        let user = n % users;
        world.publish(&command(n, &format!("u{user}"), user.is_multiple_of(2)));
    }
    let mut workers = Vec::new();
    for (count, seconds) in FLEETS {
        while workers.len() < count {
            workers.push(world.start());
        }
        let leaving: Vec<_> = workers.drain(..workers.len() - count).collect();
        for worker in leaving {
            worker.shutdown.drain();
        }
        sleep(SECOND * seconds).await;
    }
    world.provider.calls()
}

/// The most calls within any second.
fn busiest_second(calls: &[Call]) -> usize {
    let within = |first: usize| {
        let until = calls[first].started + SECOND;
        calls[first..].partition_point(|call| call.started < until)
    };
    (0..calls.len()).map(within).max().unwrap_or(0)
}

fn keeps_and_uses(rate: u32, calls: &[Call], end: Instant) {
    let used = calls.len() as f64 / (end - calls[0].started).as_secs_f64() / f64::from(rate);
    assert!(used >= 0.93, "{used} of the quota is used");
    // The workers' moments follow each other, so that even a second that begins and ends with a call keeps the quota.
    // Faster ones have no moments: all may call at the same one.
    let moments = rate <= 250;
    let most = (f64::from(rate) * 1.01) as usize + WORKERS_MAX;
    let most = if moments { rate as usize } else { most };
    let busiest = busiest_second(calls);
    assert!(busiest <= most, "{busiest} calls in a second");
}

#[test]
fn all_workers_together_keep_the_quota() {
    side_by_side(&[1000, 200, 50], async |rate| {
        let calls = calls_under_load(rate).await;
        keeps_and_uses(rate, &calls, Instant::now());
    });
}

/// Which partition each user's commands are in.
fn partitions_of_users(world: &World, partitions: u16) -> BTreeMap<String, u16> {
    let users = |partition: u16| {
        let commands = world
            .broker
            .messages(&format!("user.update.{PROVIDER}.{partition}"));
        commands.into_iter().map(move |command| {
            let (_, user) = command.routing_key.split_once('.').unwrap();
            (user.to_owned(), partition)
        })
    };
    (0..partitions).flat_map(users).collect()
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_moves_waits_for_less_than_two_seconds() {
    let (count, partitions) = (4, 8);
    let mut world = World::partitioned(Scripted::always(Answer::Ok), partitions);
    world.rate = Some(200);
    for n in 0..12_000 {
        world.publish(&command(n, &format!("u{}", n % 1600), false));
    }
    let of_users = partitions_of_users(&world, partitions);
    let mut workers: VecDeque<_> = (0..count).map(|_| world.start()).collect();
    sleep(SECOND * 5).await;
    let began = Instant::now();
    for _ in 0..count {
        workers.pop_front().unwrap().shutdown.drain();
        workers.push_back(world.start());
        sleep(SECOND * 4).await;
    }
    let mut latest = BTreeMap::new();
    for call in world.provider.calls().iter().filter(|call| call.started >= began) {
        let partition = of_users[&call.user];
        let before = latest.insert(partition, call.started).unwrap_or(began);
        let pause = call.started - before;
        assert!(
            pause < SECOND * 2,
            "{pause:?} without a call for partition {partition}"
        );
    }
    assert_eq!(latest.len(), usize::from(partitions));
}
