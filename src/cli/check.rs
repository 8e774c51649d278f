//! `usher check`: reports problems, and how to fix them. Changes nothing.

mod broker;
mod request;

use std::path::PathBuf;

use serde::Serialize;
use usher::config::Config;
use usher::contract::{Fault, Reason, UserId};
use usher::provider::{Provider, TokenState};

use super::exit::Exit;
use super::{Context, assemble, print, token_exposure};

#[derive(clap::Args)]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Check nothing, and show the request that a command would become: method, URL, headers and body, with the
    /// token hidden. Nothing is sent. `-` reads the command from stdin
    #[arg(long, value_name = "COMMAND.json")]
    show_request: Option<PathBuf>,
}

/// The result of one check.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    /// False only if it is wrong.
    ok: bool,
    level: Level,
    detail: String,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// It works now, but may not always.
    Warning,
    Wrong,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, Exit::Done, detail)
    }

    fn warning(what: &'static str, detail: impl Into<String>) -> Self {
        let level = Level::Warning;
        Self {
            level,
            ..Self::ok(what, detail)
        }
    }

    fn new(what: &'static str, exit: Exit, detail: impl Into<String>) -> Self {
        let ok = exit == Exit::Done;
        Self {
            what,
            ok,
            level: if ok { Level::Ok } else { Level::Wrong },
            detail: detail.into(),
            exit,
        }
    }
}

pub async fn check(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    if let Some(file) = &args.show_request {
        return request::show(context, file, args.json).await;
    }
    let config = context.config()?;
    let provider = assemble::provider(&config.provider)?;
    let mut findings = vec![Finding::ok("configuration", "is complete")];
    findings.extend(broker::look(&config).await);
    findings.extend(
        token_exposure::look(&config.provider)
            .into_iter()
            .map(|found| match found.warning {
                true => Finding::warning(found.what, found.detail),
                false => Finding::ok(found.what, found.detail),
            }),
    );
    let reached = access(&config, &*provider).await;
    let answers = reached.iter().all(|finding| finding.ok);
    findings.extend(reached);
    if answers {
        findings.extend(abilities(&*provider).await);
    }
    print(&match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&findings)?),
        false => findings.iter().map(line).collect(),
    })?;
    let worst = findings
        .iter()
        .map(|finding| finding.exit)
        .max_by_key(|exit| *exit as u8);
    Ok(worst.unwrap_or(Exit::Done))
}

fn line(finding: &Finding) -> String {
    let mark = match finding.level {
        Level::Ok => "ok   ",
        Level::Warning => "WARN ",
        Level::Wrong => "WRONG",
    };
    format!("{mark}  {:<13}  {}\n", finding.what, finding.detail)
}

/// If a token has to be fetched, that is checked first: without one the provider can't be asked.
async fn access(config: &Config, provider: &dyn Provider) -> Vec<Finding> {
    if provider.access().token() != TokenState::Missing {
        return reach(config, provider).await;
    }
    let Err(error) = provider.access().fetch_token().await else {
        let had = match config.provider.auth.token_command {
            Some(_) => "is printed by the program of token_command",
            None => "is fetched from token_url",
        };
        let mut findings = vec![Finding::ok("token", had)];
        findings.extend(reach(config, provider).await);
        return findings;
    };
    let code = error.code.as_deref().map(|code| format!(" ({code})"));
    let detail = format!("{error}{}", code.unwrap_or_default());
    vec![Finding::new("token", exit_of(error.fault), detail)]
}

/// Whether the configuration or the other side is at fault.
fn exit_of(fault: Fault) -> Exit {
    match fault {
        Fault::Command(_)
        | Fault::Credentials
        | Fault::CredentialsRenewed
        | Fault::Denied
        | Fault::Configuration => Exit::Usage,
        Fault::Throttled { .. }
        | Fault::Again
        | Fault::Unprocessed
        | Fault::ReadFirst
        | Fault::Worker
        | Fault::Unreachable
        | Fault::Broken
        | Fault::Unknown => Exit::OutOfReach,
    }
}

/// Reads a user that is unlikely to exist: the provider's "no such user" shows that the token is accepted.
async fn reach(config: &Config, provider: &dyn Provider) -> Vec<Finding> {
    let at = &config.provider.base_url;
    let Some(nobody) = UserId::parse("usher-check").filter(|_| provider.reads()) else {
        return vec![Finding::ok(
            "provider",
            format!("{at}: not tried: no path to read a user is configured"),
        )];
    };
    let answers = Finding::ok("provider", format!("{at} answers"));
    let Err(error) = provider.read(&nobody).await else {
        return vec![answers, Finding::ok("token", "is accepted")];
    };
    match error.fault {
        Fault::Command(Reason::NotFound | Reason::Rejected) | Fault::Throttled { .. } => {
            vec![answers, Finding::ok("token", "is accepted")]
        }
        Fault::Credentials | Fault::CredentialsRenewed | Fault::Denied => {
            vec![answers, Finding::new("token", Exit::Usage, error.to_string())]
        }
        fault => {
            vec![Finding::new("provider", exit_of(fault), format!("{at}: {error}"))]
        }
    }
}

/// What the provider says of its abilities. If that can't be read, updates may still work.
async fn abilities(provider: &dyn Provider) -> Vec<Finding> {
    match provider.remarks().await {
        Ok(remarks) => remarks
            .into_iter()
            .map(|remark| match remark.workable {
                true => Finding::ok("abilities", remark.detail),
                false => Finding::new("abilities", Exit::Usage, remark.detail),
            })
            .collect(),
        Err(error) => vec![Finding::ok("abilities", format!("are not known: {error}"))],
    }
}
