//! `usher dead-letters redrive` and `discard`: what they would do, and with --yes they do it.

use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use usher::broker;
use usher::contract::ProviderName;
use usher::contract::lifecycle::{OperationEnd, OperationKind};
use usher::operations::operation::{self, Access, Options, Plan, Plans, Rate, Ready, Report};
use usher::operations::steering::{HEARD_WITHIN, Steering};
use usher::worker::Shutdown;

use super::choose::Choose;
use crate::cli::exit::{self, Exit};
use crate::cli::operator::By;
use crate::cli::{Context, counted, note, print, printable, say, signals};

#[derive(clap::Args)]
pub struct RedriveArgs {
    #[command(flatten)]
    change: Change,
    /// Dead letters per second. Default: a tenth of the pace that the provider holds; 5/s where no worker tells it
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
    /// How many to send first. The rest waits for their outcomes, and is not sent if more than a fifth failed again; 0: none
    #[arg(long, value_name = "N", default_value_t = Options::default().canary)]
    canary: u64,
    /// The longest wait for outcomes, such as 10m
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = span)]
    canary_timeout: Duration,
    /// Send interactive commands as interactive ones again, and not as bulk traffic
    #[arg(long)]
    interactive: bool,
}

#[derive(clap::Args)]
pub struct DiscardArgs {
    #[command(flatten)]
    change: Change,
}

#[derive(clap::Args)]
struct Change {
    #[command(flatten)]
    choose: Choose,
    /// All dead letters. Needed where no other option chooses some
    #[arg(long)]
    all: bool,
    /// Do it. Without this, it is only shown what would be done
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    by: By,
    /// Print what is planned and what was done on stdout, as JSON
    #[arg(long)]
    json: bool,
}

fn span(text: &str) -> Result<Duration, String> {
    let span: Option<SignedDuration> = text.parse().ok();
    let span = span.and_then(|span| Duration::try_from(span).ok());
    span.filter(|span| (1..=24 * 3600).contains(&span.as_secs()))
        .ok_or_else(|| "give a span from 1s to 24h, such as 10m".to_owned())
}

#[derive(Serialize)]
struct Account<'a> {
    planned: &'a Plans,
    operations: Vec<Report>,
}

pub async fn redrive(context: &Context, args: RedriveArgs) -> anyhow::Result<Exit> {
    let options = Options {
        canary: args.canary,
        canary_timeout: args.canary_timeout,
        interactive: args.interactive,
        ..Options::default()
    };
    change(context, args.change, OperationKind::Redrive, options, args.rate).await
}

pub async fn discard(context: &Context, args: DiscardArgs) -> anyhow::Result<Exit> {
    change(
        context,
        args.change,
        OperationKind::Discard,
        Options::default(),
        None,
    )
    .await
}

async fn change(
    context: &Context,
    change: Change,
    kind: OperationKind,
    mut options: Options,
    rate: Option<Rate>,
) -> anyhow::Result<Exit> {
    let config = context.broker()?;
    let filter = change.choose.filter()?;
    if filter.is_empty() != change.all {
        return Err(exit::usage(match change.all {
            false => {
                "nothing says which dead letters: choose some (such as --reason conflict), or give --all"
            }
            true => "--all stands alone: leave it out, or the other options that choose dead letters",
        }));
    }
    let by = change.yes.then(|| change.by.name()).transpose()?;
    let access = super::access(&config).await?;
    let plans = operation::plan(&access, &filter)
        .await
        .map_err(|error| super::not_operated(&config, &error))?;
    // With --json, stdout has one JSON text.
    match change.json {
        true => note(plans_in_words(kind, &plans).trim_end()),
        false => print(&plans_in_words(kind, &plans))?,
    }
    let mut reports = Vec::new();
    let mut exit = Exit::Done;
    if let Some(by) = by {
        let shutdown = Shutdown::new();
        signals::stop_on_signals(shutdown.clone())?;
        for plan in &plans.plans {
            if shutdown.is_draining() {
                exit = Exit::Interrupted;
                break;
            }
            if kind == OperationKind::Redrive {
                options.rate = match rate {
                    Some(rate) => rate,
                    None => default_rate(&access, &plan.provider).await,
                };
            }
            let ready = operation::start(&access, kind, plan, &filter, &by, &options).await;
            let ready = ready.map_err(|error| super::not_operated(&config, &error))?;
            note(&format!("usher: operation {}", ready.id()));
            let (report, ended) = run(&config, ready, &shutdown).await?;
            reports.push(report);
            exit = worse(exit, ended);
        }
    } else if !plans.plans.is_empty() {
        note("usher: nothing was changed; add --yes to do it");
    }
    if change.json {
        let account = Account {
            planned: &plans,
            operations: reports,
        };
        print(&format!("{}\n", serde_json::to_string_pretty(&account)?))?;
    }
    super::close(&access).await;
    Ok(exit)
}

/// Whoever may not hear the workers gets the default, too.
async fn default_rate(access: &Access, provider: &ProviderName) -> Rate {
    let steering = Steering::new(access.inspector.clone(), access.publisher.clone(), provider);
    let heard = steering.listen(HEARD_WITHIN).await.unwrap_or_default();
    let rate = match heard.notices.first() {
        Some(notice) => Rate::tenth_of(&notice.pace),
        None => Rate::default(),
    };
    note(&format!("usher: {rate} (--rate sets another)"));
    rate
}

fn worse(one: Exit, other: Exit) -> Exit {
    match (one, other) {
        (Exit::Interrupted, _) | (_, Exit::Interrupted) => Exit::Interrupted,
        (Exit::Done, other) => other,
        (one, _) => one,
    }
}

/// Runs an operation, and says how it ended.
pub async fn run(
    config: &broker::Config,
    ready: Ready,
    shutdown: &Shutdown,
) -> anyhow::Result<(Report, Exit)> {
    let id = ready.id();
    let tell = |line: &str| note(&format!("usher: {line}"));
    let ran = tokio::select! {
        ran = ready.run(shutdown, &tell) => ran,
        () = shutdown.aborting() => {
            resumable(id);
            return Err(exit::with(Exit::Interrupted, "stopped at once"));
        }
    };
    let report = ran.map_err(|error| {
        if error.is_out_of_reach() {
            resumable(id);
        }
        super::not_operated(config, &error)
    })?;
    let line = format!("usher: {}", in_words(&report));
    match report.end {
        Some(OperationEnd::Stopped) | None => say(&line),
        Some(_) => note(&line),
    }
    let exit = match report.end {
        None => {
            resumable(id);
            Exit::Interrupted
        }
        Some(OperationEnd::Stopped) => Exit::Failures,
        Some(_) if report.counts.failed > 0 => Exit::Failures,
        Some(_) => Exit::Done,
    };
    Ok((report, exit))
}

fn resumable(id: uuid::Uuid) {
    say(&format!(
        "usher: to go on: `usher operations resume {id}`; to end it: `usher operations abort {id}`"
    ));
}

/// Such as `done: 90 of 100 sent again; 80 succeeded, 5 failed again, 5 without an outcome yet`.
pub fn in_words(report: &Report) -> String {
    let counts = report.counts;
    let end = report.end.map_or("interrupted", OperationEnd::as_str);
    let what = match report.kind {
        OperationKind::Redrive => "sent again",
        _ => "removed",
    };
    let mut text = format!("{end}: {} of {} {what}", counts.done, counts.planned);
    if report.kind == OperationKind::Redrive {
        let open = counts.done.saturating_sub(counts.succeeded + counts.failed);
        text += &format!(
            "; {} succeeded, {} failed again, {open} without a known outcome",
            counts.succeeded, counts.failed
        );
    }
    if let Some(why) = &report.why {
        text += &format!(" ({why})");
    }
    text
}

fn plans_in_words(kind: OperationKind, plans: &Plans) -> String {
    let mut text = String::new();
    for plan in &plans.plans {
        text += &plan_in_words(kind, plan);
    }
    if plans.plans.is_empty() {
        text += "no dead letter is chosen\n";
    }
    if plans.unusable > 0 {
        text += &format!(
            "{} more, which do not say where they came from, are left alone\n",
            plans.unusable
        );
    }
    if plans.consumers > 0 {
        let others = counted(plans.consumers, "other consumer");
        text += &format!("{others} of the queue may hold more, which can't be seen\n");
    }
    text
}

fn plan_in_words(kind: OperationKind, plan: &Plan) -> String {
    let what = match kind {
        OperationKind::Redrive => "to send again",
        _ => "to remove for good",
    };
    let letters = counted(plan.count, "dead letter");
    let mut text = format!(
        "{}: {letters} {what}, of {}\n",
        plan.provider,
        counted(plan.users, "user")
    );
    for (reason, count) in &plan.reasons {
        text += &format!("  {count}  reason {reason}\n");
    }
    for (batch, count) in &plan.batches {
        text += &format!("  {count}  batch {}\n", printable(batch));
    }
    if plan.other_batches > 0 {
        text += &format!("  {}  in other batches, or in none\n", plan.other_batches);
    }
    text
}

/// Whether somebody else's operation is worth resuming is decided here, too.
pub async fn resume(
    config: &broker::Config,
    access: &Access,
    id: uuid::Uuid,
) -> anyhow::Result<(Report, Exit)> {
    let ready = operation::resume(access, id).await;
    let ready = ready.map_err(|error| super::not_operated(config, &error))?;
    let shutdown = Shutdown::new();
    signals::stop_on_signals(shutdown.clone())?;
    run(config, ready, &shutdown).await
}
