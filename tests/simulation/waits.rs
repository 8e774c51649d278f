//! Long waits: nothing is lost to them, nobody is charged for them, and nothing is held for ever.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use usher::contract::{Fault, Reason};

use crate::commands::{body, command, message};
use crate::provider::{Answer, Scripted};
use crate::seeds::{number, side_by_side};
use crate::world::{World, outcomes};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn throttled(retry_after: Option<Duration>) -> Answer {
    Answer::Fail(Fault::Throttled { retry_after })
}

/// The numbers of a user's writes, in the order of their start, without repeats of the same.
fn assert_in_order(world: &World) {
    let mut latest = std::collections::BTreeMap::new();
    for call in world.provider.writes() {
        let before = latest.insert(call.user.clone(), call.number);
        assert!(
            before.is_none_or(|before| before <= call.number),
            "{call:?} after {before:?}"
        );
    }
}

#[test]
fn hours_of_outage_cost_few_calls_and_no_attempt() {
    let outages = [
        Answer::Fail(Fault::Broken),
        Answer::Fail(Fault::Unreachable),
        Answer::Fail(Fault::Credentials),
        throttled(None),
        throttled(Some(Duration::from_secs(1))),
    ];
    let commands = number("USHER_TEST_COMMANDS").unwrap_or(2000);
    side_by_side(&outages, async |outage| {
        let provider = Scripted::always(outage);
        let world = World::new(provider.clone());
        for n in 0..commands {
            world.publish(&command(n, &format!("u{}", n % 1000), n % 2 == 0));
        }
        let running = world.start();
        sleep(6 * HOUR).await;
        let calls = provider.calls().len();
        assert!(calls < 60, "{calls} calls in six hours of {outage:?}");
        assert_eq!(world.waiting() as u64, commands);
        provider.script(Box::new(|_, _, _| Answer::Ok));
        let start = Instant::now();
        world.until_settled().await;
        assert!(start.elapsed() < HOUR, "{:?} after {outage:?}", start.elapsed());
        running.shutdown.drain();
        running.task.await.unwrap();
        assert!(world.dead_letters().is_empty());
        let outcomes = outcomes(&world.events());
        assert!(
            outcomes.iter().all(|outcome| outcome == "SUCCESS 1"),
            "{outage:?}"
        );
        assert_eq!(outcomes.len() as u64, commands);
        assert_in_order(&world);
    });
}

#[tokio::test(start_paused = true)]
async fn a_long_retry_after_is_waited_out_to_the_second_and_holds_nothing() {
    let wait = HOUR * 26;
    let provider = Scripted::in_turn([throttled(Some(wait))]);
    let world = World::new(provider.clone());
    for n in 0..300 {
        world.publish(&command(n, &format!("u{}", n % 100), false));
    }
    let running = world.start();
    sleep(MINUTE).await;
    assert_eq!(world.held(), 0, "what was taken went back");
    assert_eq!(running.gate.pause().unwrap().cause, "throttled");
    sleep(HOUR * 25).await;
    // Another worker learns it anew, with one call.
    running.task.abort();
    assert!(running.task.await.unwrap_err().is_cancelled());
    let answered = provider.calls()[0].ended.unwrap();
    let left = wait - answered.elapsed();
    provider.script(Box::new(move |_, write, _| {
        match answered.elapsed() < wait && write {
            true => throttled(Some(wait - answered.elapsed())),
            false => Answer::Ok,
        }
    }));
    let running = world.start();
    sleep(left - MINUTE).await;
    let early = provider.writes().len();
    assert!(early <= 3, "{early} writes before its end");
    world.until_settled().await;
    let first = provider.writes().into_iter().find(|call| call.applied).unwrap();
    let late = first.started - (answered + wait);
    assert!(late < Duration::from_secs(15), "{late:?} late");
    assert_eq!(outcomes(&world.events()).len(), 300);
    assert!(world.dead_letters().is_empty());
    assert_in_order(&world);
    running.shutdown.drain();
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_hold_max_hands_back_what_is_held_and_ends_by_itself() {
    let provider = Scripted::always(Answer::Fail(Fault::Unreachable));
    let world = World::new(provider.clone());
    for n in 0..20 {
        world.publish(&command(n, &format!("u{}", n % 5), false));
    }
    let running = world.start();
    sleep(MINUTE * 5).await;
    assert_eq!(world.held(), 20);
    sleep(MINUTE * 20).await;
    assert_eq!(world.held(), 0);
    provider.script(Box::new(|_, _, _| Answer::Ok));
    world.until_settled().await;
    assert_eq!(outcomes(&world.events()), vec!["SUCCESS 1"; 20]);
    assert_in_order(&world);
    running.shutdown.drain();
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_resting_worker_stops_at_once() {
    let world = World::new(Scripted::always(throttled(Some(DAY))));
    world.publish(&command(1, "u", false));
    let running = world.start();
    sleep(HOUR).await;
    let start = Instant::now();
    running.shutdown.drain();
    running.task.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(world.waiting(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_expires_while_it_waits_is_read_back_first() {
    for applied in [false, true] {
        let fault = Fault::Throttled {
            retry_after: Some(MINUTE * 5),
        };
        let provider = Scripted::in_turn([match applied {
            true => Answer::ApplyAnd(fault),
            false => Answer::Fail(fault),
        }]);
        let world = World::new(provider);
        let mut late = body(1, "u", false);
        late["expiresAt"] = json!("2026-11-21T10:03:00Z");
        world.publish(&message(&late, "u", false));
        world.run_to_the_end().await;
        let expected = if applied { "SUCCESS 0" } else { "expired 0" };
        assert_eq!(outcomes(&world.events()), [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_dead_letters_stop_the_worker_until_it_is_resumed() {
    let mut world = World::new(Scripted::always(Answer::Fail(Fault::Command(Reason::NotFound))));
    world.dead_letter_share_max = 0.5;
    for n in 0..100 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    let running = world.start();
    let start = Instant::now();
    let mut let_go = 0;
    while start.elapsed() < HOUR {
        sleep(Duration::from_secs(10)).await;
        let_go += u32::from(world.held() == 0);
    }
    assert!(
        let_go >= 5 * 5,
        "now and then what waits for an operator goes back: {let_go}"
    );
    assert_eq!(world.dead_letters().len(), 25);
    let pause = running.gate.pause().unwrap();
    assert_eq!((pause.cause, pause.until), ("dead_letters", None));
    running.gate.resume();
    sleep(MINUTE).await;
    assert_eq!(world.dead_letters().len(), 50);
    // The tenant is the right one at last.
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    running.gate.resume();
    world.until_settled().await;
    let outcomes = outcomes(&world.events());
    let successes = outcomes.iter().filter(|outcome| *outcome == "SUCCESS 1").count();
    assert!(
        successes >= 25 && world.dead_letters().len() + successes == 100,
        "{successes}"
    );
    running.shutdown.drain();
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_holds_back_the_users_next_command_until_it_is_over() {
    let mut world = World::new(Scripted::in_turn([Answer::Fail(Fault::Unknown)]).unreadable());
    world.settling_time = Duration::from_secs(7);
    world.attempts = 1;
    world.publish(&command(1, "u", false));
    world.publish(&command(2, "u", false));
    world.run_to_the_end().await;
    let calls = world.provider.writes();
    assert_eq!(calls.len(), 2);
    assert!(calls[1].started - calls[0].ended.unwrap() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_command_waits_for_what_may_still_be_on_its_way_and_others_do_not() {
    let world = World::new(Scripted::new(
        1,
        Duration::from_secs(2),
        Box::new(|_, _, _| Answer::Ok),
    ));
    world.publish(&command(1, "u", false));
    let running = world.start();
    while world.provider.calls().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    running.task.abort();
    assert!(running.task.await.unwrap_err().is_cancelled());
    world.publish(&command(2, "other", false));
    let start = Instant::now();
    world.run_to_the_end().await;
    let calls = world.provider.calls();
    let first = |user: &str| {
        calls
            .iter()
            .find(|call| call.user == user && call.started >= start)
            .unwrap()
    };
    assert!(first("u").started - start >= world.timeout + world.settling_time);
    assert!(first("other").started - start < Duration::from_secs(2));
}
