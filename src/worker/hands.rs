//! One turn of a command, from its delivery to the ack: what a task of the worker does.

mod call;
mod claims;
mod merge;
mod past;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{RwLock, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub(super) use self::claims::Claims;
pub use self::merge::Merge;
pub(super) use self::merge::{MERGED_MAX, take_turn};
use super::failpoint;
use super::fleet::Fleet;
use super::handler::{Before, Done, Handler, Held};
use super::ledger::{Ledger, Succeeded};
use super::settle::Settler;
use super::shutdown::unless_left;
use super::turn::Turn;
use super::waits::Wait;
use crate::broker::{Delivery, Partition};
use crate::clock::Clock;
use crate::contract::outcome::Settlement;
use crate::contract::{
    Act, BatchId, Failure, Ident, Outcome, ProviderName, Reason, TrafficClass, UpdateUser, UserId, WorkerId,
};
use crate::metrics;
use crate::policy::guard::DeadLetter;
use crate::provider::Codes;

/// Saying that a command goes back holds its user up for so long at most, and is tried for so long: without
/// it, whoever is next waits before its first call.
const HAND_BACK_MAX: Duration = Duration::from_secs(2);
const HAND_BACK_TRIED: Duration = Duration::from_secs(60);

/// How often the telling of a stale delivery's outcome looks whether it is still time.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the tasks share.
pub(super) struct Hands {
    pub(super) handler: Handler,
    pub(super) settler: Settler,
    pub(super) name: ProviderName,
    pub(super) ledger: Arc<Ledger>,
    /// `None`: what was done before is in the ledger from the beginning.
    pub(super) fleet: Option<Arc<Fleet>>,
    pub(super) clock: Clock,
    pub(super) worker: WorkerId,
    pub(super) turns: AtomicU64,
    pub(super) slots: Slots,
    pub(super) suspicion: Suspicion,
    pub(super) claims: Claims,
    /// Held by all who run, or by one who runs alone.
    pub(super) alone: RwLock<()>,
    /// A turn that was begun earlier than this before is not looked for.
    pub(super) ledger_window: Duration,
}

/// Of each partition and class so many commands may have been announced with START and wait for their first call.
pub(super) struct Slots(Vec<[Arc<Semaphore>; 2]>);

impl Slots {
    /// Fewer would keep a partition waiting for the confirms of its STARTs.
    const MIN: usize = 8;

    pub(super) fn new(concurrency: usize, partitions: Partition) -> Self {
        let of_each = concurrency.saturating_mul(2) / usize::from(partitions.max(1));
        let of_each = of_each.clamp(Self::MIN, Semaphore::MAX_PERMITS);
        let slots = || Arc::new(Semaphore::new(of_each));
        Self((0..partitions).map(|_| [slots(), slots()]).collect())
    }

    fn of(&self, delivery: &Delivery) -> Option<&Arc<Semaphore>> {
        let [interactive, bulk] = self.0.get(usize::from(delivery.partition))?;
        Some(match Held::class(delivery) {
            TrafficClass::Interactive => interactive,
            TrafficClass::Bulk => bulk,
        })
    }
}

/// How many workers a command may break.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspicion {
    /// From here on it runs alone.
    pub(super) suspect_after: u32,
    /// From here on it does not run.
    pub(super) poison_after: u32,
}

/// What a task leaves behind.
pub(super) struct Finished {
    pub(super) partition: Partition,
    pub(super) user: Option<UserId>,
    /// One of each command that shared the turn.
    pub(super) ends: Vec<End>,
}

pub(super) enum End {
    Settled(Settlement),
    /// The outcome was known from before.
    Repeated,
    Returned,
}

/// What a turn comes to.
enum Course {
    Done(Done),
    /// It has succeeded before.
    Known(Box<Succeeded>),
    /// Somebody else finishes the command.
    Left,
}

impl Hands {
    async fn take_turn(self: &Arc<Self>, turn: Turn, leave: &CancellationToken) -> End {
        let Turn {
            delivery,
            mut ident,
            command,
        } = turn;
        let waits = &self.handler.waits;
        let Some(_claim) = unless_left(leave, waits.during(Wait::Order, self.claims.claim(ident.key))).await
        else {
            return returned(delivery);
        };
        if !delivery.usable() {
            return returned(delivery);
        }
        if delivery.redelivered && self.ledger.only_ack_was_lost(&ident, &delivery.body) {
            self.ack_failed(delivery, &ident).await;
            return End::Repeated;
        }
        let (began, act) = (Instant::now(), self.act());
        let course = match command {
            Err(failure) => self.refuse(&mut ident, &delivery, &act, failure).await,
            Ok(command) => self.run(&command, &mut ident, &delivery, &act, leave).await,
        };
        let done = match course {
            Course::Done(done) => done,
            Course::Left => return returned(delivery),
            Course::Known(succeeded) => return self.repeat(delivery, &succeeded).await,
        };
        let dead_letter = guarded(&ident, &done.outcome);
        tokio::select! {
            biased;
            () = waits.during(Wait::Guard, self.handler.gate.outcome_allowed(dead_letter.as_ref())) => {}
            () = leave.cancelled() => {
                self.hand_back(&ident, &delivery, &act, true).await;
                return returned(delivery);
            }
        }
        self.settle(delivery, &ident, done, began).await
    }

    /// Tells what became of the command, and acks it.
    async fn settle(&self, delivery: Delivery, ident: &Ident, done: Done, began: Instant) -> End {
        let settlement = Settlement {
            outcome: done.outcome,
            attempts: done.attempts,
            duration: began.elapsed(),
            merged_into: done.merged_into,
        };
        // Whoever has a stale delivery now waits for this one's last call, and no longer.
        let late = done.last_call + self.handler.calls.timeout + self.handler.calls.settling_time;
        let (at, codes) = (done.first_attempt_at, &done.codes);
        let told = {
            let telling = pin!(self.tell(&self.settler, ident, &delivery, &settlement, at, codes));
            tokio::select! {
                biased;
                () = too_late(&delivery, late) => false,
                () = self.handler.waits.during(Wait::Confirm, telling) => true,
            }
        };
        if !told {
            return returned(delivery);
        }
        self.ledger
            .settle(ident, &settlement, &delivery.body, self.clock.now());
        metrics::command_settled(&settlement.outcome, Held::class(&delivery), settlement.duration);
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
    /// is acked; of any other nobody can tell whether it is this message or another one under the same id.
    async fn ack_failed(&self, delivery: Delivery, ident: &Ident) {
        let body = delivery.body.clone();
        if !acked(delivery, ident).await {
            self.ledger.ack_lost(ident, &body);
        }
    }

    /// A command that can't be applied calls nobody. Whatever ended under its id before was another message.
    async fn refuse(&self, ident: &mut Ident, delivery: &Delivery, act: &Act, failure: Failure) -> Course {
        self.ledger.next_run(ident, &delivery.body);
        self.settler.start(ident, delivery, act).await;
        Course::Done(done(failure))
    }

    /// A command that has succeeded under this id is not applied again.
    async fn known(
        &self,
        succeeded: Box<Succeeded>,
        ident: &Ident,
        delivery: &Delivery,
        act: &Act,
    ) -> Course {
        if !succeeded.other_body {
            return Course::Known(succeeded);
        }
        self.settler.start(ident, delivery, act).await;
        Course::Done(done(id_reused()))
    }

    fn act(&self) -> Act {
        Act {
            worker: self.worker.clone(),
            number: self.turns.fetch_add(1, Ordering::Relaxed),
        }
    }

    async fn run(
        self: &Arc<Self>,
        command: &UpdateUser,
        ident: &mut Ident,
        delivery: &Delivery,
        act: &Act,
        leave: &CancellationToken,
    ) -> Course {
        let running = self.run_unless_left(command, ident, delivery, act, leave);
        running.await.unwrap_or(Course::Left)
    }

    /// `None` where it is left before its first call.
    async fn run_unless_left(
        self: &Arc<Self>,
        command: &UpdateUser,
        ident: &mut Ident,
        delivery: &Delivery,
        act: &Act,
        leave: &CancellationToken,
    ) -> Option<Course> {
        let unproven = self.unproven();
        let mut past = match self.past(ident, delivery, leave).await? {
            Ok(past) => past,
            Err(succeeded) => return Some(self.known(succeeded, ident, delivery, act).await),
        };
        let waits = &self.handler.waits;
        let mut broken = self.broken_by(&past, delivery);
        let alone = broken >= self.suspicion.suspect_after;
        let (company, slot) = self.admitted(alone, delivery, leave).await?;
        // Before the first call: where no START is in the log, nobody has called.
        self.start(ident, delivery, act, leave).await?;
        if let Some(fleet) = unproven {
            // START is in the log now, at the latest.
            let proven = waits.during(Wait::Log, Box::pin(fleet.prove_log()));
            let mut proven = unless_left(leave, proven).await;
            if delivery.redelivered && proven.is_some() {
                // A log that spoke after a silence is read anew.
                proven = self.read_all(leave).await.map(drop);
            }
            if proven.is_none() {
                self.hand_back(ident, delivery, act, false).await;
                return None;
            }
            let started = ident.redrives;
            past = match self.found(ident, delivery, act) {
                Ok(past) => past,
                Err(succeeded) => return Some(self.known(succeeded, ident, delivery, act).await),
            };
            if ident.redrives != started {
                self.start(ident, delivery, act, leave).await?;
            }
            broken = self.broken_by(&past, delivery);
        }
        if broken >= self.suspicion.poison_after {
            return Some(Course::Done(done(poison(broken))));
        }
        let before = Before {
            maybe_applied: past.called || !past.open.is_empty(),
            slot,
        };
        let its_own = (&*ident, delivery);
        Some(match self.call(command, its_own, before, company, leave).await {
            Ok(done) => Course::Done(done),
            Err(called) => {
                self.hand_back(ident, delivery, act, called).await;
                Course::Left
            }
        })
    }

    /// Announces the run. `None` where it is left first.
    async fn start(
        self: &Arc<Self>,
        ident: &Ident,
        delivery: &Delivery,
        act: &Act,
        leave: &CancellationToken,
    ) -> Option<()> {
        let confirmed = pin!(self.settler.start(ident, delivery, act));
        let confirmed = self.handler.waits.during(Wait::Confirm, confirmed);
        let started = unless_left(leave, confirmed).await;
        self.ledger.begin(ident, act.clone(), self.clock.now());
        if started.is_none() {
            // It may be on its way.
            self.hand_back(ident, delivery, act, false).await;
        }
        started
    }

    async fn hand_back(self: &Arc<Self>, ident: &Ident, delivery: &Delivery, turn: &Act, called: bool) {
        self.ledger.hand_back(ident, turn, called, self.clock.now());
        let message = self.settler.handed_back(ident, delivery, turn, called);
        let hands = self.clone();
        let told =
            tokio::spawn(
                async move { timeout(HAND_BACK_TRIED, hands.settler.until_confirmed(&message)).await },
            );
        let _ = timeout(HAND_BACK_MAX, told).await;
    }

    /// In an order that a crash can't break.
    pub(super) async fn tell(
        &self,
        settler: &Settler,
        ident: &Ident,
        delivery: &Delivery,
        settlement: &Settlement,
        first_attempt_at: Option<jiff::Timestamp>,
        codes: &Codes,
    ) {
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

    /// Whoever published it twice gets its event again.
    async fn repeat(&self, delivery: Delivery, succeeded: &Succeeded) -> End {
        let Succeeded {
            ident, settlement, ..
        } = succeeded;
        if !delivery.redelivered {
            self.settler.terminal(ident, &delivery, settlement).await;
        }
        acked(delivery, ident).await;
        End::Repeated
    }
}

/// Until the delivery is somebody else's and that one has waited long enough for its outcome.
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

fn poison(broken: u32) -> Failure {
    let detail = format!(
        "{broken} workers died while they ran it, which is a defect of usher or of what it runs on: see their \
         last words, report it, and look at the user before sending the command again"
    );
    Failure::new(Reason::Poison, detail)
}

fn id_reused() -> Failure {
    let detail = "a command under this id has succeeded before, and had another body; publish this one under an id of \
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

/// A stale delivery comes again; its outcome is known by then. False where it was one.
pub(super) async fn acked(delivery: Delivery, ident: &Ident) -> bool {
    let acked = delivery.ack().await.is_ok();
    if !acked {
        metrics::stale_delivery();
        tracing::debug!(
            command.id = ident.command_id,
            "settle: the delivery was stale, it comes again"
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
