//! `usher operations`: what was done to dead letters, by whom, and how it went.

use clap::Subcommand;
use serde_json::{Value, json};
use usher::broker;
use usher::contract::lifecycle::OperationKind;
use usher::operations::operation::{self, Access, FailedAgain, OperationError, Record, Report, State};
use uuid::Uuid;

use super::dead_letters::{access, change, close, not_operated};
use super::exit::Exit;
use super::operator::inspector;
use super::{Context, note, print, printable};

#[derive(Subcommand)]
pub enum Verb {
    /// List the operations in the audit log, the oldest first
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one operation, and which commands failed again
    Show {
        id: Uuid,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// End an interrupted operation: what it has not sent goes back to the dead letters
    Abort {
        id: Uuid,
        /// Print how it ended on stdout, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Go on with an interrupted operation
    Resume {
        id: Uuid,
        /// Print how it ended on stdout, as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Verb {
    pub fn ends_in_order(&self) -> bool {
        matches!(self, Self::Resume { .. })
    }
}

pub async fn operations(context: &Context, verb: Verb) -> anyhow::Result<Exit> {
    let config = context.broker()?;
    match verb {
        Verb::List { json } => list(&config, json).await,
        Verb::Show { id, json } => show(&config, id, json).await,
        Verb::Abort { id, json } => {
            let access = access(&config).await?;
            let tell = |line: &str| note(&format!("usher: {line}"));
            let report = operation::abort(&access, id, &tell).await;
            let report = report.map_err(|error| not_operated(&config, &error))?;
            note(&format!("usher: {}", change::in_words(&report)));
            ended(&access, &report, json, Exit::Done).await
        }
        Verb::Resume { id, json } => {
            let access = access(&config).await?;
            let (report, exit) = change::resume(&config, &access, id).await?;
            ended(&access, &report, json, exit).await
        }
    }
}

async fn ended(access: &Access, report: &Report, json: bool, exit: Exit) -> anyhow::Result<Exit> {
    close(access).await;
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(report)?))?;
    }
    Ok(exit)
}

async fn list(config: &broker::Config, json: bool) -> anyhow::Result<Exit> {
    let inspector = inspector(config).await?;
    let looked = async {
        let mut found = Vec::new();
        for record in operation::records(&*inspector).await? {
            let state = operation::state(&*inspector, &record).await?;
            found.push((record, state));
        }
        Ok::<_, OperationError>(found)
    };
    let found = looked.await.map_err(|error| not_operated(config, &error))?;
    inspector.close().await;
    match json {
        true => {
            let all: Vec<_> = found
                .iter()
                .map(|(record, state)| as_json(record, *state))
                .collect();
            print(&format!("{:#}\n", Value::Array(all)))?;
        }
        false => {
            for (record, state) in &found {
                print(&format!("{}\n", line(record, *state)))?;
            }
            if found.is_empty() {
                note("usher: the audit log has no operation");
            }
        }
    }
    Ok(Exit::Done)
}

async fn show(config: &broker::Config, id: Uuid, json: bool) -> anyhow::Result<Exit> {
    let inspector = inspector(config).await?;
    let looked = async {
        let record = operation::record(&*inspector, id).await?;
        let state = operation::state(&*inspector, &record).await?;
        let failed = operation::failed_again(&*inspector, &record).await?;
        Ok::<_, OperationError>((record, state, failed))
    };
    let (record, state, failed) = looked.await.map_err(|error| not_operated(config, &error))?;
    inspector.close().await;
    match json {
        true => {
            let mut all = as_json(&record, state);
            all["failedAgain"] = json!(failed);
            print(&format!("{all:#}\n"))?;
        }
        false => {
            print(&format!("{}\n", line(&record, state)))?;
            for (name, value) in &record.planned.options {
                print(&printable(&format!("  {name} {value}")))?;
                print("\n")?;
            }
            for failure in &failed {
                print(&format!("  failed again: {}\n", failed_line(failure)))?;
            }
            if state == State::Interrupted {
                note(&format!(
                    "usher: go on with `usher operations resume {id}`, or end it with `usher operations abort {id}`"
                ));
            }
        }
    }
    Ok(Exit::Done)
}

fn failed_line(failure: &FailedAgain) -> String {
    let text = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), printable);
    format!(
        "{}  {}  {}  {}  {:.0}",
        printable(&failure.id),
        text(&failure.user),
        failure.reason,
        text(&failure.code),
        failure.at
    )
}

fn as_json(record: &Record, state: State) -> Value {
    json!({
        "id": record.id(),
        "kind": record.planned.kind,
        "provider": record.provider,
        "by": record.planned.by,
        "state": state,
        "filter": record.planned.filter,
        "options": record.planned.options,
        "counts": record.counts,
        "plannedAt": record.planned_at,
        "lastAt": record.last_at,
        "starts": record.starts,
    })
}

fn line(record: &Record, state: State) -> String {
    let planned = &record.planned;
    let options = planned.options.iter().filter(|_| planned.kind.is_order());
    let chosen: Vec<_> = planned
        .filter
        .iter()
        .chain(options)
        .map(|(name, value)| printable(&format!("--{name} {value}")))
        .collect();
    let counts = record.counts;
    let ends = match planned.kind {
        OperationKind::Redrive => format!(", {} succeeded, {} failed again", counts.succeeded, counts.failed),
        _ => String::new(),
    };
    format!(
        "{}  {:.0}  {}  {}  by {}  {} of {} done{ends}  {}",
        record.id(),
        record.planned_at,
        planned.kind.as_str(),
        state.as_str(),
        printable(&planned.by),
        counts.done,
        counts.planned,
        chosen.join(" ")
    )
}
