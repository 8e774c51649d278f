//! The options of `usher resolve`.

use std::path::PathBuf;

use usher::provider::FindBy;

use crate::cli::files;
use crate::cli::input::Input;

#[derive(clap::Args)]
pub struct Args {
    /// The keys as CSV, plain or as gzip; - for stdin. Its first line names its columns
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// What the keys are: email, username or external-id (your own id, which the provider keeps). Not every kind of
    /// provider can look up each of them. Default: as the column's name says
    #[arg(long, value_name = "KEY")]
    pub by: Option<FindBy>,
    /// The column of the keys. Default: the only one that is named email, username or externalId
    #[arg(long, value_name = "NAME")]
    pub column: Option<String>,
    /// Where to write the id map, as CSV: key,userId. It holds keys of users, so only you may read it. A second run
    /// with the same input goes on where the first one ended. Default: stdout, where no run goes on
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Where to write the keys that were not resolved, with their lines and outcomes, as CSV that can be the input of
    /// another run. Only you may read it. Without it, they are only counted
    #[arg(long, value_name = "FILE", requires = "out")]
    pub unresolved: Option<PathBuf>,
    /// Look up at most this many a second, such as 20/s or 600/min, and never more than provider.rate. Workers that
    /// run meanwhile use the same quota. Default: a tenth of provider.rate
    #[arg(long, value_name = "N/s", value_parser = usher::operations::steering::rate)]
    pub rate: Option<f64>,
    /// Look all keys up again, and write the files anew
    #[arg(long)]
    pub restart: bool,
    /// Print the counts on stdout, as JSON
    #[arg(long, requires = "out")]
    pub json: bool,
}

impl Args {
    pub fn refuse_same_files(&self, input: &Input) -> anyhow::Result<()> {
        let (out, unresolved) = (self.out.as_deref(), self.unresolved.as_deref());
        files::refuse_same(("--out", out), ("the input", input.path()))?;
        files::refuse_same(("--unresolved", unresolved), ("the input", input.path()))?;
        files::refuse_same(("--unresolved", unresolved), ("--out", out))
    }
}
