//! A command that comes once more under its id: a dead letter that was moved back, another publish, a corrected body.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use usher::broker::topology::COMMANDS;
use usher::broker::{Header, Message};
use usher::contract::event::{Event, EventBody};
use usher::contract::{Fault, Reason};

use crate::commands::{body, command, message};
use crate::provider::{Answer, Scripted};
use crate::world::{Running, World, outcomes};

const REJECTED: Answer = Answer::Fail(Fault::Command(Reason::Rejected));

/// The first write is rejected, and all later ones pass.
fn rejecting_once() -> Scripted {
    Scripted::in_turn([REJECTED])
}

/// As a shovel moves a dead letter: to where its headers say that it came from, and otherwise unchanged.
fn moved_back(dead_letter: &Message) -> Message {
    let text = |name: &str| dead_letter.properties.header_text(name).unwrap();
    Message {
        exchange: text("x-usher-exchange"),
        routing_key: text("x-usher-routing-key"),
        mandatory: false,
        ..dead_letter.clone()
    }
}

/// The same id with another value.
fn corrected(n: u64, user: &str) -> Message {
    let mut body = body(n, user, false);
    body["update"]["givenName"] = json!("corrected");
    message(&body, user, false)
}

/// The outcomes, each event once.
fn ends(world: &World) -> Vec<String> {
    let mut events: Vec<Event> = world.events();
    let mut seen = std::collections::BTreeSet::new();
    events.retain(|event| seen.insert(event.id));
    outcomes(&events)
}

fn redrives(world: &World) -> Vec<i64> {
    let number = |dead_letter: &Message| dead_letter.properties.number("x-usher-redrives").unwrap();
    world.dead_letters().iter().map(number).collect()
}

/// Each run has a START, and one end.
fn check_runs(world: &World) {
    let mut ends: BTreeMap<_, u32> = BTreeMap::new();
    let (mut starts, mut seen) = (0, std::collections::BTreeSet::new());
    for event in world.events() {
        if !seen.insert(event.id) {
            continue;
        }
        match event.body {
            EventBody::Start(_) => starts += 1,
            EventBody::Success(_) | EventBody::Fail(_) => *ends.entry(event.id).or_default() += 1,
        }
    }
    assert_eq!(starts, ends.len(), "a START for each end");
    assert!(ends.values().all(|count| *count == 1));
}

async fn killed(running: Running) {
    running.task.abort();
    assert!(running.task.await.unwrap_err().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_moved_back_is_run_again_under_its_next_number() {
    let world = World::new(rejecting_once());
    let running = world.start();
    world.publish(&command(1, "u", false));
    world.until_settled().await;
    world.publish(&moved_back(&world.dead_letters()[0]));
    world.until_settled().await;
    running.drain().await;
    assert_eq!(ends(&world), ["rejected 1", "SUCCESS 1"]);
    assert_eq!(world.provider.writes().len(), 2);
    assert_eq!(redrives(&world), [0]);
    check_runs(&world);
}

#[tokio::test(start_paused = true)]
async fn a_redriven_dead_letter_that_fails_again_describes_its_latest_run_alone() {
    let world = World::new(Scripted::always(REJECTED));
    let running = world.start();
    world.publish(&command(1, "u", false));
    world.until_settled().await;
    let mut dead_letter = moved_back(&world.dead_letters()[0]);
    dead_letter.properties = dead_letter
        .properties
        .with_headers([("x-usher-code".to_owned(), Header::Text("OLD".to_owned()))]);
    world.publish(&dead_letter);
    world.until_settled().await;
    running.drain().await;
    assert_eq!(redrives(&world), [0, 1]);
    assert_eq!(world.dead_letters()[1].properties.header("x-usher-code"), None);
    check_runs(&world);
}

#[tokio::test(start_paused = true)]
async fn another_publish_and_a_corrected_body_under_a_failed_id_are_run() {
    for again in [command(1, "u", false), corrected(1, "u")] {
        let world = World::new(rejecting_once());
        let running = world.start();
        world.publish(&command(1, "u", false));
        world.until_settled().await;
        world.publish(&again);
        world.until_settled().await;
        running.drain().await;
        assert_eq!(ends(&world), ["rejected 1", "SUCCESS 1"]);
        check_runs(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_command_publishes_its_success_again_without_a_call() {
    let world = World::new(Scripted::always(Answer::Ok));
    let running = world.start();
    for _ in 0..3 {
        world.publish(&command(1, "u", false));
        world.until_settled().await;
    }
    let mut redriven = command(1, "u", false);
    redriven.properties = redriven
        .properties
        .with_headers([("x-usher-redrives".to_owned(), Header::Number(2))]);
    world.publish(&redriven);
    world.until_settled().await;
    running.drain().await;
    assert_eq!(world.provider.writes().len(), 1);
    assert_eq!(ends(&world), ["SUCCESS 1"]);
    let successes = outcomes(&world.events());
    assert!(successes.len() >= 4, "one for each publish: {successes:?}");
}

#[tokio::test(start_paused = true)]
async fn another_body_under_an_id_that_succeeded_is_refused_as_reused() {
    let world = World::new(Scripted::always(Answer::Ok));
    let first = world.start();
    world.publish(&command(1, "u", false));
    world.publish(&command(2, "u", false));
    world.until_settled().await;
    world.publish(&corrected(1, "u"));
    world.until_settled().await;
    first.drain().await;
    // Another worker knows the names of the fields, from the log.
    let second = world.start();
    world.publish(&corrected(2, "u"));
    world.until_settled().await;
    second.drain().await;
    assert_eq!(
        ends(&world),
        ["SUCCESS 1", "SUCCESS 1", "id_reused 0", "id_reused 0"]
    );
    assert_eq!(world.provider.writes().len(), 2);
    assert_eq!(redrives(&world), [1, 1]);
    check_runs(&world);
}

/// As a file may have them: neither waits for its user's lane, so both could run at once.
#[tokio::test(start_paused = true)]
async fn two_commands_of_different_users_under_one_id_end_under_numbers_of_their_own() {
    let world = World::new(Scripted::always(REJECTED));
    let running = world.start();
    for n in 0..10 {
        world.publish(&command(n, "a", false));
        world.publish(&command(n, "b", false));
    }
    world.until_settled().await;
    running.drain().await;
    assert_eq!(ends(&world).len(), 20);
    assert_eq!(world.dead_letters().len(), 20);
    check_runs(&world);
}

/// What came back, and how often its worker is killed before the next one finishes it.
#[derive(Clone, Copy, PartialEq)]
enum Comes {
    Letter,
    Publish,
    Corrected,
}

/// A worker is killed at each moment of a second run, with FAIL or SUCCESS before it: nothing is lost, and each run
/// that was told has one end.
#[tokio::test(start_paused = true)]
async fn a_worker_killed_at_any_moment_of_a_second_run_loses_nothing() {
    for failed_first in [true, false] {
        for comes in [Comes::Letter, Comes::Publish, Comes::Corrected] {
            if comes == Comes::Letter && !failed_first {
                continue;
            }
            for moment_ms in (0..400).step_by(10) {
                killed_in_a_second_run(failed_first, comes, moment_ms).await;
            }
        }
    }
}

async fn killed_in_a_second_run(failed_first: bool, comes: Comes, moment_ms: u64) {
    let what = format!("{failed_first} {} {moment_ms}", comes as u8);
    let latency = Duration::from_millis(100);
    let provider = match failed_first {
        true => Scripted::new(1, latency, Box::new(|_, _, _| REJECTED)),
        false => Scripted::new(1, latency, Box::new(|_, _, _| Answer::Ok)),
    };
    let mut world = World::new(provider);
    world.settling_time = Duration::from_secs(1);
    let first = world.start();
    world.publish(&command(1, "u", false));
    world.until_settled().await;
    world.broker.delay_confirms(Duration::from_millis(30));
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    let again = match comes {
        Comes::Letter => moved_back(&world.dead_letters()[0]),
        Comes::Publish => command(1, "u", false),
        Comes::Corrected => corrected(1, "u"),
    };
    world.publish(&again);
    sleep(Duration::from_millis(moment_ms)).await;
    killed(first).await;
    let second = world.start();
    world.until_settled().await;
    second.drain().await;
    let ends = ends(&world);
    match (failed_first, comes) {
        // It was run, and the provider took it.
        (true, _) => {
            assert_eq!(ends, ["rejected 1", ends[1].as_str()], "{what}");
            assert!(
                ["SUCCESS 1", "UNCHANGED 0", "UNCHANGED 1"].contains(&ends[1].as_str()),
                "{what}: {ends:?}"
            );
        }
        (false, Comes::Corrected) => {
            assert!(
                ends[1..].iter().all(|end| end == "id_reused 0"),
                "{what}: {ends:?}"
            );
            assert!(ends.len() >= 2, "{what}: {ends:?}");
            // One that was killed between the dead letter and its FAIL has written the dead letter once more.
            assert!(world.dead_letters().len() >= ends.len() - 1, "{what}");
        }
        (false, _) => assert_eq!(ends, ["SUCCESS 1"], "{what}"),
    }
    assert_eq!(world.broker.depth("user.update.sim.0"), 0, "{what}");
}

/// The consumer's connection went between FAIL and the ack, and the worker knows it: the message is acked when it comes
/// again, and nothing is run twice.
#[tokio::test(start_paused = true)]
async fn a_lost_ack_is_repeated_at_the_redelivery() {
    let world = World::new(Scripted::always(REJECTED));
    world.publish(&command(1, "u", false));
    world.broker.delay_confirms(Duration::from_millis(100));
    let running = world.start();
    while ends(&world).is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    // FAIL is with the broker, and its confirm on its way.
    world.broker.end_consumer();
    world.until_settled().await;
    running.drain().await;
    assert_eq!(ends(&world), ["rejected 1"]);
    assert_eq!(world.dead_letters().len(), 1);
    assert_eq!(world.provider.writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_s_headers_end_no_command_without_its_events() {
    let world = World::new(Scripted::always(Answer::Ok));
    let running = world.start();
    let numbers = [i64::MIN, -1, 0, 1, 1000, 1001, i64::MAX];
    for (n, redrives) in numbers.into_iter().enumerate() {
        let mut forged = command(n as u64, "u", false);
        forged.exchange = COMMANDS.to_owned();
        let text = |name: &str, value: &str| (name.to_owned(), Header::Text(value.to_owned()));
        forged.properties = forged.properties.with_headers([
            ("x-usher-redrives".to_owned(), Header::Number(redrives)),
            text("x-usher-reason", "invalid"),
            text("x-usher-dead-at", "whenever"),
            text("x-usher-handed-back", "called"),
            text("x-usher-barrier", "sim/1"),
        ]);
        world.publish(&forged);
    }
    world.until_settled().await;
    running.drain().await;
    assert_eq!(ends(&world), ["SUCCESS 1"; 7]);
    check_runs(&world);
}
