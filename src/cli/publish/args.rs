//! The options of `usher publish`.

use std::path::PathBuf;

use usher::contract::{BatchId, ProviderName};
use usher::operations::fill::Fill;
use usher::operations::table;

#[derive(clap::Args)]
pub struct Args {
    /// Commands as JSON lines or CSV, plain or as gzip; - for stdin. A file is checked to its end before its first
    /// command is sent. Stdin can be read only once: each row is checked before it is sent
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// Publish as bulk traffic, which uses the pace that interactive traffic leaves unused
    #[arg(long)]
    pub bulk: bool,
    /// The provider of commands that name none
    #[arg(long, value_name = "NAME")]
    pub provider: Option<ProviderName>,
    /// Set this batchId in every command
    #[arg(long, value_name = "ID")]
    pub batch: Option<BatchId>,
    /// For CSV: make the id of a row without one from the batch, the provider and this column's cell, so that
    /// publishing the file again gives the same ids. Its cells must differ
    #[arg(long, value_name = "COLUMN", requires = "batch")]
    pub id_from: Option<String>,
    /// For CSV: the cell that clears a field. An empty cell leaves its field as it is
    #[arg(long, value_name = "WORD")]
    pub null: Option<String>,
    /// Check each row of a file only before it is sent
    #[arg(long)]
    pub no_check_first: bool,
    /// Write refused rows to this file, with their reasons, as JSON lines, and publish the others. It holds their
    /// values, so only you may read it. Without it, a file with a refused row is not published
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Print a summary on stdout, as JSON
    #[arg(long)]
    pub json: bool,
}

impl Args {
    pub fn fill(&self) -> Fill {
        Fill {
            provider: self.provider.clone(),
            batch: self.batch.clone(),
        }
    }

    pub fn table(&self) -> table::Options {
        table::Options {
            fill: self.fill(),
            null: self.null.clone(),
            id_from: self.id_from.clone(),
        }
    }
}
