//! `usher run`: the worker.

use anyhow::Context as _;
use tokio::net::TcpListener;
use usher::admin::{self, Admin};
use usher::broker::amqp::{self, WhenUnreachable};
use usher::clock::Clock;
use usher::telemetry;
use usher::worker::{Setup, Shutdown, Stopped, Worker};

use super::exit::{self, Exit};
use super::{Context, assemble, signals};

pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let provider = assemble::provider(&config.provider)?;
    let shutdown = Shutdown::new();
    signals::stop_on_signals(shutdown.clone())?;

    let admin = Admin::new(telemetry::collect_metrics()?);
    let listen = config.admin.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("admin.listen: {listen} can't be listened on; choose another address"))?;
    tokio::spawn(admin.clone().serve(listener));

    let name = config.provider.name.clone();
    let connecting = amqp::connect(&config.broker, name.as_str(), WhenUnreachable::Wait);
    let (consumer, publisher) = tokio::select! {
        () = shutdown.draining() => return Ok(Exit::Done),
        connected = connecting => connected.map_err(|error| exit::broker(&error))?,
    };
    let (consuming, publishing) = (consumer.link(), publisher.link());
    let worker = Worker::new(Setup {
        consumer,
        publisher,
        gate: assemble::gate(&config, &*provider),
        calls: assemble::calls(&config),
        hold_max: config.broker.hold_max,
        provider,
        provider_name: name,
        config: config.worker,
        clock: Clock::System,
        shutdown: shutdown.clone(),
    });
    let progress = worker.progress();
    admin.show(admin::Worker {
        progress: progress.clone(),
        gate: worker.gate(),
        consuming,
        publishing,
        shutdown,
    });
    tracing::info!(
        provider.name = config.provider.name.as_str(),
        provider.kind = config.provider.kind.as_str(),
        admin.listen = %listen,
        "worker: started"
    );
    let stopped = worker.run().await;
    let progress = progress.borrow().clone();
    tracing::info!(
        commands.succeeded = progress.successes(),
        commands.dead_lettered = progress.failures(),
        commands.repeated = progress.repeated,
        commands.returned = progress.returned,
        "worker: stopped"
    );
    Ok(match stopped {
        Stopped::Drained | Stopped::InputEnded => Exit::Done,
        Stopped::Cut => Exit::Interrupted,
    })
}
