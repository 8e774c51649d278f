//! The worker's loop: receive, dispatch to the user's lane, take in what is finished, drain.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::gate::{self, Gate};
use super::handler::{Done, Handled, Handler, Held};
use super::lane::Lanes;
use super::ledger::Ledger;
use super::progress::Progress;
use super::settle::Settler;
use super::shutdown::Shutdown;
use super::turn::Turn;
use crate::broker::{Consumer, Delivery, Publisher};
use crate::clock::Clock;
use crate::contract::outcome::Settlement;
use crate::contract::{Failure, Ident, Outcome, ProviderName, Reason, UserId};
use crate::metrics;
use crate::provider::{Codes, Provider};

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
    /// So many settled commands are remembered: one that comes again among them is not applied again.
    pub ledger_commands_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grace_period: Duration::from_secs(25),
            bulk_share_min: 0.05,
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

pub struct Worker {
    consumer: Box<dyn Consumer>,
    publisher: Arc<dyn Publisher>,
    hands: Arc<Hands>,
    lanes: Lanes<Turn>,
    tasks: JoinSet<Finished>,
    ledger: Ledger,
    shutdown: Shutdown,
    grace_period: Duration,
    progress: watch::Sender<Progress>,
    /// What runs beside the commands, for as long as the worker does.
    keepers: JoinSet<()>,
}

/// What the tasks share.
struct Hands {
    handler: Handler,
    settler: Settler,
    name: ProviderName,
}

/// What a task leaves behind.
struct Finished {
    user: Option<UserId>,
    ident: Ident,
    end: End,
}

enum End {
    Settled(Settlement),
    /// The outcome was known from before.
    Repeated,
    /// A refused command: nothing to remember.
    Refused(Settlement),
    Returned,
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
                clock: setup.clock,
                shutdown: setup.shutdown.clone(),
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
            shutdown: setup.shutdown,
            grace_period: setup.config.grace_period,
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
        let mut stop = None;
        loop {
            if let Some(stopped) = stop
                && self.tasks.is_empty()
            {
                return stopped;
            }
            tokio::select! {
                biased;
                () = &mut aborting => return Stopped::Cut,
                () = &mut draining, if stop != Some(Stopped::Drained) => {
                    stop = Some(Stopped::Drained);
                    self.hand_back_parked();
                    grace.as_mut().reset(Instant::now() + self.grace_period);
                }
                () = &mut grace, if stop == Some(Stopped::Drained) => return Stopped::Cut,
                Some(finished) = self.tasks.join_next() => self.take_in(finished),
                delivery = self.consumer.next(), if stop.is_none() => match delivery {
                    Some(delivery) => self.dispatch(delivery),
                    None => stop = Some(Stopped::InputEnded),
                },
            }
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
        self.tasks.spawn(take_turn(self.hands.clone(), turn, known));
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
    fn hand_back_parked(&mut self) {
        let mut count = 0;
        for turn in self.lanes.drain() {
            turn.delivery.hand_back();
            count += 1;
        }
        tracing::info!(
            commands.running = self.tasks.len(),
            commands.handed_back = count,
            "worker: draining"
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

async fn take_turn(hands: Arc<Hands>, turn: Turn, known: Option<Settlement>) -> Finished {
    let user = turn.user().cloned();
    let ident = turn.ident.clone();
    let end = hands.take_turn(turn, known).await;
    Finished { user, ident, end }
}

impl Hands {
    async fn take_turn(&self, turn: Turn, known: Option<Settlement>) -> End {
        let Turn {
            delivery,
            ident,
            command,
        } = turn;
        if !delivery.usable() {
            return returned(delivery);
        }
        if let Some(settlement) = known {
            self.settler.terminal(&ident, &delivery, &settlement).await;
            acked(delivery, &ident).await;
            return End::Repeated;
        }
        let began = Instant::now();
        let (refused, done) = match command {
            Err(failure) => {
                self.settler.start(&ident, &delivery).await;
                (true, Some(done(failure)))
            }
            Ok(command) => {
                // START is on its way before the call, and confirmed while the call runs.
                let handled = AssertUnwindSafe(self.handler.handle(&command, &delivery)).catch_unwind();
                let start = self.settler.start(&ident, &delivery);
                let ((), handled) = tokio::join!(biased; start, handled);
                (false, outcome(handled, &ident))
            }
        };
        let Some(done) = done else {
            return returned(delivery);
        };
        let settlement = Settlement {
            outcome: done.outcome,
            attempts: done.attempts,
            duration: began.elapsed(),
        };
        self.settler.reply(&ident, &delivery, &done.codes).await;
        if let Some(failure) = settlement.outcome.dead_letter() {
            log_failure(&ident, failure, done.attempts);
            let (attempts, at) = (done.attempts, done.first_attempt_at);
            self.settler
                .dead_letter(&ident, &delivery, failure, attempts, at)
                .await;
        }
        self.settler.terminal(&ident, &delivery, &settlement).await;
        metrics::command_settled(&settlement.outcome, Held::class(&delivery), settlement.duration);
        acked(delivery, &ident).await;
        match refused {
            true => End::Refused(settlement),
            false => End::Settled(settlement),
        }
    }
}

fn done(failure: Failure) -> Done {
    Done {
        outcome: Outcome::Failure(failure),
        attempts: 0,
        first_attempt_at: None,
        codes: Codes::default(),
    }
}

/// `None` where somebody else finishes the command.
fn outcome(handled: std::thread::Result<Handled>, ident: &Ident) -> Option<Done> {
    match handled {
        Ok(Handled::Done(done)) => Some(done),
        Ok(Handled::Abandoned) => None,
        Err(_) => {
            metrics::panic();
            tracing::error!(
                command.id = ident.command_id,
                "handler: a command's handling panicked"
            );
            let detail = "handling it panicked, which is a defect of usher: report it, and look at the user \
                          before sending the command again";
            Some(done(Failure::new(Reason::Poison, detail)))
        }
    }
}

fn returned(delivery: Delivery) -> End {
    delivery.hand_back();
    End::Returned
}

/// A stale delivery comes again; its outcome is known by then.
async fn acked(delivery: Delivery, ident: &Ident) {
    if delivery.ack().await.is_err() {
        metrics::stale_delivery();
        tracing::debug!(
            command.id = ident.command_id,
            "settle: the delivery was stale, it comes again"
        );
    }
}

fn log_failure(ident: &Ident, failure: &Failure, attempts: u32) {
    tracing::warn!(
        command.id = ident.command_id,
        failure.reason = failure.reason.as_str(),
        failure.pointer = failure.pointer,
        failure.detail = %failure.detail,
        provider.status = failure.status,
        provider.code = failure.code,
        command.attempts = attempts,
        "command: dead letter"
    );
}
