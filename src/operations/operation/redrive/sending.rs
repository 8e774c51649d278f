//! Sends what lies in the operation's queue, at its pace, and watches what becomes of it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::broker::topology::{COMMANDS, COMMANDS_BULK};
use crate::broker::{Delivery, Message};
use crate::contract::lifecycle::Counts;
use crate::operations::dead_letters::Letter;
use crate::operations::operation::OperationError;
use crate::operations::operation::emptiness::{is_empty, is_mark};
use crate::operations::operation::lanes::Lanes;
use crate::operations::operation::outcomes::{Known, Outcomes};
use crate::operations::operation::passing::{settle, unchanged};
use crate::operations::operation::run::{End, Work};

/// The most commands whose outcomes are waited for.
const WAITING_MAX: u64 = 10_000;

/// At the end, outcomes are waited for so long: they belong to the report, and not to the work.
const LAST_WITHIN: Duration = Duration::from_secs(30);

/// Progress is told while outcomes are waited for, which also shows that the outcome log is alive.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The queue is taken hold of again while it yields something; another process may have it.
const IN_VAIN_MAX: u32 = 3;

pub(super) struct Sending<'a, 'w> {
    work: &'a mut Work<'w>,
    outcomes: Outcomes,
    /// What was known when this process began.
    before: Counts,
    /// Sent by this process.
    sent: u64,
    next_at: Instant,
    lanes: Lanes<()>,
}

impl<'a, 'w> Sending<'a, 'w> {
    pub(super) fn new(work: &'a mut Work<'w>, outcomes: Outcomes) -> Self {
        Self {
            before: work.counts,
            work,
            outcomes,
            sent: 0,
            next_at: Instant::now(),
            lanes: Lanes::new(),
        }
    }

    pub(super) async fn send_all(mut self, queue: &str) -> Result<End, OperationError> {
        let mut in_vain = 0;
        loop {
            let before = self.work.counts.done;
            let mut holder = self.work.access.inspector.hold(queue).await?;
            let mut ended = self.send_held(&mut *holder).await;
            // What is in flight is finished, whatever ended it.
            while let Some(done) = self.lanes.next().await {
                ended = self.counted(done).and(ended);
            }
            holder.release().await;
            if matches!(ended, Ok(End::Done)) && is_empty(&self.work.access, self.work.spec.id).await? {
                break;
            }
            match ended? {
                End::Done if self.work.counts.done > before => in_vain = 0,
                End::Done if in_vain == IN_VAIN_MAX => return Err(OperationError::Runs(self.work.spec.id)),
                End::Done => in_vain += 1,
                ended => return Ok(ended),
            }
        }
        // The last outcomes are part of the report.
        let within = self.work.spec.options.canary_timeout.min(LAST_WITHIN);
        self.until_waiting(0, within).await?;
        self.take_in()?;
        Ok(End::Done)
    }

    /// `Done`: nothing is left to send.
    async fn send_held(&mut self, holder: &mut dyn crate::broker::Holder) -> Result<End, OperationError> {
        loop {
            while let Some(done) = self.lanes.done_already() {
                self.counted(done)?;
            }
            if let Some(end) = self.checked().await? {
                return Ok(end);
            }
            let Some(delivery) = holder.next().await? else {
                return Ok(End::Done);
            };
            if is_mark(&delivery.properties) {
                delivery.ack().await.map_err(|_| OperationError::Stale)?;
                continue;
            }
            if !self.paced().await {
                return Ok(End::Interrupted);
            }
            self.send(delivery).await?;
        }
    }

    /// Whether the rest may go out, after a wait where one is due. The answer is why not.
    async fn checked(&mut self) -> Result<Option<End>, OperationError> {
        if self.work.shutdown.is_draining() {
            return Ok(Some(End::Interrupted));
        }
        let (canary, patience) = (
            self.work.spec.options.canary,
            self.work.spec.options.canary_timeout,
        );
        let is_canary = canary > 0 && self.sent == canary;
        if is_canary {
            (self.work.tell)(&format!(
                "the first {canary} are sent; waiting for their outcomes, for {} s at most",
                patience.as_secs()
            ));
        }
        let may_wait = if is_canary { 0 } else { WAITING_MAX };
        while is_canary && let Some(done) = self.lanes.next().await {
            self.counted(done)?;
        }
        let waited = self.until_waiting(may_wait, patience).await?;
        let known = self.take_in()?;
        if waited == Waited::Interrupted {
            return Ok(Some(End::Interrupted));
        }
        if waited == Waited::InVain {
            let why = format!(
                "{} commands have no outcome after {} s: does a worker run, and is the provider there?",
                known.waiting,
                patience.as_secs()
            );
            return Ok(Some(End::Stopped(why)));
        }
        let bad = known.is_bad() || is_canary && known.too_many_failed();
        self.work.progress().await?;
        Ok(bad.then(|| {
            let ended = known.succeeded + known.failed;
            End::Stopped(format!(
                "{} of {ended} failed again, more than a fifth",
                known.failed
            ))
        }))
    }

    async fn until_waiting(
        &mut self,
        waiting_max: u64,
        patience: Duration,
    ) -> Result<Waited, OperationError> {
        let deadline = Instant::now() + patience;
        loop {
            let known = self.take_in()?;
            if known.waiting <= waiting_max {
                return Ok(Waited::Done);
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(Waited::InVain);
            }
            tokio::select! {
                biased;
                () = self.work.shutdown.draining() => return Ok(Waited::Interrupted),
                () = self.outcomes.changed_until(deadline.min(now + LOOK_EVERY), known) => {}
            }
            self.work.progress().await?;
        }
    }

    /// False: it is asked to stop.
    async fn paced(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.work.shutdown.draining() => return false,
            () = sleep_until(self.next_at) => {}
        }
        self.next_at = self.next_at.max(Instant::now()) + self.work.spec.options.rate.gap();
        true
    }

    async fn send(&mut self, delivery: Delivery) -> Result<(), OperationError> {
        let letter = Letter::of(&delivery.properties, &delivery.body);
        let key = letter.routing_key.clone().unwrap_or_default();
        while let Some(done) = self.lanes.make_room(&key).await {
            self.counted(done)?;
        }
        let publisher = self.work.access.publisher.clone();
        let message = Message {
            exchange: self.exchange(&letter).to_owned(),
            routing_key: key.clone(),
            properties: unchanged(&delivery.properties, &*publisher),
            body: delivery.body.clone(),
            // What no queue takes is kept in user.unroutable.
            mandatory: false,
        };
        self.outcomes.expect(&letter, &delivery);
        self.lanes
            .begin(key, settle(Some((publisher, message)), delivery));
        self.sent += 1;
        Ok(())
    }

    fn exchange(&self, letter: &Letter) -> &'static str {
        let was_bulk = letter.exchange.as_deref() == Some(COMMANDS_BULK);
        match self.work.spec.options.interactive && !was_bulk {
            true => COMMANDS,
            false => COMMANDS_BULK,
        }
    }

    fn counted(&mut self, done: Result<(), OperationError>) -> Result<(), OperationError> {
        self.work.counts.done += u64::from(done.is_ok());
        done
    }

    /// Takes what is known into the counts.
    fn take_in(&mut self) -> Result<Known, OperationError> {
        let known = self.outcomes.known()?;
        self.work.counts.succeeded = self.before.succeeded + known.succeeded;
        self.work.counts.failed = self.before.failed + known.failed;
        Ok(known)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Waited {
    Done,
    Interrupted,
    InVain,
}
