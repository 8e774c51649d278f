//! `usher dead-letters export`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::json;
use usher::broker::Delivery;
use usher::operations::dead_letters::{compact, look};

use super::choose::Choose;
use crate::cli::exit::{self, Exit};
use crate::cli::operator::inspector;
use crate::cli::{Context, counted, dead_letter_file, files, note, print, say};

#[derive(clap::Args)]
pub struct Args {
    /// A new file for the commands, as JSON lines, which only you may read: it holds their values
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    choose: Choose,
    /// A new file for the dead letters with their reasons, in the same order, as `usher apply` writes them
    #[arg(long, value_name = "FILE")]
    with_reasons: Option<PathBuf>,
    /// Print a summary on stdout, as JSON
    #[arg(long)]
    json: bool,
}

struct Export {
    commands: Output,
    reasons: Option<Output>,
    exported: u64,
    /// Bodies that are no JSON.
    skipped: u64,
}

struct Output {
    name: String,
    file: BufWriter<File>,
}

pub async fn export(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.broker()?;
    let filter = args.choose.filter()?;
    files::refuse_same(
        ("FILE", Some(&args.file)),
        ("--with-reasons", args.with_reasons.as_deref()),
    )?;
    let inspector = inspector(&config).await?;
    let mut export = Export {
        commands: Output::new(&args.file)?,
        reasons: args.with_reasons.as_deref().map(Output::new).transpose()?,
        exported: 0,
        skipped: 0,
    };
    let mut written = Ok(());
    let looked = look(&*inspector, |letter, delivery| {
        if filter.matches(&letter) {
            written = export.add(delivery);
        }
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    looked
        .await
        .map_err(|error| super::not_inspected(&config, &error))?;
    inspector.close().await;
    written.and_then(|()| export.finish())?;
    if args.json {
        let account = json!({ "exported": export.exported, "skipped": export.skipped });
        print(&format!("{account:#}\n"))?;
    }
    let file = args.file.display();
    note(&format!(
        "usher: {} in {file}",
        counted(export.exported, "command")
    ));
    if export.skipped > 0 {
        let kept = match &export.reasons {
            Some(reasons) => format!("; they are in {}", reasons.name),
            None => "; --with-reasons FILE keeps them".to_owned(),
        };
        say(&format!(
            "usher: {} skipped, whose bodies are no JSON{kept}",
            export.skipped
        ));
    }
    Ok(Exit::Done)
}

impl Output {
    fn new(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        if path.exists() && !files::is_special(path) {
            return Err(exit::usage(format_args!(
                "{name} exists already: name a new file"
            )));
        }
        Ok(Self {
            file: BufWriter::new(files::write_anew(path)?),
            name,
        })
    }

    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let written = self
            .file
            .write_all(line)
            .and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|error| files::not_written(&self.name, &error))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let written = self.file.flush();
        written.map_err(|error| files::not_written(&self.name, &error))
    }
}

impl Export {
    fn add(&mut self, delivery: &Delivery) -> anyhow::Result<()> {
        if let Some(reasons) = &mut self.reasons {
            let line = dead_letter_file::line(&delivery.properties, &delivery.body);
            reasons.line(&serde_json::to_vec(&line)?)?;
        }
        match compact(&delivery.body) {
            Some(line) => {
                self.commands.line(&line)?;
                self.exported += 1;
            }
            None => self.skipped += 1,
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.commands.finish()?;
        self.reasons.as_mut().map_or(Ok(()), Output::finish)
    }
}
