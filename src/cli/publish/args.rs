//! The options of `usher publish`.

use std::path::PathBuf;
use std::sync::Arc;

use usher::contract::{BatchId, Field, ProviderName};
use usher::operations::fill::Fill;
use usher::operations::id_map::IdMap;
use usher::operations::table;

use super::pace::Rate;
use crate::cli::operator::By;

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
    /// What a failure in the batch means for the later commands of its user: they are run, or they become dead letters
    /// (held_behind) until the failed one is redriven or discarded. Without it, what was ordered before counts
    #[arg(long, value_name = "WHAT", requires = "batch")]
    pub on_failure: Option<OnFailure>,
    #[command(flatten)]
    pub by: By,
    /// For CSV: make the id of a row without one from the batch, the provider and this column's cell, so that
    /// publishing the file again gives the same ids. Its cells must differ
    #[arg(long, value_name = "COLUMN", requires = "batch")]
    pub id_from: Option<String>,
    /// For CSV whose rows have keys of your own instead of a userId: the ids of the keys, as `usher resolve` wrote them
    /// (CSV: key,userId). At most 5000000 keys; they are held in memory
    #[arg(long, value_name = "FILE", requires = "map_from")]
    pub id_map: Option<PathBuf>,
    /// The column of the keys that --id-map has. A row whose key is not there is refused
    #[arg(long, value_name = "COLUMN", requires = "id_map")]
    pub map_from: Option<String>,
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
    /// Where to keep how far the file is published. Default: FILE.usher-checkpoint. A run with the same file and
    /// options goes on from there
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Publish the file from its beginning, whatever the checkpoint says
    #[arg(long)]
    pub restart: bool,
    /// Publish as bulk traffic without asking
    #[arg(long)]
    pub yes: bool,
    /// The fields that a bulk publish may change although changes of them reach users: providers send verification
    /// e-mails and messages, or end sessions
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub allow: Vec<Allowed>,
    /// Wait while the provider's queues of this traffic hold about this many messages
    #[arg(long, value_name = "N", default_value = "50000", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_queued: u32,
    /// Publish at most this many commands a second, such as 20 or 20/s
    #[arg(long, value_name = "N/s")]
    pub rate: Option<Rate>,
    /// Print a summary on stdout, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnFailure {
    Continue,
    Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Allowed {
    Email,
    Phone,
    Username,
}

impl Args {
    pub fn allowed(&self) -> Vec<Field> {
        let field = |allowed: &Allowed| match allowed {
            Allowed::Email => Field::Email,
            Allowed::Phone => Field::Phone,
            Allowed::Username => Field::Username,
        };
        self.allow.iter().map(field).collect()
    }

    pub fn fill(&self) -> Fill {
        Fill {
            provider: self.provider.clone(),
            batch: self.batch.clone(),
        }
    }

    pub fn table(&self, id_map: Option<Arc<IdMap>>) -> table::Options {
        table::Options {
            fill: self.fill(),
            null: self.null.clone(),
            id_from: self.id_from.clone(),
            ids: id_map.zip(self.map_from.clone()),
        }
    }
}
