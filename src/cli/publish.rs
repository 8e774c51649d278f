//! `usher publish`: publishes a file of commands to RabbitMQ, each checked first and confirmed.

mod rejects;
mod route;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;
use usher::broker::amqp::{self, WhenUnreachable};
use usher::broker::topology::{COMMANDS, COMMANDS_BULK};
use usher::broker::{self, Message, Properties, PublishError, Publisher, SHORT_TEXT_BYTES_MAX};
use usher::contract::{BatchId, Failure, Reason, decode};
use usher::worker::Shutdown;

use super::exit::{self, Exit};
use super::input::{Input, Line};
use super::{Context, print, signals};
use rejects::Rejects;
use route::Route;

/// The most publishes in flight.
const UNCONFIRMED_MAX: usize = 512;

#[derive(clap::Args)]
pub struct Args {
    /// Commands as JSON lines, in UTF-8, plain or as gzip; - for stdin. A file is checked to its end before its first
    /// command is sent. Stdin can be read only once: each line is checked before it is sent, and the first refused
    /// line ends the run, with those before it published
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Publish as bulk traffic, which uses the pace that interactive traffic leaves unused
    #[arg(long)]
    bulk: bool,
    /// Set this batchId in every command
    #[arg(long, value_name = "ID")]
    batch: Option<BatchId>,
    /// Write refused lines to this file, with their reasons, as JSON lines. It holds their values, so
    /// only you may read it
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Print a summary on stdout, as JSON
    #[arg(long)]
    json: bool,
}

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
        if self.input.path().is_some() {
            let providers = self.checked().await?;
            if self.rejects.count > 0 {
                let (count, others) = (self.rejects.count, self.rejects.others());
                super::say(&format!(
                    "usher: {count} lines are refused; nothing was published{others}"
                ));
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
        ended
    }

    /// Reads the file to its end. Returns the providers of its commands.
    async fn checked(&mut self) -> anyhow::Result<BTreeSet<String>> {
        let mut providers = BTreeSet::new();
        let mut lines = self.input.open().await?;
        while let Some(line) = lines.next().await? {
            self.account.lines += 1;
            match message(&line, self.args) {
                Ok(message) => {
                    let provider = provider_of(&message);
                    if !providers.contains(provider) {
                        providers.insert(provider.to_owned());
                    }
                }
                Err(failure) => self.rejects.add(&line, &failure)?,
            }
        }
        self.rejects.keep()?;
        Ok(providers)
    }

    /// Sends the lines in order, for many users at a time.
    async fn send_all(&mut self, sending: &mut Sending, shutdown: &Shutdown) -> anyhow::Result<Exit> {
        let mut tried = HashSet::new();
        let mut lines = self.input.open().await?;
        self.account.lines = 0;
        loop {
            let line = tokio::select! {
                biased;
                () = shutdown.draining() => return Ok(Exit::Interrupted),
                line = lines.next() => line?,
            };
            let Some(line) = line else { return Ok(Exit::Done) };
            self.account.lines += 1;
            let message = match message(&line, self.args) {
                Ok(message) => message,
                Err(failure) => {
                    self.rejects.add(&line, &failure)?;
                    self.rejects.keep()?;
                    super::say("usher: nothing was read beyond the line that is refused");
                    return Ok(Exit::Failures);
                }
            };
            let provider = provider_of(&message).to_owned();
            if !self.route.is_looked_at(&provider) {
                self.route.look_at(BTreeSet::from([provider.clone()])).await?;
            }
            while let Some(confirmed) = sending.make_room(&message).await {
                self.explained(confirmed).await?;
            }
            sending.send(message);
            if tried.insert(provider) {
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

    async fn explained(&self, confirmed: anyhow::Result<Result<(), PublishError>>) -> anyhow::Result<()> {
        match confirmed? {
            Ok(()) => Ok(()),
            Err(error) => Err(self.route.explain(&error).await),
        }
    }
}

/// Publishes in flight. A user's next command is sent only when the one before is confirmed, so that neither a
/// lost one nor the order of tasks lets a later command overtake.
struct Sending {
    publisher: Arc<dyn Publisher>,
    confirms: JoinSet<(String, Result<(), PublishError>)>,
    users: HashSet<String>,
    published: u64,
}

impl Sending {
    fn new(publisher: Arc<dyn Publisher>) -> Self {
        Self {
            publisher,
            confirms: JoinSet::new(),
            users: HashSet::new(),
            published: 0,
        }
    }

    /// `None`: the message may be sent.
    async fn make_room(&mut self, message: &Message) -> Option<anyhow::Result<Result<(), PublishError>>> {
        let full = self.confirms.len() == UNCONFIRMED_MAX || self.users.contains(&message.routing_key);
        match full {
            true => self.confirmed().await,
            false => None,
        }
    }

    fn send(&mut self, message: Message) {
        self.users.insert(message.routing_key.clone());
        let publisher = self.publisher.clone();
        self.confirms.spawn(async move {
            let confirm = publisher.publish(&message).await;
            (message.routing_key, confirm)
        });
    }

    /// The result of the next publish. `None`: none is in flight.
    async fn confirmed(&mut self) -> Option<anyhow::Result<Result<(), PublishError>>> {
        let confirmed = self.confirms.join_next().await?;
        Some(confirmed.context("a publish was aborted").map(|(user, confirm)| {
            self.users.remove(&user);
            self.published += u64::from(confirm.is_ok());
            confirm
        }))
    }
}

/// Turns the line into a message, or says why it is refused.
fn message(line: &Line, args: &Args) -> Result<Message, Failure> {
    let body = match &args.batch {
        None => line.text.clone(),
        Some(batch) => with_batch(&line.text, batch)?,
    };
    let command = decode(&body)?;
    let routing_key = format!("{}.{}", command.provider, command.user_id);
    if routing_key.len() > SHORT_TEXT_BYTES_MAX {
        let (bytes, most) = (
            command.user_id.as_str().len(),
            user_id_bytes_max(command.provider.as_str()),
        );
        let detail = format!(
            "it has {bytes} bytes in UTF-8, and {most} are the most that can be published for this provider: a \
             routing key has {SHORT_TEXT_BYTES_MAX}, its name and a dot included"
        );
        return Err(Failure::new(Reason::Invalid, detail).at("/userId"));
    }
    Ok(Message {
        exchange: if args.bulk { COMMANDS_BULK } else { COMMANDS }.into(),
        routing_key,
        properties: Properties::persistent(&command.id.to_string(), "application/json"),
        body: body.into(),
        mandatory: false,
    })
}

/// The longest user id, in bytes, that fits into a routing key.
pub fn user_id_bytes_max(provider: &str) -> usize {
    SHORT_TEXT_BYTES_MAX - provider.len() - 1
}

/// A provider's name has no dot.
fn provider_of(message: &Message) -> &str {
    message
        .routing_key
        .split_once('.')
        .map_or("", |(provider, _)| provider)
}

fn with_batch(text: &[u8], batch: &BatchId) -> Result<Vec<u8>, Failure> {
    // A line that is not a command is refused unchanged.
    decode(text)?;
    let edited = serde_json::from_slice::<Value>(text).and_then(|mut command| {
        command["batchId"] = batch.as_str().into();
        serde_json::to_vec(&command)
    });
    edited.map_err(|_| Failure::new(Reason::Undecodable, "the line is not JSON"))
}
