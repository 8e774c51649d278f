//! Trouble of some users while others pass, and of all of them: who is charged for it, who waits, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use usher::contract::{Fault, Reason};

use crate::commands::command;
use crate::provider::{Answer, Script, Scripted};
use crate::world::{World, outcomes};

const BROKEN: Answer = Answer::Fail(Fault::Broken);
const MINUTE: Duration = Duration::from_secs(60);

fn counts(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes(&world.events()) {
        let what = outcome.split(' ').next().unwrap_or_default().to_owned();
        *counts.entry(what).or_default() += 1;
    }
    counts
}

fn of(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let expected = expected.iter().filter(|(_, count)| *count > 0);
    expected
        .map(|(what, count)| ((*what).to_owned(), *count))
        .collect()
}

/// Writes for users whose name begins so get this answer, and so do their reads where `reads` says so.
fn bad_users(answer: Answer, reads: bool) -> Script {
    Box::new(
        move |user, write, _| match user.starts_with("bad") && (write || reads) {
            true => answer,
            false => Answer::Ok,
        },
    )
}

fn scripted(script: Script) -> Scripted {
    Scripted::new(1, Duration::from_millis(20), script)
}

/// A command with each of these numbers, for the user that it belongs to.
fn publish(world: &World, numbers: std::ops::Range<u64>, user: impl Fn(u64) -> String) {
    for n in numbers {
        world.publish(&command(n, &user(n), false));
    }
}

fn own(n: u64) -> String {
    format!("u{n}")
}

/// Of a user of its own, which is one of the bad ones where that is so.
fn own_or_bad(is_bad: impl Fn(u64) -> bool) -> impl Fn(u64) -> String {
    move |n| if is_bad(n) { format!("bad{n}") } else { own(n) }
}

async fn settles_within(world: &World, span: Duration) {
    let running = world.start();
    assert!(
        world.settles_within(span).await,
        "{} left, {:?}: {}",
        world.waiting(),
        counts(world),
        running.state()
    );
    running.drain().await;
}

/// Two hundred users that pass and twenty that never do, in this order.
async fn users_that_always_fail_end(
    provider: Scripted,
    rate: Option<u32>,
    order: impl Fn(u64) -> bool,
    within: Duration,
) {
    let mut world = World::new(provider);
    world.rate = rate;
    publish(&world, 0..220, own_or_bad(order));
    settles_within(&world, within).await;
    assert_eq!(counts(&world), of(&[("SUCCESS", 200), ("retries_exhausted", 20)]));
}

#[tokio::test(start_paused = true)]
async fn users_that_always_fail_among_others_end_within_a_minute() {
    for reads in [false, true] {
        for rate in [None, Some(10), Some(200)] {
            let provider = || scripted(bad_users(BROKEN, reads));
            users_that_always_fail_end(provider(), rate, |n| n < 20, MINUTE).await;
            users_that_always_fail_end(provider(), rate, |n| n % 11 == 5, MINUTE).await;
            users_that_always_fail_end(provider().unreadable(), rate, |n| n % 11 == 5, MINUTE).await;
            // Nobody is left who could show that it is not the provider.
            users_that_always_fail_end(provider(), rate, |n| n >= 200, MINUTE * 10).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn users_that_always_fail_end_in_a_busy_queue_too() {
    let world = World::new(scripted(bad_users(BROKEN, false)));
    let running = world.start();
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < MINUTE {
        for _ in 0..5 {
            world.publish(&command(n, &format!("u{n}"), false));
            n += 1;
        }
        if n <= 100 {
            world.publish(&command(1_000_000 + n, &format!("bad{n}"), false));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(counts(&world)["retries_exhausted"], 20);
    assert!(world.settles_within(MINUTE).await);
    running.drain().await;
}

/// Of twelve users with five commands each. A command's number is its place in the file: the first twelve pass, the next
/// twelve fail, and so on.
async fn every_second_command_fails(provider: Scripted, within: Duration) {
    provider.failing_commands(|number| number / 12 % 2 == 1);
    let world = World::new(provider);
    publish(&world, 0..60, |n| format!("u{}", n % 12));
    settles_within(&world, within).await;
    assert_eq!(counts(&world), of(&[("SUCCESS", 36), ("retries_exhausted", 24)]));
}

#[tokio::test(start_paused = true)]
async fn where_every_second_command_of_every_user_fails_all_of_them_end_within_a_minute() {
    every_second_command_fails(Scripted::always(Answer::Ok), MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn users_that_always_fail_end_without_reads_too() {
    every_second_command_fails(Scripted::always(Answer::Ok).unreadable(), MINUTE * 60).await;
}

#[tokio::test(start_paused = true)]
async fn without_other_users_a_bounded_time_decides() {
    let mut world = World::new(scripted(bad_users(BROKEN, true)));
    world.elapsed_max = MINUTE;
    publish(&world, 0..6, own_or_bad(|_| true));
    let running = world.start();
    tokio::time::sleep(MINUTE - Duration::from_secs(5)).await;
    assert_eq!(counts(&world), of(&[]), "it may be an outage");
    assert!(world.settles_within(MINUTE * 20).await, "{}", running.state());
    running.drain().await;
    assert_eq!(counts(&world), of(&[("retries_exhausted", 6)]));
    let detail = String::from_utf8_lossy(
        &world.dead_letters()[0]
            .properties
            .header_text("x-usher-detail")
            .unwrap()
            .into_bytes(),
    )
    .into_owned();
    assert!(detail.contains("no other user could be tried"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_for_everybody_while_reads_pass_are_waited_out() {
    let world = World::new(scripted(Box::new(|_, _, _| Answer::Ok)));
    let running = world.start();
    publish(&world, 0..50, own);
    assert!(world.settles_within(MINUTE).await);
    world
        .provider
        .script(Box::new(|_, write, _| if write { BROKEN } else { Answer::Ok }));
    publish(&world, 50..80, own);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(counts(&world), of(&[("SUCCESS", 50)]));
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    assert!(world.settles_within(MINUTE).await);
    assert_eq!(counts(&world), of(&[("SUCCESS", 80)]));
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn in_a_busy_queue_writes_that_fail_for_all_users_cost_no_attempt() {
    let world = World::new(scripted(Box::new(
        |_, write, _| if write { BROKEN } else { Answer::Ok },
    )));
    publish(&world, 0..1000, own);
    let running = world.start();
    tokio::time::sleep(MINUTE * 60 * 6).await;
    assert_eq!(counts(&world), of(&[]));
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    world.until_settled().await;
    assert_eq!(counts(&world), of(&[("SUCCESS", 1000)]));
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn reads_that_pass_make_no_command_forbidden_where_no_write_is_allowed() {
    for fault in [Fault::Denied, Fault::Credentials] {
        let script: Script =
            Box::new(move |_, write, _| if write { Answer::Fail(fault) } else { Answer::Ok });
        let world = World::new(scripted(script).reading_first());
        publish(&world, 0..50, own);
        let running = world.start();
        tokio::time::sleep(MINUTE * 60).await;
        assert_eq!(counts(&world), of(&[]), "{fault:?}");
        assert_eq!(running.gate.pause().unwrap().cause, "credentials");
        running.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_calls_are_refused_as_unauthorized_while_others_pass_is_forbidden() {
    for readable in [true, false] {
        let provider = scripted(bad_users(Answer::Fail(Fault::Credentials), false));
        let provider = if readable { provider } else { provider.unreadable() };
        let mut world = World::new(provider.clone());
        world.rate = Some(50);
        publish(&world, 0..60, |n| if n == 7 { "bad".to_owned() } else { own(n) });
        settles_within(&world, MINUTE / 2).await;
        assert_eq!(counts(&world), of(&[("SUCCESS", 59), ("forbidden", 1)]));
        let of_bad = provider.writes().iter().filter(|call| call.user == "bad").count();
        assert!(of_bad <= 10, "{of_bad} calls");
        let passed = provider
            .writes()
            .iter()
            .filter(|call| call.answer == Some(Answer::Ok))
            .map(|call| call.started)
            .max();
        let took = passed.unwrap() - provider.calls()[0].started;
        assert!(took < Duration::from_secs(5), "the others took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_that_is_throttled_while_others_pass_waits_alone() {
    let throttled = Answer::Fail(Fault::Throttled {
        retry_after: Some(Duration::from_secs(2)),
    });
    let mut world = World::new(scripted(bad_users(throttled, false)));
    world.rate = Some(50);
    publish(&world, 0..400, |n| if n == 0 { "bad".to_owned() } else { own(n) });
    let running = world.start();
    assert!(world.settles_within(MINUTE * 10).await, "{}", running.state());
    running.drain().await;
    assert_eq!(counts(&world), of(&[("SUCCESS", 399), ("retries_exhausted", 1)]));
    let writes = world.provider.writes();
    let others = writes
        .iter()
        .filter(|call| call.user != "bad")
        .map(|call| call.started)
        .max();
    let took = others.unwrap() - writes[0].started;
    assert!(took < Duration::from_secs(14), "the others took {took:?}");
}

const REFUSED: Answer = Answer::Fail(Fault::Command(Reason::NotFound));

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_dead_letters_nine_commands_at_most() {
    let mut world = World::new(Scripted::always(REFUSED));
    world.doubts_configuration = true;
    publish(&world, 0..1000, own);
    let running = world.start();
    tokio::time::sleep(MINUTE * 60).await;
    assert_eq!(counts(&world), of(&[("not_found", 9)]));
    let pause = running.gate.pause().unwrap();
    assert_eq!(pause.cause, "dead_letters");
    assert!(pause.why.unwrap().contains("no write has passed yet"));
    // It is mended. What was held back is told as it was answered; the rest passes.
    world.provider.script(Box::new(|_, _, _| Answer::Ok));
    world.until_settled().await;
    assert_eq!(running.gate.pause(), None);
    let counts = counts(&world);
    assert!(counts["SUCCESS"] > 700, "{counts:?}");
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn users_that_are_missing_at_the_beginning_hold_up_nobody_else_for_long() {
    let mut world = World::new(scripted(bad_users(REFUSED, false)));
    world.doubts_configuration = true;
    publish(&world, 0..300, own_or_bad(|n| n < 40));
    settles_within(&world, MINUTE).await;
    assert_eq!(counts(&world), of(&[("SUCCESS", 260), ("not_found", 40)]));
}

#[tokio::test(start_paused = true)]
async fn while_the_guard_is_shut_other_commands_go_on_slowly() {
    let mut world = World::new(scripted(bad_users(REFUSED, false)));
    world.dead_letter_share_max = 0.5;
    let running = world.start();
    publish(&world, 0..60, own_or_bad(|_| true));
    tokio::time::sleep(MINUTE * 2).await;
    assert_eq!(counts(&world), of(&[("not_found", 25)]));
    publish(&world, 60..90, own);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(counts(&world), of(&[("SUCCESS", 30), ("not_found", 25)]));
    assert_eq!(running.gate.pause().unwrap().cause, "dead_letters");
    // For hours: what is held goes back in between, and comes again.
    tokio::time::sleep(MINUTE * 200).await;
    publish(&world, 90..120, own);
    tokio::time::sleep(MINUTE * 3).await;
    assert_eq!(counts(&world), of(&[("SUCCESS", 60), ("not_found", 25)]));
    running.gate.resume();
    tokio::time::sleep(MINUTE).await;
    running.gate.resume();
    assert!(world.settles_within(MINUTE * 5).await);
    running.drain().await;
}
