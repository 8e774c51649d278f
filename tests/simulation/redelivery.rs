//! What comes again: a command whose worker died or whose connection was lost.

use std::time::Duration;

use tokio::time::sleep;
use usher::contract::Fault;

use crate::commands::command;
use crate::provider::{Answer, Scripted};
use crate::world::{World, outcomes};

/// A provider that applies a write after half of this, and answers after the other half.
const LATENCY: Duration = Duration::from_secs(2);

/// Kills the worker in the middle of its only write, and lets another one finish.
async fn killed_while_writing(provider: Scripted, applied: bool) -> World {
    let world = World::new(provider);
    world.publish(&command(1, "u", false));
    let running = world.start();
    while world
        .provider
        .writes()
        .first()
        .is_none_or(|write| write.applied != applied)
    {
        sleep(Duration::from_millis(1)).await;
    }
    running.task.abort();
    assert!(running.task.await.unwrap_err().is_cancelled());
    world.run_to_the_end().await;
    world
}

fn slow() -> Scripted {
    Scripted::new(1, LATENCY, Box::new(|_, _, _| Answer::Ok))
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_command_that_was_applied_is_not_sent_again() {
    let world = killed_while_writing(slow(), true).await;
    assert_eq!(world.provider.writes().len(), 1);
    assert_eq!(outcomes(&world.events()), ["UNCHANGED 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_command_that_was_not_applied_is_sent() {
    let world = killed_while_writing(slow(), false).await;
    assert_eq!(world.provider.writes().len(), 2);
    assert_eq!(outcomes(&world.events()), ["SUCCESS 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_command_that_would_do_harm_twice_ends_as_unknown() {
    let world = killed_while_writing(slow().harmful(), true).await;
    assert_eq!(world.provider.writes().len(), 1);
    assert_eq!(outcomes(&world.events()), ["outcome_unknown 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_connection_is_lost_makes_no_further_call() {
    let throttled = Fault::Throttled {
        retry_after: Some(Duration::from_secs(60)),
    };
    let world = World::new(Scripted::in_turn([Answer::Fail(throttled)]));
    world.publish(&command(1, "u", false));
    let running = world.start();
    sleep(Duration::from_secs(30)).await;
    world.broker.drop_connection();
    world.until_settled().await;
    // The first delivery's throttled write; then the second delivery's look at the user, and its write.
    let numbers: Vec<_> = world.provider.calls().iter().map(|call| call.number).collect();
    assert_eq!(numbers, [Some(1), None, Some(1)]);
    assert_eq!(outcomes(&world.events()), ["SUCCESS 1"]);
    running.shutdown.drain();
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_settled_on_a_lost_connection_is_not_applied_again() {
    let world = World::new(slow());
    world.publish(&command(1, "u", false));
    world.publish(&command(2, "u", false));
    let running = world.start();
    while world.provider.writes().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    world.broker.drop_connection();
    world.until_settled().await;
    let numbers: Vec<_> = world
        .provider
        .writes()
        .iter()
        .map(|call| call.number.unwrap())
        .collect();
    assert_eq!(numbers, [1, 2]);
    let ids: std::collections::BTreeSet<_> = world.events().iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 4, "a START and a terminal id for each");
    running.shutdown.drain();
    running.task.await.unwrap();
}
