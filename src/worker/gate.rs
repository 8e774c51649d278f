//! The gate before the provider: every call passes it, one permit each.
//!
//! It holds the policy's state (pace, health, retry budget) and the queues of those who wait. A permit
//! is granted at the moment of the call and its answer is reported back through it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::contract::{Fault, TrafficClass, UserId};
use crate::metrics;
use crate::policy::health::{Call, Cause, Health, Judgement, Leave, Mark};
use crate::policy::pace::{Pace, Rate};
use crate::policy::retry::{self, Budget, Schedule};
use crate::provider::Provider;

const THROTTLED: &str = "throttled";

/// A shorter throttling is not worth a line in the log.
const WORTH_A_LINE: Duration = Duration::from_secs(5);

/// What the gate needs of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    pub rate: Option<Rate>,
    /// Calls in flight.
    pub concurrency: usize,
    pub retry: retry::Config,
    /// The share of the pace that bulk traffic gets even when interactive traffic could use all.
    pub bulk_share_min: f64,
    /// Whether the provider can read a user, so that a probe may be a read.
    pub can_read: bool,
    /// Where jitter starts from.
    pub seed: u64,
}

/// Opens for one call at a time, at the pace, interactive traffic first.
pub struct Gate {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    settings: Settings,
    pace: Pace,
    health: Health,
    budget: Budget,
    rng: fastrand::Rng,
    in_flight: usize,
    interactive: VecDeque<oneshot::Sender<Permit>>,
    bulk: VecDeque<oneshot::Sender<Permit>>,
    /// What interactive traffic owes to the bulk commands that it passed, in calls.
    owed_to_bulk: f64,
    announced: Option<&'static str>,
}

/// The right to make one call. Dropped without a report, it counts for nothing.
pub struct Permit {
    gate: Arc<Gate>,
    probe: bool,
    control: Option<UserId>,
}

/// Why nobody calls now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    pub cause: &'static str,
    /// How long it has lasted; not known for throttling.
    pub since: Option<Instant>,
    /// When the next call goes out.
    pub until: Instant,
}

impl Gate {
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                pace: Pace::new(settings.rate, Schedule::new(&settings.retry)),
                health: Health::new(&settings.retry),
                budget: Budget::new(settings.retry.budget),
                rng: fastrand::Rng::with_seed(settings.seed),
                in_flight: 0,
                interactive: VecDeque::new(),
                bulk: VecDeque::new(),
                owed_to_bulk: 0.0,
                announced: None,
                settings,
            }),
            changed: Notify::new(),
        })
    }

    /// Waits for the right to make one call. Needs `keep_open` running.
    pub async fn permit(self: &Arc<Self>, class: TrafficClass) -> Permit {
        loop {
            let granted = {
                let mut state = self.lock();
                let nobody_waits = state.interactive.is_empty() && state.bulk.is_empty();
                if nobody_waits && let Ok(permit) = state.grant(self, Instant::now()) {
                    return permit;
                }
                let (grant, granted) = oneshot::channel();
                state.queue(class).push_back(grant);
                granted
            };
            self.changed.notify_one();
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }

    /// Grants permits to those who wait, as the pace, the pauses and the concurrency allow. Never ends.
    pub async fn keep_open(self: Arc<Self>) {
        loop {
            let (wake_at, unclaimed) = self.lock().grant_all(&self, Instant::now());
            // A permit takes the lock when it is dropped, so that is done out here.
            drop(unclaimed);
            match wake_at {
                Some(at) => tokio::select! {
                    biased;
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// Tells of other credentials as they are found, so that nobody waits for the next probe. Never ends.
    pub async fn watch_credentials(self: Arc<Self>, provider: Arc<dyn Provider>) {
        loop {
            provider.access().credentials_changed().await;
            self.lock().health.credentials_changed(Instant::now());
            self.changed.notify_one();
        }
    }

    /// Waits until the budget has room for a retry.
    pub async fn retry_allowed(&self) {
        loop {
            let spent = self.lock().budget.spend(Instant::now());
            match spent {
                Ok(()) => return,
                Err(at) => tokio::time::sleep_until(at).await,
            }
        }
    }

    /// A generator for one command's jitter, drawn from the gate's own.
    pub fn rng(&self) -> fastrand::Rng {
        self.lock().rng.fork()
    }

    pub fn mark(&self) -> Mark {
        self.lock().health.mark()
    }

    /// Whether and why nobody calls.
    pub fn pause(&self) -> Option<Pause> {
        self.lock().pause(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data, valid between any two statements: a panic elsewhere must not stop the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A permit now, or when to ask again (`None`: when something changes).
    fn grant(&mut self, gate: &Arc<Gate>, now: Instant) -> Result<Permit, Option<Instant>> {
        if self.in_flight >= self.settings.concurrency {
            return Err(None);
        }
        if let Some(until) = self.pace.paused_until(now) {
            return Err(Some(until));
        }
        let (probe, control) = match self.health.leave(now, self.settings.can_read) {
            Leave::Call => (false, None),
            Leave::Probe(control) => (true, control),
            Leave::NotBefore(at) => return Err(Some(at)),
            Leave::ProbeIsOut => return Err(None),
        };
        if let Err(at) = self.pace.take(now) {
            if probe {
                self.health.probe_dropped();
            }
            return Err(Some(at));
        }
        self.in_flight += 1;
        self.budget.earn();
        Ok(Permit {
            gate: gate.clone(),
            probe,
            control,
        })
    }

    /// Grants what may be granted now. Returns when to come again, and permits that nobody took.
    fn grant_all(&mut self, gate: &Arc<Gate>, now: Instant) -> (Option<Instant>, Vec<Permit>) {
        self.announce(now);
        let mut unclaimed = Vec::new();
        while let Some((class, waiter)) = self.next_waiter() {
            if waiter.is_closed() {
                continue;
            }
            match self.grant(gate, now) {
                Ok(permit) => {
                    self.count(class);
                    unclaimed.extend(waiter.send(permit).err());
                }
                Err(at) => {
                    self.queue(class).push_front(waiter);
                    return (at, unclaimed);
                }
            }
        }
        // The end of throttling is announced when it comes, though nobody may wait for it. The other
        // pauses end with an answer.
        (self.pace.paused_until(now), unclaimed)
    }

    fn queue(&mut self, class: TrafficClass) -> &mut VecDeque<oneshot::Sender<Permit>> {
        match class {
            TrafficClass::Interactive => &mut self.interactive,
            TrafficClass::Bulk => &mut self.bulk,
        }
    }

    fn next_waiter(&mut self) -> Option<(TrafficClass, oneshot::Sender<Permit>)> {
        let bulk_first = self.owed_to_bulk >= 1.0 || self.interactive.is_empty();
        let class = match bulk_first && !self.bulk.is_empty() {
            true => TrafficClass::Bulk,
            false => TrafficClass::Interactive,
        };
        self.queue(class).pop_front().map(|waiter| (class, waiter))
    }

    /// Keeps account of the calls that bulk commands had to let pass.
    fn count(&mut self, class: TrafficClass) {
        match class {
            TrafficClass::Interactive if !self.bulk.is_empty() => {
                self.owed_to_bulk += self.settings.bulk_share_min;
            }
            TrafficClass::Interactive => {}
            TrafficClass::Bulk => self.owed_to_bulk = (self.owed_to_bulk - 1.0).max(0.0),
        }
    }

    /// Whether `keep_open` has something to do.
    fn needs_care(&self, now: Instant) -> bool {
        !self.interactive.is_empty()
            || !self.bulk.is_empty()
            || self.pause(now).map(|pause| pause.cause) != self.announced
    }

    fn release(&mut self, probe: bool) {
        self.in_flight -= 1;
        if probe {
            self.health.probe_dropped();
        }
    }

    fn pause(&self, now: Instant) -> Option<Pause> {
        if let Some((cause, since, next_probe)) = self.health.paused() {
            return Some(Pause {
                cause: cause.as_str(),
                since: Some(since),
                until: next_probe,
            });
        }
        self.pace.paused_until(now).map(|until| Pause {
            cause: THROTTLED,
            since: None,
            until,
        })
    }

    /// One log line and one metric per change of state.
    fn announce(&mut self, now: Instant) {
        let pause = self.pause(now);
        let cause = pause.map(|pause| pause.cause);
        if cause == self.announced {
            return;
        }
        let ended = std::mem::replace(&mut self.announced, cause);
        if let Some(ended) = ended {
            metrics::paused(ended, false);
        }
        let Some(pause) = pause else {
            match ended {
                Some(THROTTLED) => tracing::debug!("provider: calls go on"),
                _ => tracing::info!("provider: calls go on"),
            }
            return;
        };
        metrics::paused(pause.cause, true);
        let wait = pause.until.saturating_duration_since(now);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        match self.health.paused().map(|(cause, ..)| cause) {
            // Short pauses are how a quota is used to the full.
            None if wait < WORTH_A_LINE => {
                tracing::debug!(
                    pause.wait_ms = wait_ms,
                    "provider: throttled; no call until it allows"
                );
            }
            None => tracing::info!(
                pause.wait_ms = wait_ms,
                "provider: throttled; no call until it allows"
            ),
            Some(Cause::Outage) => tracing::warn!(
                pause.wait_ms = wait_ms,
                "provider: fails for everybody; commands wait, one probe at a time goes out"
            ),
            Some(Cause::Credentials) => tracing::error!(
                pause.wait_ms = wait_ms,
                "provider: refuses the worker's credentials; commands wait. Rotate the token, or grant it the \
                 permission to update users"
            ),
        }
    }
}

impl Permit {
    /// The user to read instead of making the command's own call.
    pub fn control(&self) -> Option<&UserId> {
        self.control.as_ref()
    }

    /// Says how the call went, and hears what that means for the command.
    pub fn report(
        self,
        user: &UserId,
        call: Call,
        answer: Result<(), Fault>,
        denied_since: Option<Mark>,
    ) -> Judgement {
        let now = Instant::now();
        let mut state = self.gate.lock();
        let State {
            pace, health, rng, ..
        } = &mut *state;
        match answer {
            Ok(()) | Err(Fault::Command(_)) => {
                pace.passed();
                health.passed(user, call);
                Judgement::Plain
            }
            Err(fault) => {
                if let Fault::Throttled { retry_after } = fault {
                    pace.throttled(retry_after, now, rng);
                }
                health.failed(user, call, fault, denied_since, now, rng)
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let needs_care = {
            let mut state = self.gate.lock();
            state.release(self.probe);
            state.needs_care(Instant::now())
        };
        if needs_care {
            self.gate.changed.notify_one();
        }
    }
}
