//! Versions: a success tells the user's, and the next command may name it without having seen it.

use std::time::Duration;

use tokio::time::sleep;
use usher::broker::Message;
use usher::contract::event::{Event, EventBody};
use usher::contract::{Fault, Reason};
use usher::worker::Stopped;

use crate::commands::{body, message};
use crate::provider::{Answer, Scripted};
use crate::world::{World, command_id, outcomes};

const USER: &str = "u";

fn at_version(n: u64, version: &str) -> Message {
    let mut command = body(n, USER, false);
    command["expectedVersion"] = version.into();
    message(&command, USER, false)
}

/// The versions that the successes told, with the command's number at the end of its id.
fn told(events: &[Event]) -> Vec<(String, String)> {
    let version = |event: &Event| match &event.body {
        EventBody::Success(succeeded) => {
            let version = succeeded.version.as_ref().map_or("", |version| version.as_str());
            Some((command_id(event).split_off(35), version.to_owned()))
        }
        _ => None,
    };
    events.iter().filter_map(version).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(number, version): &(&str, &str)| ((*number).to_owned(), (*version).to_owned());
    expected.iter().map(owned).collect()
}

#[tokio::test(start_paused = true)]
async fn commands_of_a_user_go_on_from_the_version_of_the_one_before() {
    let world = World::new(Scripted::always(Answer::Ok).versioned());
    for (n, version) in [(1, "0"), (2, "previous"), (3, "previous")] {
        world.publish(&at_version(n, version));
    }
    world.run_to_the_end().await;
    assert_eq!(
        told(&world.events()),
        pairs(&[("1", "1"), ("2", "2"), ("3", "3")])
    );
}

#[tokio::test(start_paused = true)]
async fn the_version_after_a_write_that_was_not_answered_is_read() {
    let lost = Answer::ApplyAnd(Fault::Unknown);
    let world = World::new(Scripted::in_turn([lost, Answer::Ok, lost]).versioned());
    for (n, version) in [(1, "0"), (2, "previous"), (3, "previous"), (4, "previous")] {
        world.publish(&at_version(n, version));
    }
    world.run_to_the_end().await;
    assert_eq!(
        told(&world.events()),
        pairs(&[("1", "1"), ("2", "2"), ("3", "3"), ("4", "4")])
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_known_version_nothing_is_sent() {
    let provider = Scripted::always(Answer::Ok).versioned();
    let world = World::new(provider.clone());
    world.publish(&at_version(1, "previous"));
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["version_conflict 0"]);
    assert_eq!(provider.calls(), []);
    let failed = world.events().into_iter().find_map(|event| match event.body {
        EventBody::Fail(failed) => Some(failed.error),
        _ => None,
    });
    let error = failed.unwrap();
    assert_eq!(
        (error.reason, error.pointer.as_deref()),
        (Reason::VersionConflict, Some("/expectedVersion"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_by_somebody_else_since_the_last_success_is_a_version_conflict() {
    let provider = Scripted::always(Answer::Ok).versioned();
    let world = World::new(provider.clone());
    let _worker = world.start();
    world.publish(&at_version(1, "0"));
    world.until_settled().await;
    provider.change_as_another(USER);
    world.publish(&at_version(2, "previous"));
    world.until_settled().await;
    assert_eq!(outcomes(&world.events()), ["SUCCESS 1", "version_conflict 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_success_published_again_keeps_its_version_and_is_not_the_latest() {
    let world = World::new(Scripted::always(Answer::Ok).versioned());
    for (n, version) in [(1, "0"), (2, "previous"), (1, "0"), (3, "previous")] {
        world.publish(&at_version(n, version));
    }
    world.run_to_the_end().await;
    assert_eq!(
        told(&world.events()),
        pairs(&[("1", "1"), ("2", "2"), ("1", "1"), ("3", "3")])
    );
}

#[tokio::test(start_paused = true)]
async fn a_version_learned_by_another_worker_is_used_after_takeover() {
    let provider = Scripted::always(Answer::Ok).versioned();
    let world = World::new(provider.clone());
    let (active, standby) = (world.start(), world.start());
    sleep(Duration::from_secs(3)).await;
    assert_eq!((active.leases(), standby.leases()), (1, 0));
    world.publish(&at_version(1, "0"));
    world.until_settled().await;
    world.broker.hold_log(true);
    world.publish(&at_version(2, "previous"));
    world.until_settled().await;
    assert_eq!(active.drain().await, Stopped::Drained);
    world.publish(&at_version(3, "previous"));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(standby.leases(), 1);
    assert_eq!(provider.calls().len(), 2, "the log is slow to tell");
    world.broker.hold_log(false);
    world.until_settled().await;
    let told = told(&world.events());
    assert_eq!(told.last(), pairs(&[("3", "3")]).last());
}
