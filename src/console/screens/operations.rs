//! What operators did, who it was, and how far it is.

use std::sync::Arc;

use axum::http::StatusCode;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Ask, counted};
use crate::console::address::Screen;
use crate::console::block::{Block, Cell, Mood, Table};
use crate::console::link::{Ports, Trouble};
use crate::console::page::{Shown, refused};
use crate::console::{Console, Seen, chart};
use crate::contract::lifecycle::{Counts, OperationKind};
use crate::operations::operation::{self, FailedAgain, Record, State};

/// The latest operations that are shown: the state of each that has not ended is asked for.
const SHOWN_MAX: usize = 200;

/// The most commands that failed again and are listed.
const FAILED_MAX: usize = 500;

type Records = Vec<(Record, State)>;

impl Console {
    pub async fn records(&self, ask: Ask<'_>) -> Result<Seen<Records>, Trouble> {
        let look = |ports: Arc<Ports>| async move {
            let mut records = operation::records(&*ports.inspector).await?;
            let mut found = Vec::new();
            for record in records.drain(records.len().saturating_sub(SHOWN_MAX)..) {
                let state = operation::state(&*ports.inspector, &record).await?;
                found.push((record, state));
            }
            Ok(found)
        };
        self.look(&self.records, ask.patience(4), look).await
    }
}

pub async fn shown(console: &Console, ask: Ask<'_>) -> Result<Vec<Block>, Trouble> {
    let (records, now) = (console.records(ask).await?, console.clock.now());
    let heads = [
        "Planned",
        "What",
        "State",
        "By",
        "Done",
        "Planned for",
        "Progress",
        "Failed again",
        "Filter",
        "Operation",
    ];
    let mut table = Table::new("operations", "Operations, the latest first", &heads)
        .empty("The audit log knows of no operation.");
    for (record, state) in records.value.iter().rev() {
        let counts = record.counts;
        table.rows.push(vec![
            Cell::time(Some(record.planned_at), now),
            Cell::text(record.planned.kind.as_str()),
            state_cell(*state),
            Cell::text(&record.planned.by),
            Cell::Number(counts.done),
            Cell::Number(counts.planned),
            Cell::Drawn(progress(counts)),
            Cell::Number(counts.failed),
            Cell::text(filter(record)),
            Cell::link(short(record.id()), Screen::Operation(record.id()).path()),
        ]);
    }
    let running = records
        .value
        .iter()
        .filter(|(_, state)| *state == State::Running)
        .count() as u64;
    let interrupted = records
        .value
        .iter()
        .filter(|(_, state)| *state == State::Interrupted)
        .count() as u64;
    let (mood, text) = match (running, interrupted) {
        (0, 0) => (
            Mood::Good,
            "No operation runs, and none is interrupted.".to_owned(),
        ),
        (running, 0) => (Mood::Busy, format!("{} running.", counted(running, "operation"))),
        (running, interrupted) => (
            Mood::Waits,
            format!(
                "{} interrupted and can be resumed or aborted; {running} running.",
                counted(interrupted, "operation")
            ),
        ),
    };
    Ok(vec![Block::Verdict { mood, text }, Block::Table(table)])
}

pub async fn one(console: &Console, ask: Ask<'_>, id: Uuid) -> Result<Shown, Trouble> {
    let (records, now) = (console.records(ask).await?, console.clock.now());
    let Some((record, state)) = records.value.iter().find(|(record, _)| record.id() == id) else {
        let why = format!("The audit log has no operation {id} among the latest {SHOWN_MAX}.");
        return Ok(refused(StatusCode::NOT_FOUND, &why));
    };
    let mut blocks = facts(record, *state, now);
    blocks.extend(super::actions::on_operation(ask, id, *state));
    if let Some(told) = console.runs.told(id) {
        blocks.push(Block::note(Mood::Busy, told));
    }
    if record.planned.kind == OperationKind::Redrive {
        blocks.extend(failed_again(console, ask, record, now).await?);
    }
    Ok(blocks.into())
}

fn facts(record: &Record, state: State, now: Timestamp) -> Vec<Block> {
    let (planned, counts) = (&record.planned, record.counts);
    let mut facts = vec![
        ("What".to_owned(), vec![Cell::text(planned.kind.as_str())]),
        ("State".to_owned(), vec![state_cell(state)]),
        ("By".to_owned(), vec![Cell::text(&planned.by)]),
        (
            "Planned".to_owned(),
            vec![Cell::time(Some(record.planned_at), now)],
        ),
        (
            "Last told".to_owned(),
            vec![Cell::time(Some(record.last_at), now)],
        ),
        ("Provider".to_owned(), vec![Cell::text(record.provider.as_str())]),
        ("Filter".to_owned(), vec![Cell::text(filter(record))]),
        ("Starts".to_owned(), vec![Cell::Number(record.starts)]),
        ("Planned for".to_owned(), vec![Cell::Number(counts.planned)]),
        ("Done".to_owned(), vec![Cell::Number(counts.done)]),
    ];
    if planned.kind == OperationKind::Redrive {
        facts.push(("Succeeded".to_owned(), vec![Cell::Number(counts.succeeded)]));
        facts.push(("Failed again".to_owned(), vec![Cell::Number(counts.failed)]));
        // Nobody followed those that were in flight when it was stopped: the numbers add up all the same.
        let seen = counts.succeeded + counts.failed;
        let unseen = counts.done.saturating_sub(seen);
        facts.push(("Outcome not seen".to_owned(), vec![Cell::Number(unseen)]));
    }
    for (name, value) in &planned.options {
        facts.push((format!("Option {name}"), vec![Cell::text(value)]));
    }
    vec![
        Block::Facts(facts),
        Block::Drawing {
            title: "Done of what was planned".to_owned(),
            svg: progress(counts),
            legend: Vec::new(),
        },
    ]
}

async fn failed_again(
    console: &Console,
    ask: Ask<'_>,
    record: &Record,
    now: Timestamp,
) -> Result<Vec<Block>, Trouble> {
    let of = record.clone();
    let look = |ports: Arc<Ports>| async move { Ok(operation::failed_again(&*ports.inspector, &of).await?) };
    let shared = console.failed_again.of(&record.id().to_string());
    let failed: Seen<Vec<FailedAgain>> = match console.look_alone(&shared, ask.patience(10), look).await {
        Err(Trouble::Slow) => {
            let text = "Which commands failed again is still being read in the outcome log; it follows.";
            return Ok(vec![Block::note(Mood::Busy, text)]);
        }
        failed => failed?,
    };
    let heads = ["Command", "User", "Reason", "Code", "When"];
    let mut table = Table::new("failed", "Failed again", &heads).empty("None is known to have failed again.");
    for failure in failed.value.iter().take(FAILED_MAX) {
        table.rows.push(vec![
            Cell::link(&failure.id, Screen::Failure(failure.id.clone()).path()),
            Cell::maybe(failure.user.as_deref()),
            Cell::text(&failure.reason),
            failure.code.clone().map_or(Cell::None, Cell::Code),
            Cell::time(Some(failure.at), now),
        ]);
    }
    let beyond = failed.value.len().saturating_sub(FAILED_MAX);
    if beyond > 0 {
        table.note = format!(
            "{beyond} more: `usher operations show {}` lists them.",
            record.id()
        );
    }
    Ok(vec![Block::Table(table)])
}

fn progress(counts: Counts) -> String {
    let what = "Done of what was planned, in the numbers beside it";
    chart::gauge(what, counts.done as f64, None, counts.planned as f64)
}

fn state_cell(state: State) -> Cell {
    let mood = match state {
        State::Planned | State::Interrupted => Mood::Waits,
        State::Running => Mood::Busy,
        State::Open => Mood::Unknown,
        State::Done => Mood::Good,
        State::Aborted | State::Stopped => Mood::Bad,
    };
    Cell::state(mood, state.as_str())
}

fn filter(record: &Record) -> String {
    let planned = &record.planned;
    let options = planned.options.iter().filter(|_| planned.kind.is_order());
    let parts: Vec<_> = planned
        .filter
        .iter()
        .chain(options)
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    parts.join(", ")
}

fn short(id: Uuid) -> String {
    id.to_string().chars().take(8).collect()
}
