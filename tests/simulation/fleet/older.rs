//! A worker that begins before the older part of the outcome log is read: who goes on at once, and who waits for what
//! stands there.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use usher::broker::topology::{BROKER_DEAD_LETTERS, OUTCOME_LOG, OUTCOMES};
use usher::broker::{Message, Properties};
use usher::contract::Fault;

use crate::commands::{body, command, message};
use crate::provider::{Answer, Scripted};
use crate::world::{World, outcomes};

const SECOND: Duration = Duration::from_secs(1);

/// A provider that applies a write after half of this, and answers after the other half.
const LATENCY: Duration = Duration::from_secs(2);

/// What is in the log now is no part of its end any more.
fn logs_much_more(world: &World) {
    for _ in 0..10 * world.log_end_max {
        world.publish(&Message {
            exchange: OUTCOMES.to_owned(),
            routing_key: "something.else.sim".to_owned(),
            properties: Properties::default(),
            body: Default::default(),
            mandatory: false,
        });
    }
}

/// Kills the worker in the middle of its only write.
async fn killed_while_writing(provider: Scripted) -> World {
    let world = World::new(provider);
    world.publish(&command(1, "u", false));
    let running = world.start();
    while world.provider.writes().first().is_none_or(|write| !write.applied) {
        sleep(Duration::from_millis(1)).await;
    }
    running.crash().await;
    logs_much_more(&world);
    world
}

fn slow() -> Scripted {
    Scripted::new(1, LATENCY, Box::new(|_, _, _| Answer::Ok))
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_command_waits_for_its_start_while_others_run() {
    for harmful in [false, true] {
        let provider = if harmful { slow().harmful() } else { slow() };
        let world = killed_while_writing(provider).await;
        world.publish(&command(2, "v", false));
        world.broker.hold_earlier(true);
        let (running, began) = (world.start(), Instant::now());
        sleep(SECOND * 60).await;
        let calls = world.provider.calls();
        let mut later = calls.iter().filter(|call| call.started >= began);
        let first = later.next().map(|call| call.started - began);
        // It may have been published before, and doesn't say when it was issued.
        assert!(first.is_some_and(|first| first < 31 * SECOND), "{first:?}");
        assert!(later.all(|call| call.user == "v"));
        assert_eq!(world.waiting(), 1);
        world.broker.hold_earlier(false);
        world.until_settled().await;
        let ended = if harmful {
            "outcome_unknown 0"
        } else {
            "UNCHANGED 0"
        };
        assert_eq!(outcomes(&world.events()), ["SUCCESS 1", ended]);
        assert_eq!(
            world.provider.writes().len(),
            2,
            "it was applied, and is not sent again"
        );
        running.drain().await;
    }
}

/// A command that says that it was issued now.
fn issued_now(world: &World, n: u64, user: &str) -> Message {
    let mut body = body(n, user, false);
    body["issuedAt"] = world.clock.now().to_string().into();
    message(&body, user, false)
}

#[tokio::test(start_paused = true)]
async fn a_command_issued_after_the_logs_end_began_does_not_wait_for_the_older_part() {
    let world = World::new(Scripted::always(Answer::Ok));
    let first = world.start();
    for n in 1..=10 {
        world.publish(&command(n, "u", false));
    }
    world.until_settled().await;
    first.crash().await;
    // Clocks may differ by a minute.
    sleep(SECOND * 61).await;
    world.broker.hold_earlier(true);
    let (second, began) = (world.start(), Instant::now());
    world.publish(&issued_now(&world, 11, "u"));
    world.until_settled().await;
    assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
    second.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_published_again_waits_for_its_success_in_the_older_part() {
    let world = World::new(Scripted::always(Answer::Ok));
    let again = issued_now(&world, 1, "u");
    let silent = command(2, "v", false);
    for first in [&again, &silent] {
        world.publish(first);
    }
    let first = world.start();
    world.until_settled().await;
    for n in 3..=20 {
        world.publish(&command(n, "w", false));
    }
    world.until_settled().await;
    first.crash().await;
    sleep(SECOND * 61).await;
    let calls = world.provider.writes().len();
    world.broker.hold_earlier(true);
    for repeated in [&again, &silent] {
        world.publish(repeated);
    }
    let second = world.start();
    sleep(SECOND * 25).await;
    assert_eq!(world.waiting(), 2);
    world.broker.hold_earlier(false);
    world.until_settled().await;
    assert_eq!(world.provider.writes().len(), calls, "none was applied again");
    second.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_start_is_read_after_it_was_handed_back_runs_at_once() {
    let throttled = Fault::Throttled {
        retry_after: Some(SECOND * 60),
    };
    let world = World::new(Scripted::in_turn([Answer::Fail(throttled)]));
    world.publish(&command(1, "u", false));
    world.publish(&command(2, "v", false));
    let first = world.start();
    sleep(SECOND).await;
    logs_much_more(&world);
    first.drain().await;
    let (second, began) = (world.start(), Instant::now());
    world.until_settled().await;
    assert!(began.elapsed() < SECOND * 2, "{:?}", began.elapsed());
    second.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_dead_letter_waits_for_the_older_part_of_the_log() {
    let world = World::new(Scripted::always(Answer::Ok));
    let succeeded = command(1, "u", false);
    world.publish(&succeeded);
    let first = world.start();
    world.until_settled().await;
    first.drain().await;
    logs_much_more(&world);
    world.publish(&Message {
        exchange: BROKER_DEAD_LETTERS.to_owned(),
        ..succeeded
    });
    world.broker.hold_earlier(true);
    let second = world.start();
    sleep(SECOND * 300).await;
    assert_eq!(world.broker.depth(BROKER_DEAD_LETTERS), 1);
    world.broker.hold_earlier(false);
    sleep(SECOND).await;
    assert_eq!(world.broker.depth(BROKER_DEAD_LETTERS), 0);
    assert!(world.dead_letters().is_empty(), "its success was told");
    second.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_published_in_the_older_part_is_not_published_again() {
    let world = World::new(Scripted::always(Answer::Fail(Fault::Unreachable)));
    world.publish(&command(1, "u", false));
    let told = || {
        let log = world.broker.messages(OUTCOME_LOG);
        let keys = log.iter().map(|message| message.routing_key.clone());
        keys.filter(|key| key.starts_with("provider."))
            .collect::<Vec<_>>()
    };
    let first = world.start();
    sleep(SECOND * 60).await;
    first.crash().await;
    logs_much_more(&world);
    world.publish(&command(2, "v", false));
    world.broker.hold_earlier(true);
    let second = world.start();
    sleep(SECOND * 60).await;
    world.broker.hold_earlier(false);
    sleep(SECOND * 60).await;
    assert_eq!(told(), ["provider.paused.sim"]);
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    world.until_settled().await;
    sleep(SECOND * 60).await;
    assert_eq!(told(), ["provider.paused.sim", "provider.resumed.sim"]);
    second.drain().await;
}
