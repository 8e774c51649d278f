//! Who holds which partitions: even shares, and no lease that moves without need.

use std::time::Duration;

use tokio::time::sleep;
use usher::broker::{Message, Properties};
use usher::contract::{Fault, Reason};
use usher::worker::Stopped;

use crate::commands::{PROVIDER, command};
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
async fn a_worker_claims_again_a_lease_that_it_released_slowly() {
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

/// It consumes a lease's queue and is no worker: nobody hears a word of it.
#[tokio::test(start_paused = true)]
async fn leases_held_by_another_client_are_named_after_ten_seconds() {
    let world = World::partitioned(Scripted::always(Answer::Ok), 2);
    let mut stranger = world.broker.consumer(1);
    stranger.claim(1);
    let workers = [world.start(), world.start()];
    let unknown = |worker: &Running| worker.fleet.as_ref().unwrap().holder_unknown();
    sleep(Duration::from_secs(9)).await;
    assert!(unknown(&workers[0]).is_empty());
    sleep(Duration::from_secs(3)).await;
    for worker in &workers {
        assert_eq!(
            unknown(worker),
            [1],
            "the one in a worker's hands is known to both"
        );
    }
    stranger.claim(0);
    for worker in &workers {
        worker.shutdown.drain();
    }
    let alone = world.start();
    sleep(Duration::from_secs(13)).await;
    assert_eq!(unknown(&alone), [0, 1]);
    assert_eq!(alone.leases(), 0);
    stranger.release(0);
    stranger.release(1);
    sleep(Duration::from_secs(3)).await;
    assert_eq!((unknown(&alone), alone.leases()), (vec![], 2));
}

/// It says that it holds nothing, and takes nothing.
#[tokio::test(start_paused = true)]
async fn a_client_that_only_sends_notices_moves_few_leases() {
    let world = World::partitioned(Scripted::always(Answer::Ok), PARTITIONS);
    let workers: Vec<_> = (0..2).map(|_| world.start()).collect();
    come_to_rest(&world, &workers).await;
    let notice = |leases: &str| Message {
        exchange: format!("usher.fleet.{PROVIDER}"),
        routing_key: String::new(),
        properties: Properties::transient("application/json"),
        body: format!(r#"{{"worker":"stranger","leases":{leases},"pace":5}}"#).into(),
        mandatory: false,
    };
    for _ in 0..60 {
        world.publish(&notice("[]"));
        sleep(Duration::from_secs(1)).await;
    }
    let given = world.broker.leases_given();
    for _ in 0..600 {
        world.publish(&notice("[]"));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.broker.leases_given(), given, "in ten minutes");
    assert_eq!(
        workers.iter().map(Running::leases).sum::<usize>(),
        usize::from(PARTITIONS)
    );
}
