//! `usher publish`: publishes a file of commands to RabbitMQ, each checked first and confirmed.

mod args;
mod checkpoint;
mod commands;
mod consent;
mod events;
mod id_map;
mod on_failure;
mod pace;
mod pass;
mod progress;
mod queues;
mod rejects;
mod route;
mod sending;

use std::sync::Arc;

use serde::Serialize;
use usher::broker;
use usher::operations::effect::Effect;
use usher::operations::id_map::IdMap;
use usher::worker::Shutdown;

use super::exit::{self, Exit};
use super::input::{Input, Rows};
use super::operator::publisher;
use super::{Context, counted, note, print, say, signals};
pub use args::Args;
use checkpoint::Checkpoint;
pub use commands::{Commands, user_id_bytes_max};
pub use id_map::read as read_id_map;
use pass::Pass;
use rejects::Rejects;
use route::Route;

/// The most providers of one input, each of which is looked at.
const PROVIDERS_MAX: usize = 1000;

/// The result of a run.
#[derive(Default, Serialize)]
struct Account {
    /// The rows that were read, without blank ones.
    lines: u64,
    refused: u64,
    /// Commands that earlier runs published.
    earlier: u64,
    /// Commands that were published and confirmed.
    published: u64,
    /// Whether all of the input was published.
    complete: bool,
    error: Option<String>,
}

pub async fn publish(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.broker()?;
    let input = Input::from(args.file.clone());
    let (id_map, identity) = match &args.id_map {
        None => (None, None),
        Some(path) => {
            let (map, identity) = id_map::read(path).await?;
            (Some(Arc::new(map)), Some(identity))
        }
    };
    let checkpoint = Checkpoint::open(&input, &args, identity).await?;
    if let Some(published) = checkpoint.as_ref().and_then(already_published) {
        return published_before(&args, &input, published);
    }
    let mut publishing = Publishing {
        rejects: Rejects::open(args.rejects.as_deref(), &input)?,
        route: Route::new(&config, args.bulk),
        args: &args,
        id_map,
        config: &config,
        input,
        checkpoint,
        effect: None,
        account: Account::default(),
    };
    let ended = publishing.run().await;
    let Publishing {
        rejects, mut account, ..
    } = publishing;
    account.refused = rejects.count;
    account.complete = matches!(ended, Ok(Exit::Done));
    account.error = ended.as_ref().err().map(|error| format!("{error:#}"));
    account.print(&args)?;
    ended
}

/// How many commands an earlier run published, if that was all of the file.
fn already_published(checkpoint: &Checkpoint) -> Option<u64> {
    checkpoint
        .is_complete()
        .then(|| checkpoint.confirmed().commands())
}

fn published_before(args: &Args, input: &Input, earlier: u64) -> anyhow::Result<Exit> {
    note(&format!(
        "usher: an earlier run published all of {} ({}), and nothing is published now; --restart publishes it again, with \
         the same ids",
        input.name(),
        counted(earlier, "command")
    ));
    let account = Account {
        earlier,
        complete: true,
        ..Account::default()
    };
    account.print(args)?;
    Ok(Exit::Done)
}

impl Account {
    fn print(&self, args: &Args) -> anyhow::Result<()> {
        match args.json {
            true => print(&format!("{}\n", serde_json::to_string_pretty(self)?)),
            false => Ok(()),
        }
    }
}

struct Publishing<'a> {
    args: &'a Args,
    /// The ids of rows that have keys of the publisher's own.
    id_map: Option<Arc<IdMap>>,
    config: &'a broker::Config,
    input: Input,
    rejects: Rejects,
    route: Route<'a>,
    /// `None` where the input can't be read again.
    checkpoint: Option<Checkpoint>,
    /// What the commands do, if they are checked before the first one is sent.
    effect: Option<Effect>,
    account: Account,
}

impl Publishing<'_> {
    async fn run(&mut self) -> anyhow::Result<Exit> {
        if self.input.file().is_some() && !self.args.no_check_first {
            let effect = self.check().await?;
            if self.rejects.count > 0 && self.args.rejects.is_none() {
                let (count, others) = (counted(self.rejects.count, "row"), self.rejects.others());
                say(&format!("usher: {count} refused; nothing was published{others}"));
                return Ok(Exit::Failures);
            }
            self.route
                .look_at(effect.providers.keys().cloned().collect())
                .await?;
            self.effect = Some(effect);
        }
        if self.args.bulk && !consent::given(self.args, self.effect.as_ref()).await? {
            say("usher: nothing was published");
            return Ok(Exit::Interrupted);
        }
        self.say_what_is_done();
        let shutdown = Shutdown::new();
        signals::stop_on_signals(shutdown.clone())?;
        let publisher = publisher(self.config).await?;
        let pass = Pass::run(self, publisher.clone(), &shutdown);
        let mut ended = tokio::select! {
            ended = pass => ended,
            // What is in flight may be with the broker: the next run sends it again, with the same ids.
            () = shutdown.aborting() => return Err(exit::with(Exit::Interrupted, "stopped at once")),
        };
        publisher.close().await;
        let commands = counted(self.account.published, "command");
        note(&format!("usher: {commands} published and confirmed"));
        if self.rejects.count > 0 && matches!(ended, Ok(Exit::Done)) {
            let (count, others) = (counted(self.rejects.count, "row"), self.rejects.others());
            say(&format!("usher: {count} refused{others}"));
            ended = Ok(Exit::Failures);
        }
        if matches!(ended, Ok(Exit::Interrupted)) && self.checkpoint.is_some() {
            say("usher: interrupted before the end of the file; the same command goes on from here");
        }
        ended
    }

    fn say_what_is_done(&mut self) {
        let Some(checkpoint) = self.checkpoint.as_ref().filter(|kept| kept.confirmed().rows > 0) else {
            return;
        };
        self.account.earlier = checkpoint.confirmed().commands();
        note(&format!(
            "usher: going on after row {}: earlier runs published {}",
            checkpoint.confirmed().rows,
            counted(self.account.earlier, "command")
        ));
    }

    /// Reads the file to its end, and keeps what is refused.
    async fn check(&mut self) -> anyhow::Result<Effect> {
        let mut effect = Effect::default();
        let (mut rows, commands) = self.open().await?;
        if let Some(read_as) = &rows.note {
            note(&format!("usher: {read_as}"));
        }
        while let Some(row) = rows.next().await? {
            self.account.lines += 1;
            match commands.read(&row) {
                Ok(ready) => effect.add(&ready.command),
                Err(failure) => self.rejects.add(&row.line, &failure, commands.column(&failure))?,
            }
            refuse_too_many(effect.providers.len())?;
        }
        self.rejects.keep()?;
        Ok(effect)
    }

    async fn open(&self) -> anyhow::Result<(Rows, Commands)> {
        let rows = self.input.rows().await?;
        let options = self.args.table(self.id_map.clone());
        let commands = Commands::new(options, self.args.bulk, &rows, &self.input.name())?;
        Ok((rows, commands))
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
