//! The options that choose dead letters, the same for all verbs.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use usher::clock::Clock;
use usher::contract::Reason;
use usher::operations::dead_letters::Filter;

use crate::cli::exit;

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
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Dead before then, as in --since
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
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
            since: time("--since", self.since)?,
            until: time("--until", self.until)?,
        })
    }
}

fn time(option: &str, text: Option<String>) -> anyhow::Result<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let ago = || {
        let span: Span = text.parse().ok()?;
        let now = Clock::System.now().to_zoned(TimeZone::UTC);
        Some(now.checked_sub(span.abs()).ok()?.timestamp())
    };
    match text.parse().ok().or_else(ago) {
        Some(time) => Ok(Some(time)),
        None => Err(exit::usage(format_args!(
            "{option} {text}: give a time, such as 2026-11-21T10:00:00Z, or how long ago, such as 2h"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> anyhow::Result<Option<Timestamp>> {
        time("--since", Some(text.to_owned()))
    }

    #[test]
    fn a_time_is_a_moment_or_how_long_ago() {
        let moment: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(at("2026-11-21T11:00:00+01:00").unwrap(), Some(moment));
        let now = Clock::System.now();
        for (text, seconds) in [("2h", 7200), ("1d", 86_400), ("90 minutes", 5400), ("PT5M", 300)] {
            let ago = now.duration_since(at(text).unwrap().unwrap()).as_secs();
            assert!((seconds - 60..=seconds).contains(&ago), "{text}: {ago}");
        }
        for wrong in ["yesterday", "", "10:00", "2026-11-21"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
