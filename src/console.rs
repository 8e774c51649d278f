//! The operators' pages: what the verbs print, through the same operations, drawn by the server. It works without JavaScript;
//! with it, pages follow by themselves.

mod access;
mod act;
mod address;
mod block;
mod chart;
mod hour;
mod letters;
mod link;
mod page;
mod runs;
mod screens;
mod serve;
mod shared;
mod text;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use self::access::Access;
use self::hour::Following;
use self::letters::Snapshot;
use self::link::{Link, Trouble};
use self::runs::Runs;
use self::screens::Fleet;
use self::shared::{Each, Patience, Seen, Shared};
use crate::broker::{self, Topology};
use crate::clock::Clock;
use crate::config;
use crate::contract::{Orders, ProviderName};
use crate::operations::batch::{Book, Listed};
use crate::operations::dead_letters::Found;
use crate::operations::operation::{FailedAgain, Record, State};
use crate::operations::why::Findings;
use crate::web::server;
use crate::worker::Shutdown;

pub use self::link::{Connect, Ports};

/// Live updates end after this, and the page asks for them again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// What the console shows, and through what.
pub struct Setup {
    pub provider: ProviderName,
    pub broker: broker::Config,
    pub config: config::Console,
    pub connect: Arc<dyn Connect>,
    pub clock: Clock,
    /// The configured quota in calls per second, where it is known here.
    pub quota: Option<f64>,
}

pub struct Console {
    provider: ProviderName,
    broker: broker::Config,
    access: Access,
    link: Arc<Link>,
    clock: Clock,
    quota: Option<f64>,
    following: Arc<Following>,
    letters: Arc<Shared<Snapshot>>,
    found: Each<Vec<Found>>,
    fleet: Arc<Shared<Fleet>>,
    records: Arc<Shared<Vec<(Record, State)>>>,
    failed_again: Each<Vec<FailedAgain>>,
    batches: Arc<Shared<Vec<Listed>>>,
    books: Each<(Book, Orders)>,
    stories: Each<Findings>,
    /// Looks at all dead letters hold them, and logs are long: one at a time of what is not shared.
    looks: Arc<Semaphore>,
    runs: Runs,
}

impl Console {
    /// What is wrong with the configuration, if something is.
    pub async fn new(setup: Setup) -> Result<Arc<Self>, String> {
        let Setup {
            provider,
            broker,
            config,
            connect,
            clock,
            quota,
        } = setup;
        Ok(Arc::new(Self {
            access: Access::new(&config).await?,
            link: Arc::new(Link::new(connect, clock)),
            following: Following::new(&provider, clock),
            provider,
            broker,
            clock,
            quota,
            letters: Arc::default(),
            found: Each::default(),
            fleet: Arc::default(),
            records: Arc::default(),
            failed_again: Each::default(),
            batches: Arc::default(),
            books: Each::default(),
            stories: Each::default(),
            looks: Arc::new(Semaphore::new(1)),
            runs: Runs::default(),
        }))
    }

    /// Serves until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let following = self.following.clone().follow(self.link.clone());
        let _following = AbortOnDropHandle::new(tokio::spawn(following));
        server::serve(listener, serve::router(self), CONNECTION_TIMEOUT).await;
    }

    /// Operations that run here stop in order, and can be resumed; the second signal leaves them as they are.
    pub async fn stop(&self, shutdown: &Shutdown) {
        tokio::select! {
            () = self.runs.stop() => {}
            () = shutdown.aborting() => {}
        }
    }

    fn topology(&self) -> Topology {
        Topology::new(self.provider.as_str(), &self.broker)
    }

    /// A look through the shared connection, shared with all who ask for it.
    async fn look<T, F>(
        &self,
        shared: &Arc<Shared<T>>,
        patience: Patience,
        make: impl FnOnce(Arc<Ports>) -> F + Send + 'static,
    ) -> Result<Seen<T>, Trouble>
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<T, Trouble>> + Send + 'static,
    {
        let link = self.link.clone();
        let making = move || async move {
            let ports = link.ports().await?;
            let made = make(ports.clone()).await;
            if let Err(Trouble::Away(_)) = &made {
                link.lost(&ports).await;
            }
            made
        };
        shared.get(patience, self.clock, making).await
    }

    /// The same, where each look is another one: one at a time.
    async fn look_alone<T, F>(
        &self,
        shared: &Arc<Shared<T>>,
        patience: Patience,
        make: impl FnOnce(Arc<Ports>) -> F + Send + 'static,
    ) -> Result<Seen<T>, Trouble>
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<T, Trouble>> + Send + 'static,
    {
        let looks = self.looks.clone();
        let making = move |ports| async move {
            let Ok(_turn) = looks.acquire().await else {
                return Err(Trouble::Slow);
            };
            make(ports).await
        };
        self.look(shared, patience, making).await
    }
}
