//! The ledger, from what this process does and from what the log says.

use super::*;
use crate::broker::{Header, Properties};
use crate::contract::event::EventIds;
use crate::contract::{ProviderName, Reason};
use bytes::Bytes;

fn ident(n: u128, redrives: u32) -> Ident {
    Ident {
        key: Uuid::from_u128(n),
        event_ids: EventIds::new(&Uuid::from_u128(n), redrives),
        command_id: None,
        user_id: None,
        batch_id: None,
        fields: Vec::new(),
        redrives,
    }
}

fn ledger(commands_max: usize) -> Ledger {
    Ledger::new(WorkerId::new("me"), commands_max)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn turn(worker: &str, number: u64) -> Act {
    Act {
        worker: WorkerId::new(worker),
        number,
    }
}

fn success() -> Settlement {
    settlement(Outcome::Success { changed: true }, 1, 0)
}

fn logged(event: &Event, headers: &[(&str, &str)]) -> Message {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Header::Text((*value).to_owned())));
    Message {
        exchange: "user.outcomes".to_owned(),
        routing_key: String::new(),
        properties: Properties::default().with_headers(headers),
        body: Bytes::from(serde_json::to_vec(event).unwrap()),
        mandatory: false,
    }
}

fn start(n: u128, turn: &str, headers: &[(&str, &str)]) -> Message {
    let provider = ProviderName::parse("sivo").unwrap();
    let mut message = logged(&Event::start(&provider, &ident(n, 0), false, at(1)), headers);
    message.properties = message.properties.with_app_id(turn);
    message
}

fn terminal(n: u128, settlement: &Settlement) -> Message {
    let provider = ProviderName::parse("sivo").unwrap();
    logged(
        &Event::terminal(&provider, &ident(n, 0), false, settlement, at(2)),
        &[],
    )
}

#[test]
fn it_remembers_the_latest_and_says_since_when_it_is_complete() {
    let ledger = ledger(1);
    assert!(ledger.is_complete_since(at(0)));
    for n in 0..3 {
        ledger.settle(&ident(n, 0), success(), at(n as i64));
    }
    assert!(ledger.settled(&ident(0, 0)).is_none());
    assert!(ledger.settled(&ident(1, 0)).is_some() && ledger.settled(&ident(2, 0)).is_some());
    assert!(
        ledger.settled(&ident(2, 1)).is_none(),
        "a redriven command is applied"
    );
    assert!(!ledger.is_complete_since(Timestamp::MIN) && ledger.is_complete_since(at(0)));
}

#[test]
fn what_others_settled_is_known_from_the_log() {
    let ledger = ledger(10);
    let mut failure = Failure::new(Reason::Conflict, "detail").at("/update/email");
    failure.status = Some(409);
    let failed = settlement(Outcome::Failure(failure), 3, 40);
    ledger.read(terminal(1, &failed));
    ledger.read(terminal(2, &success()));
    let found = ledger.settled(&ident(1, 0)).unwrap();
    assert_eq!((found.attempts, found.duration), (3, Duration::from_millis(40)));
    let failure = found.outcome.dead_letter().unwrap();
    assert_eq!((failure.reason, failure.status), (Reason::Conflict, Some(409)));
    assert_eq!(failure.pointer.as_deref(), Some("/update/email"));
    assert_eq!(ledger.settled(&ident(2, 0)), Some(success()));
    assert_eq!(ledger.settled(&ident(3, 0)), None);
}

#[test]
fn a_turn_is_open_until_it_is_handed_back() {
    let ledger = ledger(10);
    assert_eq!(ledger.begun(&ident(1, 0)), Begun::default());
    ledger.read(start(1, "a/1", &[]));
    ledger.read(start(1, "a/1", &[]));
    ledger.read(start(1, "a/2", &[]));
    ledger.begin(&ident(1, 0), turn("me", 7), at(1));
    let begun = ledger.begun(&ident(1, 0));
    assert_eq!(begun.open, [turn("a", 1), turn("a", 2), turn("me", 7)]);
    assert_eq!((begun.workers(), begun.called), (2, false));
    ledger.read(start(1, "a/1", &[(HANDED_BACK, "untouched")]));
    ledger.hand_back(&ident(1, 0), &turn("me", 7), true, at(1));
    let begun = ledger.begun(&ident(1, 0));
    assert_eq!((begun.open.len(), begun.called), (1, true));
}

#[test]
fn the_turns_of_a_command_that_was_settled_here_are_forgotten() {
    let ledger = ledger(10);
    ledger.begin(&ident(1, 0), turn("me", 7), at(1));
    ledger.begin(&ident(2, 0), turn("me", 8), at(1));
    ledger.settle(&ident(1, 0), success(), at(2));
    assert_eq!(ledger.begun(&ident(1, 0)), Begun::default());
    assert_eq!(ledger.settled(&ident(1, 0)), Some(success()));
    assert_eq!(ledger.begun(&ident(2, 0)).open, [turn("me", 8)]);
}

#[tokio::test]
async fn a_barrier_of_our_own_is_waited_for_and_settles_nothing() {
    let ledger = ledger(10);
    let event = start(1, "a/1", &[(BARRIER, "another/9")]);
    ledger.read(event);
    let waiting = ledger.barrier(2);
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    ledger.read(start(1, "a/1", &[(BARRIER, "me/2")]));
    waiting.await;
    assert_eq!(ledger.begun(&ident(1, 0)), Begun::default());
    assert!(ledger.latest().is_none());
}
