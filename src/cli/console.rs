//! `usher console`: the operators' pages. It names the broker's adapter, and nothing else knows which one it is.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use usher::broker;
use usher::broker::amqp::{self, WhenUnreachable};
use usher::clock::Clock;
use usher::config::ForConsole;
use usher::console::{Connect, Console, Ports, Setup};
use usher::contract::ProviderName;
use usher::worker::Shutdown;

use super::exit::{self, Exit};
use super::operator::Scope;
use super::{Context, note, print, signals};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    scope: Scope,
    /// The address to listen on, instead of console.listen; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
}

struct Broker(broker::Config);

#[async_trait]
impl Connect for Broker {
    async fn connect(&self) -> Result<Ports, String> {
        let inspector = amqp::inspector(&self.0)
            .await
            .map_err(|error| error.to_string())?;
        let publisher = amqp::publisher(&self.0, WhenUnreachable::Fail).await;
        match publisher {
            Ok(publisher) => Ok(Ports { inspector, publisher }),
            Err(error) => {
                inspector.close().await;
                Err(error.to_string())
            }
        }
    }

    fn address(&self) -> String {
        self.0.url.to_string()
    }
}

/// A console that serves.
pub struct Serving {
    console: Arc<Console>,
    pub address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Serving {
    pub async fn start(
        provider: ProviderName,
        for_console: ForConsole,
        quota: Option<f64>,
    ) -> anyhow::Result<Self> {
        let ForConsole { broker, console } = for_console;
        let listen = console.listen;
        let setup = Setup {
            provider,
            connect: Arc::new(Broker(broker.clone())),
            broker,
            config: console,
            clock: Clock::System,
            quota,
        };
        let console = Console::new(setup).await.map_err(exit::usage)?;
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("console.listen: {listen} can't be listened on; choose another address")
        })?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(console.clone().serve(listener));
        Ok(Self {
            console,
            address,
            _serving: AbortOnDropHandle::new(serving),
        })
    }

    /// The operations that run here stop in order.
    pub async fn stop(self, shutdown: &Shutdown) {
        self.console.stop(shutdown).await;
    }
}

pub async fn console(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let (_, configured) = context.names()?;
    let mut for_console = context.for_console()?;
    let provider = args.scope.provider.or(configured).ok_or_else(|| {
        exit::usage("which provider? Name it with --provider NAME, or configure provider.name")
    })?;
    for_console.console.listen = args.listen.unwrap_or(for_console.console.listen);
    // Where the whole configuration is at hand, so is the quota.
    let whole = context.silent_config().ok();
    let quota = whole.and_then(|config| config.provider.rate.ceiling(config.provider.share));
    let shutdown = Shutdown::new();
    signals::stop_on_signals(shutdown.clone())?;
    let serving = Serving::start(provider, for_console, quota).await?;
    print(&format!("http://{}/\n", serving.address))?;
    note("usher: the console serves; end it with Ctrl-C");
    shutdown.draining().await;
    serving.stop(&shutdown).await;
    Ok(Exit::Done)
}
