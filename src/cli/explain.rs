//! `usher explain`: how something is interpreted, and why.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;
use usher::operations::findings::Number;
use usher::provider::Kind;
use usher::provider::answers::{SampleAnswer, Table};

use super::exit::{self, Exit};
use super::{Context, assemble, print};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// A finding of `usher check`, such as U014: what it means, how it is found, how to fix it
    #[arg(required = true)]
    number: Option<Number>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum What {
    /// How an answer of the provider is interpreted, and by which rule
    Answer(Answer),
}

#[derive(clap::Args)]
struct Answer {
    /// The HTTP status
    #[arg(long, value_parser = clap::value_parser!(u16).range(100..=999))]
    status: u16,
    /// A header, such as 'retry-after: 3'; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The body, as received
    #[arg(long, conflicts_with = "body_file")]
    body: Option<String>,
    /// A file with the body
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// The request's method
    #[arg(long, default_value = "PATCH")]
    method: String,
    /// The kind of provider; without it, the configuration's kind and rules
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn kind(text: &str) -> Result<Kind, String> {
    text.parse()
}

pub fn explain(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    if let Some(What::Answer(answer)) = &args.what {
        return self::answer(context, answer);
    }
    args.number
        .map_or(Ok(Exit::Usage), |number| finding(number, args.json))
}

fn finding(number: Number, json: bool) -> anyhow::Result<Exit> {
    let about = number.about();
    print(&match json {
        true => {
            let explained = json!({
                "number": number,
                "title": about.title,
                "level": about.severity.level(),
                "exitCode": about.severity.exit_code(),
                "meaning": about.meaning,
                "found": about.found,
                "fix": about.fix,
            });
            format!("{explained}\n")
        }
        false => format!(
            "{number}: {}\n{}\nHow it is found: {}\nFix: {}\n",
            about.title, about.meaning, about.found, about.fix
        ),
    })?;
    Ok(Exit::Done)
}

fn answer(context: &Context, args: &Answer) -> anyhow::Result<Exit> {
    let table = match args.kind {
        Some(kind) => Table::new(Vec::new()).and_then(|table| table.of(kind, Vec::new())),
        None => {
            let provider = context.silent_config()?.provider;
            assemble::answers(&provider)
        }
    };
    let table = table.map_err(exit::usage)?;
    let body = match (&args.body, &args.body_file) {
        (Some(body), _) => body.clone().into_bytes(),
        (None, Some(file)) => {
            std::fs::read(file).map_err(|error| exit::usage(format_args!("{}: {error}", file.display())))?
        }
        (None, None) => Vec::new(),
    };
    let headers = args.header.iter().map(|header| {
        let no_header = || {
            exit::usage(format_args!(
                "`{header}` is not a header; write it as 'retry-after: 3'"
            ))
        };
        header.split_once(':').ok_or_else(no_header)
    });
    let headers = headers.collect::<Result<Vec<_>, _>>()?;
    let asked = SampleAnswer::new(&args.method, args.status, &headers, body).map_err(exit::usage)?;
    let meaning = table.explain(&asked);
    let wait = meaning.retry_after.map(|wait| wait.as_secs_f64());
    let by = meaning.by;
    if args.json {
        let explained = json!({
            "class": meaning.class,
            "retryAfterSeconds": wait,
            "table": by.map(|by| by.origin.to_string()),
            "rule": by.map(|by| by.number),
            "because": by.and_then(|by| by.rule.because()),
        });
        print(&format!("{explained}\n"))?;
        return Ok(Exit::Done);
    }
    let mut text = format!("{}: {}\n", meaning.class, meaning.class.consequence());
    if let Some(wait) = wait {
        let _ = writeln!(text, "The next call goes out after {wait} s.");
    }
    match by {
        Some(by) => {
            let _ = write!(text, "Rule {} of {}", by.number, by.origin);
            let _ = match by.rule.because() {
                Some(because) => writeln!(text, ": {because}."),
                None => writeln!(text, "."),
            };
        }
        None => text.push_str("No rule fits.\n"),
    }
    print(&text)?;
    Ok(Exit::Done)
}
