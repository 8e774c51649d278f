//! What stands still says so, with its cause, and goes on by itself.

use std::time::Duration;

use tokio::time::sleep;
use usher::contract::Fault;
use usher::contract::notice::StallCause;

use crate::commands::command;
use crate::provider::{Answer, Scripted};
use crate::world::{Running, World};

const SECOND: Duration = Duration::from_secs(1);

fn still(running: &Running) -> Option<(StallCause, String)> {
    let still = running.still.borrow();
    still.as_ref().map(|still| (still.what, still.why.clone()))
}

#[tokio::test(start_paused = true)]
async fn commands_that_wait_for_confirms_alone_are_stalled_and_say_for_what() {
    let world = World::new(Scripted::always(Answer::Ok));
    let running = world.start();
    sleep(SECOND * 2).await;
    world.broker.hold_confirms(true);
    for n in 0..12 {
        world.publish(&command(n, &format!("u{}", n % 10), false));
    }
    sleep(SECOND * 28).await;
    assert_eq!(still(&running), None);
    sleep(SECOND * 4).await;
    let (what, why) = still(&running).expect("it stands still");
    assert_eq!(what, StallCause::Stalled);
    assert!(
        why.contains("12 commands in flight, with room for 512, wait for order: 2, confirm: 10"),
        "{why}"
    );
    world.broker.hold_confirms(false);
    world.until_settled().await;
    sleep(SECOND * 2).await;
    assert_eq!(still(&running), None);
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_window_full_of_commands_that_can_t_call_is_named() {
    let failing = |user: &str, _: bool, _: &mut fastrand::Rng| match user {
        "bad" => Answer::Fail(Fault::Throttled {
            retry_after: Some(SECOND * 200),
        }),
        _ => Answer::Ok,
    };
    let mut world = World::new(Scripted::new(1, Duration::from_millis(5), Box::new(failing)));
    world.prefetch = 4;
    world.elapsed_max = SECOND * 2000;
    let running = world.start();
    world.publish(&command(0, "bad", false));
    // Others pass in between, until it is known that this user is throttled by itself.
    for n in 1..10 {
        world.publish(&command(n, &format!("u{n}"), false));
        sleep(SECOND * 60).await;
    }
    for n in 100..110 {
        world.publish(&command(n, "bad", false));
    }
    world.publish(&command(200, "other", false));
    sleep(SECOND * 100).await;
    let (what, why) = still(&running).expect("it stands still");
    assert_eq!(what, StallCause::WindowFull);
    assert!(why.contains("order: 3, retry: 1; 8 more are ready"), "{why}");
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_or_a_slow_pace_is_no_standstill() {
    for slow in [true, false] {
        let answer = if slow {
            Answer::Ok
        } else {
            Answer::Fail(Fault::Unreachable)
        };
        let mut world = World::new(Scripted::always(answer));
        world.rates = slow.then(|| serde_json::from_value(serde_json::json!({"per_hour": 20})).unwrap());
        for n in 0..20 {
            world.publish(&command(n, &format!("u{n}"), false));
        }
        let running = world.start();
        for _ in 0..500 {
            sleep(SECOND).await;
            assert_eq!(still(&running), None, "slow: {slow}");
        }
        running.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_read_access_to_the_outcome_log_a_worker_takes_no_lease_and_says_why() {
    let world = World::new(Scripted::always(Answer::Ok));
    world.broker.refuse_log(true);
    world.publish(&command(1, "u", false));
    let running = world.start();
    let fleet = running.fleet.clone().unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(running.leases(), 0);
    assert!(!fleet.has_caught_up());
    assert!(fleet.log_trouble().unwrap().contains("refused"));
    world.broker.refuse_log(false);
    assert!(world.settles_within(SECOND * 3).await);
    assert_eq!((fleet.log_trouble(), fleet.has_caught_up()), (None, true));
    running.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_knows_the_holders_of_all_leases() {
    let world = World::partitioned(Scripted::always(Answer::Ok), 2);
    let first = world.start();
    sleep(SECOND * 3).await;
    let second = world.start();
    let third = world.start();
    sleep(SECOND * 3).await;
    let known = |running: &Running| running.fleet.as_ref().unwrap().holders_are_known();
    assert_eq!((first.leases() + second.leases(), third.leases()), (2, 0));
    assert!(known(&third));
    first.crash().await;
    second.crash().await;
    sleep(SECOND * 3).await;
    assert_eq!(third.leases(), 2);
    third.drain().await;
}
