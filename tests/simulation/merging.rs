//! Updates of a user that wait for each other and share a call.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use usher::contract::event::{Event, EventBody};
use usher::contract::{Fault, Reason};
use usher::worker::Merge;

use crate::commands::{body, command, id, message};
use crate::provider::{Answer, Scripted};
use crate::world::{World, command_id, outcomes};

const REJECTED: Answer = Answer::Fail(Fault::Command(Reason::Rejected));

fn merging(merge: Merge, provider: Scripted) -> World {
    let mut world = World::new(provider);
    world.merge = merge;
    world
}

/// The commands of the events of this kind, each event once, in the log's order.
fn events_of(world: &World, kind: fn(&EventBody) -> bool) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let events = world.events().into_iter();
    events
        .filter(|event| kind(&event.body) && seen.insert(event.id))
        .map(|event| command_id(&event))
        .collect()
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|n| id(n).to_string()).collect()
}

fn succeeded(event: &Event) -> Option<(String, Option<String>, u32)> {
    let EventBody::Success(success) = &event.body else {
        return None;
    };
    let merged_into = success.merged_into.map(|id| id.to_string());
    Some((command_id(event), merged_into, success.attempts))
}

#[tokio::test(start_paused = true)]
async fn waiting_updates_of_a_user_share_a_call_and_each_has_its_own_events() {
    let world = merging(Merge::All, Scripted::always(Answer::Ok));
    for n in 0..40 {
        let mut body = body(n, "u", false);
        if n == 5 {
            body["update"]["givenName"] = json!("Alex");
        }
        world.publish(&message(&body, "u", false));
    }
    world.run_to_the_end().await;
    assert_eq!(
        events_of(&world, |body| matches!(body, EventBody::Start(_))),
        ids(0..40)
    );
    assert_eq!(
        events_of(&world, |body| matches!(body, EventBody::Success(_))),
        ids(0..40)
    );
    // The first finds nobody behind it; 32 share the next call, and the rest the last one.
    let numbers: Vec<_> = world.provider.writes().iter().map(|call| call.number).collect();
    assert_eq!(numbers, [Some(0), Some(32), Some(39)]);
    let user = world.provider.user("u");
    assert_eq!(
        (user["nickname"].as_str(), user["givenName"].as_str()),
        ("39", "Alex")
    );
    for (n, (command, merged_into, attempts)) in world.events().iter().filter_map(succeeded).enumerate() {
        let call = [0, 32, 39].into_iter().find(|call| *call >= n as u64).unwrap();
        let carrier = (call != n as u64).then(|| id(call).to_string());
        assert_eq!((&command, merged_into), (&id(n as u64).to_string(), carrier));
        assert_eq!(attempts, u32::from(call == n as u64), "the calls add up");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_merged_unless_it_is_asked_for_and_bulk_alone_where_that_is() {
    for (merge, calls) in [(Merge::Off, 20), (Merge::Bulk, 10 + 2), (Merge::All, 2 + 2)] {
        let world = merging(merge, Scripted::always(Answer::Ok));
        for n in 0..10 {
            world.publish(&command(n, "i", false));
            world.publish(&command(n + 10, "b", true));
        }
        world.run_to_the_end().await;
        assert_eq!(world.provider.writes().len(), calls, "{merge:?}");
        assert_eq!(outcomes(&world.events()).len(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn commands_with_a_version_an_expiry_or_a_provider_block_are_not_merged() {
    let alone = [
        ("expectedVersion", json!("7")),
        ("expiresAt", json!("2030-01-01T00:00:00Z")),
    ];
    for (name, value) in alone {
        let world = merging(Merge::All, Scripted::always(Answer::Ok));
        for n in 0..6 {
            let mut body = body(n, "u", false);
            if n % 2 == 0 {
                body[name] = value.clone();
            }
            world.publish(&message(&body, "u", false));
        }
        world.run_to_the_end().await;
        assert_eq!(world.provider.writes().len(), 6, "{name}");
    }
    let world = merging(Merge::All, Scripted::always(Answer::Ok));
    for n in 0..3 {
        let mut body = body(n, "u", false);
        body["update"]["zitadel"] = json!({ "password": { "password": "correct horse battery" } });
        world.publish(&message(&body, "u", false));
    }
    world.run_to_the_end().await;
    assert_eq!(world.provider.calls().len(), 3);
}

/// One bad command among those that share a call fails alone.
#[tokio::test(start_paused = true)]
async fn after_a_failed_merged_call_each_command_runs_alone() {
    let world = merging(Merge::All, Scripted::always(Answer::Ok));
    world.provider.failing_commands(|n| n == 5);
    for n in 0..6 {
        world.publish(&command(n, "u", false));
    }
    world.run_to_the_end().await;
    assert_eq!(
        events_of(&world, |body| matches!(body, EventBody::Success(_))),
        ids(0..5)
    );
    assert_eq!(
        events_of(&world, |body| matches!(body, EventBody::Fail(_))),
        ids([5])
    );
    assert_eq!(world.dead_letters().len(), 1);
    assert_eq!(world.provider.user("u")["nickname"], "4");
}

#[tokio::test(start_paused = true)]
async fn rejected_commands_that_shared_a_call_are_dead_letters_each() {
    let world = merging(Merge::All, Scripted::always(REJECTED));
    for n in 0..6 {
        world.publish(&command(n, "u", false));
    }
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["rejected 1"; 6]);
    assert_eq!(world.dead_letters().len(), 6);
    assert_eq!(world.provider.writes().len(), 1 + 1 + 5);
}

/// The same id twice among those that wait for each other is one command, and its event is published again.
#[tokio::test(start_paused = true)]
async fn a_command_that_waits_twice_is_applied_once() {
    let world = merging(Merge::All, Scripted::always(Answer::Ok));
    for n in [0, 1, 1, 2, 1] {
        world.publish(&command(n, "u", false));
    }
    world.run_to_the_end().await;
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for (command, ..) in world.events().iter().filter_map(succeeded) {
        *ends.entry(command).or_default() += 1;
    }
    assert_eq!(ends.values().copied().collect::<Vec<_>>(), [1, 3, 1]);
    let written: Vec<_> = world.provider.writes().iter().map(|call| call.number).collect();
    assert_eq!(written, [Some(0), Some(1), Some(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_killed_at_any_moment_of_a_shared_call_loses_nothing_and_keeps_the_order() {
    for moment_ms in (0..900).step_by(10) {
        let provider = Scripted::new(1, Duration::from_millis(100), Box::new(|_, _, _| Answer::Ok));
        let world = merging(Merge::All, provider);
        world.broker.delay_confirms(Duration::from_millis(30));
        for n in 0..6 {
            world.publish(&command(n, "u", false));
        }
        let first = world.start();
        sleep(Duration::from_millis(moment_ms)).await;
        first.crash().await;
        let second = world.start();
        world.until_settled().await;
        second.drain().await;
        let mut ended = events_of(&world, |body| matches!(body, EventBody::Success(_)));
        assert_eq!(ended.len(), 6, "{moment_ms}");
        ended.sort();
        assert_eq!(ended, ids(0..6), "{moment_ms}");
        assert_eq!(world.provider.user("u")["nickname"], "5", "{moment_ms}");
    }
}
