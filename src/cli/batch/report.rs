//! `usher batch report`: what became of a batch, as a table of its commands or as a page.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use usher::clock::Clock;
use usher::operations::batch::Book;

use super::account::{exit_of, not_looked, orders, refuse_unknown};
use super::{Which, csv, html};
use crate::cli::exit::{self, Exit};
use crate::cli::operator::Operator;
use crate::cli::{Context, files, printable, say};

const STDOUT: &str = "-";

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// A row for each command that has ended. It has the ids of users. Default of FILE: stdout
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = STDOUT,
        required_unless_present = "html"
    )]
    csv: Option<PathBuf>,
    /// A page with totals, progress and pace over time, and failures by reason. It has no ids of users
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
}

pub async fn report(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let csv = args.csv.as_deref().filter(|path| *path != Path::new(STDOUT));
    let html = args.html.as_deref();
    files::refuse_same(("--csv", csv), ("--html", html))?;
    for path in [csv, html].into_iter().flatten() {
        if !args.force && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    let operator = Operator::connect(context, args.which.scope).await?;
    let (inspector, provider, now) = (&*operator.inspector, &operator.provider, Clock::System.now());
    let orders = orders(&operator).await?;
    let book = Book::read(inspector, provider, &args.which.batch, args.which.since, now);
    let mut book = book.await.map_err(not_looked)?;
    refuse_unknown(&book)?;
    let status = book.status(&orders, Clock::System.now());
    if let Some(path) = html {
        let page = html::page(&status, book.tally.series.as_ref());
        let written = create(path, args.force)?.write_all(page.as_bytes());
        written.map_err(|error| files::not_written(&path.display().to_string(), &error))?;
    }
    match (&args.csv, csv) {
        (None, _) => {}
        (Some(_), None) => {
            let mut stdout = BufWriter::new(io::stdout().lock());
            let written = rows(&operator, &mut book, &mut stdout).await?;
            match written {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                written => written.map_err(|error| files::not_written("stdout", &error))?,
            }
        }
        (Some(_), Some(path)) => {
            let mut file = BufWriter::new(create(path, args.force)?);
            let written = rows(&operator, &mut book, &mut file).await?;
            written.map_err(|error| files::not_written(&path.display().to_string(), &error))?;
        }
    }
    operator.close().await;
    for missing in &status.missing {
        say(&format!("usher: missing: {}", printable(missing)));
    }
    Ok(exit_of(&status))
}

async fn rows(operator: &Operator, book: &mut Book, to: &mut dyn Write) -> anyhow::Result<io::Result<()>> {
    if let Err(error) = to.write_all(csv::HEADER.as_bytes()) {
        return Ok(Err(error));
    }
    let told = book.outcomes(&*operator.inspector, |last| csv::row(to, last));
    let told = told.await.map_err(not_looked)?;
    Ok(told.and_then(|()| to.flush()))
}

fn exists(path: &Path) -> anyhow::Error {
    exit::usage(format_args!(
        "{} exists: name another file, or overwrite it with --force",
        path.display()
    ))
}

/// A file that only its owner may read, whoever could read the one that it overwrites.
fn create(path: &Path, force: bool) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let opened = options.open(path).and_then(|file| {
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    });
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => files::not_written(&path.display().to_string(), &error),
    })
}
