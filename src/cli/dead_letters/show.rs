//! `usher dead-letters show`

use serde_json::{Map, Value, json};
use usher::contract::{ProviderName, dead_letter};
use usher::operations::dead_letters::{Filter, Found, find, is_open_header, shown};
use usher::operations::operation::reveal;

use crate::cli::exit::{self, Exit};
use crate::cli::operator::{By, inspector};
use crate::cli::{Context, counted, dead_letter_file, print, printable, say};

#[derive(clap::Args)]
pub struct Args {
    /// The command's id
    id: String,
    /// Show the values, too, and tell so in the audit log
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    by: By,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub async fn show(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.broker()?;
    let filter = Filter {
        ids: vec![args.id.clone()],
        ..Filter::default()
    };
    let inspector = inspector(&config).await?;
    let looked = find(&*inspector, &filter).await;
    let (found, looked) = looked.map_err(|error| super::not_inspected(&config, &error))?;
    inspector.close().await;
    if found.is_empty() {
        let seen = counted(looked.seen, "dead letter");
        say(&format!(
            "usher: no dead letter of command {} among {seen}",
            args.id
        ));
        return Ok(Exit::Failures);
    }
    if args.reveal {
        told(&config, &args.by.name()?, &filter, &found).await?;
    }
    let stories: Vec<_> = found.iter().map(|found| story(found, args.reveal)).collect();
    match args.json {
        true => print(&format!("{:#}\n", Value::Array(stories)))?,
        false => {
            for (found, story) in found.iter().zip(&stories) {
                print(&text(found, story))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// The audit log knows it before anybody sees a value.
async fn told(
    config: &usher::broker::Config,
    by: &str,
    filter: &Filter,
    found: &[Found],
) -> anyhow::Result<()> {
    let provider = found
        .iter()
        .find_map(|found| ProviderName::parse(found.letter.provider.as_deref()?));
    let Some(provider) = provider else {
        return Err(exit::usage(
            "--reveal: the dead letter does not say whose it is, so the audit log can't be told; \
             `usher dead-letters export` writes it to a file",
        ));
    };
    let access = super::access(config).await?;
    let count = found.len() as u64;
    let told = reveal(&access, &provider, by, &filter.to_map(), count).await;
    super::close(&access).await;
    told.map(drop)
        .map_err(|error| super::not_operated(config, &error))
}

/// The dead letter with its headers and its body, values hidden or not.
fn story(found: &Found, reveal: bool) -> Value {
    let headers: Map<String, Value> = found
        .properties
        .header_names()
        .map(|name| {
            let is_open = reveal || is_open_header(name);
            let value = match is_open {
                true => found.properties.header_shown(name).unwrap_or_default(),
                false => "…".to_owned(),
            };
            (name.to_owned(), value.into())
        })
        .collect();
    let mut story = json!({
        "letter": found.letter,
        "remedy": found.letter.known_reason().map(|reason| reason.remedy()),
        "messageId": found.properties.message_id(),
        "headers": headers,
    });
    let (name, body) = match reveal {
        true => match serde_json::from_slice(&found.body) {
            Ok(command) => ("command".to_owned(), command),
            Err(_) => {
                let (name, text) = dead_letter_file::text_or_hex("body", &found.body);
                (name, text.into())
            }
        },
        false => ("command".to_owned(), shown(&found.body)),
    };
    story[name] = body;
    story
}

fn text(found: &Found, story: &Value) -> String {
    let letter = &found.letter;
    let mut text = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text += &format!("{name:18}{}\n", printable(&value));
        }
    };
    line("command", letter.id.clone());
    line("user", letter.user.clone());
    line("provider", letter.provider.clone());
    line("batch", letter.batch.clone());
    line("reason", letter.reason.clone());
    line("status", letter.status.map(|status| status.to_string()));
    line("code", letter.code.clone());
    line("pointer", letter.pointer.clone());
    line("detail", letter.detail.clone());
    line("what to do", story["remedy"].as_str().map(str::to_owned));
    line("attempts", letter.attempts.map(|count| count.to_string()));
    line(
        "first attempt at",
        letter.first_attempt_at.map(|at| at.to_string()),
    );
    line("dead at", letter.dead_at.map(|at| at.to_string()));
    line("redrives", Some(letter.redrives.to_string()));
    line("exchange", letter.exchange.clone());
    line("routing key", letter.routing_key.clone());
    line("usher's version", letter.version.clone());
    let headers = story["headers"].as_object().into_iter().flatten();
    for (name, value) in headers.filter(|(name, _)| !name.starts_with(dead_letter::PREFIX)) {
        let value = printable(value.as_str().unwrap_or_default());
        text += &format!("header {}: {value}\n", printable(name));
    }
    for name in ["command", "body", "bodyHex"] {
        if let Some(body) = story.get(name) {
            text += &format!("{body:#}\n\n");
        }
    }
    text
}
