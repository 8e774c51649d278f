//! The command line: one file a verb. It builds what the configuration names, and hands it to the worker.
//!
//! Results go to stdout, everything else to stderr.

mod apply;
mod assemble;
mod bar;
mod batch;
mod check;
mod console;
mod dead_letter_file;
mod dead_letters;
mod exit;
mod explain;
mod feeder;
mod files;
mod health;
mod help;
mod identity;
mod input;
mod lookups;
mod operations;
mod operator;
mod outcomes;
mod publish;
mod reload;
mod resolve;
mod run;
mod say;
mod schema;
mod shell;
mod signals;
mod simulate;
mod sink;
mod stack;
mod steer;
mod style;
mod summary;
mod times;
mod token_exposure;
mod told;
mod topology;
mod traced;
mod why;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ColorChoice, FromArgMatches as _, Parser, Subcommand};
use usher::telemetry::BoxMakeWriter;
use usher::{config, telemetry};

use exit::Exit;
use say::{Stderr, Volume, detail, note, say};

const FOR_ALL: &str = "Options of all verbs";

/// Applies UpdateUser commands from RabbitMQ to an identity provider: in order, at the provider's pace,
/// with an outcome for each.
#[derive(Parser)]
#[command(name = "usher", version, max_term_width = 100)]
struct Cli {
    /// The configuration file. Default: usher.toml, if it exists. Every key can also be set as USHER_…, with __
    /// between levels: USHER_PROVIDER__BASE_URL.
    #[arg(long, global = true, help_heading = FOR_ALL, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say nothing on stderr but warnings, errors and questions. Results stay
    #[arg(short, long, global = true, help_heading = FOR_ALL)]
    quiet: bool,
    /// Say on stderr what is done: connections, what is read and published, and how long it takes
    #[arg(short, long, global = true, help_heading = FOR_ALL)]
    verbose: bool,
    /// Colours: on a terminal without NO_COLOR, always, or never
    #[arg(long, global = true, help_heading = FOR_ALL, value_name = "WHEN", default_value_t)]
    color: ColorChoice,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Apply commands from RabbitMQ until stopped. Exit code 0: drained; 3: the grace period ran out
    Run,
    /// Apply a file of commands (JSON lines) without a broker, and print a summary
    Apply(apply::Args),
    /// Publish a file of commands (JSON lines or CSV) to RabbitMQ, each checked first and confirmed
    Publish(publish::Args),
    /// Look up the provider's ids for e-mail addresses, user names or ids of your own, for `publish --id-map`
    Resolve(resolve::Args),
    /// Compare the topology on RabbitMQ with the configuration, or declare it
    #[command(subcommand)]
    Topology(topology::Verb),
    /// Report problems of configuration, broker, topology, workers, provider or token, and how to fix them
    Check(check::Args),
    /// Say whether the worker of this machine is alive, or with --ready whether its commands make progress: for a
    /// container's health check
    Health(health::Args),
    /// See why commands failed, send them again, or remove them
    #[command(subcommand)]
    DeadLetters(dead_letters::Verb),
    /// See what was done to dead letters and by whom; end or go on with what was interrupted
    #[command(subcommand)]
    Operations(operations::Verb),
    /// Pause a provider on all its workers, those that start later included
    Pause(steer::Pause),
    /// End a pause, and make all workers that paused by themselves try again: over too many dead letters, an outage, refused
    /// credentials, or a wait that the provider asked for
    Resume(steer::Resume),
    /// Show what became of a command or of a user's commands, or what they wait for and what ends it
    Why(why::Why),
    /// Show what the workers' commands wait for
    Waiting(why::Waiting),
    /// See how far a batch of commands is and what became of it; pause, resume or cancel it
    #[command(subcommand)]
    Batch(batch::Verb),
    /// Show or set the pace of all workers
    #[command(subcommand)]
    Pace(steer::Pace),
    /// Serve the operators' pages: overview, failures, operations, batches, fleet. Ctrl-C ends it
    Console(console::Args),
    /// Explain a finding of `usher check`, or how something is interpreted, and why
    Explain(explain::Args),
    /// Print the completions of a shell
    Completions(shell::Completions),
    /// Print a page for man, with all verbs
    Man,
    /// Print a JSON Schema
    Schema(schema::Args),
    /// Run a provider of a kind on this machine, with a rate limit and faults
    Simulate(simulate::Args),
}

/// What all verbs share.
struct Context {
    config_file: Option<PathBuf>,
}

impl Context {
    /// Reads the configuration and starts logging as configured.
    fn config(&self) -> anyhow::Result<config::Config> {
        let config = self.silent_config()?;
        start_log(&config.log, BoxMakeWriter::new(|| Stderr));
        Ok(config)
    }

    /// The same, and what was set.
    fn config_with_tree(&self) -> anyhow::Result<(config::Config, config::Tree)> {
        let read = config::load_with_tree(self.config_file.as_deref(), variables()).map_err(exit::usage)?;
        start_log(&read.0.log, BoxMakeWriter::new(|| Stderr));
        Ok(read)
    }

    /// The same, with each of its problems.
    fn config_or_problems(&self) -> Result<config::Config, config::ConfigError> {
        let config = config::load(self.config_file.as_deref(), variables())?;
        start_log(&config.log, BoxMakeWriter::new(|| Stderr));
        Ok(config)
    }

    /// Reads the configuration without starting the log.
    fn silent_config(&self) -> anyhow::Result<config::Config> {
        config_from(self.config_file.as_deref(), variables())
    }

    /// Only what an operator's verb needs: the broker, and the provider's name, if it is configured. Logs warnings.
    fn names(&self) -> anyhow::Result<(usher::broker::Config, Option<usher::contract::ProviderName>)> {
        let names = config::load_names(self.config_file.as_deref(), variables()).map_err(exit::usage)?;
        log_warnings();
        Ok(names)
    }

    /// Only where the worker of this machine listens.
    fn admin(&self) -> anyhow::Result<config::Admin> {
        config::load_admin(self.config_file.as_deref(), variables()).map_err(exit::usage)
    }

    /// Only what the console needs.
    fn for_console(&self) -> anyhow::Result<config::ForConsole> {
        config::load_console(self.config_file.as_deref(), variables()).map_err(exit::usage)
    }

    /// Only what publishing needs.
    fn broker(&self) -> anyhow::Result<usher::broker::Config> {
        let broker = config::load_broker(self.config_file.as_deref(), variables()).map_err(exit::usage)?;
        log_warnings();
        Ok(broker)
    }
}

/// A verb that ends soon says by itself what it does.
fn log_warnings() {
    let log = telemetry::Config {
        level: telemetry::Level::Warn,
        ..telemetry::Config::default()
    };
    start_log(&log, BoxMakeWriter::new(|| Stderr));
}

/// The log follows `--quiet`, `--verbose` and `--color`.
fn start_log(configured: &telemetry::Config, writer: BoxMakeWriter) {
    let log = telemetry::Config {
        level: say::level(configured.level),
        ..configured.clone()
    };
    telemetry::log_to(&log, writer, style::on_stderr());
}

fn config_from(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<config::Config> {
    config::load(file, variables).map_err(exit::usage)
}

/// Skips variables that are not Unicode: usher has none of those.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Wrong arguments end the program here.
fn parsed() -> Cli {
    let mut command = help::command().color(style::asked(std::env::args_os()));
    let matches = command.get_matches_mut();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    // One may stand before the verb and the other one behind it: clap sees no conflict between these.
    if cli.quiet && cli.verbose {
        let both = "the argument '--quiet' cannot be used with '--verbose'";
        command.error(ErrorKind::ArgumentConflict, both).exit();
    }
    cli
}

pub fn main() -> ExitCode {
    let cli = parsed();
    style::set(cli.color);
    if matches!(cli.verb, Verb::Run) && (cli.quiet || cli.verbose) {
        return exit::report(&exit::usage(
            "--quiet and --verbose are not for `run`: set log.level (USHER_LOG__LEVEL) to warn or debug",
        ));
    }
    say::set(match (cli.quiet, cli.verbose) {
        (true, _) => Volume::Quiet,
        (_, true) => Volume::Verbose,
        (false, false) => Volume::Normal,
    });
    stack::make_large();
    let default = Path::new("usher.toml");
    let context = Context {
        config_file: cli
            .config
            .or_else(|| default.exists().then(|| default.to_owned())),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::Error::from(error)),
    };
    let ended = runtime.block_on(ended(&context, cli.verb));
    // Tasks that still run (such as a connection that waits for its broker) are not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error),
    }
}

impl Verb {
    /// Whether a signal is its own concern: it has something to finish, or it asks nobody, and just ends.
    fn ends_in_order(&self) -> bool {
        match self {
            Self::Explain(_) | Self::Completions(_) | Self::Man | Self::Schema(_) => true,
            Self::Check(args) => args.asks_nobody(),
            Self::Run
            | Self::Apply(_)
            | Self::Publish(_)
            | Self::Resolve(_)
            | Self::Simulate(_)
            | Self::Console(_) => true,
            Self::DeadLetters(verb) => verb.ends_in_order(),
            Self::Operations(verb) => verb.ends_in_order(),
            Self::Batch(verb) => verb.ends_in_order(),
            _ => false,
        }
    }
}

/// A verb that only looks, or gives one order, ends with the first signal.
async fn ended(context: &Context, verb: Verb) -> anyhow::Result<Exit> {
    if verb.ends_in_order() {
        return Box::pin(done(context, verb)).await;
    }
    let interrupted = signals::first()?;
    tokio::select! {
        ended = Box::pin(done(context, verb)) => ended,
        () = interrupted => Err(exit::with(Exit::Interrupted, "interrupted")),
    }
}

async fn done(context: &Context, verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Run => run::run(context).await,
        Verb::Apply(args) => apply::apply(context, args).await,
        Verb::Publish(args) => publish::publish(context, args).await,
        Verb::Resolve(args) => resolve::resolve(context, args).await,
        Verb::Topology(verb) => topology::topology(context, verb).await,
        Verb::Check(args) => check::check(context, &args).await,
        Verb::Health(args) => health::health(context, &args).await,
        Verb::DeadLetters(verb) => dead_letters::dead_letters(context, verb).await,
        Verb::Operations(verb) => operations::operations(context, verb).await,
        Verb::Pause(args) => steer::pause(context, args).await,
        Verb::Resume(args) => steer::resume(context, args).await,
        Verb::Why(args) => why::why(context, args).await,
        Verb::Waiting(args) => why::waiting(context, args).await,
        Verb::Batch(verb) => batch::batch(context, verb).await,
        Verb::Pace(verb) => steer::pace(context, verb).await,
        Verb::Console(args) => console::console(context, args).await,
        Verb::Explain(args) => explain::explain(context, &args),
        Verb::Completions(args) => shell::completions(&args),
        Verb::Man => shell::man(),
        Verb::Schema(args) => schema::schema(&args),
        Verb::Simulate(args) => simulate::simulate(&args).await,
    }
}

/// Writes a result to stdout. A closed pipe is not an error: its reader wants no more.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| files::not_written("stdout", &error)),
    }
}

/// A text that others wrote, for a terminal: it can't move the cursor or begin a line.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Such as `1 command` and `2 commands`.
fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
