//! `usher check`: reports problems, and how to fix them. Changes nothing, or with `--fix` what can't do harm.

mod api_path;
mod broker;
mod certificates;
mod fleet;
mod provider;
mod report;
mod request;
mod topology;
mod worker;

use std::path::PathBuf;

use usher::config::{Config, ConfigError};
use usher::operations::findings::Number;

use self::report::Finding;
use super::exit::Exit;
use super::{Context, assemble, detail, token_exposure};

#[derive(clap::Args)]
pub struct Args {
    /// Also list what is fine
    #[arg(long)]
    all: bool,
    /// Declare what the topology lacks, and change nothing else
    #[arg(long)]
    fix: bool,
    /// As JSON: all checks, those that found nothing included
    #[arg(long)]
    json: bool,
    /// Check nothing, and show the request that a command would become: method, URL, headers and body, with the
    /// token hidden. Nothing is sent. `-` reads the command from stdin
    #[arg(long, value_name = "COMMAND.json", conflicts_with_all = ["all", "fix"])]
    show_request: Option<PathBuf>,
}

impl Args {
    pub fn asks_nobody(&self) -> bool {
        self.show_request.is_some()
    }
}

pub async fn check(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    if let Some(file) = &args.show_request {
        return request::show(context, file, args.json).await;
    }
    let findings = match context.config_or_problems() {
        Ok(config) => Box::pin(of(&config, args.fix)).await,
        Err(ConfigError { problems }) => problems.into_iter().map(invalid).collect(),
    };
    report::print(&findings, args.all, args.json)?;
    Ok(report::exit(&findings))
}

fn invalid(problem: impl Into<String>) -> Finding {
    Finding::of(Number::Configuration, "configuration", problem)
}

/// The broker, the worker and the provider are asked at the same time.
async fn of(config: &Config, fix: bool) -> Vec<Finding> {
    let (provider, witness) = match assemble::witnessed(&config.provider) {
        Ok(witnessed) => witnessed,
        Err(error) => return vec![invalid(error.to_string())],
    };
    detail(|| {
        let (broker, worker) = (&config.broker.url, config.admin.listen);
        let (provider, address) = (&config.provider.name, &config.provider.base_url);
        format!(
            "asking the broker {broker}, the worker on {worker}, and the provider {provider} at {address}"
        )
    });
    let mut findings = vec![Finding::ok("configuration", "is complete")];
    findings.extend(api_path::look(&config.provider).await);
    let (broker, worker, provider) = tokio::join!(
        broker::look(config, fix),
        worker::look(&config.admin),
        provider::look(config, &*provider, &witness)
    );
    findings.extend(broker);
    findings.extend(worker);
    let exposed = token_exposure::look(&config.provider);
    findings.extend(exposed.into_iter().map(|found| match found.number {
        Some(number) => Finding::of(number, found.what, found.detail),
        None => Finding::ok(found.what, found.detail),
    }));
    findings.extend(provider);
    report::once(findings)
}
