//! `usher run`: the worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use usher::admin::{self, Access, Admin};
use usher::broker::amqp::{self, WhenUnreachable};
use usher::broker::{self, Limits, Listener, Topology};
use usher::clock::Clock;
use usher::config::{self, ForConsole};
use usher::contract::{BODY_BYTES_MAX, WorkerId};
use usher::telemetry::{self, otlp};
use usher::traces::Traces;
use usher::worker::fleet::LOG_END_MAX;
use usher::worker::{FleetSetup, Progress, Setup, Shutdown, Stopped, Worker};

use super::exit::{self, Exit};
use super::reload::Reloader;
use super::{Context, assemble, console, signals, token_exposure};

/// The most time at the end for the traces.
const FLUSH_MAX: Duration = Duration::from_secs(3);

pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let (config, tree) = context.config_with_tree()?;
    let provider = assemble::provider(&config.provider)?;
    let id = WorkerId::new(format!("{:012x}", fastrand::u64(..1 << 48)));
    let collector = collector(&config, &id)?;
    token_exposure::log(&config.provider);
    let shutdown = Shutdown::new();
    signals::stop_on_signals(shutdown.clone())?;
    // From here on: a worker that still waits for the broker would end otherwise.
    let hangup = signal(SignalKind::hangup())?;

    let listen = config.admin.listen;
    let admin = serve_admin(&config.admin).await?;
    let console = serve_console(&config).await?;

    let name = config.provider.name.clone();
    let limits = Limits {
        held_bytes: config.worker.held_bytes_max,
        body_bytes: BODY_BYTES_MAX,
    };
    let connecting = amqp::connect(&config.broker, name.as_str(), limits, WhenUnreachable::Wait);
    let amqp::Connected {
        consumer,
        publisher,
        listener,
    } = tokio::select! {
        () = shutdown.draining() => return Ok(Exit::Done),
        connected = connecting => connected.map_err(|error| exit::broker(&error))?,
    };
    let (consuming, publishing) = (consumer.link(), publisher.link());
    let worker = Worker::new(Setup {
        id,
        fleet: Some(fleet(listener, &config.broker, name.as_str())),
        partitions: config.broker.partitions.get(),
        consumer,
        publisher,
        gate: assemble::gate(&config, &*provider),
        calls: assemble::calls(&config),
        hold_max: config.broker.hold_max,
        provider,
        provider_name: name,
        config: config.worker.clone(),
        clock: Clock::System,
        shutdown: shutdown.clone(),
        traces: traces(collector.as_ref(), config.telemetry.sample),
    });
    let progress = worker.progress();
    let reloader = Reloader::new(context.config_file.clone(), worker.gate(), tree);
    tokio::spawn(reloader.clone().on_signals(hangup));
    admin.on_reload(move || reloader.reload());
    admin.show(admin::Worker::new(
        &worker,
        (consuming, publishing),
        shutdown.clone(),
    ));
    say_started(&config.provider, listen);
    let beside = (collector, console);
    let stopped = to_the_end(worker, beside, &shutdown, config.worker.grace_period).await?;
    say_stopped(&progress.borrow());
    Ok(exit_of(stopped))
}

fn collector(config: &config::Config, id: &WorkerId) -> anyhow::Result<Option<Arc<otlp::Collector>>> {
    otlp::Collector::new(&config.telemetry, config.provider.name.as_str(), &id.to_string())
        .map_err(exit::usage)
}

fn traces(collector: Option<&Arc<otlp::Collector>>, sample: f64) -> Option<Arc<Traces>> {
    let collector = collector?.clone();
    Some(Arc::new(Traces {
        spans: collector,
        sample,
        clock: Clock::System,
    }))
}

fn fleet(listener: Box<dyn Listener>, broker: &broker::Config, provider: &str) -> FleetSetup {
    FleetSetup {
        listener,
        exchange: Topology::new(provider, broker).fleet_exchange(),
        ledger_window: broker.ledger_window,
        log_end_max: LOG_END_MAX,
    }
}

/// Runs the worker. The console stops beside it, and the traces that are left are sent then.
async fn to_the_end(
    worker: Worker,
    (collector, console): (Option<Arc<otlp::Collector>>, Option<console::Serving>),
    shutdown: &Shutdown,
    grace_period: Duration,
) -> anyhow::Result<Stopped> {
    let asked_at = tokio::spawn(asked_at(shutdown.clone()));
    let console = console.map(|serving| stop_console(serving, shutdown.clone(), grace_period));
    // Runs on the same runtime as its tasks: from another thread, each start and end of one would cost a wake-up.
    let stopped = tokio::spawn(worker.run()).await;
    flush(collector, shutdown, asked_at, grace_period).await;
    if let Some(console) = console.filter(|_| shutdown.is_draining()) {
        let _ = console.await;
    }
    stopped.map_err(|_| exit::with(Exit::Failures, "the worker panicked; the log says where"))
}

async fn asked_at(shutdown: Shutdown) -> Instant {
    shutdown.draining().await;
    Instant::now()
}

/// Sends the traces that are left. The worker ends no later with traces than without: within the grace period, and at
/// once after a second signal.
async fn flush(
    collector: Option<Arc<otlp::Collector>>,
    shutdown: &Shutdown,
    asked_at: JoinHandle<Instant>,
    grace_period: Duration,
) {
    let Some(collector) = collector else { return };
    let left = match shutdown.is_draining() {
        true => grace_period.saturating_sub(asked_at.await.map_or(grace_period, |at| at.elapsed())),
        false => FLUSH_MAX,
    };
    tokio::select! {
        biased;
        () = shutdown.aborting() => {}
        () = collector.flush(left.min(FLUSH_MAX)) => {}
    }
}

fn exit_of(stopped: Stopped) -> Exit {
    match stopped {
        Stopped::Drained | Stopped::InputEnded => Exit::Done,
        Stopped::Cut => Exit::Interrupted,
        Stopped::Broken => Exit::Failures,
    }
}

async fn serve_admin(config: &config::Admin) -> anyhow::Result<Admin> {
    let access = Access::new(config);
    access
        .token()
        .await
        .map_err(|error| exit::usage(format_args!("admin.token: can't be used ({error}); correct it")))?;
    let admin = Admin::new(telemetry::collect_metrics()?, access);
    let listen = config.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("admin.listen: {listen} can't be listened on; choose another address"))?;
    tokio::spawn(admin.clone().serve(listener));
    Ok(admin)
}

async fn serve_console(config: &config::Config) -> anyhow::Result<Option<console::Serving>> {
    if !config.console.in_run {
        return Ok(None);
    }
    let for_console = ForConsole {
        broker: config.broker.clone(),
        console: config.console.clone(),
    };
    let (name, rate) = (&config.provider.name, &config.provider.rate);
    let quota = rate.ceiling(config.provider.share);
    let serving = console::Serving::start(name.clone(), for_console, quota).await?;
    tracing::info!(console.listen = %serving.address, "console: serves");
    Ok(Some(serving))
}

/// The console ends no later than the worker may.
fn stop_console(
    serving: console::Serving,
    shutdown: Shutdown,
    grace_period: Duration,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        shutdown.draining().await;
        let _ = timeout(grace_period, serving.stopped(&shutdown)).await;
    }))
}

fn say_started(provider: &config::Provider, listen: SocketAddr) {
    tracing::info!(
        provider.name = provider.name.as_str(),
        provider.kind = provider.kind.as_str(),
        admin.listen = %listen,
        "worker: started"
    );
}

fn say_stopped(progress: &Progress) {
    tracing::info!(
        commands.succeeded = progress.successes(),
        commands.dead_lettered = progress.failures(),
        commands.repeated = progress.repeated,
        commands.returned = progress.returned,
        "worker: stopped"
    );
}
