//! The account of a batch: repeats, redrives, a log that is cut, several files.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Account, Announced, BEFORE, Book, Tally};
use crate::broker::{Message, Properties};
use crate::contract::event::{Event, EventBody, EventError, EventIds, EventType, Failed, Started, Succeeded};
use crate::contract::lifecycle::{BatchClosed, BatchOpened, Digest, LifecycleBody, LifecycleEvent};
use crate::contract::orders::{BatchOrder, PaceOrder};
use crate::contract::{BatchId, BatchState, Orders, ProviderName, Reason};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn batch() -> BatchId {
    BatchId::parse("m \"1\"").unwrap()
}

fn provider() -> ProviderName {
    ProviderName::parse("sim").unwrap()
}

fn book() -> Book {
    Book {
        batch: batch(),
        provider: provider(),
        announced: Announced::default(),
        elsewhere: Vec::new(),
        tally: Tally::new("/usher/sim".into(), &batch()),
        pause: None,
        since: at(0) - BEFORE,
        log_from: None,
        whole: false,
        complete: true,
    }
}

enum Say {
    Start,
    Success(bool),
    Fail(Reason),
}
use Say::{Fail, Start, Success};

fn started(n: u64, batch: &BatchId) -> Started {
    Started {
        command_id: Some(Uuid::from_u128(u128::from(n)).to_string()),
        batch_id: Some(batch.clone()),
        fields: Vec::new(),
        redelivered: false,
    }
}

fn event(n: u64, redrives: u32, say: &Say, second: i64) -> Event {
    let command = started(n, &batch());
    let key = Uuid::from_u128(u128::from(n));
    let (body, event_type) = match say {
        Start => (EventBody::Start(command), EventType::Start),
        Success(changed) => (
            EventBody::Success(Succeeded {
                command,
                attempts: 1,
                duration_ms: 5,
                changed: *changed,
                merged_into: None,
                version: None,
            }),
            EventType::Success,
        ),
        Fail(reason) => (
            EventBody::Fail(Failed {
                command,
                attempts: 1,
                duration_ms: 5,
                error: EventError {
                    reason: *reason,
                    status: None,
                    code: None,
                    pointer: None,
                    detail: "detail".into(),
                },
            }),
            EventType::Fail,
        ),
    };
    let fail = EventIds::new(&key, redrives).fail();
    Event {
        specversion: "1.0".into(),
        id: Uuid::new_v5(&fail, event_type.as_str().as_bytes()),
        source: "/usher/sim".into(),
        subject: Some(format!("u{n}")),
        time: at(second),
        datacontenttype: "application/json".into(),
        dataschema: crate::contract::event::SCHEMA_ID.into(),
        body,
    }
}

fn message(routing_key: &str, body: Vec<u8>) -> Message {
    Message {
        exchange: "user.outcomes".into(),
        routing_key: routing_key.into(),
        properties: Properties::persistent("id", "application/json").with_timestamp(1_800_000_000),
        body: body.into(),
        mandatory: false,
    }
}

fn log(n: u64, redrives: u32, say: &Say, second: i64) -> Message {
    let body = serde_json::to_vec(&event(n, redrives, say, second)).unwrap();
    message("user.update.x.sim", body)
}

fn told(provider: &ProviderName, body: LifecycleBody, file: u64, second: i64) -> Message {
    let event = LifecycleEvent::about(provider, batch().as_str(), body, file, at(second));
    message(&event.routing_key(provider), serde_json::to_vec(&event).unwrap())
}

fn opened(file: u64, commands: Option<u64>, second: i64) -> Message {
    let body = LifecycleBody::BatchOpened(BatchOpened {
        batch_id: batch(),
        bulk: true,
        commands,
    });
    told(&provider(), body, file, second)
}

fn closed(file: u64, commands: u64, second: i64) -> Message {
    let body = LifecycleBody::BatchClosed(BatchClosed {
        batch_id: batch(),
        commands,
        ids: Digest::default(),
    });
    told(&provider(), body, file, second)
}

fn after(messages: &[Message]) -> Book {
    let mut book = book();
    messages.iter().for_each(|message| book.take(message));
    book
}

fn sum(account: &Account) -> Option<u64> {
    let rest = account.waiting.or(account.not_seen)?;
    let counts = &account.counts;
    assert_eq!(counts.failed, counts.reasons.values().sum::<u64>());
    Some(counts.ended() + counts.in_flight + rest)
}

#[test]
fn the_account_adds_up_after_every_event() {
    let mut book = book();
    let messages = [
        opened(1, Some(4), 0),
        log(1, 0, &Start, 1),
        log(2, 0, &Start, 1),
        log(1, 0, &Success(true), 2),
        closed(1, 4, 2),
        log(2, 0, &Fail(Reason::Conflict), 3),
        log(3, 0, &Start, 3),
        log(3, 0, &Success(false), 4),
        // Without a START, as where its batch is cancelled.
        log(4, 0, &Fail(Reason::Cancelled), 5),
    ];
    for message in &messages {
        book.take(message);
        let account = book.account();
        assert_eq!(sum(&account), Some(4), "{account:?}");
        assert!(account.not_seen.is_none());
    }
    let status = book.status(&Orders::default(), at(100));
    let counts = &status.account.counts;
    assert_eq!((counts.succeeded, counts.unchanged, counts.failed), (1, 1, 2));
    let reasons = BTreeMap::from([(Reason::Conflict, 1), (Reason::Cancelled, 1)]);
    assert_eq!(counts.reasons, reasons);
    assert!(
        status.done && status.closed && status.missing.is_empty(),
        "{status:?}"
    );
    assert!((status.elapsed_seconds - 4.0).abs() < 0.01, "{status:?}");
}

#[test]
fn a_repeated_event_counts_once_and_others_events_not_at_all() {
    let mut messages = vec![opened(1, Some(3), 0), opened(1, Some(3), 0)];
    for _ in 0..3 {
        messages.push(log(1, 0, &Start, 1));
        messages.push(log(1, 0, &Fail(Reason::Conflict), 2));
        messages.push(log(2, 0, &Start, 1));
    }
    messages.extend([closed(1, 3, 3), closed(1, 3, 3)]);
    for (from, to) in [("/usher/sim", "/usher/other"), ("m \\\"1\\\"", "m-2")] {
        let other = String::from_utf8(log(9, 0, &Start, 1).body.to_vec()).unwrap();
        messages.push(message("user.update.x.sim", other.replace(from, to).into_bytes()));
    }
    messages.push(message(
        "user.update.x.sim",
        b"\"batchId\":\"m \\\"1\\\"\"".to_vec(),
    ));
    let book = after(&messages);
    let account = book.account();
    assert_eq!((account.published, account.waiting), (Some(3), Some(1)));
    assert_eq!((account.counts.failed, account.counts.in_flight), (1, 1));
    let outcomes: u64 = book
        .tally
        .series
        .unwrap()
        .buckets
        .iter()
        .map(|bucket| bucket.ended)
        .sum();
    assert_eq!(outcomes, 1);
}

#[test]
fn a_redriven_command_counts_by_its_last_outcome_and_is_told_once() {
    let mut messages = vec![
        opened(1, Some(2), 0),
        closed(1, 2, 0),
        log(1, 0, &Start, 1),
        log(1, 0, &Fail(Reason::Conflict), 2),
        log(2, 0, &Start, 2),
        log(2, 0, &Success(true), 2),
        log(1, 1, &Start, 10),
    ];
    let running = after(&messages).status(&Orders::default(), at(11));
    assert_eq!(
        (
            running.account.counts.failed,
            running.account.counts.running_again
        ),
        (1, 1)
    );
    assert!(!running.done);
    messages.push(log(1, 1, &Success(true), 12));
    // A repeat of its first START, as of a publisher that did not get its confirm.
    messages.push(log(1, 1, &Start, 13));
    let mut book = after(&messages);
    let status = book.status(&Orders::default(), at(20));
    let counts = &status.account.counts;
    assert_eq!((counts.succeeded, counts.failed, counts.running_again), (2, 0, 0));
    assert!(counts.reasons.is_empty() && status.done);
    let mut rows = Vec::new();
    for message in messages.iter().chain(&messages) {
        rows.extend(book.tally.take_last(&message.body));
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|last| {
            (
                last.event.subject.as_deref().unwrap(),
                last.event.event_type(),
                last.redrives,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [("u2", EventType::Success, 0), ("u1", EventType::Success, 1)]
    );
}

#[test]
fn where_the_log_does_not_reach_back_it_says_what_is_not_seen_and_since_when() {
    let mut book = book();
    // The audit log has the opening, the outcome log no longer.
    let event: LifecycleEvent = serde_json::from_slice(&opened(1, Some(10), 0).body).unwrap();
    book.announced.take(&event);
    book.take(&log(1, 0, &Start, 1));
    book.take(&log(2, 0, &Success(true), 2));
    let status = book.status(&Orders::default(), at(60));
    let account = &status.account;
    assert_eq!((account.waiting, account.not_seen), (None, Some(8)));
    assert_eq!(sum(account), Some(10));
    assert!(status.left.is_none());
    assert!(
        status.missing[0].contains(&format!("before {}", at(0))),
        "{:?}",
        status.missing
    );
}

#[test]
fn a_batch_that_was_never_opened_says_that_its_size_is_unknown_and_who_else_has_it() {
    let other = ProviderName::parse("zitadel-eu").unwrap();
    let body = LifecycleBody::BatchOpened(BatchOpened {
        batch_id: batch(),
        bulk: false,
        commands: Some(3),
    });
    let elsewhere = told(&other, body, 1, 0);
    assert!(!after(std::slice::from_ref(&elsewhere)).is_known());
    let book = after(&[elsewhere, log(1, 0, &Start, 1), log(1, 0, &Success(true), 2)]);
    let status = book.status(&Orders::default(), at(60));
    assert!(book.is_known() && !status.done && !status.closed);
    assert_eq!((status.account.published, status.account.waiting), (None, None));
    assert_eq!(status.account.counts.succeeded, 1);
    assert!(status.missing[0].contains("BATCH_OPENED"), "{:?}", status.missing);
    assert!(status.missing[1].contains("zitadel-eu"), "{:?}", status.missing);
}

#[test]
fn the_files_of_a_batch_are_added_up() {
    let published = |messages: &[Message]| {
        let announced = after(messages).announced;
        (announced.commands(), announced.is_closed(), announced.files())
    };
    let (one, two) = (opened(1, Some(10), 0), opened(2, Some(5), 5));
    assert_eq!(published(std::slice::from_ref(&one)), (Some(10), false, 1));
    assert_eq!(published(&[one.clone(), two.clone()]), (Some(15), false, 2));
    // One row of the second file was refused.
    assert_eq!(
        published(&[one.clone(), two.clone(), closed(1, 10, 6)]),
        (Some(15), false, 2)
    );
    let all = [one.clone(), two, closed(1, 10, 6), closed(2, 4, 7)];
    assert_eq!(published(&all), (Some(14), true, 2));
    // Stdin is not counted first.
    let uncounted = opened(3, None, 8);
    assert_eq!(published(&[one.clone(), uncounted.clone()]), (None, false, 2));
    let closing = [one, uncounted, closed(1, 10, 9), closed(3, 7, 9)];
    assert_eq!(published(&closing), (Some(17), true, 2));
    assert_eq!(published(&[closed(1, 10, 9)]), (Some(10), true, 1));
}

#[test]
fn more_commands_than_were_announced_and_more_than_are_told_apart_are_said() {
    let mut messages = vec![opened(1, Some(1), 0)];
    messages.extend((0..3).map(|n| log(n, 0, &Success(true), 1)));
    let account = after(&messages).account();
    assert_eq!((account.published, account.waiting), (Some(3), Some(0)));
    let mut full = book();
    full.tally = Tally::new("/usher/sim".into(), &batch()).of_at_most(2);
    messages[0] = opened(1, Some(5), 0);
    messages.iter().for_each(|message| full.take(message));
    let status = full.status(&Orders::default(), at(10));
    assert_eq!(status.account.counts.succeeded, 2);
    assert_eq!((status.account.waiting, status.account.not_seen), (None, Some(3)));
    assert!(status.missing[0].contains("partial"), "{:?}", status.missing);
}

#[test]
fn an_estimate_follows_a_pin_at_once_and_there_is_none_while_it_is_paused() {
    let mut book = after(&[opened(1, Some(2000), 0), closed(1, 2000, 0)]);
    for n in 0..1000 {
        book.take(&log(n, 0, &Success(true), i64::try_from(n / 10).unwrap()));
    }
    let mut orders = Orders::default();
    let left = |orders: &Orders| book.status(orders, at(100)).left;
    assert!((left(&orders).unwrap().seconds - 100.0).abs() < 1.0);
    orders.pace = Some(PaceOrder {
        per_second: 5.0,
        by: "al".into(),
        since: at(99),
        until: None,
    });
    let pinned = left(&orders).unwrap();
    assert!((pinned.seconds - 200.0).abs() < 1.0, "{pinned:?}");
    assert!((pinned.least_seconds - 100.0).abs() < 1.0, "{pinned:?}");
    assert_eq!(pinned.ends_at, at(100) + SignedDuration::from_secs(200));
    let order = BatchOrder {
        state: BatchState::Paused,
        by: "al".into(),
        since: at(50),
    };
    orders.batches.insert(batch().as_str().to_owned(), order);
    let status = book.status(&orders, at(100));
    assert!(status.left.is_none() && status.held.unwrap().contains("al paused the batch"));
}

#[test]
fn a_commands_end_tells_whether_it_was_applied_and_whether_it_ran_again() {
    use super::tally::{Applied, Ended};
    let mut book = book();
    for (n, redrives, say) in [
        (1, 0, Success(true)),
        (2, 0, Success(false)),
        (3, 0, Start),
        (4, 0, Fail(Reason::Expired)),
        (5, 0, Fail(Reason::Rejected)),
        (6, 0, Fail(Reason::Rejected)),
        (6, 1, Success(true)),
        (7, 0, Fail(Reason::Rejected)),
        (7, 1, Fail(Reason::Expired)),
    ] {
        book.take(&log(n, redrives, &say, 0));
    }
    let ended = |n: u64| book.tally.ended(Uuid::from_u128(u128::from(n)));
    let of = |applied, redriven| Some(Ended { applied, redriven });
    assert_eq!(ended(1), of(Applied::Yes, false));
    assert_eq!(ended(2), of(Applied::Yes, false));
    assert_eq!((ended(3), ended(9)), (None, None));
    assert_eq!(ended(4), of(Applied::No, false));
    assert_eq!(ended(5), of(Applied::Perhaps, false));
    assert_eq!(ended(6), of(Applied::Yes, true));
    assert_eq!(ended(7), of(Applied::Perhaps, true));
}
