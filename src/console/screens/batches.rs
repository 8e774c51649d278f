//! How far batches are: numbers that add up, the pace, and when they may end.

use std::sync::Arc;

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::Ask;
use crate::console::address::{Query, Screen};
use crate::console::block::{Block, Cell, Mood, Table, span};
use crate::console::hour::Counts;
use crate::console::link::{Ports, Trouble};
use crate::console::page::{Shown, refused};
use crate::console::{Console, Seen, chart};
use crate::contract::{BatchId, BatchState, Orders, ProviderName, Reason};
use crate::operations::batch::{self, Account, Book, Listed, Series, Status};
use crate::operations::steering::{Steering, SteeringError};

/// The orders in force. Who may read the outcomes may not be allowed to read these: then none are told.
async fn orders(ports: &Ports, provider: &ProviderName) -> Result<Orders, Trouble> {
    let steering = Steering::new(ports.inspector.clone(), ports.publisher.clone(), provider);
    match steering.orders().await {
        Err(SteeringError::Inspect(crate::broker::InspectError::Refused { .. })) => Ok(Orders::default()),
        orders => Ok(orders?),
    }
}

impl Console {
    async fn batches(&self, ask: Ask<'_>) -> Result<Seen<Vec<Listed>>, Trouble> {
        let provider = self.provider.clone();
        let look = move |ports: Arc<Ports>| async move {
            let orders = orders(&ports, &provider).await?;
            Ok(batch::list(&*ports.inspector, &provider, &orders).await?)
        };
        self.look(&self.batches, ask.patience(4), look).await
    }

    async fn book(&self, ask: Ask<'_>, batch: &BatchId) -> Result<Seen<(Book, Orders)>, Trouble> {
        let (provider, id, now) = (self.provider.clone(), batch.clone(), self.clock.now());
        let look = move |ports: Arc<Ports>| async move {
            let orders = orders(&ports, &provider).await?;
            let book = Book::read(&*ports.inspector, &provider, &id, None, now).await?;
            Ok((book, orders))
        };
        self.look_alone(&self.books.of(batch.as_str()), ask.patience(5), look)
            .await
    }
}

pub async fn shown(console: &Console, ask: Ask<'_>) -> Result<Vec<Block>, Trouble> {
    let (listed, now) = (console.batches(ask).await?, console.clock.now());
    let heads = [
        "Batch",
        "State",
        "Opened",
        "Closed",
        "Files",
        "Commands",
        "Ordered by",
        "Since",
    ];
    let mut table = Table::new("batches", "Batches, the latest first", &heads)
        .empty("The audit log has no batch of this provider: `usher publish --batch NAME` opens one.");
    for one in listed.value.iter().rev() {
        let order = one.order.as_ref();
        let state = match order.map(|order| order.state) {
            Some(BatchState::Paused) => Cell::state(Mood::Waits, "paused"),
            Some(BatchState::Cancelled) => Cell::state(Mood::Bad, "cancelled"),
            None if one.closed => Cell::state(Mood::Good, "all published"),
            None => Cell::state(Mood::Busy, "open"),
        };
        table.rows.push(vec![
            Cell::link(&one.batch_id, Screen::Batch(one.batch_id.clone()).path()),
            state,
            Cell::time(one.opened_at, now),
            Cell::time(one.closed_at, now),
            Cell::Number(one.files as u64),
            one.commands.map_or(Cell::None, Cell::Number),
            Cell::maybe(order.map(|order| order.by.as_str())),
            Cell::time(order.map(|order| order.since), now),
        ]);
    }
    Ok(vec![Block::Table(table)])
}

pub async fn one(console: &Console, ask: Ask<'_>, id: &str) -> Result<Shown, Trouble> {
    let Some(batch) = BatchId::parse(id) else {
        return Ok(refused(StatusCode::NOT_FOUND, "This is no id of a batch."));
    };
    let (seen, now) = (console.book(ask, &batch).await?, console.clock.now());
    let (book, orders) = &*seen.value;
    if !book.is_known() {
        let elsewhere = match book.elsewhere.is_empty() {
            true => String::new(),
            false => format!(" It was opened for {}.", book.elsewhere.join(", ")),
        };
        let why = format!(
            "Nothing is known of this batch of {}.{elsewhere}",
            console.provider
        );
        return Ok(refused(StatusCode::NOT_FOUND, &why));
    }
    let status = book.status(orders, seen.at);
    let mut blocks = vec![verdict(&status)];
    blocks.extend(
        status
            .held
            .iter()
            .map(|held| Block::note(Mood::Waits, held.clone())),
    );
    if status.cancelled {
        let text = "It is cancelled: commands that have made no call end as failures.";
        blocks.push(Block::note(Mood::Bad, text));
    }
    let ordered = orders.batch(&batch).map(|order| order.state);
    blocks.extend(super::actions::on_batch(ask, id, ordered));
    blocks.extend(conservation(&status.account));
    blocks.push(pace(&status, now));
    blocks.extend(book.tally.series.as_ref().map(series));
    blocks.push(Block::Table(reasons(&status)));
    blocks.extend(status.missing.iter().map(|missing| {
        let text = format!("Missing: {missing}");
        Block::note(Mood::Unknown, text)
    }));
    blocks.push(Block::Text(
        "Report: `usher batch report ID --html FILE --csv FILE` writes a page to keep, and a row for each command.".to_owned(),
    ));
    Ok(blocks.into())
}

fn verdict(status: &Status) -> Block {
    let share = status.share.map_or(String::new(), |share| {
        // A command that is left is shown.
        let percent = if share < 1.0 {
            (share * 100.0).min(99.9)
        } else {
            100.0
        };
        format!("{percent:.1} % have ended. ")
    });
    let failed = status.account.counts.failed;
    let (mood, text) = match (status.done, failed) {
        (true, 0) => (Mood::Good, "All commands have ended, and none failed.".to_owned()),
        (true, failed) => (Mood::Bad, format!("All commands have ended; {failed} failed.")),
        (false, _) if status.held.is_some() => (Mood::Waits, format!("{share}It is paused.")),
        (false, 0) => (Mood::Busy, format!("{share}It goes on, and none has failed.")),
        (false, failed) => (Mood::Busy, format!("{share}It goes on; {failed} failed.")),
    };
    Block::Verdict { mood, text }
}

/// Where each published command is: the numbers add up.
fn conservation(account: &Account) -> Vec<Block> {
    let counts = &account.counts;
    let mut parts = vec![
        ("good", Mood::Good, "succeeded", counts.succeeded),
        (
            "same",
            Mood::Good,
            "unchanged: the user was as asked",
            counts.unchanged,
        ),
        ("bad", Mood::Bad, "failed", counts.failed),
        ("busy", Mood::Busy, "in flight", counts.in_flight),
    ];
    if let Some(waiting) = account.waiting {
        parts.push(("waits", Mood::Waits, "waiting", waiting));
    }
    if let Some(not_seen) = account.not_seen {
        let word = "not seen: waiting, or ended before the log begins";
        parts.push(("waits", Mood::Unknown, word, not_seen));
    }
    let drawn: Vec<_> = parts
        .iter()
        .map(|(class, _, _, count)| (*class, *count))
        .collect();
    let mut table = Table::new("account", "Where each command is", &["State", "Commands"]);
    for (_, mood, word, count) in &parts {
        table
            .rows
            .push(vec![Cell::state(*mood, *word), Cell::Number(*count)]);
    }
    let published = account.published.map_or(Cell::text("not known"), Cell::Number);
    table
        .rows
        .push(vec![Cell::text("published, which is the sum"), published]);
    if counts.running_again > 0 {
        table.note = format!("{} that ended run once more.", counts.running_again);
    }
    vec![
        Block::Drawing {
            title: "All published commands".to_owned(),
            svg: chart::parts(&drawn),
            legend: Vec::new(),
        },
        Block::Table(table),
    ]
}

fn seconds(seconds: f64) -> String {
    span(SignedDuration::try_from_secs_f64(seconds.clamp(0.0, 1e12).ceil()).unwrap_or_default())
}

fn pace(status: &Status, now: Timestamp) -> Block {
    let pace = &status.pace;
    let mut facts = vec![
        ("Opened".to_owned(), vec![Cell::time(status.opened_at, now)]),
        (
            "All published".to_owned(),
            vec![Cell::time(status.closed_at, now)],
        ),
        ("Files".to_owned(), vec![Cell::Number(status.files as u64)]),
        (
            "Has taken".to_owned(),
            vec![Cell::text(seconds(status.elapsed_seconds))],
        ),
        (
            "Pace".to_owned(),
            vec![Cell::text(format!(
                "{:.1}/s in the last minute, {:.1}/s in the last ten",
                pace.last_minute, pace.last_ten_minutes
            ))],
        ),
    ];
    if let Some(pinned) = pace.pinned {
        facts.push((
            "Pinned".to_owned(),
            vec![Cell::Amount(format!("{pinned:.1} calls/s"))],
        ));
    }
    let ends = match status.left {
        Some(left) => vec![
            Cell::text(format!("about {}", seconds(left.seconds))),
            match left.most_seconds > 1.1 * left.least_seconds {
                true => Cell::text(format!(
                    "({} to {}),",
                    seconds(left.least_seconds),
                    seconds(left.most_seconds)
                )),
                false => Cell::text("·"),
            },
            Cell::time(Some(left.ends_at), now),
        ],
        None if status.done => vec![Cell::text("it has ended")],
        None if status.held.is_some() => vec![Cell::text("no end is told while it is paused")],
        None => vec![Cell::text("not known")],
    };
    facts.push(("Left".to_owned(), ends));
    if let Some(users) = status.users_held {
        facts.push(("Users held back".to_owned(), vec![Cell::Number(users as u64)]));
    }
    Block::Facts(facts)
}

fn series(series: &Series) -> Block {
    let counts: Vec<_> = series
        .buckets
        .iter()
        .map(|bucket| Counts {
            begun: 0,
            succeeded: bucket.ended.saturating_sub(bucket.failed),
            failed: bucket.failed,
        })
        .collect();
    Block::Drawing {
        title: format!(
            "Outcomes from {:.0} to {:.0}, in spans of {}",
            series.from(),
            series.until(),
            span(SignedDuration::from_secs(series.bucket_seconds))
        ),
        svg: chart::minutes(&counts),
        legend: vec![("good", "succeeded".to_owned()), ("bad", "failed".to_owned())],
    }
}

fn reasons(status: &Status) -> Table {
    let mut table = Table::new(
        "reasons",
        "Failures, by reason",
        &["Commands", "Reason", "What to do"],
    )
    .empty("No command of it has failed.");
    for (reason, count) in &status.account.counts.reasons {
        let query = Query::default()
            .with("batch", &status.batch_id)
            .with("reason", reason.as_str());
        table.rows.push(vec![
            Cell::Number(*count),
            Cell::link(
                reason.as_str(),
                format!("{}{}", Screen::Failures.path(), query.text()),
            ),
            Cell::text(Reason::remedy(*reason)),
        ]);
    }
    table
}
