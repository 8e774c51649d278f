//! Made-up evidence: each check finds what it is for, and lets pass what is allowed.

use std::time::Duration;

use super::balance::{deaths_are_fair, events_balance, nothing_is_lost, workers_end_as_asked};
use super::breaking::Broken;
use super::command::{Command, is_taken};
use super::evidence::{Arrival, Evidence, Stall, Violation, Write};
use super::fleet::{Asked, Ended};
use super::order::{last_values, order, overlaps};
use super::outcomes::{DeadLetter, Events};
use super::plan::Break;
use super::quota::{fullest, quota};

const USER: u32 = 3;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A call of worker 1 that takes 10 ms and is answered well.
fn write(at: u64, n: u32) -> Write {
    Write {
        at: ms(at),
        ended: Some(ms(at + 10)),
        worker: Some(1),
        user: USER,
        n,
        applied: true,
        clean: true,
        end: "200".to_owned(),
    }
}

fn unclean(at: u64, n: u32) -> Write {
    Write {
        clean: false,
        ..write(at, n)
    }
}

fn writes(writes: &[Write]) -> Evidence {
    Evidence {
        writes: writes.to_vec(),
        ..Evidence::default()
    }
}

fn broken(what: Break, worker: Option<u32>, from: u64, to: u64) -> Broken {
    Broken {
        what,
        worker,
        from: ms(from),
        to: ms(to),
    }
}

/// One command, settled as it should be.
fn settled() -> Evidence {
    let command = Command { user: USER, n: 1 };
    assert!(!is_taken(command));
    let events = Events {
        started: 1,
        terminal_ids: ["a".to_owned()].into(),
        succeeded: 1,
        ..Events::default()
    };
    let mut evidence = writes(&[write(0, 1)]);
    evidence.published = vec![command];
    evidence.account.events.insert(command, events);
    evidence.last.insert(USER, Some(1));
    evidence
}

fn refused() -> Command {
    let commands = (0..).map(|n| Command { user: USER, n });
    commands.into_iter().find(|command| is_taken(*command)).unwrap()
}

#[track_caller]
fn finds(found: &[Violation], words: &str) {
    assert!(
        found.len() == 1 && found[0].what.contains(words),
        "{words}: {found:?}"
    );
}

#[track_caller]
fn passes(found: &[Violation]) {
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_number_that_goes_back_is_found() {
    finds(
        &order(&writes(&[write(0, 1), write(20, 2), write(40, 1)])),
        "back from 2 to 1",
    );
    // No break excuses it.
    let mut evidence = writes(&[write(0, 2), write(3000, 1)]);
    evidence.broken = vec![broken(Break::Kill, Some(1), 100, 200)];
    finds(&order(&evidence), "back from 2 to 1");
    let again = |end: &str| {
        let n = refused().n;
        let of = |at| Write {
            clean: false,
            end: end.to_owned(),
            ..write(at, n)
        };
        writes(&[of(0), write(20, n + 1), of(40)])
    };
    passes(&order(&again("409")));
    finds(&order(&again("500")), "a call goes back");
    passes(&order(&writes(&[write(0, 1), write(20, 2), write(40, 4)])));
}

#[test]
fn a_call_made_twice_without_a_reason_is_found() {
    finds(&order(&writes(&[write(0, 1), write(20, 1)])), "sent again");
    // Another worker's end is no reason, nor is one that drains, an alarm, or a break before the first call.
    for wrong in [
        broken(Break::Kill, Some(2), 5, 15),
        broken(Break::Drain, Some(1), 5, 15),
        broken(Break::MemoryAlarm, None, 5, 15),
        broken(Break::BrokerKill, None, 30, 40),
    ] {
        let mut evidence = writes(&[write(0, 1), write(20, 1)]);
        evidence.broken = vec![wrong];
        finds(&order(&evidence), "sent again");
    }
}

#[test]
fn a_call_made_twice_for_a_reason_passes() {
    passes(&order(&writes(&[unclean(0, 1), write(20, 1), write(40, 2)])));
    for reason in [
        broken(Break::Kill, Some(1), 5, 15),
        broken(Break::LongFreeze, Some(1), 5, 15),
        broken(Break::CloseConnections, None, 5, 15),
    ] {
        let mut evidence = writes(&[write(0, 1), write(20, 1)]);
        evidence.broken = vec![reason];
        passes(&order(&evidence));
    }
    let mut evidence = writes(&[write(0, 1), write(20, 1)]);
    evidence.consumer_timeout = true;
    passes(&order(&evidence));
}

#[test]
fn only_calls_in_flight_at_the_freeze_are_excused() {
    let freeze = broken(Break::LongFreeze, Some(1), 100, 13_000);
    let others = Write {
        worker: Some(2),
        ..write(12_000, 2)
    };
    let waking = |at| {
        let mut evidence = writes(&[others.clone(), write(at, 1)]);
        evidence.broken = vec![freeze.clone()];
        order(&evidence)
    };
    passes(&waking(13_001));
    finds(&waking(13_400), "back");
    let mut short = writes(&[others.clone(), write(13_001, 1)]);
    short.broken = vec![Broken {
        what: Break::ShortFreeze,
        ..freeze
    }];
    finds(&order(&short), "back");
}

#[test]
fn calls_of_one_user_that_overlap_are_found() {
    let long = Write {
        ended: Some(ms(2000)),
        ..write(0, 1)
    };
    finds(
        &overlaps(&writes(&[long.clone(), write(1999, 2)])),
        "while one of 1 runs",
    );
    // Also where another call lies between, where it never ends, and where its worker was killed.
    finds(
        &overlaps(&writes(&[
            long.clone(),
            Write {
                user: 4,
                ..write(5, 1)
            },
            write(20, 2),
        ])),
        "runs",
    );
    finds(
        &overlaps(&writes(&[
            Write {
                ended: None,
                ..long.clone()
            },
            write(9000, 2),
        ])),
        "runs",
    );
    let mut killed = writes(&[long.clone(), write(1000, 2)]);
    killed.broken = vec![broken(Break::Kill, Some(1), 500, 600)];
    finds(&overlaps(&killed), "runs");
    passes(&overlaps(&writes(&[long.clone(), write(2000, 2)])));
    let mut frozen = writes(&[long, write(1000, 2)]);
    frozen.broken = vec![broken(Break::LongFreeze, Some(1), 5, 13_000)];
    passes(&overlaps(&frozen));
}

#[test]
fn a_second_with_too_many_calls_is_found() {
    let evidence = |count: u64| Evidence {
        quota: 100,
        arrivals: (0..count)
            .map(|n| Arrival {
                at: ms(n * 999 / count),
                worker: Some(1),
            })
            .collect(),
        ..Evidence::default()
    };
    passes(&quota(&evidence(101)));
    finds(
        &quota(&evidence(102)),
        "102 calls in a second where 101 are allowed (worker 1: 102)",
    );
    assert_eq!(fullest(&evidence(102)), (102, ms(0)));
    // This process stood still for 20 ms before the first of them was noted, and the workers beside it: some may be
    // from before.
    let stalled = |at| Evidence {
        stalls: vec![Stall { at, lag: ms(20) }],
        ..evidence(104)
    };
    passes(&quota(&stalled(ms(0))));
    finds(&quota(&stalled(ms(500))), "104 calls");
}

#[test]
fn an_older_value_that_remains_is_found() {
    passes(&last_values(&settled()));
    let mut older = settled();
    older.published.push(Command { user: USER, n: 2 });
    finds(&last_values(&older), "command 2 was the last");
    let mut refused_last = settled();
    refused_last.published.push(refused());
    passes(&last_values(&refused_last));
}

#[test]
fn a_lost_command_is_found() {
    passes(&nothing_is_lost(&settled()));
    let mut lost = settled();
    lost.account
        .events
        .get_mut(&Command { user: USER, n: 1 })
        .unwrap()
        .succeeded = 0;
    finds(&nothing_is_lost(&lost), "no terminal event");
    let mut silent = settled();
    silent.account.events.clear();
    finds(&nothing_is_lost(&silent), "no terminal event");
    let mut left = settled();
    left.left = vec![("q".to_owned(), 0), ("r".to_owned(), 2)];
    finds(&nothing_is_lost(&left), "2 messages are left in r");
}

#[test]
fn a_fail_and_its_dead_letter_come_together() {
    let command = Command { user: USER, n: 1 };
    let mut failed = settled();
    let events = failed.account.events.get_mut(&command).unwrap();
    (events.succeeded, events.failed) = (0, 1);
    finds(&nothing_is_lost(&failed), "without its dead letter");
    let mut succeeded = settled();
    succeeded.dead_letters.push(DeadLetter {
        command: Some(command),
        reason: Some("conflict".to_owned()),
    });
    finds(&nothing_is_lost(&succeeded), "without its FAIL");
}

#[test]
fn events_that_do_not_balance_are_found() {
    passes(&events_balance(&settled()));
    let with = |change: fn(&mut Events)| {
        let mut evidence = settled();
        change(
            evidence
                .account
                .events
                .get_mut(&Command { user: USER, n: 1 })
                .unwrap(),
        );
        events_balance(&evidence)
    };
    finds(&with(|events| events.started = 0), "no START");
    finds(
        &with(|events| assert!(events.terminal_ids.insert("b".to_owned()))),
        "2 terminal ids",
    );
    finds(&with(|events| events.failed = 1), "1 SUCCESS, 1 FAIL");
    let mut run_twice = settled();
    let events = Events {
        started: 2,
        terminal_ids: ["a".to_owned(), "b".to_owned()].into(),
        failed: 2,
        ..Events::default()
    };
    run_twice.account.events.insert(refused(), events);
    run_twice.published.push(refused());
    let dead_letter = || DeadLetter {
        command: Some(refused()),
        reason: Some("conflict".to_owned()),
    };
    run_twice.dead_letters = vec![dead_letter()];
    finds(&events_balance(&run_twice), "2 terminal ids");
    run_twice.dead_letters.push(dead_letter());
    assert!(
        events_balance(&run_twice).is_empty(),
        "each run has its dead letter"
    );
    let mut unwritten = settled();
    unwritten.writes[0].applied = false;
    finds(&events_balance(&unwritten), "never took the value");
    let mut unknown = settled();
    unknown.published.clear();
    finds(&events_balance(&unknown), "nobody published");
}

#[test]
fn an_unfair_death_is_found() {
    let dead_letter = |command, reason: Option<&str>| {
        let mut evidence = settled();
        evidence.dead_letters.push(DeadLetter {
            command,
            reason: reason.map(str::to_owned),
        });
        deaths_are_fair(&evidence)
    };
    passes(&dead_letter(Some(refused()), Some("conflict")));
    finds(
        &dead_letter(Some(refused()), Some("retries_exhausted")),
        "retries_exhausted",
    );
    finds(
        &dead_letter(Some(Command { user: USER, n: 1 }), Some("conflict")),
        "conflict",
    );
    finds(&dead_letter(Some(refused()), None), "the broker's own");
    finds(&dead_letter(None, Some("poison")), "nobody's");
    let mut taken = settled();
    let events = taken.account.events[&Command { user: USER, n: 1 }].clone();
    taken.account.events.insert(refused(), events);
    finds(&deaths_are_fair(&taken), "refuses its value");
}

#[test]
fn a_worker_that_ends_unexpectedly_is_found() {
    let ended = |code, asked, said: &str| Evidence {
        ended: vec![Ended {
            number: 1,
            code,
            asked,
            said: said.to_owned(),
        }],
        ..Evidence::default()
    };
    passes(&workers_end_as_asked(&ended(Some(0), Asked::ToDrain, "")));
    passes(&workers_end_as_asked(&ended(None, Asked::Killed, "")));
    finds(
        &workers_end_as_asked(&ended(Some(2), Asked::Killed, "")),
        "ended with Some(2)",
    );
    finds(
        &workers_end_as_asked(&ended(None, Asked::Killed, "panic: a defect of usher")),
        "panicked",
    );
    let mut cut = ended(Some(3), Asked::ToDrain, "");
    cut.broken = vec![broken(Break::Drain, Some(1), 0, 100)];
    finds(&workers_end_as_asked(&cut), "ended with Some(3)");
    cut.broken.push(broken(Break::BrokerKill, None, 50, 60));
    passes(&workers_end_as_asked(&cut));
}
