//! The account after a run: promises 1, 2, 3 and 5, checked from what was published, what the provider
//! saw, and what the world was told.

use std::collections::{BTreeMap, BTreeSet};

use usher::broker::Message;
use usher::contract::event::EventBody;
use usher::contract::{Fault, Reason};

use crate::commands::id;
use crate::provider::{Answer, Call};
use crate::world::{World, command_id};

/// A command as it was published.
#[derive(Debug, Clone)]
pub struct Published {
    pub number: u64,
    pub user: String,
    pub bulk: bool,
    /// What must become of it.
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Success,
    Fails(Reason),
}

#[derive(Default)]
struct Told {
    started: usize,
    terminal_ids: BTreeSet<uuid::Uuid>,
    success: bool,
    reason: Option<Reason>,
}

/// Panics with what does not add up.
pub fn check(world: &World, published: &[Published]) {
    let told = events_balance(world, published);
    nothing_is_lost(world, published, &told);
    order_is_kept(&world.provider.calls(), published);
    nothing_is_done_twice(&world.provider.calls(), published);
    last_value_stands(world, published);
}

/// Promise 2: at least one START, and one terminal event id for each run; and nobody dies unfairly (promise 5). A command
/// that failed is run again where its ack was lost and nobody knows it, and each run has its dead letter.
fn events_balance(world: &World, published: &[Published]) -> BTreeMap<String, Told> {
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    for event in world.events() {
        let told = told.entry(command_id(&event)).or_default();
        match &event.body {
            EventBody::Start(_) => told.started += 1,
            EventBody::Success(_) => told.success = true,
            EventBody::Fail(failed) => told.reason = Some(failed.error.reason),
        }
        if !matches!(event.body, EventBody::Start(_)) {
            told.terminal_ids.insert(event.id);
        }
    }
    assert_eq!(told.len(), published.len(), "commands with events");
    let dead_letters = world.dead_letters();
    for command in published {
        let told = &told[&id(command.number).to_string()];
        assert!(told.started >= 1, "no START: {command:?}");
        let command_id = id(command.number).to_string();
        let is_of_it = |dead_letter: &&Message| dead_letter.properties.message_id() == Some(&*command_id);
        let runs = match command.fate {
            Fate::Success => 1,
            Fate::Fails(_) => dead_letters.iter().filter(is_of_it).count(),
        };
        let ids = told.terminal_ids.len();
        assert!((1..=runs).contains(&ids), "{ids} terminal event ids: {command:?}");
        match command.fate {
            Fate::Success => assert!(told.success, "{:?}: {command:?}", told.reason),
            Fate::Fails(reason) => assert_eq!(told.reason, Some(reason), "{command:?}"),
        }
    }
    told
}

/// Promise 1: a FAIL has its dead letter, with the same reason, and a SUCCESS has none.
fn nothing_is_lost(world: &World, published: &[Published], told: &BTreeMap<String, Told>) {
    let mut dead: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for dead_letter in world.dead_letters() {
        let reason = dead_letter.properties.header_text("x-usher-reason").unwrap();
        dead.entry(dead_letter.properties.message_id().unwrap().to_owned())
            .or_default()
            .push(reason);
    }
    for command in published {
        let id = id(command.number).to_string();
        let reasons = dead.remove(&id).unwrap_or_default();
        match told[&id].reason {
            None => assert!(reasons.is_empty(), "a dead letter of a success: {command:?}"),
            Some(reason) => {
                assert!(!reasons.is_empty(), "no dead letter: {command:?}");
                assert!(
                    reasons.iter().all(|said| said == reason.as_str()),
                    "{reasons:?}: {command:?}"
                );
            }
        }
    }
    assert!(dead.is_empty(), "dead letters of nobody: {dead:?}");
    assert_eq!(world.waiting(), 0);
}

/// Promise 3: per user and traffic class, started calls never go back; per user they never overlap.
fn order_is_kept(calls: &[Call], published: &[Published]) {
    let order: BTreeMap<u64, usize> = published
        .iter()
        .enumerate()
        .map(|(at, command)| (command.number, at))
        .collect();
    let mut by_user: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    // Reads change nothing, and a probe reads whomever it likes.
    for call in calls.iter().filter(|call| call.number.is_some()) {
        by_user.entry(&call.user).or_default().push(call);
    }
    for calls in by_user.values() {
        for pair in calls.windows(2) {
            let ended = pair[0].ended.unwrap_or(pair[0].started);
            assert!(ended <= pair[1].started, "calls overlap: {pair:?}");
        }
        for bulk in [false, true] {
            let writes = calls
                .iter()
                .filter(|call| call.number.is_some() && call.bulk == bulk);
            let places: Vec<_> = writes.map(|call| order[&call.number.unwrap()]).collect();
            assert!(places.is_sorted(), "calls go back: {calls:?}");
        }
    }
}

/// Users whose commands come in both classes: neither knows what the other has overwritten.
fn of_both_classes(published: &[Published]) -> BTreeSet<&str> {
    let of = |bulk| {
        let of_class = published.iter().filter(move |command| command.bulk == bulk);
        of_class
            .map(|command| command.user.as_str())
            .collect::<BTreeSet<_>>()
    };
    of(true).intersection(&of(false)).copied().collect()
}

/// What was applied is not sent again, but where the provider said that it was too much.
fn nothing_is_done_twice(calls: &[Call], published: &[Published]) {
    let of_both_classes = of_both_classes(published);
    let mut by_command: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
    for call in calls.iter().filter(|call| !of_both_classes.contains(&*call.user)) {
        if let Some(number) = call.number {
            by_command.entry(number).or_default().push(call);
        }
    }
    for calls in by_command.values() {
        for pair in calls.windows(2) {
            let throttled = matches!(pair[0].answer, Some(Answer::ApplyAnd(Fault::Throttled { .. })));
            assert!(!pair[0].applied || throttled, "sent again: {pair:?}");
        }
    }
}

/// The user's state is that of the last command that had to succeed, where one class alone wrote it.
fn last_value_stands(world: &World, published: &[Published]) {
    let of_both_classes = of_both_classes(published);
    let mut last: BTreeMap<&str, &Published> = BTreeMap::new();
    let succeeding = published.iter().filter(|command| command.fate == Fate::Success);
    for command in succeeding.filter(|command| !of_both_classes.contains(&*command.user)) {
        last.insert(&command.user, command);
    }
    for (user, command) in last {
        let value = command.number.to_string();
        assert_eq!(world.provider.user(user)["nickname"], value, "{command:?}");
    }
}

/// The run's story, to compare two runs of one seed and to read a failing one.
pub fn story(world: &World) -> Vec<String> {
    let start = world.provider.calls().first().map(|call| call.started);
    let calls = world.provider.calls().into_iter().map(|call| {
        let at = call.started.duration_since(start.unwrap_or(call.started));
        let answer = match call.answer {
            Some(Answer::Ok) => "ok".to_owned(),
            Some(answer) => format!("{answer:?}"),
            None => "cut off".to_owned(),
        };
        format!(
            "{at:?} {} {:?} bulk={} applied={} {answer}",
            call.user, call.number, call.bulk, call.applied
        )
    });
    let events = world
        .events()
        .into_iter()
        .map(|event| format!("{} {:?} {}", event.time, event.event_type(), event.id));
    calls.chain(events).collect()
}
