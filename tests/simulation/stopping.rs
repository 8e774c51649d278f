//! Stopping: what is in flight is finished, the rest goes back untouched and in order.

use std::time::Duration;

use usher::contract::Fault;
use usher::worker::Stopped;

use crate::commands::command;
use crate::provider::{Answer, Scripted};
use crate::world::{World, outcomes};

fn slow(latency: Duration) -> World {
    let world = World::new(Scripted::new(1, latency, Box::new(|_, _, _| Answer::Ok)));
    for n in 0..60 {
        world.publish(&command(n, &format!("u{}", n % 20), false));
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_in_flight_and_hands_back_the_rest_in_order() {
    let world = slow(Duration::from_secs(2));
    let running = world.start();
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.shutdown.drain();
    assert_eq!(running.task.await.unwrap(), Stopped::Drained);
    let written = world.provider.writes();
    assert!(
        written.iter().all(|call| call.ended.is_some()),
        "no call is cut off"
    );
    assert!(!written.is_empty());
    assert_eq!(outcomes(&world.events()).len(), written.len());
    assert_eq!(world.waiting(), 60 - written.len());

    world.run_to_the_end().await;
    let mut last = std::collections::BTreeMap::new();
    for call in world.provider.writes() {
        let before = last.insert(call.user.clone(), call.number.unwrap());
        assert!(before < call.number, "{call:?} after {before:?}");
    }
    // The second worker repeats an event to know how far it has read.
    let mut events = world.events();
    let mut seen = std::collections::BTreeSet::new();
    events.retain(|event| seen.insert(event.id));
    assert_eq!(outcomes(&events).len(), 60);
}

#[tokio::test(start_paused = true)]
async fn commands_that_wait_for_a_throttled_provider_do_not_hold_up_a_drain() {
    let hour = Fault::Throttled {
        retry_after: Some(Duration::from_secs(3600)),
    };
    let world = World::new(Scripted::always(Answer::Fail(hour)));
    world.publish(&command(1, "u", false));
    let running = world.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    running.shutdown.drain();
    assert_eq!(running.task.await.unwrap(), Stopped::Drained);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(world.waiting(), 1);
}

/// A broker that takes no messages confirms nothing, and a publisher waits for its confirms when it closes.
#[tokio::test(start_paused = true)]
async fn a_stop_under_an_alarm_of_the_broker_ends_within_the_grace_period_and_leaves_the_rest_to_it() {
    let world = slow(Duration::from_secs(2));
    let running = world.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.broker.block("low on memory");
    let start = tokio::time::Instant::now();
    assert_eq!(running.drain().await, Stopped::Cut);
    assert!(start.elapsed() <= world.grace_period, "{:?}", start.elapsed());
    assert!(world.waiting() > 0);

    world.broker.unblock();
    world.run_to_the_end().await;
    assert_eq!(world.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_grace_period_cuts_off_a_call_that_does_not_end() {
    let mut world = slow(Duration::from_secs(600));
    world.grace_period = Duration::from_secs(5);
    let running = world.start();
    while world.provider.calls().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.shutdown.drain();
    assert_eq!(running.task.await.unwrap(), Stopped::Cut);
    assert_eq!(world.waiting() + outcomes(&world.events()).len(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_abort_stops_at_once() {
    let world = slow(Duration::from_secs(600));
    let running = world.start();
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.shutdown.drain();
    running.shutdown.abort();
    let start = tokio::time::Instant::now();
    assert_eq!(running.task.await.unwrap(), Stopped::Cut);
    assert!(start.elapsed() < Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_terminal_event_is_confirmed_before_the_ack() {
    let world = World::new(Scripted::always(Answer::Ok));
    world.publish(&command(1, "u", false));
    world.broker.hold_confirms(true);
    let _running = world.start();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.waiting(), 1);
    world.broker.hold_confirms(false);
    world.until_settled().await;
    let ids: std::collections::BTreeSet<_> = world.events().iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 2, "repeats carry the same id");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_confirmed_before_its_event() {
    let world = World::new(Scripted::always(Answer::Fail(Fault::Command(
        usher::contract::Reason::Rejected,
    ))));
    world.publish(&command(1, "u", false));
    let running = world.start();
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.broker.hold_confirms(true);
    world.broker.lose_unconfirmed(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        outcomes(&world.events()).is_empty(),
        "no FAIL while the dead letter is unconfirmed"
    );
    world.broker.hold_confirms(false);
    world.until_settled().await;
    assert_eq!(world.dead_letters().len(), 1);
    assert_eq!(outcomes(&world.events()), ["rejected 1"]);
    running.shutdown.drain();
    assert_eq!(running.task.await.unwrap(), Stopped::Drained);
}
