//! One command from its delivery to the ack. A task of the worker runs this for each command.
//!
//! The order of the steps makes a crash harmless: look up the log, publish START, make the calls, then publish reply,
//! dead letter and event, and ack last.

mod admission;
mod batch;
mod claims;
mod history;
mod merge;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{RwLock, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub(super) use self::batch::cancelled;
pub(super) use self::claims::Claims;
pub use self::merge::Merge;
pub(super) use self::merge::{MERGED_MAX, run_received};
use super::attempts::{Admission, Caller, Done};
use super::failpoint;
use super::fleet::Fleet;
use super::holds::Holds;
use super::in_hand::InHand;
use super::ledger::{Ledger, Succeeded};
use super::received::{Received, age, class};
use super::settle::Settler;
use super::shutdown::unless_cancelled;
use super::waits::Wait;
use crate::broker::{Delivery, Partition};
use crate::clock::Clock;
use crate::contract::outcome::Settlement;
use crate::contract::{
    BatchId, Failure, Ident, Outcome, ProviderName, Reason, RunId, TrafficClass, UpdateUser, UserId, WorkerId,
};
use crate::metrics;
use crate::policy::guard::DeadLetter;
use crate::provider::Codes;
use crate::traces::Traces;

/// Publishing that a command is handed back blocks its user's lane for at most the first of these, and is retried for
/// at most the second. Without it the next worker waits before its first call.
const HAND_BACK_MAX: Duration = Duration::from_secs(2);
const HAND_BACK_TRIED: Duration = Duration::from_secs(60);

/// How often to check whether the delivery has turned stale, after which its outcome may not be published.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs commands. All tasks share one.
pub(super) struct Runner {
    pub(super) caller: Caller,
    pub(super) settler: Settler,
    pub(super) name: ProviderName,
    pub(super) ledger: Arc<Ledger>,
    /// `None`: the ledger is complete from the start, as in `usher apply`.
    pub(super) fleet: Option<Arc<Fleet>>,
    pub(super) clock: Clock,
    pub(super) worker: WorkerId,
    pub(super) runs: AtomicU64,
    pub(super) slots: Slots,
    pub(super) suspicion: Suspicion,
    pub(super) claims: Claims,
    pub(super) holds: Holds,
    pub(super) in_hand: Arc<InHand>,
    /// `None`: nothing is traced.
    pub(super) traces: Option<Arc<Traces>>,
    /// Read by every running command, written by one that runs alone.
    pub(super) isolation: RwLock<()>,
    /// Runs that began longer ago than this are not looked up.
    pub(super) ledger_window: Duration,
}

/// Limits, per partition and traffic class, the commands that have a START and wait for their first call.
pub(super) struct Slots(Vec<[Arc<Semaphore>; 2]>);

impl Slots {
    /// With fewer, a partition would wait for the confirms of its STARTs.
    const MIN: usize = 8;

    pub(super) fn new(concurrency: usize, partitions: Partition) -> Self {
        let of_each = concurrency.saturating_mul(2) / usize::from(partitions.max(1));
        let of_each = of_each.clamp(Self::MIN, Semaphore::MAX_PERMITS);
        let slots = || Arc::new(Semaphore::new(of_each));
        Self((0..partitions).map(|_| [slots(), slots()]).collect())
    }

    fn of(&self, delivery: &Delivery) -> Option<&Arc<Semaphore>> {
        let [interactive, bulk] = self.0.get(usize::from(delivery.partition))?;
        Some(match class(delivery) {
            TrafficClass::Interactive => interactive,
            TrafficClass::Bulk => bulk,
        })
    }
}

/// How many workers a command may crash before it is isolated and before it is refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspicion {
    /// From this number on the command runs alone.
    pub(super) suspect_after: u32,
    /// From this number on the command is not run.
    pub(super) poison_after: u32,
}

/// What a task reports when it ends.
pub(super) struct Finished {
    pub(super) partition: Partition,
    pub(super) user: Option<UserId>,
    /// One per command that shared the call.
    pub(super) ends: Vec<End>,
}

pub(super) enum End {
    Settled(Settlement),
    /// The outcome was already known.
    Repeated,
    Returned,
}

/// What a run results in.
enum Resolution {
    Done(Done),
    /// The command succeeded in an earlier run.
    AlreadyApplied(Box<Succeeded>),
    /// Another delivery of the command finishes it.
    Cancelled,
}

impl Runner {
    async fn run_one(self: &Arc<Self>, received: Received, cancel: &CancellationToken) -> End {
        let Received {
            delivery,
            mut ident,
            command,
            user: _,
            entry: _entry,
        } = received;
        let waits = &self.caller.waits;
        let Some(_claim) =
            unless_cancelled(cancel, waits.during(Wait::Order, self.claims.claim(ident.key))).await
        else {
            return returned(delivery);
        };
        if !delivery.usable() {
            return returned(delivery);
        }
        if delivery.redelivered && self.ledger.only_ack_was_lost(&ident, &delivery.body) {
            if let Some(process) = &delivery.trace {
                process.repeated();
            }
            self.ack_failed(delivery, &ident).await;
            return End::Repeated;
        }
        let (began, run_id) = (Instant::now(), self.next_run_id());
        let resolution = match command {
            Err(failure) => self.refuse(&mut ident, &delivery, &run_id, failure).await,
            Ok(command) => {
                let run = self.run(&command, &mut ident, &delivery, &run_id, cancel);
                run.await.unwrap_or(Resolution::Cancelled)
            }
        };
        let done = match resolution {
            Resolution::Done(done) => done,
            Resolution::Cancelled => return returned(delivery),
            Resolution::AlreadyApplied(succeeded) => return self.repeat(delivery, &succeeded).await,
        };
        let dead_letter = guarded(&ident, &done.outcome);
        tokio::select! {
            biased;
            () = waits.during(Wait::Guard, self.caller.gate.outcome_allowed(dead_letter.as_ref())) => {}
            () = cancel.cancelled() => {
                self.hand_back(&ident, &delivery, &run_id, true).await;
                return returned(delivery);
            }
        }
        self.settle(delivery, &ident, done, began).await
    }

    /// Publishes the outcome, then acks the command.
    async fn settle(&self, delivery: Delivery, ident: &Ident, done: Done, began: Instant) -> End {
        let settlement = Settlement {
            outcome: done.outcome,
            attempts: done.attempts,
            duration: began.elapsed(),
            merged_into: done.merged_into,
        };
        // If the delivery is stale, its new holder waits only until this run's last call can have no more effect.
        let late = done.last_call + self.caller.calls.timeout + self.caller.calls.settling_time;
        let (at, codes) = (done.first_attempt_at, &done.codes);
        let published = {
            let publishing =
                pin!(self.publish_outcome(&self.settler, ident, &delivery, &settlement, at, codes));
            tokio::select! {
                biased;
                () = too_late(&delivery, late) => false,
                () = self.caller.waits.during(Wait::Confirm, publishing) => true,
            }
        };
        if !published {
            return returned(delivery);
        }
        self.ledger
            .settle(ident, &settlement, &delivery.body, self.clock.now());
        let (class, age) = (class(&delivery), age(ident, &delivery, self.clock.now()));
        metrics::command_settled(&settlement.outcome, class, settlement.duration, age);
        tell_trace(&delivery, &settlement);
        failpoint::reach("before_ack", ident.user_id.as_deref());
        match settlement.outcome {
            Outcome::Failure(_) => self.ack_failed(delivery, ident).await,
            Outcome::Success { .. } => {
                acked(delivery, ident).await;
            }
        }
        End::Settled(settlement)
    }

    /// Acks a command whose dead letter and FAIL the broker has. Where the ack is known to be lost, its next delivery
    /// is acked. Any other delivery may be another message under the same id.
    async fn ack_failed(&self, delivery: Delivery, ident: &Ident) {
        let body = delivery.body.clone();
        if !acked(delivery, ident).await {
            self.ledger.ack_lost(ident, &body);
        }
    }

    /// A command that can't be applied makes no call. Any earlier outcome under its id belongs to another message.
    async fn refuse(
        &self,
        ident: &mut Ident,
        delivery: &Delivery,
        run_id: &RunId,
        failure: Failure,
    ) -> Resolution {
        self.ledger.next_run(ident, &delivery.body);
        self.settler.start(ident, delivery, run_id).await;
        Resolution::Done(done(failure))
    }

    /// A command that has succeeded under this id is not applied again.
    async fn known(
        &self,
        succeeded: Box<Succeeded>,
        ident: &Ident,
        delivery: &Delivery,
        run_id: &RunId,
    ) -> Resolution {
        if !succeeded.other_body {
            return Resolution::AlreadyApplied(succeeded);
        }
        self.settler.start(ident, delivery, run_id).await;
        Resolution::Done(done(id_reused()))
    }

    fn next_run_id(&self) -> RunId {
        RunId {
            worker: self.worker.clone(),
            number: self.runs.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// `None`: cancelled before the first call.
    async fn run(
        self: &Arc<Self>,
        command: &UpdateUser,
        ident: &mut Ident,
        delivery: &Delivery,
        run_id: &RunId,
        cancel: &CancellationToken,
    ) -> Option<Resolution> {
        let unproven = self.unproven();
        let mut history = match self.history(ident, command.issued_at, delivery, cancel).await? {
            Ok(history) => history,
            Err(succeeded) => return Some(self.known(succeeded, ident, delivery, run_id).await),
        };
        let waits = &self.caller.waits;
        let mut crashes = self.crashes(&history, delivery);
        let alone = crashes >= self.suspicion.suspect_after;
        let is_fresh = !history.called && history.open.is_empty();
        let admitted = self.ordered(command, is_fresh, alone, delivery, cancel).await?;
        let (isolation, slot) = match admitted {
            Ok(admitted) => admitted,
            Err(ordered) => {
                self.start(ident, delivery, run_id, cancel).await?;
                return Some(Resolution::Done(done(ordered)));
            }
        };
        // START comes before the first call: without a START in the log, no worker has called the provider.
        self.start(ident, delivery, run_id, cancel).await?;
        if let Some(fleet) = unproven {
            // The log holds START by now.
            let proven = waits.during(Wait::Log, Box::pin(fleet.prove_log()));
            let mut proven = unless_cancelled(cancel, proven).await;
            if delivery.redelivered && proven.is_some() {
                // The log gave no answer when it was read before, so it is read again.
                proven = self.read_all(cancel).await.map(drop);
            }
            if proven.is_none() {
                self.hand_back(ident, delivery, run_id, false).await;
                return None;
            }
            let started = ident.redrives;
            history = match self.history_without(ident, delivery, run_id) {
                Ok(history) => history,
                Err(succeeded) => return Some(self.known(succeeded, ident, delivery, run_id).await),
            };
            if ident.redrives != started {
                self.start(ident, delivery, run_id, cancel).await?;
            }
            crashes = self.crashes(&history, delivery);
        }
        if crashes >= self.suspicion.poison_after {
            return Some(Resolution::Done(done(poison(crashes))));
        }
        let admission = Admission {
            maybe_applied: history.called || !history.open.is_empty(),
            slot,
        };
        let its_own = (&*ident, delivery);
        Some(
            match self.call(command, its_own, admission, isolation, cancel).await {
                Ok(done) => Resolution::Done(done),
                Err(called) => {
                    self.hand_back(ident, delivery, run_id, called).await;
                    Resolution::Cancelled
                }
            },
        )
    }

    /// Publishes START. `None`: cancelled first.
    async fn start(
        self: &Arc<Self>,
        ident: &Ident,
        delivery: &Delivery,
        run_id: &RunId,
        cancel: &CancellationToken,
    ) -> Option<()> {
        let confirmed = pin!(self.settler.start(ident, delivery, run_id));
        let confirmed = self.caller.waits.during(Wait::Confirm, confirmed);
        let started = unless_cancelled(cancel, confirmed).await;
        self.ledger.begin(ident, run_id.clone(), self.clock.now());
        if started.is_none() {
            // START may have been sent and not confirmed.
            self.hand_back(ident, delivery, run_id, false).await;
        }
        started
    }

    async fn hand_back(self: &Arc<Self>, ident: &Ident, delivery: &Delivery, received: &RunId, called: bool) {
        self.ledger.hand_back(ident, received, called, self.clock.now());
        let (message, traced) = self.settler.handed_back(ident, delivery, received, called);
        let runner = self.clone();
        let published = tokio::spawn(async move {
            let _traced = traced;
            timeout(HAND_BACK_TRIED, runner.settler.until_confirmed(&message)).await
        });
        let _ = timeout(HAND_BACK_MAX, published).await;
    }

    /// Publishes reply, dead letter and event, in an order in which a crash at any point loses nothing.
    pub(super) async fn publish_outcome(
        &self,
        settler: &Settler,
        ident: &Ident,
        delivery: &Delivery,
        settlement: &Settlement,
        first_attempt_at: Option<jiff::Timestamp>,
        codes: &Codes,
    ) {
        if settler.provider == self.name {
            let outcome = &settlement.outcome;
            self.holds.before_outcome(ident, outcome, settler).await;
        }
        settler.reply(ident, delivery, codes).await;
        if let Some(failure) = settlement.outcome.dead_letter() {
            let attempts = settlement.attempts;
            log_failure(ident, failure, attempts);
            settler
                .dead_letter(ident, delivery, failure, attempts, first_attempt_at)
                .await;
        }
        settler.terminal(ident, delivery, settlement).await;
    }

    /// Publishes the event of a command again where the command was published twice.
    async fn repeat(&self, delivery: Delivery, succeeded: &Succeeded) -> End {
        let Succeeded {
            ident, settlement, ..
        } = succeeded;
        let outcome = &settlement.outcome;
        self.holds.before_outcome(ident, outcome, &self.settler).await;
        if let Some(process) = &delivery.trace {
            process.repeated();
        }
        if !delivery.redelivered {
            self.settler.terminal(ident, &delivery, settlement).await;
        }
        acked(delivery, ident).await;
        End::Repeated
    }
}

pub(super) fn tell_trace(delivery: &Delivery, settlement: &Settlement) {
    if let Some(process) = &delivery.trace {
        let reason = settlement
            .outcome
            .dead_letter()
            .map(|failure| failure.reason.as_str());
        process.settled(
            if reason.is_some() { "FAIL" } else { "SUCCESS" },
            reason,
            settlement.attempts,
        );
    }
}

/// Waits until another worker has the delivery and no longer waits for this run's outcome.
async fn too_late(delivery: &Delivery, late: Instant) {
    sleep_until(late).await;
    while delivery.usable() {
        sleep(LOOK_EVERY).await;
    }
}

fn guarded(ident: &Ident, outcome: &Outcome) -> Option<DeadLetter> {
    outcome.dead_letter().map(|failure| DeadLetter {
        reason: failure.reason,
        status: failure.status,
        command_id: ident.command_id.clone(),
        user: ident.user_id.clone(),
    })
}

fn poison(crashes: u32) -> Failure {
    let detail = format!(
        "{crashes} workers died while they ran the command, which is a defect of usher or of its environment: check \
         their last log lines, report it, and check the user before sending the command again"
    );
    Failure::new(Reason::Poison, detail)
}

fn id_reused() -> Failure {
    let detail = "a command with this id and another body has already succeeded; publish this one under an id of \
                  its own";
    Failure::new(Reason::IdReused, detail).at("/id")
}

fn done(failure: Failure) -> Done {
    Done {
        outcome: Outcome::Failure(failure),
        attempts: 0,
        first_attempt_at: None,
        last_call: Instant::now(),
        codes: Codes::default(),
        merged_into: None,
    }
}

fn returned(delivery: Delivery) -> End {
    delivery.hand_back();
    End::Returned
}

/// False: the delivery was stale. It is redelivered, and its outcome is known by then.
pub(super) async fn acked(delivery: Delivery, ident: &Ident) -> bool {
    let acked = delivery.ack().await.is_ok();
    if !acked {
        metrics::stale_delivery();
        tracing::debug!(
            command.id = ident.command_id,
            "settle: the delivery was stale; it is redelivered"
        );
    }
    acked
}

fn log_failure(ident: &Ident, failure: &Failure, attempts: u32) {
    tracing::warn!(
        command.id = ident.command_id,
        command.key = %ident.key,
        command.redrives = ident.redrives,
        user.id = ident.user_id,
        batch.id = ident.batch_id.as_ref().map(BatchId::as_str),
        failure.reason = failure.reason.as_str(),
        failure.pointer = failure.pointer,
        failure.detail = %failure.detail,
        provider.status = failure.status,
        provider.code = failure.code,
        command.attempts = attempts,
        "command: dead letter"
    );
}
