//! `usher resolve`: looks up the provider's ids for keys that the publisher has, and writes them as an id map.

mod args;
mod column;
mod kept;
mod outputs;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval};
use tokio_util::task::AbortOnDropHandle;
use usher::config::Config;
use usher::operations::lookup::{Lookup, Outcome, Stopped};
use usher::provider::Provider;
use usher::worker::Shutdown;

use super::exit::{self, Exit};
use super::input::{Content, Input, Row, Rows};
use super::{Context, assemble, counted, detail, lookups, note, print, say, signals, token_exposure};
pub use args::Args;
use column::Column;
use kept::{Asked, Checkpoint, Counts};
use outputs::{Outputs, Unresolved};

/// A longer key is none that a provider has.
const KEY_BYTES_MAX: usize = 1024;

/// If the provider refuses so many keys and no other one passed before, it is not the keys.
const REFUSED_MAX: u64 = 20;

const SHOW_EVERY: Duration = Duration::from_secs(10);

pub async fn resolve(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let input = Input::from(args.file.clone());
    args.refuse_same_files(&input)?;
    let rows = input.table().await?;
    let column = column(&args, &rows, &input.name())?;
    let provider = provider(&config, &column)?;
    let asked = Asked {
        by: column.by.as_str().to_owned(),
        column: column.name.clone(),
        provider: config.provider.name.to_string(),
        base_url: config.provider.base_url.clone(),
        unresolved: args.unresolved.is_some(),
    };
    let checkpoint = Checkpoint::open(&input, &args, asked).await?;
    let outputs = Outputs::open(&args, &column, checkpoint.as_ref().map(Checkpoint::written))?;
    if let Some(checkpoint) = checkpoint.as_ref().filter(|kept| kept.is_complete()) {
        note("usher: an earlier run looked up all keys of this file; --restart looks them up again");
        return checkpoint.counts().report(&args);
    }
    token_exposure::log(&config.provider);
    let (lookup, pace) = lookups::at_pace(&config, provider, args.rate);
    note(&format!("usher: looking users up by {}, {pace}", column.by));
    let earlier = checkpoint.as_ref().map(Checkpoint::counts).unwrap_or_default();
    let mut run = Run {
        lookup,
        window: lookups::window(&config),
        answered: earlier.rows() > earlier.failed,
        counts: earlier,
        base_url: config.provider.base_url.clone(),
        column,
        checkpoint,
        outputs,
        input,
        begun: Instant::now(),
        earlier: 0,
        refused: 0,
    };
    let shutdown = Shutdown::new();
    signals::stop_on_signals(shutdown.clone())?;
    let ended = run.all(rows, &shutdown).await;
    let kept = run.keep(matches!(ended, Ok(Exit::Done)));
    let reported = run.counts.report(&args);
    let ended = ended?;
    kept?;
    match ended {
        Exit::Done => reported,
        Exit::Interrupted => {
            if run.checkpoint.is_some() {
                say("usher: interrupted before the end of the file; the same command goes on from here");
            }
            Ok(Exit::Interrupted)
        }
        other => Ok(other),
    }
}

/// The provider, if its users can be looked up by these keys.
fn provider(config: &Config, column: &Column) -> anyhow::Result<Arc<dyn Provider>> {
    let provider = assemble::provider(&config.provider)?;
    provider.finds(column.by).map_err(|why| {
        exit::usage(format_args!(
            "users of {} (kind {}) can't be looked up by {}: {why}",
            config.provider.name, config.provider.kind, column.by
        ))
    })?;
    detail(|| {
        let (provider, address) = (&config.provider.name, &config.provider.base_url);
        format!("asking the provider {provider} at {address}")
    });
    Ok(provider)
}

fn column(args: &Args, rows: &Rows, name: &str) -> anyhow::Result<Column> {
    let header = rows.header().filter(|_| !rows.is_empty()).ok_or_else(|| {
        exit::usage(format_args!(
            "{name} has no header: the input is CSV whose first line names its columns, such as email"
        ))
    })?;
    Column::choose(&header, args.by, args.column.as_deref())
        .map_err(|wrong| exit::usage(format_args!("{name}: {wrong}")))
}

struct Run {
    lookup: Arc<Lookup>,
    window: usize,
    column: Column,
    /// `None` where the input or the output can't be read again.
    checkpoint: Option<Checkpoint>,
    outputs: Outputs,
    input: Input,
    counts: Counts,
    base_url: String,
    begun: Instant,
    /// Rows of earlier runs.
    earlier: u64,
    /// Keys of this run that the provider refused.
    refused: u64,
    /// Whether it gave an answer to any key, in an earlier run or this one.
    answered: bool,
}

/// A row whose lookup is in flight.
struct Pending {
    line: u64,
    /// As it was written.
    cell: String,
    answer: Answer,
}

enum Answer {
    /// The cell is no key.
    Wrong(&'static str),
    Asked(AbortOnDropHandle<Result<Outcome, Stopped>>),
}

impl Run {
    /// Looks up the rows after those of earlier runs. Several are in flight, and they are written in their order.
    async fn all(&mut self, mut rows: Rows, shutdown: &Shutdown) -> anyhow::Result<Exit> {
        self.earlier = self.counts.rows();
        for _ in 0..self.earlier {
            rows.next().await?;
        }
        if self.earlier > 0 {
            note(&format!("usher: going on after row {}", self.earlier));
        }
        // Before the first lookup: a place that can't be written is noticed in time.
        self.keep(false)?;
        self.begun = Instant::now();
        let (mut pending, mut ended) = (VecDeque::new(), false);
        let mut show = interval(SHOW_EVERY);
        show.reset();
        loop {
            while !ended && pending.len() < self.window {
                let next = tokio::select! {
                    biased;
                    () = shutdown.draining() => return Ok(Exit::Interrupted),
                    next = rows.next() => next?,
                };
                match next {
                    Some(row) => pending.push_back(self.ask(&row)),
                    None => ended = true,
                }
            }
            let Some(mut first) = pending.pop_front() else {
                return Ok(Exit::Done);
            };
            let outcome = loop {
                tokio::select! {
                    biased;
                    () = shutdown.draining() => return Ok(Exit::Interrupted),
                    outcome = first.answer() => break outcome?,
                    _ = show.tick() => self.show(),
                }
            };
            self.write(&first, outcome)?;
        }
    }

    fn ask(&self, row: &Row) -> Pending {
        let cell = match &row.content {
            Content::Cells(cells) => cells.iter().nth(self.column.index),
            _ => None,
        };
        let text = cell.map(std::str::from_utf8);
        let (cell, answer) = match text {
            Some(Ok(text)) => (text.to_owned(), self.ask_for(text.trim())),
            Some(Err(_)) => (String::new(), Answer::Wrong("the cell is not UTF-8")),
            None => (
                String::new(),
                Answer::Wrong("the row has no such cell, or a quoted cell without a closing quote"),
            ),
        };
        let line = row.line.number;
        Pending { line, cell, answer }
    }

    fn ask_for(&self, key: &str) -> Answer {
        if key.is_empty() {
            return Answer::Wrong("the cell is empty");
        }
        if key.len() > KEY_BYTES_MAX || key.contains(char::is_control) {
            return Answer::Wrong("the cell is too long, or has control characters");
        }
        let (lookup, by, key) = (Arc::clone(&self.lookup), self.column.by, key.to_owned());
        Answer::Asked(AbortOnDropHandle::new(tokio::spawn(async move {
            lookup.find(by, &key).await
        })))
    }

    fn write(&mut self, row: &Pending, outcome: Result<Outcome, Stopped>) -> anyhow::Result<()> {
        let outcome = outcome.map_err(|stopped| self.stopped(&stopped))?;
        let failed = matches!(outcome, Outcome::Failed(_));
        let unresolved = match outcome {
            Outcome::Found(user_id) => {
                self.counts.resolved += 1;
                self.outputs.resolved(row.cell.trim(), &user_id)?;
                None
            }
            Outcome::Missing => Some((Unresolved::Missing, "no user has this key".into())),
            Outcome::Ambiguous => Some((Unresolved::Ambiguous, "several users have this key".into())),
            Outcome::Failed(why) => Some((Unresolved::Failed, why)),
        };
        if let Some((unresolved, why)) = unresolved {
            self.counts.add(unresolved);
            self.outputs.unresolved(row.line, &row.cell, unresolved, &why)?;
        }
        if row.is_asked() {
            self.refused += u64::from(failed);
            self.answered |= !failed;
        }
        if !self.answered && self.refused >= REFUSED_MAX {
            return Err(exit::usage(format_args!(
                "the first {REFUSED_MAX} keys all failed, so it is not the keys: see the reasons above, and choose another \
                 column or kind of key with --column and --by"
            )));
        }
        match &mut self.checkpoint {
            Some(checkpoint) if checkpoint.is_due() => self.keep(false),
            _ => Ok(()),
        }
    }

    fn stopped(&self, stopped: &Stopped) -> anyhow::Error {
        let goes_on = match self.checkpoint {
            Some(_) => "; the same command goes on from here",
            None => "",
        };
        lookups::stopped(stopped, &self.base_url, goes_on)
    }

    /// Writes what is done, and then how far that is.
    fn keep(&mut self, complete: bool) -> anyhow::Result<()> {
        let written = self.outputs.flush()?;
        match &mut self.checkpoint {
            Some(checkpoint) => checkpoint.keep(&self.counts, written, complete),
            None => Ok(()),
        }
    }

    fn show(&self) {
        let rows = self.counts.rows();
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let pace = (rows - self.earlier) as f64 / seconds;
        note(&format!(
            "usher: {} of {} looked up, {pace:.1}/s: {}",
            counted(rows, "key"),
            self.input.name(),
            self.counts
        ));
    }
}

impl Pending {
    /// Whether the provider is asked for it: some keys are none.
    fn is_asked(&self) -> bool {
        matches!(self.answer, Answer::Asked(_))
    }

    async fn answer(&mut self) -> anyhow::Result<Result<Outcome, Stopped>> {
        Ok(match &mut self.answer {
            Answer::Wrong(why) => Ok(Outcome::Failed((*why).into())),
            Answer::Asked(asked) => asked.await?,
        })
    }
}

impl Counts {
    /// Says what became of the keys.
    fn report(&self, args: &Args) -> anyhow::Result<Exit> {
        note(&format!(
            "usher: {} looked up: {self}",
            counted(self.rows(), "key")
        ));
        if args.json {
            print(&format!("{}\n", serde_json::to_string_pretty(self)?))?;
        }
        Ok(match self.resolved == self.rows() {
            true => Exit::Done,
            false => Exit::Failures,
        })
    }
}
