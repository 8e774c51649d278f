//! The bench: a broker, a provider and a worker, put together as a test needs them.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use usher::broker::memory::MemoryBroker;
use usher::broker::topology::{DEAD_LETTERS, OUTCOME_LOG, Topology};
use usher::broker::{Message, config::Config as BrokerConfig};
use usher::clock::Clock;
use usher::contract::event::{Event, EventBody};
use usher::contract::{ProviderName, WorkerId};
use usher::operations::steering::Steering;
use usher::policy::guard;
use usher::policy::pace::{self, Rate, Rates};
use usher::policy::retry;
use usher::provider::Provider;
use usher::traces::Traces;
use usher::worker::attempts::{Calls, OnIgnored};
use usher::worker::fleet::Fleet;
use usher::worker::gate::Gate;
use usher::worker::watchdog::Stall;
use usher::worker::{Config, FleetSetup, Merge, Progress, Setup, Shutdown, Stopped, Worker, gate};

use crate::commands::PROVIDER;
use crate::provider::Scripted;

pub struct World {
    pub broker: MemoryBroker,
    partitions: u16,
    pub provider: Scripted,
    pub clock: Clock,
    pub prefetch: u16,
    pub rate: Option<u32>,
    /// Instead of that.
    pub rates: Option<Rates>,
    pub concurrency: usize,
    pub attempts: u32,
    pub elapsed_max: Duration,
    pub grace_period: Duration,
    pub dead_letter_share_max: f64,
    pub doubts_configuration: bool,
    /// No scripted call takes longer.
    pub timeout: Duration,
    pub settling_time: Duration,
    pub read_lag: Duration,
    pub skip_unchanged: bool,
    pub merge: Merge,
    pub hold_max: Duration,
    pub seed: u64,
    /// Of the outcome log, so much is read before a command is taken.
    pub log_end_max: usize,
    /// Whether workers know of each other and of what was before.
    pub fleet: bool,
    pub traces: Option<Arc<Traces>>,
    /// Counts them.
    workers: AtomicU64,
}

pub struct Running {
    pub task: JoinHandle<Stopped>,
    pub shutdown: Shutdown,
    pub gate: Arc<Gate>,
    pub progress: watch::Receiver<Progress>,
    pub fleet: Option<Arc<Fleet>>,
    pub still: watch::Receiver<Option<Stall>>,
}

impl Running {
    pub fn leases(&self) -> usize {
        self.progress.borrow().leases()
    }

    /// What to look at where it does not go on.
    pub fn state(&self) -> String {
        format!("{:?} {:?}", *self.progress.borrow(), self.gate.pause())
    }

    /// Killed: nothing is closed, nothing is said.
    pub async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub async fn drain(self) -> Stopped {
        self.shutdown.drain();
        self.task.await.unwrap()
    }
}

fn topology(partitions: u16) -> Topology {
    let config = BrokerConfig {
        partitions: NonZeroU16::new(partitions).unwrap(),
        ..BrokerConfig::default()
    };
    Topology::new(PROVIDER, &config)
}

impl World {
    pub fn new(provider: Scripted) -> Self {
        Self::partitioned(provider, 1)
    }

    pub fn partitioned(provider: Scripted, partitions: u16) -> Self {
        let clock = Clock::anchored("2026-11-21T10:00:00Z".parse::<Timestamp>().unwrap());
        Self {
            broker: MemoryBroker::at(&topology(partitions), clock),
            partitions,
            provider,
            clock,
            prefetch: 256,
            rate: None,
            rates: None,
            concurrency: 64,
            attempts: 5,
            elapsed_max: Duration::from_secs(300),
            grace_period: Duration::from_secs(25),
            dead_letter_share_max: 1.0,
            doubts_configuration: false,
            timeout: Duration::from_secs(5),
            settling_time: Duration::from_secs(1),
            read_lag: Duration::from_secs(1),
            skip_unchanged: false,
            merge: Merge::Off,
            hold_max: Duration::from_secs(600),
            seed: 1,
            log_end_max: 10,
            fleet: true,
            traces: None,
            workers: AtomicU64::new(0),
        }
    }

    pub fn publish(&self, message: &Message) {
        self.broker.publish(message).unwrap();
    }

    fn fleet_setup(&self) -> FleetSetup {
        FleetSetup {
            listener: self.broker.listener(),
            exchange: topology(self.partitions).fleet_exchange(),
            ledger_window: Duration::from_secs(900),
            log_end_max: self.log_end_max,
        }
    }

    pub fn start(&self) -> Running {
        let shutdown = Shutdown::new();
        let number = self.workers.fetch_add(1, Ordering::Relaxed);
        let worker = Worker::new(Setup {
            id: WorkerId::new(format!("w{number}")),
            fleet: self.fleet.then(|| self.fleet_setup()),
            partitions: self.partitions,
            consumer: self.broker.consumer(self.prefetch),
            publisher: self.broker.publisher(),
            provider: Arc::new(self.provider.clone()),
            provider_name: ProviderName::parse(PROVIDER).unwrap(),
            config: Config {
                grace_period: self.grace_period,
                ..Config::default()
            },
            gate: gate::Settings {
                pace: pace::Settings {
                    rates: match &self.rates {
                        Some(rates) => rates.clone(),
                        None => self.rate.map_or_else(Rates::default, per_second),
                    },
                    share: 1.0,
                    gap_max: Duration::from_secs(600),
                    clock: self.clock,
                },
                concurrency: self.concurrency,
                retry: retry::Config {
                    attempts: self.attempts,
                    elapsed_max: self.elapsed_max,
                    ..retry::Config::default()
                },
                bulk_share_min: 0.05,
                guard: guard::Settings {
                    share_max: self.dead_letter_share_max,
                    window: 50,
                    doubts_configuration: self.doubts_configuration,
                },
                can_read: self.provider.reads(),
                seed: self.seed.wrapping_add(number),
            },
            calls: Calls {
                timeout: self.timeout,
                settling_time: self.settling_time,
                read_lag: self.read_lag,
                skip_unchanged: self.skip_unchanged,
                merge: self.merge,
                on_ignored: OnIgnored::Fail,
            },
            hold_max: self.hold_max,
            clock: self.clock,
            shutdown: shutdown.clone(),
            traces: self.traces.clone(),
        });
        Running {
            gate: worker.gate(),
            progress: worker.progress(),
            fleet: worker.fleet(),
            still: worker.still(),
            task: tokio::spawn(worker.run()),
            shutdown,
        }
    }

    /// Runs a worker until all that was published is settled.
    pub async fn run_to_the_end(&self) {
        let running = self.start();
        self.broker.finish_input();
        let ended = tokio::time::timeout(Duration::from_secs(24 * 3600), running.task).await;
        assert_eq!(ended.expect("it ends within a day").unwrap(), Stopped::InputEnded);
    }

    /// Commands that are not settled.
    pub fn waiting(&self) -> usize {
        self.in_queues(|queue| self.broker.depth(queue))
    }

    /// Those of them that a worker has in hand.
    pub fn held(&self) -> usize {
        self.in_queues(|queue| self.broker.unsettled(queue))
    }

    fn in_queues(&self, count: impl Fn(&str) -> usize) -> usize {
        let queues = |partition| {
            ["user.update", "user.update.bulk"].map(|queue| format!("{queue}.{PROVIDER}.{partition}"))
        };
        (0..self.partitions)
            .flat_map(queues)
            .map(|queue| count(&queue))
            .sum()
    }

    pub async fn until_settled(&self) {
        assert!(self.settles().await, "{} left after a day", self.waiting());
    }

    /// Whether all that was published is settled within a day.
    pub async fn settles(&self) -> bool {
        self.settles_within(Duration::from_secs(24 * 3600)).await
    }

    pub async fn settles_within(&self, span: Duration) -> bool {
        let start = Instant::now();
        while self.waiting() > 0 && start.elapsed() < span {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.waiting() == 0
    }

    pub fn events(&self) -> Vec<Event> {
        let messages = self.broker.messages(OUTCOME_LOG);
        messages
            .iter()
            // What is told of the provider as a whole stands there, too.
            .filter(|message| message.routing_key.starts_with("user."))
            .map(|message| serde_json::from_slice(&message.body).unwrap())
            .collect()
    }

    pub fn steering(&self) -> Steering {
        let provider = ProviderName::parse(PROVIDER).unwrap();
        Steering::new(self.broker.inspector(), self.broker.publisher(), &provider)
    }

    pub fn dead_letters(&self) -> Vec<Message> {
        self.broker.messages(DEAD_LETTERS)
    }
}

pub fn per_second(calls: u32) -> Rates {
    Rate::per_second(NonZeroU32::new(calls).unwrap()).into()
}

/// The command's id, as its events give it.
pub fn command_id(event: &Event) -> String {
    let started = match &event.body {
        EventBody::Start(started) => started,
        EventBody::Success(succeeded) => &succeeded.command,
        EventBody::Fail(failed) => &failed.command,
    };
    started.command_id.clone().unwrap_or_default()
}

/// What the terminal events say, in short: `SUCCESS 1` is a success that took one attempt.
pub fn outcomes(events: &[Event]) -> Vec<String> {
    let outcome = |event: &Event| match &event.body {
        EventBody::Start(_) => None,
        EventBody::Success(succeeded) if succeeded.changed => Some(format!("SUCCESS {}", succeeded.attempts)),
        EventBody::Success(succeeded) => Some(format!("UNCHANGED {}", succeeded.attempts)),
        EventBody::Fail(failed) => Some(format!("{} {}", failed.error.reason, failed.attempts)),
    };
    events.iter().filter_map(outcome).collect()
}
