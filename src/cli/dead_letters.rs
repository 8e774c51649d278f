//! `usher dead-letters`: sees why commands failed, and sends them again or removes them.

pub mod change;
mod choose;
mod export;
mod list;
mod show;

use clap::Subcommand;
use usher::broker::{self, InspectError};
use usher::clock::Clock;
use usher::operations::operation::{Access, OperationError};

use super::Context;
use super::exit::{self, Exit};
use super::operator::{inspector, publisher};

#[derive(Subcommand)]
pub enum Verb {
    /// Count dead letters by their causes, or list each one. Changes nothing
    List(list::Args),
    /// Show the whole story of a dead letter, with its values hidden. Changes nothing
    Show(show::Args),
    /// Send dead letters again. Shows what it would do; does it with --yes
    Redrive(change::RedriveArgs),
    /// Remove dead letters for good. Shows what it would do; does it with --yes
    Discard(change::DiscardArgs),
    /// Write the commands of dead letters to a file, which can be edited and published. Removes nothing
    Export(export::Args),
}

impl Verb {
    pub fn ends_in_order(&self) -> bool {
        matches!(self, Self::Redrive(_) | Self::Discard(_))
    }
}

pub async fn dead_letters(context: &Context, verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::List(args) => list::list(context, args).await,
        Verb::Show(args) => show::show(context, args).await,
        Verb::Redrive(args) => change::redrive(context, args).await,
        Verb::Discard(args) => change::discard(context, args).await,
        Verb::Export(args) => export::export(context, args).await,
    }
}

pub async fn access(config: &broker::Config) -> anyhow::Result<Access> {
    Ok(Access {
        inspector: inspector(config).await?,
        publisher: publisher(config).await?,
        clock: Clock::System,
    })
}

pub async fn close(access: &Access) {
    access.publisher.close().await;
    access.inspector.close().await;
}

pub fn not_inspected(config: &broker::Config, error: &InspectError) -> anyhow::Error {
    match error {
        InspectError::Lost { .. } => out_of_reach(config, error),
        InspectError::NoQueue { .. } | InspectError::Refused { .. } => exit::usage(error),
    }
}

pub fn not_operated(config: &broker::Config, error: &OperationError) -> anyhow::Error {
    match error.is_out_of_reach() {
        true => out_of_reach(config, error),
        false => exit::usage(error),
    }
}

fn out_of_reach(config: &broker::Config, error: &impl std::fmt::Display) -> anyhow::Error {
    exit::with(Exit::OutOfReach, format_args!("{}: {error}", config.url))
}
