//! The worker's loop: receive, dispatch to the user's lane, take in what is finished, drain.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::gate::{self, Gate};
use super::handler::{Calls, Handler, Held};
use super::hands::{End, Finished, Hands, take_turn};
use super::lane::Lanes;
use super::ledger::Ledger;
use super::progress::Progress;
use super::settle::Settler;
use super::shutdown::Shutdown;
use super::turn::Turn;
use crate::broker::{Consumer, Delivery, Publisher};
use crate::clock::Clock;
use crate::contract::ProviderName;
use crate::metrics;
use crate::provider::Provider;

/// Nothing is handed back for less.
const SHORT_REST: Duration = Duration::from_secs(60);

/// How often a serving worker looks whether to rest, and a resting one whether to go on.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// `[worker]`
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "WorkerConfig")]
pub struct Config {
    /// How long a stopping worker waits for the commands in flight.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String")]
    pub grace_period: Duration,
    /// The share of the pace that bulk traffic gets even when interactive traffic could use all.
    #[schemars(range(min = 0, max = 1))]
    pub bulk_share_min: f64,
    /// When more than this share of the latest commands would be dead letters, nothing is dead-lettered and
    /// nobody calls until `usher resume`: a broken schema or a wrong tenant must not drain a healthy queue.
    /// 1: never.
    #[schemars(range(min = 0, max = 1))]
    pub dead_letter_share_max: f64,
    /// How many the latest commands are.
    pub dead_letter_window: usize,
    /// So many settled commands are remembered: one that comes again among them is not applied again.
    pub ledger_commands_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grace_period: Duration::from_secs(25),
            bulk_share_min: 0.05,
            dead_letter_share_max: 0.5,
            dead_letter_window: 50,
            ledger_commands_max: 16_384,
        }
    }
}

/// The world that a worker runs in: the caller brings it.
pub struct Setup {
    pub consumer: Box<dyn Consumer>,
    pub publisher: Arc<dyn Publisher>,
    pub provider: Arc<dyn Provider>,
    pub provider_name: ProviderName,
    pub config: Config,
    pub gate: gate::Settings,
    pub calls: Calls,
    /// A longer pause hands back what is held.
    pub hold_max: Duration,
    pub clock: Clock,
    pub shutdown: Shutdown,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The input ended, and all of it is settled.
    InputEnded,
    /// It was asked to, and what was in flight is settled.
    Drained,
    /// The grace period ran out, or it was aborted: what was in flight comes again.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// What is held goes back: nothing is taken, calls that are out are finished.
    Leaving,
    /// Nothing is held.
    Resting,
}

pub struct Worker {
    consumer: Box<dyn Consumer>,
    publisher: Arc<dyn Publisher>,
    hands: Arc<Hands>,
    lanes: Lanes<Turn>,
    tasks: JoinSet<Finished>,
    ledger: Ledger,
    shutdown: Shutdown,
    /// What the commands in hand are told by that they are to be left.
    leave: CancellationToken,
    grace_period: Duration,
    hold_max: Duration,
    progress: watch::Sender<Progress>,
    /// What runs beside the commands, for as long as the worker does.
    keepers: JoinSet<()>,
}

impl Worker {
    /// Needs a tokio runtime: the gate's keeper starts here.
    pub fn new(setup: Setup) -> Self {
        let retry = setup.gate.retry.clone();
        let gate = Gate::new(setup.gate);
        let mut keepers = JoinSet::new();
        keepers.spawn(gate.clone().keep_open());
        keepers.spawn(gate.clone().watch_credentials(setup.provider.clone()));
        let hands = Hands {
            handler: Handler {
                provider: setup.provider,
                gate,
                retry,
                calls: setup.calls,
                clock: setup.clock,
                fetching: Mutex::default(),
            },
            settler: Settler {
                publisher: setup.publisher.clone(),
                provider: setup.provider_name.clone(),
                clock: setup.clock,
            },
            name: setup.provider_name,
        };
        Self {
            consumer: setup.consumer,
            publisher: setup.publisher,
            hands: Arc::new(hands),
            lanes: Lanes::default(),
            tasks: JoinSet::new(),
            ledger: Ledger::new(setup.config.ledger_commands_max),
            leave: setup.shutdown.leave(),
            shutdown: setup.shutdown,
            grace_period: setup.config.grace_period,
            hold_max: setup.hold_max,
            progress: watch::Sender::new(Progress::new()),
            keepers,
        }
    }

    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub fn gate(&self) -> Arc<Gate> {
        self.hands.handler.gate.clone()
    }

    /// Runs until the input ends or it is told to stop, and leaves the broker in order.
    pub async fn run(mut self) -> Stopped {
        let stopped = self.serve().await;
        self.tasks.shutdown().await;
        self.keepers.shutdown().await;
        // Nothing is in flight any more: whatever is unsettled goes back, in order.
        self.consumer.close().await;
        self.publisher.close().await;
        stopped
    }

    async fn serve(&mut self) -> Stopped {
        let shutdown = self.shutdown.clone();
        let mut aborting = pin!(shutdown.aborting());
        let mut draining = pin!(shutdown.draining());
        let mut grace = pin!(tokio::time::sleep(Duration::ZERO));
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = None;
        let mut stage = Stage::Serving;
        loop {
            if let Some(stopped) = stop
                && self.tasks.is_empty()
            {
                return stopped;
            }
            if stage == Stage::Leaving && self.tasks.is_empty() {
                self.consumer.suspend().await;
                stage = Stage::Resting;
            }
            tokio::select! {
                biased;
                () = &mut aborting => return Stopped::Cut,
                () = &mut draining, if stop != Some(Stopped::Drained) => {
                    stop = Some(Stopped::Drained);
                    self.hand_back_parked("worker: draining");
                    grace.as_mut().reset(Instant::now() + self.grace_period);
                }
                () = &mut grace, if stop == Some(Stopped::Drained) => return Stopped::Cut,
                Some(finished) = self.tasks.join_next() => self.take_in(finished),
                _ = look.tick(), if stop.is_none() => stage = self.look(stage).await,
                delivery = self.consumer.next(), if stop.is_none() && stage == Stage::Serving => match delivery {
                    Some(delivery) => self.dispatch(delivery),
                    None => stop = Some(Stopped::InputEnded),
                },
            }
        }
    }

    /// A long pause must not hold deliveries until the broker takes them away.
    async fn look(&mut self, stage: Stage) -> Stage {
        let now = Instant::now();
        let pause = self.gate().pause();
        // A probe that is due needs a command to go out with.
        let pause = pause.filter(|pause| pause.until.is_none_or(|until| until > now));
        let long = pause.as_ref().is_some_and(|pause| {
            let old = now.duration_since(pause.since) >= self.hold_max;
            // For a short while it is not worth it: what comes again waits before its first call.
            pause.until.map_or(old, |until| {
                until - now > self.hold_max || (old && until - now > SHORT_REST)
            })
        });
        match stage {
            Stage::Serving if long => {
                self.leave.cancel();
                self.hand_back_parked("worker: a long pause; what is held goes back to the broker");
                Stage::Leaving
            }
            Stage::Resting if pause.is_none() => {
                tracing::info!("worker: takes commands again");
                self.leave = self.shutdown.leave();
                self.consumer.resume().await;
                Stage::Serving
            }
            stage => stage,
        }
    }

    fn dispatch(&mut self, delivery: Delivery) {
        if delivery.redelivered {
            metrics::redelivery();
        }
        let turn = Turn::read(delivery, &self.hands.name, &*self.hands.handler.provider);
        let now = match turn.user().cloned() {
            Some(user) => {
                let class = Held::class(&turn.delivery);
                self.lanes.arrive(&user, class, turn)
            }
            None => Some(turn),
        };
        if let Some(turn) = now {
            self.begin(turn);
        }
        self.moved(|_| ());
    }

    fn begin(&mut self, turn: Turn) {
        let known = match turn.command {
            Ok(_) => self.ledger.find(&turn.ident).cloned(),
            Err(_) => None,
        };
        self.tasks
            .spawn(take_turn(self.hands.clone(), turn, known, self.leave.clone()));
    }

    fn take_in(&mut self, finished: Result<Finished, JoinError>) {
        let finished = match finished {
            Ok(finished) => finished,
            Err(error) => {
                // Telling the world panicked: whose lane it was is lost, so order can't be kept here.
                tracing::error!(%error, "worker: settling panicked; stopping, the broker delivers again");
                self.shutdown.abort();
                return;
            }
        };
        let Finished { user, ident, end } = finished;
        if let End::Settled(settlement) = &end {
            self.ledger.record(&ident, settlement.clone());
        }
        if let Some(user) = user
            && let Some(next) = self.lanes.done(&user)
        {
            self.begin(next);
        }
        self.moved(|progress| match &end {
            End::Settled(settlement) | End::Refused(settlement) => progress.count(&settlement.outcome),
            End::Repeated => progress.repeated += 1,
            End::Returned => progress.returned += 1,
        });
    }

    /// What waits in lanes has had no call: it goes back untouched when the consumer closes.
    fn hand_back_parked(&mut self, why: &'static str) {
        let mut count = 0;
        for turn in self.lanes.drain() {
            turn.delivery.hand_back();
            count += 1;
        }
        tracing::info!(
            commands.running = self.tasks.len(),
            commands.handed_back = count,
            "{why}"
        );
        self.moved(|progress| progress.returned += count);
    }

    fn moved(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(|progress| {
            change(progress);
            progress.running = self.tasks.len();
            progress.parked = self.lanes.parked();
            progress.moved_at = Instant::now();
        });
    }
}
