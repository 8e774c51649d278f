//! Builds a worker from its parts.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{Mutex, RwLock, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::attempts::{Caller, Calls};
use super::background::Background;
use super::dispatch::{LOOK_INTERVAL, Worker};
use super::fleet::{self, Fleet, Parts};
use super::gate::{self, Gate};
use super::holds::Holds;
use super::in_hand::InHand;
use super::ledger::Ledger;
use super::lifecycle;
use super::links;
use super::progress::Progress;
use super::reconciler::ReconcilerTask;
use super::runner::{Claims, Runner, Slots, Suspicion};
use super::settle::Settler;
use super::shutdown::Shutdown;
use super::steering;
use super::unroutable;
use super::watchdog::{Stall, Watchdog};
use crate::broker::topology::orders_stream;
use crate::broker::{Consumer, Listener, Publisher};
use crate::clock::Clock;
use crate::contract::{ProviderName, WorkerId};
use crate::provider::{Provider, TokenState};
use crate::traces::Traces;

/// Delay before a standby worker that could not fetch a token tries again.
const TOKEN_AGAIN: Duration = Duration::from_secs(30);

/// `[worker]`
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "WorkerConfig")]
pub struct Config {
    /// How long a stopping worker waits for the commands in flight.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "0s", "maximum": "1h" }))]
    pub grace_period: Duration,
    /// The share of the pace that bulk traffic gets even when interactive traffic could use all.
    #[schemars(range(min = 0, max = 1))]
    pub bulk_share_min: f64,
    /// When more than this share of the latest commands would be dead letters, nothing is dead-lettered, and commands
    /// run at one call a second, until `usher resume`: a broken schema or a wrong tenant must not drain a healthy
    /// queue. 1: never.
    #[schemars(range(min = 0, max = 1))]
    pub dead_letter_share_max: f64,
    /// How many commands count as the latest.
    #[schemars(range(min = 1, max = 100_000))]
    pub dead_letter_window: usize,
    /// How many commands are remembered. One of them that is redelivered is not applied again.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub ledger_commands_max: usize,
    /// The most bytes that the bodies of unsettled commands may have together, not counting one command of each
    /// partition. Further commands wait in the broker until these are settled.
    #[schemars(range(min = 1_048_576, max = 17_179_869_184_u64))]
    pub held_bytes_max: usize,
    /// Commands are reported as stalled when none has ended for this long although calls are not paused.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "1s", "maximum": "1h" }))]
    pub stalled_after: Duration,
    /// A command that this many workers died of runs alone, so that it takes no other command with it. At most
    /// `poison_after`.
    #[schemars(range(min = 1, max = 1000))]
    pub suspect_after: u32,
    /// A command that this many workers died of becomes a dead letter without being run.
    #[schemars(range(min = 1, max = 1000))]
    pub poison_after: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grace_period: Duration::from_secs(25),
            bulk_share_min: 0.05,
            dead_letter_share_max: 0.5,
            dead_letter_window: 50,
            ledger_commands_max: 100_000,
            held_bytes_max: 64 * 1024 * 1024,
            stalled_after: Duration::from_secs(30),
            suspect_after: 3,
            poison_after: 6,
        }
    }
}

/// Everything that a worker needs from its caller.
pub struct Setup {
    /// Unique to each process.
    pub id: WorkerId,
    pub consumer: Box<dyn Consumer>,
    pub publisher: Arc<dyn Publisher>,
    /// `None`: there are no other workers, and never were.
    pub fleet: Option<FleetSetup>,
    pub partitions: u16,
    pub provider: Arc<dyn Provider>,
    pub provider_name: ProviderName,
    pub config: Config,
    pub gate: gate::Settings,
    pub calls: Calls,
    /// In a longer pause, unsettled deliveries are handed back.
    pub hold_max: Duration,
    pub clock: Clock,
    pub shutdown: Shutdown,
    /// `None`: nothing is traced.
    pub traces: Option<Arc<Traces>>,
}

/// The connection to the other workers.
pub struct FleetSetup {
    pub listener: Box<dyn Listener>,
    /// The exchange for notices.
    pub exchange: String,
    /// How far back the outcome log is read at the start.
    pub ledger_window: Duration,
    /// The number of its events that are read before the first command is taken.
    pub log_end_max: usize,
}

impl Worker {
    /// Needs a tokio runtime: the background tasks start here.
    pub fn new(mut setup: Setup) -> Self {
        let gate = Gate::new(setup.gate.clone());
        let mut keepers = Background::default();
        keepers.spawn(
            "links",
            links::count(setup.consumer.link(), setup.publisher.link()),
        );
        keepers.spawn("gate", gate.clone().keep_open());
        let credentials = gate.clone().watch_credentials(setup.provider.clone());
        keepers.spawn("credentials", credentials);
        let ledger = Arc::new(Ledger::new(setup.id.clone(), setup.config.ledger_commands_max));
        let fleet_setup = setup.fleet.take();
        let ledger_window = fleet_setup
            .as_ref()
            .map_or(Duration::ZERO, |fleet_setup| fleet_setup.ledger_window);
        let (stall, still) = watch::channel(None);
        let parts = Parts {
            still: still.clone(),
            publisher: setup.publisher.clone(),
            gate,
            ledger,
            orders: Arc::default(),
            in_hand: Arc::default(),
        };
        let fleet = fleet_setup.map(|fleet_setup| setup.join(fleet_setup, parts.clone(), &mut keepers));
        let runner = Arc::new(setup.runner(parts, fleet.clone(), ledger_window));
        let reconciler = fleet.clone().map(|fleet| {
            keepers.spawn("token", keep_token(runner.clone()));
            ReconcilerTask::start(runner.clone(), fleet)
        });
        let progress = watch::Sender::new(Progress::new(setup.partitions, setup.consumer.window()));
        let watchdog = setup.watchdog(&runner, &progress, stall);
        keepers.spawn("watchdog", watchdog.watch());
        Self {
            consumer: setup.consumer,
            publisher: setup.publisher,
            runner,
            fleet,
            reconciler,
            partitions: setup.partitions,
            held: BTreeMap::new(),
            given: BTreeMap::new(),
            tasks: JoinSet::new(),
            riding: 0,
            entering: JoinSet::new(),
            redelivered_at: None,
            resting: false,
            turned_at: Instant::now(),
            holds_since: None,
            shutdown: setup.shutdown,
            grace_period: setup.config.grace_period,
            stop_by: None,
            hold_max: setup.hold_max,
            progress,
            still,
            keepers,
        }
    }
}

impl Worker {
    /// The fleet; `None`: there are no other workers.
    pub fn fleet(&self) -> Option<Arc<Fleet>> {
        self.fleet.clone()
    }

    /// The commands that it has in hand.
    pub fn in_hand(&self) -> Arc<InHand> {
        self.runner.in_hand.clone()
    }

    pub fn publisher(&self) -> Arc<dyn Publisher> {
        self.publisher.clone()
    }
}

impl Setup {
    /// Joins the fleet.
    fn join(&self, fleet_setup: FleetSetup, parts: Parts, keepers: &mut Background) -> Arc<Fleet> {
        let listener_status = fleet_setup.listener.status();
        let unroutable = unroutable::watch(listener_status.unroutable.clone());
        let link = links::count_one("listener", listener_status.link.clone());
        let settings = fleet::Settings {
            provider: self.provider_name.clone(),
            partitions: self.partitions,
            exchange: fleet_setup.exchange,
            ledger_window: fleet_setup.ledger_window,
            log_end_max: fleet_setup.log_end_max,
            listener_status,
            window: self.consumer.window(),
        };
        let (gate, publisher) = (parts.gate.clone(), parts.publisher.clone());
        // No lease, no call.
        gate.set_quota_share(&[], self.partitions);
        let steering = steering::follow(parts.orders.clone(), gate.clone(), self.clock);
        keepers.spawn("steering", steering);
        let fleet = Arc::new(Fleet::new(self.id.clone(), settings, self.clock, parts));
        keepers.spawn("answers", fleet.clone().answer_inquiries());
        keepers.spawn("lifecycle", lifecycle::publish(fleet.clone(), gate, publisher));
        keepers.spawn("notices", fleet.clone().publish_notices());
        keepers.spawn("link", link);
        // It ends with the listener, whose end is noticed elsewhere.
        keepers.spawn("unroutable", unroutable.then(|()| pending()));
        keepers.spawn("fleet", fleet.clone().listen(fleet_setup.listener));
        fleet
    }

    fn watchdog(
        &self,
        runner: &Runner,
        progress: &watch::Sender<Progress>,
        stall: watch::Sender<Option<Stall>>,
    ) -> Watchdog {
        Watchdog {
            gate: runner.caller.gate.clone(),
            waits: runner.caller.waits.clone(),
            progress: progress.subscribe(),
            ready: runner.fleet.as_ref().map(|fleet| fleet.ready()),
            publishing: self.publisher.link(),
            consuming: self.consumer.link(),
            stalled_after: self.config.stalled_after,
            stall,
        }
    }

    fn runner(&self, parts: Parts, fleet: Option<Arc<Fleet>>, ledger_window: Duration) -> Runner {
        let stream = orders_stream(&self.provider_name);
        let holds = Holds::new(parts.orders.clone(), stream);
        Runner {
            holds,
            caller: Caller {
                provider: self.provider.clone(),
                gate: parts.gate,
                retry: self.gate.retry.clone(),
                calls: self.calls,
                clock: self.clock,
                waits: Arc::default(),
                orders: parts.orders,
                fetching: Mutex::default(),
            },
            settler: Settler {
                publisher: self.publisher.clone(),
                provider: self.provider_name.clone(),
                clock: self.clock,
            },
            name: self.provider_name.clone(),
            ledger: parts.ledger,
            in_hand: parts.in_hand,
            traces: self.traces.clone(),
            fleet,
            clock: self.clock,
            worker: self.id.clone(),
            runs: AtomicU64::new(0),
            slots: Slots::new(self.gate.concurrency, self.partitions),
            suspicion: Suspicion {
                suspect_after: self.config.suspect_after,
                poison_after: self.config.poison_after,
            },
            claims: Claims::default(),
            isolation: RwLock::default(),
            ledger_window,
        }
    }
}

/// Keeps a token ready, so that a standby worker can call as soon as it gets a lease. This one call needs no share of
/// the quota. Never ends.
async fn keep_token(runner: Arc<Runner>) {
    let mut look = interval(LOOK_INTERVAL);
    loop {
        look.tick().await;
        let access = runner.caller.provider.access();
        if runner.caller.gate.has_quota_share() || access.token() == TokenState::Ready {
            continue;
        }
        let _fetching = runner.caller.fetching.lock().await;
        if let Err(error) = access.fetch_token().await {
            tracing::debug!(reason = %error, "worker: standing by, no token yet");
            sleep(TOKEN_AGAIN).await;
        }
    }
}
