//! The quota is the fleet's: so many workers as there are, they use it together and keep it together.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::commands::command;
use crate::provider::{Answer, Call, Scripted};
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
    // Each worker spaces its own calls evenly, and a second may begin and end with one: so a call for each of them
    // comes on top where all call at the same moments. Here they do, since they start together and no two of
    // their waits differ.
    let most = (f64::from(rate) * 1.01) as usize + WORKERS_MAX;
    let busiest = busiest_second(calls);
    assert!(busiest <= most, "{busiest} calls in a second");
}

#[tokio::test(start_paused = true)]
async fn all_workers_together_keep_the_quota() {
    for rate in [50, 200] {
        let calls = calls_under_load(rate).await;
        keeps_and_uses(rate, &calls, Instant::now());
    }
}
