//! Who is served first, who is charged, and what is not done twice.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use usher::contract::Fault;

use crate::commands::command;
use crate::provider::{Answer, Scripted};
use crate::seeds::number;
use crate::world::{World, outcomes};

const CALL: Duration = Duration::from_millis(10);

/// How long interactive commands wait for their call, the longest last, beside so much bulk traffic.
async fn waits_beside(bulk: u64) -> Vec<Duration> {
    let mut world = World::new(Scripted::new(1, CALL, Box::new(|_, _, _| Answer::Ok)));
    world.rate = Some(100);
    for n in 0..bulk {
        world.publish(&command(n, &format!("b{n}"), true));
    }
    let running = world.start();
    sleep(Duration::from_secs(1)).await;
    let mut published = BTreeMap::new();
    let mut rng = fastrand::Rng::with_seed(1);
    for n in bulk..bulk + 300 {
        world.publish(&command(n, &format!("i{n}"), false));
        published.insert(n, Instant::now());
        sleep(Duration::from_millis(rng.u64(1..200))).await;
    }
    sleep(Duration::from_secs(5)).await;
    let waited = |call: crate::provider::Call| Some(call.ended? - *published.get(&call.number?)?);
    let mut waits: Vec<_> = world.provider.writes().into_iter().filter_map(waited).collect();
    assert_eq!(waits.len(), 300);
    waits.sort();
    running.shutdown.drain();
    running.task.await.unwrap();
    waits
}

#[tokio::test(start_paused = true)]
async fn bulk_commands_slow_interactive_ones_by_one_permit_and_one_call_at_most() {
    let p99 = |waits: &[Duration]| waits[waits.len() * 99 / 100];
    let idle = waits_beside(0).await;
    let busy = waits_beside(number("USHER_TEST_COMMANDS").unwrap_or(20_000)).await;
    let permit = Duration::from_secs_f64(1.0 / (100.0 * 0.98));
    let (idle, busy) = (p99(&idle), p99(&busy));
    assert!(busy <= idle + permit + CALL, "{busy:?} beside {idle:?}");
}

#[tokio::test(start_paused = true)]
async fn bulk_calls_that_hang_leave_room_for_an_interactive_one() {
    let slow = |user: &str, _: bool, _: &mut fastrand::Rng| match user.starts_with('b') {
        true => Answer::Fail(Fault::Unknown),
        false => Answer::Ok,
    };
    let mut world = World::new(Scripted::new(1, Duration::from_secs(60), Box::new(slow)));
    world.concurrency = 8;
    for n in 0..100 {
        world.publish(&command(n, &format!("b{n}"), true));
    }
    let running = world.start();
    sleep(Duration::from_secs(3)).await;
    world.publish(&command(100, "i", false));
    sleep(Duration::from_secs(1)).await;
    assert!(
        world
            .provider
            .writes()
            .iter()
            .any(|call| call.number == Some(100))
    );
    running.shutdown.abort();
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retries_are_a_share_of_all_calls_and_the_rest_waits() {
    let script =
        |user: &str, _: bool, rng: &mut fastrand::Rng| match user.starts_with("bad") && rng.f64() < 0.5 {
            true => Answer::Fail(Fault::Broken),
            false => Answer::Ok,
        };
    let mut world = World::new(Scripted::new(1, CALL, Box::new(script)));
    (world.rate, world.attempts, world.prefetch) = (Some(400), 50, 1000);
    for n in 0..20_000 {
        let kind = if n % 3 == 0 { "bad" } else { "ok" };
        world.publish(&command(n, &format!("{kind}-{n}"), false));
    }
    let running = world.start();
    sleep(Duration::from_secs(40)).await;
    let mut seen = std::collections::BTreeSet::new();
    let writes = world.provider.writes();
    let retries = writes.iter().filter(|call| !seen.insert(call.number)).count() as f64;
    // A hundred are saved up at first, and ten more may go out each second.
    let allowed = 0.2 * writes.len() as f64 + 100.0 + 400.0;
    assert!(
        retries > 50.0 && retries <= allowed,
        "{retries} of {}",
        writes.len()
    );
    running.shutdown.abort();
    running.task.await.unwrap();
}

/// One user with thousands of commands, and users whose commands fail and are tried again, leave room for the others.
#[tokio::test(start_paused = true)]
async fn a_backlog_and_failing_commands_of_one_user_leave_the_quota_to_the_others() {
    let script = |user: &str, _: bool, _: &mut fastrand::Rng| match user.starts_with("bad") {
        true => Answer::Fail(Fault::Broken),
        false => Answer::Ok,
    };
    let mut world = World::new(Scripted::new(1, CALL * 5, Box::new(script)));
    (world.rate, world.attempts) = (Some(200), 1000);
    world.prefetch = usher::broker::Config::default().prefetch();
    for n in 0..2000 {
        world.publish(&command(n, "one", false));
    }
    for n in 2000..34_000 {
        let kind = if n % 20 == 0 { "bad" } else { "ok" };
        world.publish(&command(n, &format!("{kind}-{n}"), false));
    }
    let running = world.start();
    sleep(Duration::from_secs(20)).await;
    let before = world.provider.writes().len();
    sleep(Duration::from_secs(120)).await;
    let writes = world.provider.writes();
    let (others, rest): (Vec<_>, Vec<_>) = writes[before..]
        .iter()
        .partition(|call| call.user.starts_with("ok"));
    let left = 200.0 * 120.0 - rest.len() as f64;
    assert!(
        others.len() as f64 >= 0.8 * left,
        "{} of the {left} calls that the {} of the rest left",
        others.len(),
        rest.len()
    );
    assert!(rest.iter().any(|call| call.user == "one"), "nor does it wait");
    running.shutdown.abort();
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_ends_with_its_time_as_with_its_attempts() {
    let mut world = World::new(Scripted::always(Answer::Fail(Fault::Broken)));
    (world.attempts, world.elapsed_max) = (1000, Duration::from_secs(30));
    world.publish(&command(1, "u", false));
    let start = Instant::now();
    world.run_to_the_end().await;
    assert!(outcomes(&world.events())[0].starts_with("retries_exhausted"));
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_user_is_read_and_not_written() {
    let mut world = World::new(Scripted::always(Answer::Ok));
    world.skip_unchanged = true;
    world.publish(&command(1, "u", false));
    world.run_to_the_end().await;
    let mut again = World::new(world.provider.clone());
    again.skip_unchanged = true;
    again.publish(&command(1, "u", false));
    again.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["SUCCESS 1"]);
    assert_eq!(outcomes(&again.events()), ["UNCHANGED 0"]);
    let numbers: Vec<_> = again.provider.calls().iter().map(|call| call.number).collect();
    assert_eq!(
        numbers,
        [None, Some(1), None],
        "one read and no write the second time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttled_non_idempotent_write_is_sent_again_if_nothing_was_written() {
    let throttled = Fault::Throttled {
        retry_after: Some(Duration::from_secs(2)),
    };
    let applied = Scripted::in_turn([Answer::ApplyAnd(throttled)]).harmful();
    let not_applied = Scripted::in_turn([Answer::Fail(throttled)]).harmful();
    for (provider, outcome, writes) in [(applied, "outcome_unknown 0", 1), (not_applied, "SUCCESS 1", 2)] {
        let world = World::new(provider.clone());
        world.publish(&command(1, "u", false));
        world.run_to_the_end().await;
        assert_eq!(outcomes(&world.events()), [outcome]);
        assert_eq!(provider.writes().len(), writes);
    }
}

#[tokio::test(start_paused = true)]
async fn one_user_that_always_fails_among_ten_thousand_is_one_dead_letter() {
    let script = |user: &str, _: bool, _: &mut fastrand::Rng| match user {
        "u77" => Answer::Fail(Fault::Broken),
        _ => Answer::Ok,
    };
    let mut world = World::new(Scripted::new(1, CALL, Box::new(script)));
    world.rate = Some(500);
    for n in 0..10_000 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    let start = Instant::now();
    world.run_to_the_end().await;
    assert!(
        start.elapsed() < Duration::from_secs(22),
        "a pause: {:?}",
        start.elapsed()
    );
    let mut outcomes = outcomes(&world.events());
    outcomes.retain(|outcome| outcome != "SUCCESS 1");
    assert_eq!(outcomes, ["retries_exhausted 5"]);
    assert_eq!(world.dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn users_that_always_fail_end_though_nobody_else_has_anything_to_do() {
    let script = |user: &str, _: bool, _: &mut fastrand::Rng| match user {
        "b0" | "b1" | "b2" => Answer::Fail(Fault::Broken),
        _ => Answer::Ok,
    };
    let world = World::new(Scripted::new(1, CALL, Box::new(script)));
    for n in 0..20 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    for n in 20..26 {
        world.publish(&command(n, &format!("b{}", n % 3), false));
    }
    let start = Instant::now();
    world.run_to_the_end().await;
    assert!(
        start.elapsed() < Duration::from_secs(120),
        "{:?}",
        start.elapsed()
    );
    let mut outcomes = outcomes(&world.events());
    outcomes.retain(|outcome| outcome != "SUCCESS 1");
    assert_eq!(outcomes.len(), 6);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.starts_with("retries_exhausted"))
    );
}
