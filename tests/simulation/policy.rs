//! One story a test: the provider answers so, and this becomes of the command.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use usher::contract::{Fault, Reason};

use crate::commands::{body, command, message};
use crate::provider::{Answer, Scripted};
use crate::world::{World, outcomes};

const BROKEN: Answer = Answer::Fail(Fault::Broken);
const THROTTLED: Answer = Answer::Fail(Fault::Throttled {
    retry_after: Some(Duration::from_secs(2)),
});

async fn outcome_of_one(provider: &Scripted) -> String {
    let world = World::new(provider.clone());
    world.publish(&command(1, "u", false));
    world.run_to_the_end().await;
    outcomes(&world.events()).remove(0)
}

#[tokio::test(start_paused = true)]
async fn throttled_command_waits_out_retry_after_and_spends_no_attempt() {
    let provider = Scripted::in_turn([THROTTLED, THROTTLED, THROTTLED]);
    assert_eq!(outcome_of_one(&provider).await, "SUCCESS 1");
    let calls = provider.calls();
    for pair in calls.windows(2) {
        assert!(pair[1].started - pair[0].ended.unwrap() >= Duration::from_secs(2));
    }
    assert_eq!(calls.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_provider_gets_no_call_of_anybody_within_the_pause() {
    let provider = Scripted::new(1, Duration::from_millis(20), Box::new(|_, _, _| Answer::Ok));
    let world = World::new(provider.clone());
    let start = Instant::now();
    provider.script(Box::new(move |_, _, _| {
        if start.elapsed() < Duration::from_secs(10) {
            THROTTLED
        } else {
            Answer::Ok
        }
    }));
    for n in 0..200 {
        world.publish(&command(n, &format!("u{}", n % 50), false));
    }
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), vec!["SUCCESS 1"; 200]);
    let throttled: Vec<_> = provider
        .calls()
        .into_iter()
        .filter(|call| call.answer == Some(THROTTLED))
        .collect();
    for call in provider.calls() {
        let paused = |until: Instant| call.started > until && call.started < until + Duration::from_secs(2);
        assert!(
            !throttled.iter().any(|throttled| paused(throttled.ended.unwrap())),
            "{call:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_call_is_retried_until_the_attempts_are_spent() {
    assert_eq!(outcome_of_one(&Scripted::in_turn([BROKEN; 4])).await, "SUCCESS 5");
    assert_eq!(
        outcome_of_one(&Scripted::in_turn([BROKEN; 5])).await,
        "retries_exhausted 5"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_provider_spends_no_attempt() {
    let unreachable = Answer::Fail(Fault::Unreachable);
    assert_eq!(
        outcome_of_one(&Scripted::in_turn([unreachable; 30])).await,
        "SUCCESS 1"
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_out_whose_write_was_applied_is_a_success_without_a_second_write() {
    let provider = Scripted::in_turn([Answer::ApplyAnd(Fault::Unknown)]);
    assert_eq!(outcome_of_one(&provider).await, "SUCCESS 1");
    assert_eq!(provider.writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_time_out_whose_write_was_not_applied_is_sent_again() {
    let provider = Scripted::in_turn([Answer::Fail(Fault::Unknown)]);
    assert_eq!(outcome_of_one(&provider).await, "SUCCESS 2");
}

#[tokio::test(start_paused = true)]
async fn a_non_idempotent_write_is_not_sent_twice_without_proof() {
    let provider = Scripted::in_turn([Answer::ApplyAnd(Fault::Unknown)]).harmful();
    assert_eq!(outcome_of_one(&provider).await, "outcome_unknown 1");
    let provider = Scripted::in_turn([Answer::ApplyAnd(Fault::Broken)])
        .harmful()
        .unreadable();
    assert_eq!(outcome_of_one(&provider).await, "outcome_unknown 1");
    assert_eq!(provider.writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_non_idempotent_write_is_sent_again_if_a_read_shows_that_it_was_not_applied() {
    let provider = Scripted::in_turn([Answer::Fail(Fault::Broken)]).harmful();
    assert_eq!(outcome_of_one(&provider).await, "SUCCESS 2");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_our_own_earlier_write_caused_is_a_success() {
    let conflict = Answer::Fail(Fault::Command(Reason::VersionConflict));
    let provider = Scripted::in_turn([Answer::ApplyAnd(Fault::Broken), conflict]);
    assert_eq!(outcome_of_one(&provider).await, "SUCCESS 2");
    let provider = Scripted::in_turn([conflict]);
    assert_eq!(outcome_of_one(&provider).await, "version_conflict 1");
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_pause_everybody_until_they_are_rotated() {
    let provider = Scripted::always(Answer::Fail(Fault::Credentials));
    let world = World::new(provider.clone());
    for n in 0..100 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    let running = world.start();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(running.gate.pause().unwrap().cause, "credentials");
    let calls = provider.calls().len();
    assert!(calls < 30, "{calls} calls in five minutes");
    let rotated = Instant::now();
    provider.rotate_credentials();
    provider.script(Box::new(|_, _, _| Answer::Ok));
    world.until_settled().await;
    let passed = provider
        .calls()
        .into_iter()
        .find(|call| call.answer == Some(Answer::Ok));
    let waited = passed.unwrap().started - rotated;
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    assert_eq!(outcomes(&world.events()), vec!["SUCCESS 1"; 100]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_dead_letters_nothing_and_spends_nothing_while_it_lasts() {
    let provider = Scripted::always(BROKEN);
    let world = World::new(provider.clone());
    for n in 0..300 {
        world.publish(&command(n, &format!("u{}", n % 100), false));
    }
    let _running = world.start();
    tokio::time::sleep(Duration::from_secs(6 * 3600)).await;
    assert!(world.dead_letters().is_empty());
    provider.script(Box::new(|_, _, _| Answer::Ok));
    world.until_settled().await;
    let outcomes = outcomes(&world.events());
    assert_eq!(outcomes.len(), 300);
    assert!(
        outcomes
            .iter()
            .all(|outcome| ["SUCCESS 1", "SUCCESS 2"].contains(&outcome.as_str()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_denied_user_is_forbidden_even_when_it_comes_last() {
    let denied = |user: &str, _: bool, _: &mut fastrand::Rng| match user.starts_with("denied") {
        true => Answer::Fail(Fault::Denied),
        false => Answer::Ok,
    };
    let world = World::new(Scripted::new(1, Duration::from_millis(20), Box::new(denied)));
    world.publish(&command(1, "ok", false));
    for n in 2..5 {
        world.publish(&command(n, &format!("denied{n}"), false));
    }
    world.run_to_the_end().await;
    assert_eq!(
        outcomes(&world.events()),
        ["SUCCESS 1", "forbidden 1", "forbidden 1", "forbidden 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn if_all_users_are_denied_commands_wait_for_the_permission() {
    let provider = Scripted::always(Answer::Fail(Fault::Denied));
    let world = World::new(provider.clone());
    for n in 0..10 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    let _running = world.start();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(world.dead_letters().is_empty());
    provider.script(Box::new(|_, _, _| Answer::Ok));
    world.until_settled().await;
    assert_eq!(outcomes(&world.events()), vec!["SUCCESS 1"; 10]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_own_command_and_no_other() {
    let panicking = |user: &str, _: bool, _: &mut fastrand::Rng| match user {
        "u3" => Answer::Panic,
        _ => Answer::Ok,
    };
    let world = World::new(Scripted::new(1, Duration::from_millis(20), Box::new(panicking)));
    for n in 0..10 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    world.run_to_the_end().await;
    let mut outcomes = outcomes(&world.events());
    outcomes.sort();
    assert_eq!(outcomes[9], "poison 0");
    assert_eq!(outcomes[..9], vec!["SUCCESS 1"; 9]);
}

#[tokio::test(start_paused = true)]
async fn an_expired_command_makes_no_call() {
    let provider = Scripted::always(Answer::Ok).reading_first();
    let world = World::new(provider.clone());
    let mut late = body(1, "u", false);
    late["expiresAt"] = json!("2026-11-21T09:59:59Z");
    world.publish(&message(&late, "u", false));
    let mut in_time = body(2, "u", false);
    in_time["expiresAt"] = json!("2026-11-21T10:30:00Z");
    world.publish(&message(&in_time, "u", false));
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["expired 0", "SUCCESS 1"]);
    assert_eq!(
        provider.calls().len(),
        2,
        "the read and the write of the one in time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_command_published_twice_is_applied_once_and_its_event_keeps_its_id() {
    let provider = Scripted::always(Answer::Ok);
    let world = World::new(provider.clone());
    for n in [1, 2, 1] {
        world.publish(&command(n, "u", false));
    }
    world.run_to_the_end().await;
    let numbers: Vec<_> = provider
        .writes()
        .iter()
        .map(|call| call.number.unwrap())
        .collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(provider.user("u")["nickname"], "2");
    let terminal: Vec<_> = world
        .events()
        .into_iter()
        .filter(|event| !outcomes(std::slice::from_ref(event)).is_empty())
        .collect();
    assert_eq!(terminal.len(), 3);
    assert_eq!(terminal[0].id, terminal[2].id);
}

#[tokio::test(start_paused = true)]
async fn interactive_commands_go_before_bulk_ones_but_for_their_least_share() {
    let provider = Scripted::always(Answer::Ok);
    let mut world = World::new(provider.clone());
    world.rate = Some(100);
    for n in 0..200 {
        world.publish(&command(n, &format!("b{n}"), true));
        world.publish(&command(1000 + n, &format!("i{n}"), false));
    }
    world.run_to_the_end().await;
    let first: Vec<_> = provider.calls().into_iter().take(200).collect();
    let bulk = first.iter().filter(|call| call.bulk).count();
    assert!((5..=15).contains(&bulk), "{bulk} of the first 200 calls are bulk");
}
