//! The options that choose dead letters, the same for all verbs.

use jiff::Timestamp;
use usher::contract::Reason;
use usher::operations::dead_letters::Filter;

use crate::cli::exit;
use crate::cli::times::back;

/// Every option that is given has to match; of one that is given several times, one value has to.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "Which dead letters")]
pub struct Choose {
    /// With this reason, such as conflict
    #[arg(long)]
    reason: Vec<String>,
    /// Of this provider
    #[arg(long, value_name = "NAME")]
    provider: Vec<String>,
    /// Of this batch
    #[arg(long, value_name = "ID")]
    batch: Vec<String>,
    /// Of this user
    #[arg(long, value_name = "ID")]
    user: Vec<String>,
    /// With this code of the provider
    #[arg(long)]
    code: Vec<String>,
    /// With this place in the command, or one below it, such as /update/email
    #[arg(long)]
    pointer: Vec<String>,
    /// Of the command with this id
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// Dead since then: a time (2026-11-21T10:00:00Z), or how long ago (2h)
    #[arg(long, value_name = "WHEN", value_parser = back)]
    since: Option<Timestamp>,
    /// Dead before then, as in --since
    #[arg(long, value_name = "WHEN", value_parser = back)]
    until: Option<Timestamp>,
}

impl Choose {
    pub fn filter(self) -> anyhow::Result<Filter> {
        for reason in &self.reason {
            if Reason::parse(reason).is_none() {
                let known: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
                return Err(exit::usage(format_args!(
                    "--reason {reason}: there is no such reason; the reasons are {}",
                    known.join(", ")
                )));
            }
        }
        Ok(Filter {
            reasons: self.reason,
            providers: self.provider,
            batches: self.batch,
            users: self.user,
            codes: self.code,
            pointers: self.pointer,
            ids: self.id,
            since: self.since,
            until: self.until,
        })
    }
}
