//! `usher check --show-request`: the request that a command would become, built by its adapter.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use usher::contract::decode::{BODY_BYTES_MAX, decode};
use usher::contract::{Failure, Reason, UpdateUser};
use usher::provider::Provider;
use usher::provider::rehearsal::{Rehearsal, Unsent};

use super::super::exit::{self, Exit};
use super::super::{Context, assemble, print};

/// The requests that would be sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    /// The read before the write, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<Unsent>,
    /// `None` if it depends on the user that is read.
    pub(super) write: Option<Unsent>,
    /// The second call of the write, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    further: Option<Unsent>,
}

pub(super) async fn show(context: &Context, file: &Path, json: bool) -> anyhow::Result<Exit> {
    let config = context.silent_config()?;
    let (provider, rehearsal) = assemble::rehearsed(&config.provider)?;
    let command = command(file)?;
    if command.provider != config.provider.name {
        let detail = format!(
            "this configuration is {}'s; name that provider",
            config.provider.name
        );
        let failure = Failure::new(Reason::Invalid, detail).at("/provider");
        return Err(exit::usage(failure));
    }
    provider.check(&command).map_err(exit::usage)?;
    let shown = rehearse(&*provider, &rehearsal, &command).await?;
    print(&match json {
        true => format!("{}\n", serde_json::to_string_pretty(&shown)?),
        false => text(&shown),
    })?;
    Ok(Exit::Done)
}

/// Reads no more of the file than a command may have, plus one byte to detect that it is too long.
fn command(file: &Path) -> anyhow::Result<UpdateUser> {
    let mut body = Vec::new();
    let most = BODY_BYTES_MAX as u64 + 1;
    let read = match file == Path::new("-") {
        true => io::stdin().take(most).read_to_end(&mut body),
        false => File::open(file).and_then(|file| file.take(most).read_to_end(&mut body)),
    };
    read.map_err(|error| exit::usage(format_args!("{}: {error}", file.display())))?;
    decode(&body).map_err(exit::usage)
}

pub(super) async fn rehearse(
    provider: &dyn Provider,
    rehearsal: &Rehearsal,
    command: &UpdateUser,
) -> anyhow::Result<Shown> {
    let mut shown = Shown {
        read: None,
        write: None,
        further: None,
    };
    let several = provider.calls_of_write(command) > 1;
    if !provider.reads_before_write(command) {
        provider.update(command, None).await.map_err(exit::usage)?;
        shown.write = rehearsal.requests().pop();
        if several && provider.update_further(command, None, 1).await.is_ok() {
            shown.further = rehearsal.requests().pop();
        }
        return Ok(shown);
    }
    let nobody = provider.read(&command.user_id).await;
    shown.read = rehearsal.requests().pop();
    // If an empty user is not enough to build the request, there is none.
    if let Ok(nobody) = nobody
        && provider.update(command, Some(&nobody)).await.is_ok()
    {
        shown.write = rehearsal.requests().pop();
        if several && provider.update_further(command, Some(&nobody), 1).await.is_ok() {
            shown.further = rehearsal.requests().pop();
        }
    }
    Ok(shown)
}

fn text(shown: &Shown) -> String {
    let mut text = String::new();
    if let Some(read) = &shown.read {
        text.push_str("The user is read first:\n\n");
        text.push_str(&request(read));
        text.push_str(match shown.write {
            Some(_) => "\nThis is sent then; here over a user of whom nothing is shown:\n\n",
            None => "\nWhat is sent then depends on that user, and can't be shown without one.\n",
        });
    }
    if let Some(write) = &shown.write {
        text.push_str(&request(write));
    }
    if let Some(further) = &shown.further {
        text.push_str("\nAnd after it:\n\n");
        text.push_str(&request(further));
    }
    text
}

fn request(request: &Unsent) -> String {
    let mut text = format!("{} {}\n", request.method, request.url);
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\n"));
    }
    if let Some(body) = &request.body {
        text.push_str(&format!("\n{body}\n"));
    }
    text
}
