//! What a bulk publish will do is shown before its first command, and somebody agrees to it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use usher::contract::{Failure, Field, Reason, UpdateUser};
use usher::operations::effect::{self, Effect, GUARDED};

use super::args::Args;
use crate::cli::{counted, exit, note, say};

/// Whether somebody agrees. `effect`: what all of the input does, if it was checked first.
pub async fn given(args: &Args, effect: Option<&Effect>) -> anyhow::Result<bool> {
    let Some(effect) = effect else {
        return match args.yes {
            true => Ok(true),
            false => Err(exit::usage(
                "what this bulk publish does to users is unknown before it is read: nothing was sent; add --yes to publish \
                 it all the same, or publish a file, which is checked first",
            )),
        };
    };
    let missing: Vec<_> = GUARDED
        .into_iter()
        .filter(|field| effect.changes(*field) > 0 && !args.allowed().contains(field))
        .collect();
    // It belongs to the question, or to the error, where there is one.
    let tell = match args.yes && missing.is_empty() {
        true => note,
        false => say,
    };
    tell(&format!(
        "usher: this bulk publish of {}:",
        counted(effect.commands, "command")
    ));
    for line in effect.lines() {
        tell(&format!("    {line}"));
    }
    if !missing.is_empty() {
        return Err(exit::usage(format_args!(
            "changes of these fields reach users, so a bulk publish names them: nothing was sent; add --allow {}",
            effect::names(args.allowed().into_iter().chain(missing))
        )));
    }
    if args.yes {
        return Ok(true);
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(exit::usage(
            "there is no terminal to ask on: nothing was sent; add --yes to publish it",
        ));
    }
    tokio::task::spawn_blocking(ask).await?
}

fn ask() -> anyhow::Result<bool> {
    let _ = io::stderr().write_all(b"Go on? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// The same for one command, where the effect of the whole is unknown.
pub fn refuse(args: &Args, command: &UpdateUser) -> Result<(), Failure> {
    let changed = |field: &Field| command.update.shared(*field).is_some();
    let missing = GUARDED
        .into_iter()
        .find(|field| changed(field) && !args.allowed().contains(field));
    missing.filter(|_| args.bulk).map_or(Ok(()), |field| {
        let detail = format!(
            "a bulk publish names this field, because changes of it reach users: add --allow {}",
            field.name()
        );
        Err(Failure::new(Reason::Invalid, detail).at(field.pointer()))
    })
}
