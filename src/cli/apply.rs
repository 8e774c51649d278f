//! `usher apply`: the same pipeline as `usher run`, without a broker.

use std::io::{IsTerminal, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::sync::watch;
use tokio::time::Instant;
use usher::broker::Message;
use usher::broker::memory::{MemoryBroker, Sink};
use usher::broker::topology::{DEAD_LETTERS, OUTCOME_LOG, Topology};
use usher::clock::Clock;
use usher::config::Config;
use usher::contract::WorkerId;
use usher::provider::Kind;
use usher::simulator::quota::QuotaKind;
use usher::simulator::{self, Faults, Settings, Simulated};
use usher::telemetry::BoxMakeWriter;
use usher::worker::{Setup, Shutdown, Stopped, Worker};

use super::dead_letter_file::WithoutEvent;
use super::exit::{self, Exit};
use super::feeder::Feeder;
use super::input::Input;
use super::outcomes::{self, Earlier};
use super::sink::{Broken, LineSink, STDOUT};
use super::summary::{BesideBar, Display, Summary};
use super::traced::Traced;
use super::{Context, assemble, bar, dead_letter_file, files, signals, token_exposure};

const SHOW_EVERY: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub struct Args {
    /// Commands as JSON lines, in UTF-8, plain or as gzip; - for stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Where to write events. A second run with the same file continues where the first one ended. Default: stdout,
    /// unless that is a terminal
    #[arg(long, value_name = "FILE")]
    outcomes: Option<PathBuf>,
    /// Where to write dead letters: the failed commands with their values, so only you may read the file. Default:
    /// out.dead-letters.jsonl beside an outcomes file out.jsonl; without one, they are only counted and logged
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,
    /// Apply to a simulated provider of this kind, started for the run, with a rate limit and
    /// some faults. Its name is its kind, and no configuration file is read
    #[arg(long, value_name = "KIND", conflicts_with = "config")]
    simulate: Option<Kind>,
}

pub async fn apply(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let input = Input::from(args.file.clone());
    let total = input.count().await?;
    let simulated = match args.simulate {
        Some(kind) => Some(simulation(kind).await?),
        None => None,
    };
    let config = match (&simulated, args.simulate) {
        (Some(simulated), Some(kind)) => config_for_simulation(kind, &simulated.base_url())?,
        _ => context.silent_config()?,
    };
    let bar = bar::bar(total);
    let beside = bar.clone();
    super::start_log(&config.log, BoxMakeWriter::new(move || BesideBar(beside.clone())));
    let Outputs {
        broker,
        earlier,
        broken,
    } = outputs(&args, &input, &config)?;
    let shutdown = Shutdown::new();
    signals::stop_on_signals(shutdown.clone())?;
    let process = format!("apply-{:012x}", fastrand::u64(..1 << 48));
    let traced = Traced::new(&config, &process, &shutdown)?;
    let worker = worker(&config, &broker, &shutdown, &traced)?;
    let feeder = Feeder {
        input,
        broker,
        name: config.provider.name.to_string(),
        earlier,
        fed: watch::Sender::default(),
        shutdown,
    };
    let exit = work_off(worker, feeder, broken, bar).await;
    traced.flush().await;
    let exit = exit?;
    if let Some(simulated) = simulated {
        simulated.stop().await;
    }
    Ok(exit)
}

/// Runs the worker to its end, shows its progress, and prints the summary.
async fn work_off(
    worker: Worker,
    feeder: Feeder,
    mut broken: watch::Receiver<Option<Broken>>,
    bar: ProgressBar,
) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let shutdown = feeder.shutdown.clone();
    let (progress, gate, fed) = (worker.progress(), worker.gate(), feeder.fed.subscribe());
    let mut display = Display::new(bar, feeder.earlier.settled.len() as u64);
    let feeding = tokio::spawn(feeder.feed());
    let mut working = tokio::spawn(worker.run());
    let mut tick = tokio::time::interval(SHOW_EVERY);
    let mut wrong = None;
    let stopped = loop {
        tokio::select! {
            stopped = &mut working => break stopped.unwrap_or(Stopped::Broken),
            _ = tick.tick() => {
                display.show(&progress.borrow(), gate.pause());
                if wrong.is_none() {
                    // There is no operator to fix the cause meanwhile: stop, a second run continues.
                    wrong = gate.doubts().inspect(|_| shutdown.drain());
                }
            }
            // Outcomes can't be written any more, so no call may be made and nothing can be settled.
            Ok(()) = broken.changed() => shutdown.abort(),
        }
    };
    display.clear();
    if stopped == Stopped::Broken {
        // No worker takes the fed commands any more.
        shutdown.abort();
    }
    let feeding = feeding.await?;
    let summary = Summary {
        progress: &progress.borrow(),
        fed: *fed.borrow(),
        elapsed: started.elapsed(),
        interrupted: stopped != Stopped::InputEnded || feeding.is_err(),
    };
    super::note(summary.text().trim_end());
    if let Some(wrong) = wrong {
        super::say(&format!("usher: stopped, no further calls were made: {wrong}"));
    }
    let broken = broken.borrow().clone();
    if let Some(broken) = broken.filter(|broken| !broken.is_closed_stdout()) {
        return Err(exit::with(Exit::OutOfReach, broken));
    }
    feeding?;
    Ok(match stopped {
        Stopped::Drained | Stopped::Cut => Exit::Interrupted,
        Stopped::Broken => Exit::Failures,
        Stopped::InputEnded if summary.failures() > 0 => Exit::Failures,
        Stopped::InputEnded => Exit::Done,
    })
}

/// A provider with a quota and with faults from which every command recovers.
async fn simulation(kind: Kind) -> anyhow::Result<Simulated> {
    let settings = Settings {
        quota: Some(QuotaKind::Bucket {
            per_second: SIMULATED_RATE,
            burst: SIMULATED_RATE / 10,
        }),
        latency: Duration::from_millis(20),
        seed: 1,
        faults: Faults {
            broken: 0.01,
            drop_after: 0.005,
            throttle_after: 0.0002,
            ..Faults::default()
        },
        ..Settings::new(kind)
    };
    simulator::start(settings, (Ipv4Addr::LOCALHOST, 0).into())
        .await
        .map_err(exit::usage)
}

/// The simulated provider's quota in calls per second, which the worker is configured with.
const SIMULATED_RATE: u32 = 500;

/// The settings for the simulation of the kind rest, which has no defaults of its own.
const SIMULATED_REST: [(&str, &str); 5] = [
    ("PATH", "/users/{userId}"),
    ("READ_PATH", "/users/{userId}"),
    (
        "FIELDS",
        r#"{"username": "username", "email": "email", "phone": "phone", "givenName": "givenName",
            "familyName": "familyName", "displayName": "displayName", "nickname": "nickname", "locale": "locale"}"#,
    ),
    ("CLEAR", "null"),
    ("CLEARABLE", "phone, displayName, nickname, locale"),
];

/// A configuration for the simulated provider. Its name is its kind, and no file is read.
fn config_for_simulation(kind: Kind, base_url: &str) -> anyhow::Result<Config> {
    let mut variables: Vec<_> = super::variables()
        .filter(|(name, _)| name != "USHER_PROVIDER" && !name.starts_with("USHER_PROVIDER__"))
        .collect();
    let mut set =
        |key: &str, value: &str| variables.push((format!("USHER_PROVIDER__{key}"), value.to_owned()));
    set("NAME", kind.as_str());
    set("KIND", kind.as_str());
    set("BASE_URL", base_url);
    set("RATE__PER_SECOND", &SIMULATED_RATE.to_string());
    set("AUTH__TOKEN", "simulated");
    if kind == Kind::Rest {
        for (key, value) in SIMULATED_REST {
            set(&format!("REST__{key}"), value);
        }
    }
    super::config_from(None, variables)
}

/// The sinks for everything that the worker publishes.
struct Outputs {
    broker: MemoryBroker,
    earlier: Earlier,
    /// Why no more can be written.
    broken: watch::Receiver<Option<Broken>>,
}

fn outputs(args: &Args, input: &Input, config: &Config) -> anyhow::Result<Outputs> {
    let outcomes = args.outcomes.as_deref();
    let beside = outcomes
        .filter(|path| !files::is_special(path))
        .map(dead_letter_file::beside);
    let dead_letters = args.dead_letters.clone().or(beside);
    let dead_letters = dead_letters.as_deref();
    for (name, path) in [("--outcomes", outcomes), ("--dead-letters", dead_letters)] {
        files::refuse_same((name, path), ("the input", input.path()))?;
    }
    files::refuse_same(("--outcomes", outcomes), ("--dead-letters", dead_letters))?;

    let mut earlier = Earlier::default();
    let (name, events): (_, Box<dyn Write + Send>) = match outcomes {
        // Thousands of lines of JSON above a progress bar help no one.
        None if std::io::stdout().is_terminal() => {
            super::note("usher: events are not shown on a terminal; keep them with --outcomes FILE");
            (STDOUT.to_owned(), Box::new(std::io::sink()))
        }
        None => (STDOUT.to_owned(), Box::new(std::io::stdout())),
        Some(path) => {
            let (file, settled) = outcomes::resume(path)?;
            earlier = settled;
            (path.display().to_string(), Box::new(file))
        }
    };
    let failure = watch::Sender::new(None);
    let form = Box::new(|message: &Message| Ok(Some(message.body.to_vec())));
    let events: Arc<dyn Sink> = LineSink::start(name, events, form, failure.clone())?;
    let (name, file, without_event): (_, Box<dyn Write + Send>, _) = match dead_letters {
        None => (String::new(), Box::new(std::io::sink()), WithoutEvent::default()),
        Some(path) => {
            let (file, without_event) = dead_letter_file::resume(path, &earlier)?;
            (path.display().to_string(), Box::new(file), without_event)
        }
    };
    let broken = failure.subscribe();
    let dead_letters = LineSink::start(name, file, dead_letter_file::form(without_event), failure)?;
    let broker = MemoryBroker::new(&Topology::new(config.provider.name.as_str(), &config.broker));
    broker.divert(OUTCOME_LOG, events);
    broker.divert(DEAD_LETTERS, dead_letters);
    Ok(Outputs {
        broker,
        earlier,
        broken,
    })
}

fn worker(
    config: &Config,
    broker: &MemoryBroker,
    shutdown: &Shutdown,
    traced: &Traced,
) -> anyhow::Result<Worker> {
    let provider = assemble::provider(&config.provider)?;
    token_exposure::log(&config.provider);
    let mut gate = assemble::gate(config, &*provider);
    // Dead letters go to a file and can be applied again, so only the configuration has to be proven, by a first write.
    gate.guard.share_max = 1.0;
    Ok(Worker::new(Setup {
        id: WorkerId::new("apply"),
        // The outcomes file has the commands that were settled before.
        fleet: None,
        partitions: config.broker.partitions.get(),
        consumer: broker.consumer(config.broker.prefetch()),
        // A slow reader of the output must not cause a line to be written twice: no publish times out.
        publisher: broker.publisher_with(Duration::MAX),
        gate,
        calls: assemble::calls(config),
        // There is no broker that takes deliveries back.
        hold_max: Duration::MAX,
        provider,
        provider_name: config.provider.name.clone(),
        config: config.worker.clone(),
        clock: Clock::System,
        shutdown: shutdown.clone(),
        traces: traced.traces(config.telemetry.sample),
    }))
}
