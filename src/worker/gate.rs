//! The gate before the provider: every call needs a permit from it.
//!
//! It holds the policy's state (pace, health, retry budget, dead-letter guard) and the queues of waiting commands. A
//! permit is granted at the moment of the call, and the answer is reported through it.

mod announce;
mod state;
mod waiting;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::state::State;
use self::waiting::Waiter;
use crate::broker::Partition;
use crate::contract::notice::Paused;
use crate::contract::{Learned, Notice, TrafficClass, UserId};
use crate::metrics;
use crate::policy::guard::{self, DeadLetter};
use crate::policy::health::{Call, Judgement, ProbeId, Streak, Trouble};
use crate::policy::pace::{self, Granted};
use crate::policy::retry;
use crate::provider::{Provider, ProviderError};

/// What the gate needs from the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    pub pace: pace::Settings,
    /// Calls in flight.
    pub concurrency: usize,
    pub retry: retry::Config,
    /// The share of the pace that bulk traffic gets even when interactive traffic could use all.
    pub bulk_share_min: f64,
    pub guard: guard::Settings,
    /// Whether the provider can read a user, so that a probe may be a read.
    pub can_read: bool,
    /// The seed of the jitter.
    pub seed: u64,
}

/// What can change while the worker runs.
#[derive(Debug, Clone)]
pub struct Live {
    pub rates: pace::Rates,
    pub share: f64,
    pub concurrency: usize,
    pub bulk_share_min: f64,
}

/// Grants one call at a time, at the pace, interactive traffic first.
pub struct Gate {
    state: Mutex<State>,
    changed: Notify,
    /// The guard was opened.
    opened: Notify,
}

/// The right to make one call. If it is dropped without a report, the policy learns nothing from the call.
pub struct Permit {
    gate: Arc<Gate>,
    class: TrafficClass,
    granted: Granted,
    since: Instant,
    probe: Option<ProbeId>,
    control: Option<UserId>,
}

/// What operators ordered, in the runtime's time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Steering {
    pub pause: Option<OrderedPause>,
    pub pin: Option<pace::Pin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedPause {
    /// Interactive commands continue.
    pub bulk_only: bool,
    pub since: Instant,
    /// `None`: until an operator resumes.
    pub until: Option<Instant>,
    /// Who ordered it and why.
    pub why: String,
}

/// The gate in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub own_per_second: f64,
    pub fleet_per_second: f64,
    /// As configured, for the whole fleet; `None`: nothing is.
    pub quota_per_second: Option<f64>,
    /// Retries that may be made at once.
    pub retry_budget: f64,
    /// The most calls in flight.
    pub calls_at_once: usize,
    /// How long a call takes, as a moving average; `None`: there was none.
    pub call_seconds: Option<f64>,
}

/// Why calls are paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub cause: &'static str,
    pub since: Instant,
    /// When the next call is made; `None` where an operator has to resume.
    pub until: Option<Instant>,
    /// What went wrong, by the latest failure, or what an operator has to do.
    pub why: Option<Cow<'static, str>>,
}

impl Gate {
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::new(settings)),
            changed: Notify::new(),
            opened: Notify::new(),
        })
    }

    /// Waits for the right to make one call. Needs `keep_open` running.
    pub async fn permit(
        self: &Arc<Self>,
        class: TrafficClass,
        partition: Partition,
        user: &UserId,
    ) -> Permit {
        loop {
            let granted = {
                let mut state = self.lock();
                if state.nobody_waits()
                    && state.health.paused().is_none()
                    && let Ok(permit) = state.grant(self, class, Instant::now())
                {
                    return permit;
                }
                let (grant, granted) = oneshot::channel();
                state.waiting(class).push(Waiter {
                    partition,
                    user: user.clone(),
                    grant,
                });
                granted
            };
            self.changed.notify_one();
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }

    /// Grants permits to waiting commands as the pace, the pauses and the concurrency allow. Never ends.
    pub async fn keep_open(self: Arc<Self>) {
        loop {
            let (wake_at, unclaimed) = self.lock().grant_all(&self, Instant::now());
            // Dropping a permit takes the lock, so they are dropped outside it.
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

    /// Reports changed credentials at once, so that commands don't wait for the next scheduled probe. Never ends.
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
                Ok(()) => return metrics::retry(),
                Err(at) => tokio::time::sleep_until(at).await,
            }
        }
    }

    /// Counts a command's outcome, and waits while the guard holds back outcomes like it.
    pub async fn outcome_allowed(&self, dead_letter: Option<&DeadLetter>) {
        let mut held_back = None;
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            opened.as_mut().enable();
            if self.lock().guard.admit(dead_letter, Instant::now()) {
                return;
            }
            held_back.get_or_insert_with(|| HeldBack::new(self));
            self.changed.notify_one();
            opened.await;
        }
    }

    /// An operator resumes: dead letters may pass again, a pause that the provider asked for ends, and where calls
    /// failed, a probe is sent at once.
    pub fn resume(&self) {
        {
            let mut state = self.lock();
            state.guard.open();
            state.pace.end_pause();
            state.health.probe_by(Instant::now());
        }
        self.opened.notify_waiters();
        self.changed.notify_one();
    }

    /// The configuration has changed.
    pub fn configure(&self, live: Live) {
        self.lock().configure(live);
        self.changed.notify_one();
    }

    /// Follows the operators' orders.
    pub fn steer(&self, steering: Steering) {
        self.lock().steer(steering);
        self.changed.notify_one();
    }

    /// What operators ordered, while it is in force.
    pub fn steering(&self) -> Steering {
        self.lock().steering(Instant::now())
    }

    /// A generator for one command's jitter, drawn from the gate's own.
    pub fn rng(&self) -> fastrand::Rng {
        self.lock().rng.fork()
    }

    /// A command of this user whose failures were counted because no other user could be tried has ended.
    pub fn charged_one_ended(&self, user: &UserId) {
        {
            let mut state = self.lock();
            let State { health, rng, .. } = &mut *state;
            health.charged_one_ended(user, Instant::now(), rng);
        }
        self.changed.notify_one();
    }

    /// Whether this streak of failures turned out to be an outage.
    pub fn excused(&self, streak: Streak) -> bool {
        self.lock().health.excused(streak)
    }

    /// What shut the dead-letter guard, while it is shut.
    pub fn doubts(&self) -> Option<String> {
        self.lock().guard.shut_by().map(str::to_owned)
    }

    /// Whether and why calls are paused.
    pub fn pause(&self) -> Option<Pause> {
        self.lock().pause(Instant::now())
    }

    /// Sets this worker's partitions out of `of`: its share of the fleet, and so of the quota.
    pub fn set_quota_share(&self, held: &[Partition], of: Partition) {
        self.lock().pace.set_quota_share(held, of);
        self.changed.notify_one();
    }

    pub fn has_quota_share(&self) -> bool {
        self.lock().pace.has_quota_share()
    }

    /// What this worker's notices say of the gate: the pause, and the fleet's pace.
    pub fn announcement(&self) -> (Option<Paused>, Learned) {
        let (state, now) = (self.lock(), Instant::now());
        (state.pause_to_announce(now), state.pace.learned(now))
    }

    /// When a call last passed.
    pub fn passed_at(&self) -> Option<Instant> {
        self.lock().health.passed_at()
    }

    /// Takes in the notice of another worker of the fleet.
    pub fn on_notice(&self, notice: &Notice) {
        self.lock().on_notice(notice, Instant::now());
        self.changed.notify_one();
    }

    /// Calls per second that may go out now, by what is configured and learned.
    pub fn pace_per_second(&self) -> f64 {
        self.lock().pace.per_second(Instant::now())
    }

    pub fn figures(&self) -> Figures {
        let (state, now) = (self.lock(), Instant::now());
        Figures {
            own_per_second: state.pace.per_second(now),
            fleet_per_second: state.pace.fleet_per_second(now),
            quota_per_second: state.pace.quota_per_second(),
            retry_budget: state.budget.available(now),
            calls_at_once: state.calls_at_once(),
            call_seconds: state.call_seconds,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid between any two statements, so a panic in one task need not stop the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The user to read instead of making the command's own call.
    pub fn control(&self) -> Option<&UserId> {
        self.control.as_ref()
    }

    /// Reports how the call went. Returns what that means for the command, given its earlier trouble.
    pub fn report(
        self,
        user: &UserId,
        call: Call,
        answer: Result<(), &ProviderError>,
        trouble: &mut Trouble,
    ) -> Judgement {
        let now = Instant::now();
        let mut state = self.gate.lock();
        if call == Call::Write && answer.is_ok() && state.guard.write_passed() {
            self.gate.opened.notify_waiters();
        }
        state.report((self.granted, self.probe), user, call, answer, trouble, now)
    }

    /// Reports the rate-limit hint of the answer's headers.
    pub fn read_headers(&self, provider: &dyn Provider) {
        if let Some(hint) = provider.access().rate_limit_hint() {
            self.gate.lock().pace.on_rate_limit_hint(hint, Instant::now());
        }
    }

    /// Reports the fetch of a token, which is no call for a user.
    pub fn report_token(self, answer: Result<(), &ProviderError>) {
        let now = Instant::now();
        let call = (self.granted, self.probe);
        self.gate.lock().report_token(call, answer, now);
    }
}

/// Counts a command that the guard holds back, for as long as this value lives.
struct HeldBack<'g>(&'g Gate);

impl<'g> HeldBack<'g> {
    fn new(gate: &'g Gate) -> Self {
        metrics::held_back(gate.lock().guard.holds_back(true));
        Self(gate)
    }
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        metrics::held_back(self.0.lock().guard.holds_back(false));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let needs_care = {
            let mut state = self.gate.lock();
            state.release(self.class, self.probe, self.since.elapsed());
            state.needs_care(Instant::now())
        };
        if needs_care {
            self.gate.changed.notify_one();
        }
    }
}
