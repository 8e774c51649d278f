//! Who holds which partitions: even shares, and no lease that moves without need.

use std::time::Duration;

use tokio::time::sleep;
use usher::contract::{Fault, Reason};
use usher::worker::Stopped;

use crate::commands::command;
use crate::provider::{Answer, Scripted};
use crate::world::{Running, World, outcomes};

const PARTITIONS: u16 = 16;

/// Shares differ by at most one within ten seconds, and for a minute from then on no lease moves.
async fn come_to_rest(world: &World, workers: &[Running]) {
    sleep(Duration::from_secs(10)).await;
    let shares = || workers.iter().map(Running::leases).collect::<Vec<_>>();
    let settled = shares();
    assert_eq!(
        settled.iter().sum::<usize>(),
        usize::from(PARTITIONS),
        "{settled:?}"
    );
    let (most, least) = (settled.iter().max().unwrap(), settled.iter().min().unwrap());
    assert!(most - least <= 1, "{settled:?}");
    let given = world.broker.leases_given();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((shares(), world.broker.leases_given()), (settled, given));
}

#[tokio::test(start_paused = true)]
async fn workers_share_leases_evenly_and_none_moves_without_need() {
    let world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
    let mut workers = vec![world.start()];
    while workers.len() < 8 {
        workers.push(world.start());
        come_to_rest(&world, &workers).await;
    }
    while workers.len() > 1 {
        assert_eq!(workers.remove(0).drain().await, Stopped::Drained);
        come_to_rest(&world, &workers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn leases_of_crashed_workers_are_shared_evenly() {
    let world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
    let mut workers: Vec<_> = (0..8).map(|_| world.start()).collect();
    come_to_rest(&world, &workers).await;
    for crashing in [1, 2, 3] {
        for victim in workers.drain(..crashing) {
            victim.crash().await;
        }
        come_to_rest(&world, &workers).await;
    }
    world.broker.drop_connection();
    come_to_rest(&world, &workers).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_stands_in_line_again_for_what_it_was_slow_to_give_up() {
    let latency = Duration::from_secs(4);
    let world = World::partitioned(Scripted::new(1, latency, Box::new(|_, _, _| Answer::Ok)), 2);
    for n in 0..200 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    let first = world.start();
    sleep(Duration::from_secs(2)).await;
    let second = world.start();
    sleep(Duration::from_secs(10)).await;
    assert_eq!((first.leases(), second.leases()), (1, 1));
    second.crash().await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(first.leases(), 2);
    world.until_settled().await;
}

/// Its guard is shut, so it waits for an operator; the other one takes everything, and keeps it.
#[tokio::test(start_paused = true)]
async fn nobody_gives_a_lease_to_a_worker_that_rests() {
    let missing = Answer::Fail(Fault::Command(Reason::NotFound));
    let mut world = World::partitioned(Scripted::always(missing), PARTITIONS);
    world.dead_letter_share_max = 0.0;
    world.hold_max = Duration::from_secs(5);
    world.publish(&command(1, "u", false));
    let resting = world.start();
    sleep(Duration::from_secs(20)).await;
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    let other = world.start();
    sleep(Duration::from_secs(10)).await;
    assert_eq!((resting.leases(), other.leases()), (0, usize::from(PARTITIONS)));
    let given = world.broker.leases_given();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.broker.leases_given(), given);
    assert_eq!(outcomes(&world.events()), ["SUCCESS 1"]);
    resting.gate.resume();
    come_to_rest(&world, &[resting, other]).await;
}
