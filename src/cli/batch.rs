//! `usher batch`: orders for the commands of one batch, and how far it is.

mod account;
mod chart;
mod csv;
mod html;
mod report;
mod verify;
mod watch;

use clap::Subcommand;
use jiff::Timestamp;
use usher::contract::{BatchId, BatchState};

use super::exit::{self, Exit};
use super::operator::{By, Operator, Scope, refused};
use super::times::{self, back};
use super::{Context, print};

#[derive(Subcommand)]
pub enum Verb {
    /// List the provider's batches in the audit log, the oldest first, with the orders in force
    List(account::List),
    /// Show how far a batch is, its pace, and when it may end. Exit code 1: it has failures
    Status(account::Status),
    /// Show the same each second until all commands have ended. Exit code 1: some failed
    Watch(Which),
    /// Write what became of a batch: a row for each command, a page to read and print, or how its
    /// users are at the provider. Exit code 1: it has failures
    Report(Box<report::Args>),
    /// Let the batch's commands wait that have made no call yet. Other commands continue
    Pause(Order),
    /// Lift what was ordered for the batch
    Resume(Order),
    /// Let the batch's commands fail that have made no call yet, with dead letters. Those that have begun are finished
    Cancel {
        #[command(flatten)]
        order: Order,
        /// Do it. Without this, only say what would be done
        #[arg(long)]
        yes: bool,
    },
}

/// A batch to look at.
#[derive(clap::Args)]
pub struct Which {
    /// The batch's id, as in the commands
    #[arg(value_name = "ID")]
    batch: BatchId,
    /// From when on the outcome log is read: a time, or a span such as 2h. Default: when the batch was opened; a day, if
    /// it was not
    #[arg(long, value_name = "TIME", value_parser = back)]
    since: Option<Timestamp>,
    #[command(flatten)]
    scope: Scope,
}

#[derive(clap::Args)]
pub struct Order {
    /// The batch's id, as in the commands
    #[arg(value_name = "ID")]
    batch: BatchId,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    by: By,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Verb {
    /// Whether it has something to end when a signal comes.
    pub fn ends_in_order(&self) -> bool {
        match self {
            Self::Watch(_) => true,
            Self::Report(args) => args.reads_back(),
            _ => false,
        }
    }
}

pub async fn batch(context: &Context, verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::List(args) => account::list(context, args).await,
        Verb::Status(args) => account::status(context, args).await,
        Verb::Watch(which) => watch::watch(context, which).await,
        Verb::Report(args) => report::report(context, *args).await,
        Verb::Pause(order) => give(context, order, Some(BatchState::Paused)).await,
        Verb::Resume(order) => give(context, order, None).await,
        Verb::Cancel { order, yes: true } => give(context, order, Some(BatchState::Cancelled)).await,
        Verb::Cancel { order, yes: false } => Err(exit::usage(format_args!(
            "this ends all commands of the batch {} that have made no call yet as failures, with a dead letter each; \
             repeat it with --yes to do it",
            order.batch.as_str()
        ))),
    }
}

async fn give(context: &Context, order: Order, state: Option<BatchState>) -> anyhow::Result<Exit> {
    let (by, since) = (order.by.name()?, times::now());
    let operator = Operator::connect(context, order.scope).await?;
    let (provider, id) = (&operator.provider, order.batch.as_str());
    let steering = operator.steering();
    let ordered = steering.order_batch(&order.batch, state, (&by, since)).await;
    operator.close().await;
    let orders = ordered.map_err(refused)?;
    let said = state.map_or("resumed", BatchState::as_str);
    print(&match order.json {
        true => format!("{}\n", serde_json::to_string_pretty(&orders)?),
        false => format!("{provider}: the batch {id} is {said}\n"),
    })?;
    Ok(Exit::Done)
}
