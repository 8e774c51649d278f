//! `usher run`: the worker.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use usher::admin::{self, Access, Admin};
use usher::broker::amqp::{self, WhenUnreachable};
use usher::broker::{self, Limits, Listener, Topology};
use usher::clock::Clock;
use usher::config::{self, ForConsole};
use usher::contract::{BODY_BYTES_MAX, WorkerId};
use usher::telemetry;
use usher::worker::fleet::LOG_END_MAX;
use usher::worker::{FleetSetup, Progress, Setup, Shutdown, Stopped, Worker};

use super::exit::{self, Exit};
use super::reload::Reloader;
use super::traced::Traced;
use super::{Context, assemble, console, signals, token_exposure};

pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let (config, tree) = context.config_with_tree()?;
    let provider = assemble::provider(&config.provider)?;
    let id = WorkerId::new(format!("{:012x}", fastrand::u64(..1 << 48)));
    let shutdown = Shutdown::new();
    let traced = Traced::new(&config, &id.to_string(), &shutdown)?;
    token_exposure::log(&config.provider);
    signals::stop_on_signals(shutdown.clone())?;
    // From here on: a worker that still waits for the broker would end otherwise.
    let hangup = signal(SignalKind::hangup())?;

    let listen = config.admin.listen;
    let admin = serve_admin(&config.admin).await?;
    let console = serve_console(&config, &shutdown).await?;

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
        traces: traced.traces(config.telemetry.sample),
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
    let stopped = to_the_end(worker, (traced, console), &shutdown).await?;
    say_stopped(&progress.borrow());
    Ok(exit_of(stopped))
}

fn fleet(listener: Box<dyn Listener>, broker: &broker::Config, provider: &str) -> FleetSetup {
    FleetSetup {
        listener,
        exchange: Topology::new(provider, broker).fleet_exchange(),
        ledger_window: broker.ledger_window,
        log_end_max: LOG_END_MAX,
    }
}

/// Runs the worker, sends the traces that are left then, and waits for the console's end.
async fn to_the_end(
    worker: Worker,
    (traced, console): (Traced, Option<AbortOnDropHandle<()>>),
    shutdown: &Shutdown,
) -> anyhow::Result<Stopped> {
    // Runs on the same runtime as its tasks: from another thread, each start and end of one would cost a wake-up.
    let stopped = tokio::spawn(worker.run()).await;
    traced.flush().await;
    if let Some(console) = console.filter(|_| shutdown.is_draining()) {
        let _ = console.await;
    }
    stopped.map_err(|_| exit::with(Exit::Failures, "the worker panicked; the log says where"))
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

/// The console, if it is to be served here. It stops beside the worker, and takes no longer than the worker may.
async fn serve_console(
    config: &config::Config,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<AbortOnDropHandle<()>>> {
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
    let (shutdown, grace_period) = (shutdown.clone(), config.worker.grace_period);
    let stopping = tokio::spawn(async move {
        shutdown.draining().await;
        let _ = timeout(grace_period, serving.stop(&shutdown)).await;
    });
    Ok(Some(AbortOnDropHandle::new(stopping)))
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
