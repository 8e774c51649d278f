//! `usher schema`: the published schemas.

use clap::ValueEnum;
use serde_json::Value;
use usher::{config, contract};

use super::exit::Exit;

#[derive(clap::Args)]
pub struct Args {
    name: Name,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// The command that a publisher sends
    Command,
    /// The event that a subscriber receives
    Event,
    /// The events of a provider as a whole: paused, resumed
    Lifecycle,
    /// usher.toml
    Config,
    /// Channels and messages on the broker, as AsyncAPI 3.0
    Asyncapi,
}

pub fn schema(args: &Args) -> anyhow::Result<Exit> {
    let schema: Value = match args.name {
        Name::Command => contract::schema::command().into(),
        Name::Event => contract::schema::event().into(),
        Name::Lifecycle => contract::schema::lifecycle().into(),
        Name::Config => config::schema().into(),
        Name::Asyncapi => contract::asyncapi::document(),
    };
    super::print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
    Ok(Exit::Done)
}
