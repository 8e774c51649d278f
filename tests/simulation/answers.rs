//! Answers as they really come: what was not taken up, what speaks of the configuration, and what a read shows late.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use usher::contract::{Fault, Reason};

use crate::commands::{body, command, id, message};
use crate::provider::{Answer, Scripted};
use crate::world::{World, outcomes};

const SECOND: Duration = Duration::from_secs(1);
const NOT_TAKEN_UP: Answer = Answer::Fail(Fault::Again);
const UNPROCESSED: Answer = Answer::Fail(Fault::Unprocessed);
const CONFIGURATION: Answer = Answer::Fail(Fault::Configuration);
const REJECTED: Answer = Answer::Fail(Fault::Command(Reason::Rejected));

/// The outcome of one command, and how long it took.
async fn one(provider: &Scripted) -> (String, Duration) {
    let world = World::new(provider.clone());
    world.publish(&command(1, "u", false));
    let start = Instant::now();
    world.run_to_the_end().await;
    let done = provider.calls().last().unwrap().ended.unwrap();
    (outcomes(&world.events()).remove(0), done - start)
}

#[tokio::test(start_paused = true)]
async fn an_unprocessed_call_is_repeated_once_at_no_charge() {
    for (answers, outcome) in [
        (1, "SUCCESS 1"),
        (2, "SUCCESS 2"),
        (5, "SUCCESS 5"),
        (6, "retries_exhausted 5"),
    ] {
        let provider = Scripted::in_turn(vec![NOT_TAKEN_UP; answers]);
        assert_eq!(one(&provider).await.0, outcome, "{answers}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_on_a_closed_connection_are_repeated_at_once_at_no_charge() {
    let provider = Scripted::in_turn([UNPROCESSED; 5]);
    let (outcome, took) = one(&provider).await;
    assert_eq!(outcome, "SUCCESS 1");
    assert!(took < SECOND, "{took:?}");
    assert!(
        provider.calls().iter().all(|call| call.number.is_some()),
        "nothing is read"
    );
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_shut_again_and_again_are_an_outage_and_spend_nothing() {
    let provider = Scripted::in_turn([UNPROCESSED; 30]);
    assert_eq!(one(&provider).await.0, "SUCCESS 1");
}

#[tokio::test(start_paused = true)]
async fn a_request_form_refused_for_all_users_pauses_and_fails_no_command() {
    let start = Instant::now();
    let script =
        move |_: &str, write: bool, _: &mut fastrand::Rng| match write && start.elapsed() < SECOND * 600 {
            true => CONFIGURATION,
            false => Answer::Ok,
        };
    let provider = Scripted::new(1, SECOND / 100, Box::new(script));
    let world = World::new(provider.clone());
    for n in 0..50 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), vec!["SUCCESS 1"; 50]);
    let while_refused = provider
        .writes()
        .iter()
        .filter(|call| call.answer == Some(CONFIGURATION))
        .count();
    assert!(while_refused < 100, "{while_refused} calls in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_request_form_refused_for_one_user_fails_that_command() {
    let script = |user: &str, write: bool, _: &mut fastrand::Rng| match write && user == "u7" {
        true => CONFIGURATION,
        false => Answer::Ok,
    };
    let provider = Scripted::new(1, SECOND / 100, Box::new(script));
    let world = World::new(provider.clone());
    for n in 0..20 {
        world.publish(&command(n, &format!("u{n}"), false));
    }
    world.run_to_the_end().await;
    let mut ends = outcomes(&world.events());
    ends.sort();
    let (rejected, passed) = ends.split_last().unwrap();
    assert!(rejected.starts_with("rejected"), "{rejected}");
    assert_eq!(passed, vec!["SUCCESS 1"; 19]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_read_back_proves_nothing_about_the_write() {
    for (harmful, outcome) in [(true, "outcome_unknown"), (false, "forbidden")] {
        let wrote = AtomicBool::new(false);
        let script = move |user: &str, write: bool, _: &mut fastrand::Rng| match (user, write) {
            ("u7", true) => {
                wrote.store(true, Ordering::Relaxed);
                Answer::ApplyAnd(Fault::Unknown)
            }
            ("u7", false) if wrote.load(Ordering::Relaxed) => Answer::Fail(Fault::Denied),
            _ => Answer::Ok,
        };
        let mut provider = Scripted::new(1, SECOND / 100, Box::new(script));
        if harmful {
            provider = provider.harmful();
        }
        let world = World::new(provider.clone());
        for n in 0..20 {
            world.publish(&command(n, &format!("u{n}"), false));
        }
        world.run_to_the_end().await;
        let ends = outcomes(&world.events());
        let failed: Vec<_> = ends.iter().filter(|end| !end.starts_with("SUCCESS")).collect();
        assert!(
            matches!(&failed[..], [end] if end.starts_with(outcome)),
            "{ends:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn any_refusal_after_a_try_that_may_have_been_applied_is_looked_up() {
    for reason in [
        Reason::Rejected,
        Reason::NotFound,
        Reason::Conflict,
        Reason::VersionConflict,
    ] {
        let refused = Answer::Fail(Fault::Command(reason));
        let throttled = Fault::Throttled { retry_after: None };
        for fault in [Fault::Broken, throttled] {
            let applied = Scripted::in_turn([Answer::ApplyAnd(fault), refused]);
            assert!(one(&applied).await.0.starts_with("SUCCESS"), "{reason} {fault:?}");
            let not_applied = Scripted::in_turn([Answer::Fail(fault), refused]);
            assert!(
                one(&not_applied).await.0.starts_with(reason.as_str()),
                "{reason} {fault:?}"
            );
        }
        assert_eq!(one(&Scripted::in_turn([refused])).await.0, format!("{reason} 1"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_lags_behind_the_write_is_not_believed_at_once() {
    let provider = Scripted::in_turn([Answer::ApplyAnd(Fault::Unknown)]).lagging(SECOND * 2);
    let mut world = World::new(provider.clone());
    world.settling_time = Duration::ZERO;
    world.read_lag = SECOND * 5;
    world.publish(&command(1, "u", false));
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["SUCCESS 1"]);
    assert_eq!(
        (provider.writes().len(), provider.calls().len()),
        (1, 3),
        "one write, two reads"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_an_own_version_is_not_believed_before_the_read_has_caught_up() {
    let conflict = Answer::Fail(Fault::Command(Reason::VersionConflict));
    let provider = Scripted::in_turn([Answer::ApplyAnd(Fault::Broken), conflict]).lagging(SECOND * 2);
    let mut world = World::new(provider.clone());
    world.read_lag = SECOND * 5;
    world.publish(&command(1, "u", false));
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["SUCCESS 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_not_applied_is_sent_again_after_the_read_lag() {
    let provider = Scripted::in_turn([Answer::Fail(Fault::Unknown), REJECTED]).lagging(SECOND * 2);
    let mut world = World::new(provider.clone());
    world.settling_time = Duration::ZERO;
    world.read_lag = SECOND * 5;
    world.publish(&command(1, "u", false));
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["rejected 2"]);
    let writes = provider.writes();
    assert!(writes[1].started - writes[0].ended.unwrap() >= SECOND * 5);
}

#[tokio::test(start_paused = true)]
async fn a_success_that_shows_the_user_without_what_was_asked_is_looked_up() {
    let (outcome, took) = one(&Scripted::in_turn([Answer::Ignore])).await;
    assert_eq!(outcome, "rejected 1");
    assert!(took >= SECOND, "the read may have lagged: {took:?}");
    let shows_old = Scripted::in_turn([Answer::ApplyAndShowOld]);
    assert_eq!(one(&shows_old).await.0, "SUCCESS 1");
    assert_eq!(shows_old.writes().len(), 1);
    let unreadable = Scripted::in_turn([Answer::Ignore]).unreadable();
    assert_eq!(
        one(&unreadable).await.0,
        "rejected 1",
        "there is nothing to look up"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_fit_the_user_is_rebuilt_at_no_charge() {
    let provider = Scripted::in_turn([Answer::Fail(Fault::ReadFirst)]);
    assert_eq!(one(&provider).await.0, "SUCCESS 1");
    let kinds: Vec<_> = provider
        .calls()
        .iter()
        .map(|call| call.number.is_some())
        .collect();
    assert_eq!(kinds, [true, false, true], "a write, a read, a write");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_fits_ends_when_the_attempts_are_spent() {
    let provider = Scripted::always(Answer::Ok);
    provider.script(Box::new(|_, write, _| match write {
        true => Answer::Fail(Fault::ReadFirst),
        false => Answer::Ok,
    }));
    assert_eq!(one(&provider).await.0, "retries_exhausted 5");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_applied_is_no_failure_because_reads_of_its_user_fail_for_a_while() {
    for reading_first in [true, false] {
        let failed_reads = AtomicU32::new(0);
        let written = AtomicBool::new(false);
        let script = move |_: &str, write: bool, _: &mut fastrand::Rng| match write {
            true if written.swap(true, Ordering::Relaxed) => Answer::Fail(Fault::Unknown),
            true => Answer::ApplyAnd(Fault::Unknown),
            // The last attempt is spent on the fourth of them.
            false if written.load(Ordering::Relaxed) && failed_reads.fetch_add(1, Ordering::Relaxed) < 7 => {
                Answer::Fail(Fault::Broken)
            }
            false => Answer::Ok,
        };
        let provider = Scripted::new(1, SECOND / 100, Box::new(script));
        let provider = if reading_first {
            provider.reading_first()
        } else {
            provider
        };
        let (outcome, _) = one(&provider).await;
        assert!(outcome.starts_with("SUCCESS"), "{outcome}");
        assert_eq!(provider.writes().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_that_was_as_asked_before_a_write_without_an_answer_is_as_asked_after_it() {
    let nothing_written = Answer::Fail(Fault::Unknown);
    let provider = Scripted::in_turn([Answer::Ok, nothing_written]).reading_first();
    let world = World::new(provider.clone());
    world.publish(&command(1, "u", false));
    let mut same = body(1, "u", false);
    same["id"] = id(2).to_string().into();
    world.publish(&message(&same, "u", false));
    world.run_to_the_end().await;
    assert_eq!(outcomes(&world.events()), ["SUCCESS 1", "UNCHANGED 1"]);
    assert_eq!(provider.writes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_change_by_an_earlier_attempt_is_reported_as_changed() {
    let provider = Scripted::in_turn([Answer::ApplyAnd(Fault::Broken)]).reading_first();
    assert_eq!(one(&provider).await.0, "SUCCESS 2");
}

#[tokio::test(start_paused = true)]
async fn a_write_of_two_calls_is_one_attempt_and_a_failure_of_the_second_is_looked_up() {
    let both = Scripted::always(Answer::Ok).in_parts(2);
    assert_eq!(one(&both).await.0, "SUCCESS 1");
    assert_eq!(both.writes().len(), 2);
    let throttled = Scripted::in_turn([Answer::Ok, Answer::Fail(Fault::Throttled { retry_after: None })]);
    let throttled = throttled.in_parts(2);
    assert_eq!(one(&throttled).await.0, "SUCCESS 1");
    assert_eq!(throttled.writes().len(), 3, "the first one is not made again");
    let rejected = Scripted::in_turn([Answer::Ignore, Answer::Fail(Fault::Command(Reason::Rejected))]);
    let rejected = rejected.in_parts(2);
    assert_eq!(one(&rejected).await.0, "rejected 1");
    let applied = Scripted::in_turn([Answer::Ok, Answer::ApplyAnd(Fault::Command(Reason::NotFound))]);
    let applied = applied.in_parts(2);
    assert_eq!(one(&applied).await.0, "SUCCESS 1", "it is as asked");
}
