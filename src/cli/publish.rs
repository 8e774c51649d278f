//! `usher publish`: publishes a file of commands to RabbitMQ, each checked first and confirmed.

mod args;
mod commands;
mod rejects;
mod route;
mod sending;

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;
use usher::broker;
use usher::broker::amqp::{self, WhenUnreachable};
use usher::worker::Shutdown;

use super::exit::{self, Exit};
use super::input::{Input, Rows};
use super::{Context, print, signals};
pub use args::Args;
use commands::Commands;
pub use commands::user_id_bytes_max;
use rejects::Rejects;
use route::Route;
use sending::{Confirmed, Sending};

/// The most providers of one input, each of which is looked at.
const PROVIDERS_MAX: usize = 1000;

/// The result of a run.
#[derive(Default, Serialize)]
struct Account {
    /// The lines that were read, without blank ones.
    lines: u64,
    refused: u64,
    /// Commands that were published and confirmed.
    published: u64,
    /// Whether all of the input was published.
    complete: bool,
    error: Option<String>,
}

pub async fn publish(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.broker()?;
    let input = Input::from(args.file.clone());
    let mut publishing = Publishing {
        rejects: Rejects::open(args.rejects.as_deref(), &input)?,
        route: Route::new(&config, args.bulk),
        args: &args,
        input,
        account: Account::default(),
    };
    let ended = publishing.run(&config).await;
    let Publishing {
        rejects, mut account, ..
    } = publishing;
    account.refused = rejects.count;
    account.complete = matches!(ended, Ok(Exit::Done));
    account.error = ended.as_ref().err().map(|error| format!("{error:#}"));
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&account)?))?;
    }
    ended
}

struct Publishing<'a> {
    args: &'a Args,
    input: Input,
    rejects: Rejects,
    route: Route<'a>,
    account: Account,
}

impl Publishing<'_> {
    async fn run(&mut self, config: &broker::Config) -> anyhow::Result<Exit> {
        if self.is_checked() {
            let providers = self.checked().await?;
            if self.rejects.count > 0 && self.args.rejects.is_none() {
                let (count, others) = (super::counted(self.rejects.count, "row"), self.rejects.others());
                super::say(&format!("usher: {count} refused; nothing was published{others}"));
                return Ok(Exit::Failures);
            }
            self.route.look_at(providers).await?;
        }
        let shutdown = Shutdown::new();
        signals::stop_on_signals(shutdown.clone())?;
        let publisher = amqp::publisher(config, WhenUnreachable::Fail)
            .await
            .map_err(|error| exit::broker(&error))?;
        let mut sending = Sending::new(publisher.clone());
        let mut ended = self.send_all(&mut sending, &shutdown).await;
        // Publishes in flight are waited for, whatever ended the run.
        while let Some(confirmed) = sending.confirmed().await {
            if ended.is_ok()
                && let Err(error) = self.explained(confirmed).await
            {
                ended = Err(error);
            }
        }
        publisher.close().await;
        self.account.published = sending.published;
        if ended.is_ok() && sending.published > 0 {
            ended = self.route.count_unroutable().await.and(ended);
        }
        let published = sending.published;
        let commands = super::counted(published, "command");
        super::say(&format!("usher: {commands} published and confirmed"));
        if self.rejects.count > 0 && matches!(ended, Ok(Exit::Done)) {
            let (count, others) = (super::counted(self.rejects.count, "row"), self.rejects.others());
            super::say(&format!("usher: {count} refused{others}"));
            ended = Ok(Exit::Failures);
        }
        ended
    }

    /// Reads the file to its end. Returns the providers of its commands.
    async fn checked(&mut self) -> anyhow::Result<BTreeSet<String>> {
        let mut providers = BTreeSet::new();
        let (mut rows, commands) = self.open().await?;
        if let Some(note) = &rows.note {
            super::say(&format!("usher: {note}"));
        }
        while let Some(row) = rows.next().await? {
            self.account.lines += 1;
            match commands.read(&row) {
                Ok(ready) => {
                    let provider = ready.command.provider.as_str();
                    if !providers.contains(provider) {
                        providers.insert(provider.to_owned());
                        refuse_too_many(providers.len())?;
                    }
                }
                Err(failure) => self.rejects.add(&row.line, &failure, commands.column(&failure))?,
            }
        }
        self.rejects.keep()?;
        Ok(providers)
    }

    async fn open(&self) -> anyhow::Result<(Rows, Commands)> {
        let rows = self.input.rows().await?;
        let commands = Commands::new(self.args, &rows, &self.input.name())?;
        Ok((rows, commands))
    }

    /// Sends the rows in order, for many users at a time.
    async fn send_all(&mut self, sending: &mut Sending, shutdown: &Shutdown) -> anyhow::Result<Exit> {
        let mut tried = HashSet::new();
        let opened = tokio::select! {
            biased;
            () = shutdown.draining() => return Ok(Exit::Interrupted),
            opened = self.open() => opened?,
        };
        let (mut rows, commands) = opened;
        self.account.lines = 0;
        loop {
            let row = tokio::select! {
                biased;
                () = shutdown.draining() => return Ok(Exit::Interrupted),
                row = rows.next() => row?,
            };
            let Some(row) = row else { return Ok(Exit::Done) };
            self.account.lines += 1;
            let ready = match commands.read(&row) {
                Ok(ready) => ready,
                // It was kept when the file was checked.
                Err(_) if self.is_checked() => continue,
                Err(failure) => {
                    self.rejects.add(&row.line, &failure, commands.column(&failure))?;
                    self.rejects.keep()?;
                    if self.args.rejects.is_some() {
                        continue;
                    }
                    super::say(
                        "usher: nothing was read beyond the row that is refused; --rejects FILE goes on",
                    );
                    return Ok(Exit::Failures);
                }
            };
            let provider = ready.command.provider.to_string();
            if !self.route.is_looked_at(&provider) {
                self.route.look_at(BTreeSet::from([provider.clone()])).await?;
            }
            while let Some(confirmed) = sending.make_room(&ready.message).await {
                self.explained(confirmed).await?;
            }
            sending.send(ready.message);
            if tried.insert(provider) {
                refuse_too_many(tried.len())?;
                // One unroutable command is enough to detect it.
                while let Some(confirmed) = sending.confirmed().await {
                    self.explained(confirmed).await?;
                }
                self.route.count_unroutable().await?;
            } else {
                self.route.glance().await?;
            }
        }
    }

    /// Whether the rows are checked to their end before the first command is sent.
    fn is_checked(&self) -> bool {
        self.input.file().is_some() && !self.args.no_check_first
    }

    async fn explained(&self, confirmed: Confirmed) -> anyhow::Result<()> {
        match confirmed? {
            Ok(()) => Ok(()),
            Err(error) => Err(self.route.explain(&error).await),
        }
    }
}

fn refuse_too_many(providers: usize) -> anyhow::Result<()> {
    match providers > PROVIDERS_MAX {
        true => Err(exit::usage(format_args!(
            "the input names more than {PROVIDERS_MAX} providers; check the column or member provider"
        ))),
        false => Ok(()),
    }
}
