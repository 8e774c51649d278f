//! `usher batch report --verify`: reads a sample of the batch's users back at the provider, and compares them with what the
//! batch asked for.

mod commands;
mod shown;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use usher::clock::Clock;
use usher::config::Config;
use usher::contract::{CommandId, ProviderName, UserId};
use usher::operations::batch::{Amount, Asked, Book, Found, Status, Verified, compare};
use usher::operations::lookup::{Lookup, Shown, Stopped};
use usher::provider::Provider;
use usher::worker::Shutdown;

use super::account::totals;
use crate::cli::exit::{self, Exit};
use crate::cli::{Context, assemble, counted, lookups, note, printable, signals, token_exposure};
use commands::OfFile;
pub use shown::section;

const SHOW_EVERY: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub struct Options {
    /// Read a sample of the batch's users back at the provider, and compare them with what the batch asked for: a share of its
    /// users such as 1%, or a number such as 500. Each time, the same users are drawn. Needs the configuration of the
    /// provider. Exit code 1: some differ, are gone or can't be read
    #[arg(long, value_name = "SHARE|N", requires = "commands")]
    verify: Option<Amount>,
    /// For --verify: the file that was published, JSON lines or CSV; - for stdin. The logs hold no values
    #[arg(long, value_name = "FILE|-", requires = "verify")]
    commands: Option<PathBuf>,
    /// For --commands: as it was published
    #[arg(long, value_name = "COLUMN", requires = "commands")]
    id_from: Option<String>,
    /// For --commands: as it was published
    #[arg(long, value_name = "FILE", requires_all = ["commands", "map_from"])]
    id_map: Option<PathBuf>,
    /// For --commands: as it was published
    #[arg(long, value_name = "COLUMN", requires = "id_map")]
    map_from: Option<String>,
    /// For --commands: as it was published
    #[arg(long, value_name = "WORD", requires = "commands")]
    null: Option<String>,
    /// For --verify: read at most this many users a second, such as 20/s or 600/min, and never more than provider.rate.
    /// Workers that run meanwhile use the same quota. Default: a tenth of provider.rate
    #[arg(long, value_name = "N/s", value_parser = usher::operations::steering::rate, requires = "verify")]
    rate: Option<f64>,
    /// For --verify: a row for each difference. It has the ids of users, and names of fields. Without it, the first ones are
    /// shown
    #[arg(long, value_name = "FILE", requires = "verify")]
    differences: Option<PathBuf>,
    /// For --verify: print what it found as JSON
    #[arg(long, requires = "verify")]
    json: bool,
}

/// What is needed to read users back.
pub struct Verifying<'a> {
    args: &'a Options,
    amount: Amount,
    file: PathBuf,
    config: Config,
    provider: Arc<dyn Provider>,
}

/// What was found, and how it ended.
pub struct Ended {
    pub verified: Verified,
    of_file: OfFile,
    end: anyhow::Result<Exit>,
}

type Answer = (UserId, CommandId, Result<Found, Stopped>);

impl Options {
    pub fn is_asked(&self) -> bool {
        self.verify.is_some()
    }

    pub fn differences(&self) -> Option<&Path> {
        self.differences.as_deref()
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    pub fn id_map(&self) -> Option<&Path> {
        self.id_map.as_deref()
    }

    pub fn commands(&self) -> Option<&Path> {
        self.commands.as_deref()
    }
}

impl<'a> Verifying<'a> {
    /// `None`: it is not asked for. Refuses a provider that shows no users.
    pub fn prepare(context: &Context, args: &'a Options) -> anyhow::Result<Option<Self>> {
        let (Some(amount), Some(file)) = (args.verify, args.commands.clone()) else {
            return Ok(None);
        };
        let config = context.silent_config()?;
        let provider = assemble::provider(&config.provider)?;
        if !provider.reads() {
            return Err(exit::usage(format_args!(
                "users of {} (kind {}) can't be read back: no call is known that reads one user; where there is one, set \
                 `read_path`",
                config.provider.name, config.provider.kind
            )));
        }
        Ok(Some(Self {
            args,
            amount,
            file,
            config,
            provider,
        }))
    }

    /// Refuses the users of another provider than the configured one.
    pub fn refuse_other(&self, of: &ProviderName) -> anyhow::Result<()> {
        let configured = &self.config.provider.name;
        match of == configured {
            true => Ok(()),
            false => Err(exit::usage(format_args!(
                "users of {of} can't be read with the configuration of {configured}: name the configuration of {of} with \
                 --config"
            ))),
        }
    }

    /// Refuses a batch that has not ended.
    pub fn refuse_unfinished(&self, status: &Status) -> anyhow::Result<()> {
        if status.done {
            return Ok(());
        }
        let id = printable(&status.batch_id);
        Err(exit::usage(match status.opened_at.is_some() || status.closed {
            true => format!(
                "the batch {id} has not ended ({}), so users may still change: `usher batch status {id}` tells how far it is",
                totals(status)
            ),
            false => format!(
                "it can't be told whether the batch {id} has ended: it was published without --batch, or long ago, and the audit \
                 log has no BATCH_OPENED and BATCH_CLOSED of it"
            ),
        }))
    }

    pub async fn run(&self, book: &Book) -> anyhow::Result<Ended> {
        let shutdown = Shutdown::new();
        signals::stop_on_signals(shutdown.clone())?;
        let mut of_file = OfFile::default();
        let drawn = tokio::select! {
            biased;
            () = shutdown.draining() => None,
            drawn = self.draw(book, &mut of_file) => Some(drawn?),
        };
        let Some(users) = drawn else {
            let verified = Verified::new(self.amount, &[]);
            let end = Ok(Exit::Interrupted);
            return Ok(Ended {
                verified,
                of_file,
                end,
            });
        };
        of_file.say(&self.file);
        let mut verified = Verified::new(self.amount, &users);
        let (lookup, pace) = lookups::at_pace(&self.config, self.provider.clone(), self.args.rate);
        let count = counted(verified.users, "user");
        note(&format!("usher: reading {count} back, {pace}"));
        token_exposure::log(&self.config.provider);
        let end = match self.lag(book, &shutdown).await {
            true => self.all(users, lookup, &mut verified, &shutdown).await,
            false => Ok(Exit::Interrupted),
        };
        verified.finish(self.amount);
        Ok(Ended {
            verified,
            of_file,
            end,
        })
    }

    /// Waits until reads show the last write. `false`: interrupted.
    async fn lag(&self, book: &Book, shutdown: &Shutdown) -> bool {
        let since = book
            .tally
            .last_at
            .map(|last| Clock::System.now().duration_since(last));
        let passed = since
            .and_then(|since| Duration::try_from(since).ok())
            .unwrap_or_default();
        tokio::select! {
            biased;
            () = shutdown.draining() => false,
            () = sleep(self.config.provider.read_lag().saturating_sub(passed)) => true,
        }
    }

    /// Reads the users, several at a time.
    async fn all(
        &self,
        users: Vec<(UserId, Asked)>,
        lookup: Arc<Lookup>,
        verified: &mut Verified,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Exit> {
        let (mut users, window) = (users.into_iter(), lookups::window(&self.config));
        let mut reading: JoinSet<Answer> = JoinSet::new();
        let (begun, mut show) = (Instant::now(), interval(SHOW_EVERY));
        show.reset();
        let mut stop = pin!(shutdown.draining());
        loop {
            while reading.len() < window
                && let Some((user_id, asked)) = users.next()
            {
                let (lookup, provider) = (lookup.clone(), self.provider.clone());
                reading.spawn(async move {
                    let found = found(&lookup, &*provider, &user_id, &asked).await;
                    (user_id, asked.last, found)
                });
            }
            tokio::select! {
                biased;
                () = &mut stop => return Ok(Exit::Interrupted),
                answer = reading.join_next() => match answer {
                    None => return Ok(Exit::Done),
                    Some(answer) => {
                        let (user_id, last, found) = answer?;
                        let base_url = &self.config.provider.base_url;
                        let found = found.map_err(|stopped| lookups::stopped(&stopped, base_url, ""))?;
                        verified.add(&user_id, last, found);
                    }
                },
                _ = show.tick() => {
                    let pace = verified.looked_at() as f64 / begun.elapsed().as_secs_f64().max(0.001);
                    note(&format!("usher: {} of {} read, {pace:.1}/s", verified.looked_at(), counted(verified.users, "user")));
                }
            }
        }
    }
}

async fn found(
    lookup: &Lookup,
    provider: &dyn Provider,
    user_id: &UserId,
    asked: &Asked,
) -> Result<Found, Stopped> {
    Ok(match lookup.read(user_id).await? {
        Shown::User(user) => Found::Compared(compare(asked, provider, &user)),
        Shown::Missing => Found::Gone,
        Shown::Failed(why) => Found::Unread(why),
    })
}
