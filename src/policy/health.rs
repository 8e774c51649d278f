//! Whether to call at all: the provider's health, and whether it accepts the worker's credentials.
//!
//! One table decides whose fault a failure is, from who fails, who passes and who has not been tried:
//!
//! | who fails | who passes | who else can be tried | then |
//! | --- | --- | --- | --- |
//! | a command | another user, since the command's first failure | | its own fault: it counts as an attempt; after a 403 or 405 the command ends; after a 429 it waits alone |
//! | one user | no one | no one | its own fault |
//! | fewer than five users, five times in a row | no one | a user that passed before can be read | pause; when the read passes, their own fault |
//! | more users, or many in half of the calls | no one | a user that has not failed | pause; that user's command probes |
//! | all that wait | reads of others | no one | pause; they probe in rotation; every 10 s one command is charged |
//! | all that wait | no one can be read | no one | pause; they probe in rotation; every `retry.elapsed_max` one command is charged |
//! | all that wait, and reads of others | no one | no one | pause for as long as it lasts |
//! | any call, with 401, no connection, or because the worker lacks something | no one | | pause for as long as it lasts |
//! | users with 403 or 405 | no one | | pause for as long as it lasts, from the second failure on |
//!
//! During a pause only one probe at a time is sent, at growing gaps, until a call passes.

mod judgement;
mod trial;
mod window;
mod witnesses;

use std::time::Duration;

use tokio::time::Instant;

use self::trial::Trial;
use self::window::Window;
use self::witnesses::Witnesses;
use super::retry;
use crate::backoff::Backoff;
use crate::contract::{Fault, UserId, WorkerId};

pub use self::judgement::{Call, CallDecision, Cause, Judgement, ProbeId, Streak};
pub use self::witnesses::Trouble;

/// Failures in a row, of at least two users, that count as an outage.
const FAILURES_IN_A_ROW: u32 = 5;

/// Below this it may be these users' own trouble, which a read of another user can show. With this many
/// or more users in trouble only a write that passes proves that the provider is well.
const FEW_USERS: usize = 5;

/// The longest gap between probes for trouble of the worker's own: it is checked again soon.
const OWN_TROUBLE_GAP_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum State {
    Well,
    Paused {
        cause: Cause,
        since: Instant,
        next_probe: Instant,
        /// The probe in flight.
        probe: Option<ProbeId>,
    },
}

#[derive(Debug)]
pub struct Health {
    state: State,
    witnesses: Witnesses,
    /// Failures since a write or a control passed.
    failures: u32,
    /// Some of the users that these failures belong to.
    failing: Vec<UserId>,
    streak: Streak,
    /// The latest streak that turned out to be an outage.
    excused: Option<Streak>,
    /// Whether a control failed in this pause.
    control_failed: bool,
    /// The latest writes, and for which users they failed.
    latest: Window,
    trial: Trial,
    gaps: Backoff,
    /// The worker whose notice caused the pause, while no call of this worker has confirmed it.
    reported_by: Option<WorkerId>,
    /// Probes so far.
    probes: ProbeId,
    /// The longest gap while only a few users are denied: others have to be tried.
    gap_max_denied: Duration,
    /// Whether the provider can read a user, so that a probe may be a read.
    can_read: bool,
}

impl Health {
    pub fn new(retry: &retry::Config, can_read: bool) -> Self {
        Self {
            state: State::Well,
            witnesses: Witnesses::default(),
            failures: 0,
            failing: Vec::new(),
            streak: 0,
            excused: None,
            control_failed: false,
            latest: Window::default(),
            trial: Trial::new(retry.elapsed_max),
            reported_by: None,
            probes: 0,
            gap_max_denied: retry.delay_max,
            gaps: Backoff::between(retry.delay_min, retry.probe_gap_max),
            can_read,
        }
    }

    /// Whether a call may be made now. A probe counts as in flight from here on.
    pub fn may_call(&mut self, now: Instant) -> CallDecision {
        match &self.state {
            State::Well => return CallDecision::Call,
            State::Paused { probe: Some(_), .. } => return CallDecision::ProbeIsOut,
            State::Paused { next_probe, .. } if *next_probe > now => {
                return CallDecision::NotBefore(*next_probe);
            }
            State::Paused { .. } => {}
        }
        let control = self.control(now);
        self.probes += 1;
        if let State::Paused { probe, .. } = &mut self.state {
            *probe = Some(self.probes);
        }
        CallDecision::Probe(self.probes, control)
    }

    /// When the next probe may be sent during a pause; `None` while one is in flight, or without a pause.
    pub fn next_probe(&self) -> Option<Instant> {
        match &self.state {
            State::Paused {
                probe: None,
                next_probe,
                ..
            } => Some(*next_probe),
            _ => None,
        }
    }

    /// Chooses which of the waiting users' commands is the next probe. Called when the probe is sent.
    pub fn choose<'u>(
        &mut self,
        waiting: &[&'u UserId],
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<&'u UserId> {
        self.trial.choose(waiting, &self.witnesses, now, rng)
    }

    /// The user to read as the next probe.
    fn control(&self, now: Instant) -> Option<UserId> {
        let wanted = self.witnesses.are_few() || !self.trial.is_controlled(now);
        let control = self.witnesses.control().filter(|_| self.can_read && wanted)?;
        let is_well = !self.witnesses.is_in_trouble(control);
        (is_well || !self.witnesses.are_few()).then(|| control.clone())
    }

    /// The call has ended: if it was the probe in flight, another may be sent.
    pub fn probe_ended(&mut self, call: Option<ProbeId>) {
        if self.is_probe(call)
            && let State::Paused { probe, .. } = &mut self.state
        {
            *probe = None;
        }
    }

    /// Whether a call with this number is the probe in flight.
    fn is_probe(&self, call: Option<ProbeId>) -> bool {
        let out = match &self.state {
            State::Well => None,
            State::Paused { probe, .. } => *probe,
        };
        call.is_some() && call == out
    }

    /// A token was fetched: the next probe shows whether it is accepted.
    pub fn token_fetched(&mut self, probe: Option<ProbeId>, now: Instant) {
        self.credentials_changed(now);
        self.probe_ended(probe);
    }

    /// The provider answered `user`'s call, be it with an error of the command.
    pub fn passed(&mut self, user: &UserId, call: Call, probe: Option<ProbeId>, now: Instant) {
        let are_few = self.witnesses.are_few();
        let proves = call == Call::Write || (call == Call::Control && are_few);
        self.witnesses.passed(user, proves, now);
        match call {
            Call::Write => {
                self.latest.add(now, None);
                self.witnesses.all_is_well(user);
                self.end_streak();
            }
            Call::Control if are_few => {
                // Other users were well all the time: the failures were these few users' own.
                if !self.control_failed {
                    self.excused = None;
                }
                self.end_streak();
            }
            Call::Control => {
                self.trial.control_passed(now);
                self.probe_ended(probe);
                self.probe_by(now);
            }
            Call::Read if are_few => {
                self.witnesses.out_of_trouble(user);
                self.failing.retain(|failing| failing != user);
                self.resume();
            }
            Call::Read => self.probe_ended(probe),
        }
    }

    /// The credentials have changed: the next probe is sent at once.
    pub fn credentials_changed(&mut self, now: Instant) {
        if matches!(
            &self.state,
            State::Paused {
                cause: Cause::Credentials,
                ..
            }
        ) {
            self.probe_by(now);
        }
    }

    /// Whether another worker's pause, which began at `since`, is new and may be the provider's: if a call of this
    /// worker has passed since then, it is that worker's own trouble.
    pub fn may_be_paused_since(&self, since: Instant) -> bool {
        matches!(self.state, State::Well) && self.passed_at().is_none_or(|at| at < since)
    }

    /// Another worker has paused, and probes again at `until`. This worker's first probe follows, by `latest`.
    pub fn paused_elsewhere(
        &mut self,
        worker: &WorkerId,
        cause: Cause,
        (until, latest): (Instant, Instant),
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        let after_theirs = until + self.gaps.next_and_a_little(rng);
        self.reported_by = Some(worker.clone());
        self.state = State::Paused {
            cause,
            since: now,
            next_probe: after_theirs.min(latest),
            probe: None,
        };
    }

    /// Another worker has resumed. Workers that paused because of its notice resume, too.
    pub fn resumed_elsewhere(&mut self, worker: &WorkerId) {
        if self.reported_by.as_ref() == Some(worker) {
            self.resume();
        }
    }

    /// Whether the pause is known only from another worker.
    pub fn is_reported(&self) -> bool {
        self.reported_by.is_some()
    }

    /// Sends the next probe at `at` at the latest.
    pub fn probe_by(&mut self, at: Instant) {
        if let State::Paused { next_probe, .. } = &mut self.state {
            *next_probe = at.min(*next_probe);
        }
    }

    fn end_streak(&mut self) {
        self.failures = 0;
        self.failing.clear();
        self.streak += 1;
        self.resume();
    }

    fn resume(&mut self) {
        self.reported_by = None;
        self.control_failed = false;
        self.state = State::Well;
        self.trial.begin_again();
        self.gaps.reset();
    }

    /// A call failed. `trouble` holds the command's earlier failures.
    pub fn failed(
        &mut self,
        user: &UserId,
        (call, probe): (Call, Option<ProbeId>),
        fault: Fault,
        trouble: &mut Trouble,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Judgement {
        let is_own = self.witnesses.another_passed(user, call, trouble);
        if fault.is_conclusive() {
            self.probe_ended(probe);
            return Judgement::Plain;
        }
        if let Fault::Worker | Fault::Unreachable = fault {
            self.trial.is_an_outage();
            let cause = match fault {
                Fault::Worker => Cause::Worker,
                _ => Cause::Outage,
            };
            self.pause(cause, probe, now, rng);
            return Judgement::Excused;
        }
        self.witnesses.has_failed(trouble);
        match fault {
            Fault::Denied | Fault::Configuration if is_own => {
                self.probe_ended(probe);
                Judgement::RefusedAlone
            }
            Fault::Denied | Fault::Configuration => {
                self.count(user, call);
                if self.failures >= 2 {
                    let cause = match fault {
                        Fault::Configuration => Cause::Configuration,
                        _ => Cause::Credentials,
                    };
                    self.pause(cause, probe, now, rng);
                    if self.witnesses.are_few() {
                        self.probe_by(now + self.gap_max_denied);
                    }
                }
                Judgement::SetAside
            }
            _ if is_own && matches!(self.state, State::Well) => {
                self.witnesses.in_trouble(user);
                Judgement::Spent { streak: None }
            }
            Fault::Credentials => {
                self.count(user, call);
                self.pause(Cause::Credentials, probe, now, rng);
                Judgement::Excused
            }
            _ => self.broken(user, (call, probe), now, rng),
        }
    }

    /// A failure while no other user has passed since the command's first one.
    fn broken(
        &mut self,
        user: &UserId,
        (call, probe): (Call, Option<ProbeId>),
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Judgement {
        self.count(user, call);
        if call == Call::Write {
            self.latest.add(now, Some(user.clone()));
        }
        let is_probe = self.is_probe(probe) && call != Call::Control;
        let charged = is_probe.then(|| self.trial.failed(user)).flatten();
        let in_a_row = self.failures >= FAILURES_IN_A_ROW && self.failing.len() >= 2;
        if !in_a_row && !self.latest.fails_for_many() && matches!(self.state, State::Well) {
            return Judgement::Spent {
                streak: Some(self.streak),
            };
        }
        self.latest.clear();
        self.excused = Some(self.streak);
        if charged == Some(1) {
            // From now on this command alone is tried, at a command's own gaps, until it ends.
            self.gaps.reset();
        }
        self.pause(Cause::Outage, probe, now, rng);
        match charged {
            Some(_) => Judgement::Charged,
            None => Judgement::Excused,
        }
    }

    /// Whether a throttled call hit a limit of its own user, and says nothing about the pace.
    pub fn throttled_alone(
        &mut self,
        user: &UserId,
        (call, probe): (Call, Option<ProbeId>),
        trouble: &mut Trouble,
    ) -> bool {
        let alone = self.witnesses.throttled_alone(user, call, trouble);
        if alone {
            self.probe_ended(probe);
        }
        alone
    }

    /// A charged command of this user has ended: the user's next one counts as untried, and any other gets as much time
    /// as this one.
    pub fn charged_one_ended(&mut self, user: &UserId, now: Instant, rng: &mut fastrand::Rng) {
        self.witnesses.out_of_trouble(user);
        if !matches!(self.state, State::Well) {
            self.trial.begin_again();
            self.gaps.reset();
            let gap = self.gaps.next_and_a_little(rng);
            self.probe_by(now + gap);
        }
    }

    /// A token could not be fetched.
    pub fn token_failed(
        &mut self,
        probe: Option<ProbeId>,
        fault: Fault,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        let cause = match fault {
            Fault::Throttled { .. }
            | Fault::CredentialsRenewed
            | Fault::ReadFirst
            | Fault::Again
            | Fault::Unprocessed => return self.probe_ended(probe),
            Fault::Credentials | Fault::Denied | Fault::Configuration | Fault::Command(_) => {
                Cause::Credentials
            }
            Fault::Unreachable | Fault::Broken | Fault::Unknown => Cause::Outage,
            Fault::Worker => Cause::Worker,
        };
        self.trial.is_an_outage();
        self.pause(cause, probe, now, rng);
    }

    pub fn excused(&self, streak: Streak) -> bool {
        self.excused == Some(streak)
    }

    /// A failed control says something about the provider, and nothing about the user that was read.
    fn count(&mut self, user: &UserId, call: Call) {
        self.failures += 1;
        if call == Call::Control {
            self.control_failed = true;
            self.trial.is_an_outage();
            return;
        }
        self.witnesses.in_trouble(user);
        if self.failing.len() < FEW_USERS && !self.failing.contains(user) {
            self.failing.push(user.clone());
        }
    }

    /// Starts a pause, or continues one after its probe failed. Answers of other calls, which were in
    /// flight when the pause began, have no effect.
    fn pause(&mut self, cause: Cause, probe: Option<ProbeId>, now: Instant, rng: &mut fastrand::Rng) {
        self.reported_by = None;
        let is_probe = self.is_probe(probe);
        let since = match &self.state {
            State::Paused {
                since,
                next_probe,
                probe,
                ..
            } => {
                if !is_probe && (probe.is_some() || *next_probe > now) {
                    return;
                }
                *since
            }
            State::Well => now,
        };
        let gap = match cause {
            Cause::Outage if self.trial.is_exploring(since, now) => trial::EXPLORE_EVERY,
            Cause::Worker => self.gaps.next_and_a_little(rng).min(OWN_TROUBLE_GAP_MAX),
            Cause::Outage | Cause::Credentials | Cause::Configuration => self.gaps.next_and_a_little(rng),
        };
        self.state = State::Paused {
            cause,
            since,
            next_probe: self
                .trial
                .decides_at(now)
                .map_or(now + gap, |at| at.min(now + gap)),
            probe: None,
        };
    }

    /// When a call last passed.
    pub fn passed_at(&self) -> Option<Instant> {
        self.witnesses.passed_at()
    }

    /// Why calls are paused, since when, and when the next probe is due.
    pub fn paused(&self) -> Option<(Cause, Instant, Instant)> {
        match self.state {
            State::Well => None,
            State::Paused {
                cause,
                since,
                next_probe,
                ..
            } => Some((cause, since, next_probe)),
        }
    }
}

#[cfg(test)]
#[path = "health/tests.rs"]
mod tests;
