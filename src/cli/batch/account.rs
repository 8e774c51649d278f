//! `usher batch list` and `usher batch status`, and the account as text.

use std::fmt::Write as _;
use std::time::Duration;

use usher::broker::InspectError;
use usher::clock::Clock;
use usher::contract::{Orders, Reason};
use usher::operations::batch::{self, Book, Listed, Pace};
use usher::operations::steering::SteeringError;

use super::Which;
use crate::cli::exit::{self, Exit};
use crate::cli::operator::{Operator, Scope, refused};
use crate::cli::{Context, counted, note, print, printable, say, style, summary};

#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    scope: Scope,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct Status {
    #[command(flatten)]
    which: Which,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub async fn list(context: &Context, args: List) -> anyhow::Result<Exit> {
    let operator = Operator::connect(context, args.scope).await?;
    let orders = orders(&operator).await?;
    let listed = batch::list(&*operator.inspector, &operator.provider, &orders).await;
    let listed = listed.map_err(not_looked)?;
    operator.close().await;
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&listed)?))?;
        return Ok(Exit::Done);
    }
    if listed.is_empty() {
        note(&format!(
            "usher: the audit log has no batch for {}",
            operator.provider
        ));
    }
    for one in &listed {
        print(&format!("{}\n", line(one)))?;
    }
    Ok(Exit::Done)
}

fn line(one: &Listed) -> String {
    let mut line = printable(&one.batch_id);
    let _infallible = match (one.opened_at, one.closed_at) {
        (Some(opened), Some(closed)) => write!(line, "  opened {opened}  closed {closed}"),
        (Some(opened), None) => write!(line, "  opened {opened}  open"),
        (None, Some(closed)) => write!(line, "  closed {closed}"),
        (None, None) => write!(line, "  never opened"),
    };
    let _infallible = match one.commands {
        Some(commands) => write!(line, "  {}", counted(commands, "command")),
        None => write!(line, "  number of commands not known"),
    };
    if one.files > 1 {
        let _infallible = write!(line, " in {} files", one.files);
    }
    if let Some(order) = &one.order {
        let (state, by) = (order.state.as_str(), printable(&order.by));
        let _infallible = write!(line, "  {state} by {by} since {}", order.since);
    }
    line
}

pub async fn status(context: &Context, args: Status) -> anyhow::Result<Exit> {
    let (_, status) = looked(context, args.which).await?;
    print(&match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&status)?),
        false => marked(&status),
    })?;
    Ok(exit_of(&status))
}

/// Reads both logs and the orders, and closes the connections.
async fn looked(context: &Context, which: Which) -> anyhow::Result<(Book, batch::Status)> {
    let operator = Operator::connect(context, which.scope).await?;
    let orders = orders(&operator).await?;
    let now = Clock::System.now();
    let book = Book::read(
        &*operator.inspector,
        &operator.provider,
        &which.batch,
        which.since,
        now,
    );
    let book = book.await.map_err(not_looked)?;
    operator.close().await;
    refuse_unknown(&book)?;
    // Reading takes its time.
    let status = book.status(&orders, Clock::System.now());
    Ok((book, status))
}

pub fn not_looked(error: InspectError) -> anyhow::Error {
    refused(error.into())
}

/// The orders in force. Who may read the outcomes may not be allowed to read these: that is said, and none are told.
pub async fn orders(operator: &Operator) -> anyhow::Result<Orders> {
    match operator.steering().orders().await {
        Err(SteeringError::Inspect(InspectError::Refused { reason })) => {
            say(&format!(
                "usher: the orders can't be read, so it is not told whether an operator paused or cancelled it: {reason}"
            ));
            Ok(Orders::default())
        }
        orders => orders.map_err(refused),
    }
}

pub fn exit_of(status: &batch::Status) -> Exit {
    match status.account.counts.failed {
        0 => Exit::Done,
        _ => Exit::Failures,
    }
}

pub fn refuse_unknown(book: &Book) -> anyhow::Result<()> {
    if book.is_known() {
        return Ok(());
    }
    let elsewhere = match book.elsewhere.is_empty() {
        true => String::new(),
        false => format!("; it was opened for {}", book.elsewhere.join(", ")),
    };
    Err(exit::usage(format_args!(
        "nothing is known of the batch {} of {}{elsewhere}: neither the audit log nor the outcome log from {} on has it; check \
         the id (`usher batch list`), --provider, and --since",
        printable(book.batch.as_str()),
        book.provider,
        book.since
    )))
}

pub fn text(status: &batch::Status) -> String {
    text_with(status, str::to_owned)
}

/// The same for stdout, where failures may have a colour.
pub fn marked(status: &batch::Status) -> String {
    text_with(status, style::bad)
}

fn text_with(status: &batch::Status, bad: impl Fn(&str) -> String) -> String {
    let (id, provider) = (printable(&status.batch_id), &status.provider);
    let mut text = format!("{id} of {provider}");
    let _infallible = match (status.opened_at, status.closed_at) {
        (_, Some(closed)) => writeln!(text, ": all published at {closed}"),
        (Some(opened), None) => writeln!(text, ": open since {opened}"),
        (None, None) => writeln!(text, ": never opened"),
    };
    let mut row = |what: &str| {
        let _infallible = writeln!(text, "  {what}");
    };
    row(&totals(status));
    for (reason, count) in &status.account.counts.reasons {
        let failed = bad(&format!("{count} {reason}"));
        row(&format!("  {failed}: {}", Reason::remedy(*reason)));
    }
    if status.account.counts.running_again > 0 {
        let again = status.account.counts.running_again;
        row(&format!("{} that ended run once more", counted(again, "command")));
    }
    row(&progress(status));
    if status.cancelled {
        row("it is cancelled: commands that have made no call end as failures");
    }
    if let Some(held) = &status.held {
        row(&format!("paused: {}", printable(held)));
    }
    for missing in &status.missing {
        row(&format!("missing: {}", printable(missing)));
    }
    text
}

/// The numbers, which add up.
pub fn totals(status: &batch::Status) -> String {
    let (account, counts) = (&status.account, &status.account.counts);
    let published = match account.published {
        Some(published) => format!("{published} published"),
        None => "an unknown number published".to_owned(),
    };
    let mut text = format!(
        "{published}: {} succeeded, {} unchanged, {} failed, {} in flight",
        counts.succeeded, counts.unchanged, counts.failed, counts.in_flight
    );
    let _infallible = match (account.waiting, account.not_seen) {
        (Some(waiting), _) => write!(text, ", {waiting} waiting"),
        (None, Some(not_seen)) => write!(text, ", {not_seen} not seen"),
        (None, None) => write!(text, ", unknown how many wait"),
    };
    text
}

fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.clamp(0.0, 1e12).ceil());
    summary::span(whole.unwrap_or_default())
}

/// How far it is, its pace and its end.
pub fn progress(status: &batch::Status) -> String {
    let mut text = String::new();
    if let Some(share) = status.share {
        // A command that is left is shown.
        let percent = if share < 1.0 {
            (share * 100.0).min(99.9)
        } else {
            100.0
        };
        let _infallible = write!(text, "{percent:.1} % ");
    }
    let _infallible = write!(text, "ended in {}", span(status.elapsed_seconds));
    if let Some(share) = status.time_share {
        let _infallible = write!(text, " ({:.0} % of the time)", share * 100.0);
    }
    if status.done {
        return text;
    }
    let _infallible = write!(text, "; {}", pace(&status.pace));
    match status.left {
        Some(left) => {
            let _infallible = write!(text, "; about {} left", span(left.seconds));
            if left.most_seconds > 1.1 * left.least_seconds {
                let (least, most) = (span(left.least_seconds), span(left.most_seconds));
                let _infallible = write!(text, " ({least} to {most})");
            }
            let ends = left.ends_at.strftime("%Y-%m-%d %H:%M UTC");
            let _infallible = write!(text, ", until {ends}");
        }
        None if status.held.is_some() => text.push_str("; no end is told while it is paused"),
        None => {}
    }
    text
}

fn pace(pace: &Pace) -> String {
    let mut text = format!("{:.1}/s in the last minute", pace.last_minute);
    if pace.varies() {
        let _infallible = write!(text, ", {:.1}/s in the last ten", pace.last_ten_minutes);
    }
    if let Some(pinned) = pace.pinned {
        let _infallible = write!(text, ", pinned at {pinned:.1} calls/s");
    }
    text
}
