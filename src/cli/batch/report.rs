//! `usher batch report`: what became of a batch, as a table of its commands or as a page, and how its users are at the provider.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use usher::clock::Clock;
use usher::operations::batch::Book;

use super::account::{exit_of, not_looked, orders, refuse_unknown};
use super::verify::{self, Verifying};
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
        required_unless_present_any = ["html", "verify"]
    )]
    csv: Option<PathBuf>,
    /// A page with totals, progress and pace over time, and failures by reason. It has no ids of users
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    verify: verify::Options,
}

impl Args {
    /// Whether users are read back at the provider.
    pub fn reads_back(&self) -> bool {
        self.verify.is_asked()
    }

    /// The file for the rows, if they don't go to stdout.
    fn csv_file(&self) -> Option<&Path> {
        self.csv.as_deref().filter(|path| *path != Path::new(STDOUT))
    }

    fn refuse_files(&self) -> anyhow::Result<()> {
        let csv = ("--csv", self.csv_file());
        let html = ("--html", self.html.as_deref());
        let differences = ("--differences", self.verify.differences());
        let commands = ("--commands", self.verify.commands());
        let id_map = ("--id-map", self.verify.id_map());
        for output in [csv, html, differences] {
            files::refuse_same(output, commands)?;
            files::refuse_same(output, id_map)?;
        }
        files::refuse_same(csv, html)?;
        files::refuse_same(differences, csv)?;
        files::refuse_same(differences, html)?;
        if self.verify.is_asked() && self.csv.is_some() && self.csv_file().is_none() {
            return Err(exit::usage(
                "--csv and --verify would both write to stdout: name a file with --csv FILE",
            ));
        }
        for path in [csv.1, html.1, differences.1].into_iter().flatten() {
            if !self.force && path.symlink_metadata().is_ok() {
                return Err(exists(path));
            }
        }
        Ok(())
    }
}

pub async fn report(context: &Context, args: Args) -> anyhow::Result<Exit> {
    args.refuse_files()?;
    let verifying = Verifying::prepare(context, &args.verify)?;
    let operator = Operator::connect(context, args.which.scope.clone()).await?;
    let (inspector, provider, now) = (&*operator.inspector, &operator.provider, Clock::System.now());
    if let Some(verifying) = &verifying {
        verifying.refuse_other(provider)?;
    }
    let orders = orders(&operator).await?;
    let book = Book::read(inspector, provider, &args.which.batch, args.which.since, now);
    let mut book = book.await.map_err(not_looked)?;
    refuse_unknown(&book)?;
    let status = book.status(&orders, Clock::System.now());
    if let Some(verifying) = &verifying {
        verifying.refuse_unfinished(&status)?;
    }
    write_rows(&args, &operator, &mut book).await?;
    operator.close().await;
    let verified = match &verifying {
        Some(verifying) => Some(verifying.run(&book).await?),
        None => None,
    };
    if let Some(path) = &args.html {
        let verified = verified.as_ref().map(|ended| &ended.verified);
        let page = html::page(&status, book.tally.series.as_ref(), verified);
        let written = create(path, args.force)?.write_all(page.as_bytes());
        written.map_err(|error| files::not_written(&path.display().to_string(), &error))?;
    }
    for missing in &status.missing {
        say(&format!("usher: missing: {}", printable(missing)));
    }
    let Some(verified) = verified else {
        return Ok(exit_of(&status));
    };
    if let Some(path) = args.verify.differences() {
        let written = verified.write(BufWriter::new(create(path, args.force)?));
        written.map_err(|error| files::not_written(&path.display().to_string(), &error))?;
    }
    verified.report(args.verify.is_json())
}

/// The rows of `--csv`.
async fn write_rows(args: &Args, operator: &Operator, book: &mut Book) -> anyhow::Result<()> {
    match (&args.csv, args.csv_file()) {
        (None, _) => {}
        (Some(_), None) => {
            let mut stdout = BufWriter::new(io::stdout().lock());
            let written = rows(operator, book, &mut stdout).await?;
            match written {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                written => written.map_err(|error| files::not_written("stdout", &error))?,
            }
        }
        (Some(_), Some(path)) => {
            let mut file = BufWriter::new(create(path, args.force)?);
            let written = rows(operator, book, &mut file).await?;
            written.map_err(|error| files::not_written(&path.display().to_string(), &error))?;
        }
    }
    Ok(())
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
