//! `usher schema`: what others may check against.

use clap::ValueEnum;
use usher::{config, contract};

use super::exit::Exit;

#[derive(clap::Args)]
pub struct Args {
    name: Name,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// What a publisher sends
    Command,
    /// What an analytics subscriber gets
    Event,
    /// usher.toml
    Config,
}

pub fn schema(args: &Args) -> anyhow::Result<Exit> {
    let schema = match args.name {
        Name::Command => contract::schema::command(),
        Name::Event => contract::schema::event(),
        Name::Config => config::schema(),
    };
    super::print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
    Ok(Exit::Done)
}
