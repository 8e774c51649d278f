//! The worker's loop: take leases, receive, dispatch to the user's lane, collect finished commands, drain.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::background::Background;
use super::fleet::Fleet;
use super::gate::Gate;
use super::partition::{Partition, Stage};
use super::progress::Progress;
use super::received::{Received, class};
use super::reconciler::ReconcilerTask;
use super::runner::{End, Finished, Runner, run_received};
use super::shutdown::{Shutdown, Stopped};
use super::waits::{Wait, Waits};
use super::watchdog::Stall;
use crate::broker::{self, Arrival, Consumer, Delivery, Lease, Publisher};
use crate::metrics;

/// The most of the grace period that is reserved for closing the connections.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// How often a worker checks whether to rest, to resume, or to release or claim a lease.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Delay before a lease that is gone is claimed again, so that other workers get it first.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

/// A lease that was passed on and comes back sooner than this is kept: no other worker takes it.
const PASSED_ON: Duration = Duration::from_secs(3);

/// How long the log is followed after a redelivery: the command's outcome may reach it a little later.
const LOG_WANTED: Duration = Duration::from_secs(2);

/// A partition whose lease is gone: when to claim it again, and when it was passed on.
/// A second claim of the same partition has no effect.
#[derive(Default)]
pub(super) struct Given {
    claim_at: Option<Instant>,
    passed_on_at: Option<Instant>,
}

pub struct Worker {
    pub(super) consumer: Box<dyn Consumer>,
    pub(super) publisher: Arc<dyn Publisher>,
    pub(super) runner: Arc<Runner>,
    /// `None`: this is the only worker, and no other worker ever received its commands.
    pub(super) fleet: Option<Arc<Fleet>>,
    pub(super) reconciler: Option<ReconcilerTask>,
    pub(super) partitions: u16,
    pub(super) held: BTreeMap<broker::Partition, Partition>,
    pub(super) given: BTreeMap<broker::Partition, Given>,
    pub(super) tasks: JoinSet<Finished>,
    /// Commands that run in the task of another one.
    pub(super) riding: usize,
    /// Leases whose commands are taken once the outcome log is read.
    pub(super) entering: JoinSet<Lease>,
    /// When a command was last redelivered.
    pub(super) redelivered_at: Option<Instant>,
    pub(super) resting: bool,
    /// When it last began to rest or resumed.
    pub(super) turned_at: Instant,
    /// Since when commands wait for operators, while others may run.
    pub(super) holds_since: Option<Instant>,
    pub(super) shutdown: Shutdown,
    pub(super) grace_period: Duration,
    /// Set once the worker is asked to stop.
    pub(super) stop_by: Option<Instant>,
    pub(super) hold_max: Duration,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) still: watch::Receiver<Option<Stall>>,
    /// Tasks that run beside the commands for as long as the worker does.
    pub(super) keepers: Background,
}

impl Worker {
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// What makes no progress, as reported by the watchdog.
    pub fn still(&self) -> watch::Receiver<Option<Stall>> {
        self.still.clone()
    }

    pub fn waits(&self) -> Arc<Waits> {
        self.runner.caller.waits.clone()
    }

    pub fn gate(&self) -> Arc<Gate> {
        self.runner.caller.gate.clone()
    }

    /// Runs until the input ends or a stop is requested, then closes the connections. A requested stop takes no longer
    /// than the grace period, whatever the broker does.
    pub async fn run(mut self) -> Stopped {
        let stopped = self.serve().await;
        let Some(stop_by) = self.stop_by else {
            self.end(stopped).await;
            return stopped;
        };
        if timeout_at(stop_by, self.end(stopped)).await.is_ok() {
            return stopped;
        }
        tracing::warn!("worker: the grace period ran out; unsettled commands are redelivered");
        if stopped == Stopped::Broken {
            stopped
        } else {
            Stopped::Cut
        }
    }

    async fn end(mut self, stopped: Stopped) {
        self.tasks.shutdown().await;
        if let Some(reconciler) = self
            .reconciler
            .take()
            .filter(|_| !matches!(stopped, Stopped::Cut | Stopped::Broken))
        {
            reconciler.end().await;
        }
        self.keepers.shutdown().await;
        // Nothing is in flight any more: unsettled deliveries go back to the broker, in order.
        self.consumer.close().await;
        self.publisher.close().await;
    }

    /// When the stop ends, and the earlier time at which running commands are cancelled so that connections can close.
    fn deadlines(&self, grace_period: Duration) -> (Instant, Instant) {
        let goodbye = (grace_period / 5).min(GOODBYE_MAX);
        let stop_by = Instant::now() + grace_period;
        (stop_by, stop_by - goodbye)
    }

    async fn serve(&mut self) -> Stopped {
        let shutdown = self.shutdown.clone();
        let fleet = self.fleet.clone();
        let mut aborting = pin!(shutdown.aborting());
        let mut draining = pin!(shutdown.draining());
        let mut grace = pin!(tokio::time::sleep(Duration::ZERO));
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ready = pin!(async {
            if let Some(fleet) = &fleet {
                fleet.caught_up().await;
                fleet.orders_known().await;
            }
        });
        let mut is_ready = false;
        let mut stop = None;
        loop {
            if let Some(stopped) = stop
                && self.tasks.is_empty()
                && (stopped == Stopped::InputEnded || self.held.is_empty())
            {
                return stopped;
            }
            tokio::select! {
                biased;
                () = &mut aborting => {
                    self.stop_by = Some(Instant::now() + GOODBYE_MAX);
                    return Stopped::Cut;
                }
                name = self.keepers.ended(self.reconciler.as_mut()) => {
                    tracing::error!(task = name, "worker: a background task has ended; stopping");
                    self.stop_by = Some(Instant::now() + GOODBYE_MAX);
                    return Stopped::Broken;
                }
                () = &mut draining, if stop != Some(Stopped::Drained) => {
                    stop = Some(Stopped::Drained);
                    self.release_all("worker: draining");
                    let (stop_by, cut_at) = self.deadlines(self.grace_period);
                    self.stop_by = Some(stop_by);
                    grace.as_mut().reset(cut_at);
                }
                () = &mut grace, if stop == Some(Stopped::Drained) => return Stopped::Cut,
                () = &mut ready, if !is_ready && stop.is_none() => {
                    is_ready = true;
                    self.claim_all();
                }
                Some(finished) = self.tasks.join_next() => self.take_in(finished),
                Some(Ok(lease)) = self.entering.join_next() => self.enter(lease),
                _ = look.tick(), if stop.is_none() => self.look(),
                () = notice_received(fleet.as_deref()), if stop.is_none() => self.balance(),
                arrival = self.consumer.next(), if stop != Some(Stopped::InputEnded) => match arrival {
                    Some(Arrival::Delivery(delivery)) => self.dispatch(delivery),
                    Some(Arrival::Leased(lease)) => self.leased(lease, stop.is_some()),
                    Some(Arrival::Lost(lease)) => self.lost(lease),
                    None => stop = stop.or(Some(Stopped::InputEnded)),
                },
            }
        }
    }

    pub(super) fn claim_all(&mut self) {
        for partition in 0..self.partitions {
            self.consumer.claim(partition);
        }
        if let Some(fleet) = &self.fleet {
            fleet.set_leaving(false);
            fleet.join();
        }
    }

    /// Leases that this worker has and keeps.
    fn leases(&self) -> impl Iterator<Item = broker::Partition> {
        let kept = self.held.iter().filter(|(_, partition)| partition.is_held());
        kept.map(|(number, _)| *number)
    }

    fn leased(&mut self, lease: Lease, stopping: bool) {
        let number = lease.partition;
        let now = Instant::now();
        let held = self.leases().count();
        let given = self.given.entry(number).or_default();
        let passed_on = given
            .passed_on_at
            .is_some_and(|at| now.duration_since(at) < PASSED_ON);
        let for_others = self
            .fleet
            .as_ref()
            .is_some_and(|fleet| !passed_on && fleet.passes_on(held));
        if stopping || self.resting || for_others {
            given.passed_on_at = for_others.then_some(now);
            self.consumer.release(number);
            return;
        }
        given.passed_on_at = None;
        let cancel = self.shutdown.cancel_token();
        match self.held.get_mut(&number) {
            Some(partition) => partition.again(lease, cancel),
            None => {
                self.held.insert(number, Partition::new(lease, cancel));
            }
        }
        tracing::info!(partition = number, "worker: holds the lease");
        self.count_leases();
        match self.fleet.clone() {
            None => self.enter(lease),
            Some(fleet) => {
                let waits = self.waits();
                self.entering.spawn(async move {
                    waits.during(Wait::Log, fleet.barrier()).await;
                    lease
                });
            }
        }
    }

    /// The log is read up to the lease's barrier: every published outcome of the partition's commands is known.
    fn enter(&mut self, lease: Lease) {
        let partition = self.held.get_mut(&lease.partition);
        if let Some(partition) = partition.filter(|held| held.lease == lease && held.stage == Stage::Entering)
        {
            partition.stage = Stage::Serving;
            self.consumer.consume(lease);
        }
    }

    fn lost(&mut self, lease: Lease) {
        let number = lease.partition;
        if !self.resting {
            let again = Instant::now() + CLAIM_AGAIN;
            self.given.entry(number).or_default().claim_at = Some(again);
        }
        let Some(partition) = self.held.get_mut(&number).filter(|held| held.lease == lease) else {
            return;
        };
        let count = partition.release(Stage::Lost);
        if partition.running == 0 {
            self.held.remove(&number);
        }
        self.count_leases();
        self.moved(|progress| progress.returned += count);
    }

    /// Releases the lease once nothing of the partition is in flight any more.
    fn release(&mut self, number: broker::Partition) {
        let Some(partition) = self.held.get_mut(&number).filter(|held| held.is_held()) else {
            return;
        };
        let count = partition.release(Stage::Releasing);
        self.release_if_done(number);
        self.count_leases();
        self.moved(|progress| progress.returned += count);
    }

    fn release_if_done(&mut self, number: broker::Partition) {
        let Some(partition) = self.held.get_mut(&number).filter(|held| held.running == 0) else {
            return;
        };
        match partition.stage {
            Stage::Releasing => {
                partition.stage = Stage::Released;
                self.consumer.release(number);
                self.given.entry(number).or_default().claim_at = Some(Instant::now() + CLAIM_AGAIN);
            }
            Stage::Lost => {
                self.held.remove(&number);
            }
            Stage::Entering | Stage::Serving | Stage::Released => {}
        }
    }

    /// Releases all leases and withdraws all claims.
    pub(super) fn release_all(&mut self, why: &'static str) {
        let before = self.progress.borrow().returned;
        for number in 0..self.partitions {
            match self.held.get(&number).is_some_and(Partition::is_held) {
                true => self.release(number),
                false => self.release_unheld(number),
            }
        }
        if let Some(fleet) = &self.fleet {
            fleet.set_leaving(true);
        }
        self.given.clear();
        tracing::info!(
            commands.running = self.tasks.len(),
            commands.handed_back = self.progress.borrow().returned - before,
            "{why}"
        );
    }

    /// A partition that is already being released is released when its commands are done.
    fn release_unheld(&mut self, number: broker::Partition) {
        let releasing = self
            .held
            .get(&number)
            .is_some_and(|partition| partition.stage == Stage::Releasing);
        if !releasing {
            self.consumer.release(number);
        }
    }

    /// Publishes the leases that are held to the metrics, the progress, the gate and the fleet.
    fn count_leases(&mut self) {
        let leases: Vec<_> = self.leases().collect();
        let count = leases.len();
        metrics::leases(count, self.partitions.into());
        let held = leases.clone();
        self.moved(|progress| progress.held = held);
        if let Some(fleet) = &self.fleet {
            self.runner.caller.gate.set_quota_share(&leases, self.partitions);
            fleet.holds(leases);
        }
    }

    fn look(&mut self) {
        self.rest_or_go_on();
        if self.resting {
            return;
        }
        let now = Instant::now();
        for (number, given) in &mut self.given {
            if given.claim_at.is_some_and(|at| at <= now) {
                given.claim_at = None;
                self.consumer.claim(*number);
            }
        }
        self.balance();
        if let Some(fleet) = &self.fleet {
            let alone = self.leases().count() == usize::from(self.partitions);
            let again = self
                .redelivered_at
                .is_some_and(|at| now.duration_since(at) < LOG_WANTED);
            let waiting = self.runner.caller.waits.count(Wait::Log) > 0;
            fleet.follow(!alone || again || waiting || !self.entering.is_empty());
        }
    }

    /// Releases a lease for a worker that has fewer.
    fn balance(&mut self) {
        let Some(fleet) = &self.fleet else { return };
        let count = self.leases().count();
        if self.resting || !fleet.gives_one_up(count) {
            return;
        }
        let serving = |(_, partition): &(&broker::Partition, &Partition)| partition.stage == Stage::Serving;
        let Some(number) = self.held.iter().rfind(serving).map(|(number, _)| *number) else {
            return;
        };
        tracing::info!(
            partition = number,
            "worker: releases a lease for a worker that has fewer"
        );
        self.release(number);
    }

    fn dispatch(&mut self, delivery: Delivery) {
        let number = delivery.partition;
        let Some(partition) = self
            .held
            .get_mut(&number)
            .filter(|held| held.stage == Stage::Serving)
        else {
            delivery.hand_back();
            return;
        };
        metrics::delivery(class(&delivery));
        if delivery.redelivered {
            metrics::redelivery();
            self.redelivered_at = Some(Instant::now());
            if let Some(fleet) = &self.fleet {
                fleet.follow(true);
            }
        }
        let mut received = Received::read(delivery, &self.runner.name, &*self.runner.caller.provider);
        if let Some(traces) = &self.runner.traces {
            received.begin_trace(traces, &self.runner.name);
        }
        received.entry = Some(self.runner.in_hand.arrive(&received));
        let now = match received.user.clone() {
            Some(user) => {
                let class = class(&received.delivery);
                partition.lanes.arrive(&user, class, received)
            }
            None => Some(received),
        };
        if let Some(received) = now {
            self.begin(received);
        }
        self.moved(|progress| progress.delivered_at = Instant::now());
    }

    fn begin(&mut self, received: Received) {
        if let Some(partition) = self.held.get_mut(&received.delivery.partition) {
            let merged = partition.merged(&received, &self.runner);
            partition.running += 1;
            self.riding += merged.len();
            let received = run_received(self.runner.clone(), received, merged, partition.cancel.clone());
            // Boxed: the future is large, and spawning moves it about ten times.
            self.tasks.spawn(Box::pin(received));
        }
    }

    fn take_in(&mut self, finished: Result<Finished, JoinError>) {
        let finished = match finished {
            Ok(finished) => finished,
            Err(error) => {
                // Settling panicked: the command's lane is unknown, so this process can't keep the order.
                tracing::error!(%error, "worker: settling panicked; stopping, the broker redelivers");
                self.shutdown.abort();
                return;
            }
        };
        let Finished {
            partition: number,
            user,
            ends,
        } = finished;
        self.riding -= ends.len().saturating_sub(1);
        if let Some(partition) = self.held.get_mut(&number) {
            partition.running -= 1;
            let next = user.and_then(|user| partition.lanes.done(&user));
            if let Some(received) = next {
                self.begin(received);
            }
            self.release_if_done(number);
        }
        self.moved(|progress| {
            progress.settled_at = Instant::now();
            for end in &ends {
                match end {
                    End::Settled(settlement) => progress.count(&settlement.outcome),
                    End::Repeated => progress.repeated += 1,
                    End::Returned => progress.returned += 1,
                }
            }
        });
    }

    pub(super) fn moved(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(|progress| {
            change(progress);
            progress.running = self.tasks.len() + self.riding;
            progress.queued = self.held.values().map(|held| held.lanes.queued()).sum();
        });
    }
}

async fn notice_received(fleet: Option<&Fleet>) {
    match fleet {
        Some(fleet) => fleet.notice_received().await,
        None => std::future::pending().await,
    }
}
