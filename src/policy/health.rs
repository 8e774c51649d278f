//! Whether to call at all: the provider's health, and whether it accepts the worker's credentials.
//!
//! One rule decides between a command's fault and the provider's: a failure is the command's only while
//! the provider answers others. When it fails for several users in a row, or for many users in half of
//! the calls, or can't be reached, or refuses the credentials, nobody calls but one probe at a time, at
//! growing gaps, until a call passes.

mod window;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use self::window::Window;
use super::retry::{self, Schedule};
use crate::contract::{Fault, UserId, WorkerId};

/// Failures in a row, of at least two users, that count as an outage.
const FAILURES_IN_A_ROW: u32 = 5;

/// Up to here it may be these users' own trouble, and a read of somebody else can show it. With more
/// users in trouble only a write that passes proves that the provider is well.
const FEW_USERS: usize = 5;

/// Those whose probe failed lately let others probe first, for so long and the latest longest: what they
/// find may be their own trouble.
const PROBED_BEFORE: Duration = Duration::from_secs(1);

/// Trouble of the worker's own is none of the provider's: it is looked at again soon.
const OWN_TROUBLE_GAP_MAX: Duration = Duration::from_secs(5);

/// Why nobody calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Outage,
    Credentials,
    /// The worker itself lacks what a call needs.
    Worker,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Credentials => "credentials",
            Self::Worker => "worker",
        }
    }
}

#[derive(Debug)]
enum State {
    Well,
    Paused {
        cause: Cause,
        since: Instant,
        next_probe: Instant,
        /// The probe that is out.
        probe: Option<ProbeId>,
    },
}

/// Another number for each probe: only its own answer or loss ends it.
pub type ProbeId = u64;

/// May a call go out?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    Call,
    /// As the one probe: by reading this user, who passed before, or else with the command itself.
    Probe(ProbeId, Option<UserId>),
    /// Ask again then.
    NotBefore(Instant),
    /// A probe is out; its answer decides.
    ProbeIsOut,
}

/// What a call was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A read of the command's user. It shows that the provider reads, not that it writes.
    Read,
    Write,
    /// A read of another user, as a probe.
    Control,
}

/// What an answer means for the command that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The answer speaks for itself.
    Plain,
    /// The provider failed on this command while it was well: an attempt is spent, unless this streak of
    /// failures turns out to be an outage.
    Spent { streak: Streak },
    /// Not the command's fault: nothing is spent.
    Excused,
    /// 403 so far for this user alone, or for everybody: others have to be tried.
    SetAside,
    /// 403 for this user, while others pass.
    Forbidden,
}

/// Counts passed calls, so that "since" can be said without a clock.
pub type Mark = u64;

/// Failures between two passes.
pub type Streak = u64;

#[derive(Debug)]
pub struct Health {
    state: State,
    passes: Mark,
    /// The two users that passed last, with the mark of each.
    passed: [Option<(UserId, Mark)>; 2],
    /// Failures since a write or a control passed.
    failures: u32,
    /// Whose they are, a few of them.
    failing: Vec<UserId>,
    streak: Streak,
    /// The latest streak that turned out to be an outage.
    excused: Option<Streak>,
    /// A control failed in this pause.
    control_failed: bool,
    /// Users that failed or were denied since the last pass of a write, a few of them.
    troubled: Vec<UserId>,
    /// When writes ended lately, and whom they failed.
    latest: Window,
    /// Users whose probe failed in this pause, the latest few of them.
    probed: VecDeque<UserId>,
    gaps: Schedule,
    /// When a call passed last.
    passed_at: Option<Instant>,
    /// Who told of the pause, while nothing of our own has confirmed it.
    heard_of: Option<WorkerId>,
    /// Probes so far.
    probes: ProbeId,
    /// The longest gap while a few users alone are denied: others have to be tried.
    gap_max_denied: Duration,
}

impl Health {
    pub fn new(retry: &retry::Config) -> Self {
        Self {
            state: State::Well,
            passes: 0,
            passed: [None, None],
            failures: 0,
            failing: Vec::new(),
            streak: 0,
            excused: None,
            control_failed: false,
            troubled: Vec::new(),
            latest: Window::default(),
            probed: VecDeque::new(),
            passed_at: None,
            heard_of: None,
            probes: 0,
            gap_max_denied: retry.delay_max,
            gaps: Schedule::between(retry.delay_min, retry.probe_gap_max),
        }
    }

    /// May a call for this user go out now? A probe is counted as out from here on.
    pub fn leave(&mut self, user: &UserId, now: Instant, can_read: bool) -> Leave {
        if matches!(self.state, State::Well) {
            return Leave::Call;
        }
        let control = self.control(can_read);
        let before = self.probed.iter().position(|probed| probed == user);
        let others_first = match (before, &control) {
            (Some(place), None) => PROBED_BEFORE.mul_f64(1.0 + place as f64),
            _ => Duration::ZERO,
        };
        match &mut self.state {
            State::Well => Leave::Call,
            State::Paused { probe: Some(_), .. } => Leave::ProbeIsOut,
            State::Paused { next_probe, .. } if *next_probe + others_first > now => {
                Leave::NotBefore(*next_probe + others_first)
            }
            State::Paused { probe, .. } => {
                self.probes += 1;
                *probe = Some(self.probes);
                Leave::Probe(self.probes, control)
            }
        }
    }

    /// Whether this user's probe failed lately.
    pub fn has_probed(&self, user: &UserId) -> bool {
        self.probed.contains(user)
    }

    /// Somebody who passed before and is in no trouble now.
    fn control(&self, can_read: bool) -> Option<UserId> {
        if !can_read || self.troubled.len() >= FEW_USERS {
            return None;
        }
        let mut passed = self.passed.iter().flatten().map(|(user, _)| user);
        passed.find(|user| !self.troubled.contains(user)).cloned()
    }

    /// The call has ended: if it was the probe that is out, another may go out.
    pub fn probe_ended(&mut self, call: Option<ProbeId>) {
        if self.is_probe(call)
            && let State::Paused { probe, .. } = &mut self.state
        {
            *probe = None;
        }
    }

    /// Whether a call with this number is the probe that is out.
    fn is_probe(&self, call: Option<ProbeId>) -> bool {
        let out = match &self.state {
            State::Well => None,
            State::Paused { probe, .. } => *probe,
        };
        call.is_some() && call == out
    }

    /// A token could be fetched: what it is worth, the next probe shows.
    pub fn token_fetched(&mut self, probe: Option<ProbeId>, now: Instant) {
        self.credentials_changed(now);
        self.probe_ended(probe);
    }

    /// The provider answered `user`'s call, if only with what is wrong with the command.
    pub fn passed(&mut self, user: &UserId, call: Call, probe: Option<ProbeId>, now: Instant) {
        self.passes += 1;
        self.passed_at = Some(now);
        match &mut self.passed {
            [Some((latest, mark)), _] if latest == user => *mark = self.passes,
            passed => {
                passed.swap(0, 1);
                passed[0] = Some((user.clone(), self.passes));
            }
        }
        match call {
            Call::Write => {
                self.latest.add(now, None);
                self.troubled.clear();
                self.end_streak();
            }
            Call::Control => {
                // Others were well all the time: the failures were these few users' own.
                if !self.control_failed {
                    self.excused = None;
                }
                self.end_streak();
            }
            Call::Read if self.troubled.len() < FEW_USERS => {
                self.troubled.retain(|troubled| troubled != user);
                self.failing.retain(|failing| failing != user);
                self.resume();
            }
            Call::Read => self.probe_ended(probe),
        }
    }

    /// Other credentials were found: the next probe need not wait.
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

    /// Whether another worker's pause, which began then, is news and may be the provider's: where a call of our own
    /// has passed in the meantime, it is that worker's own trouble.
    pub fn may_be_paused_since(&self, since: Instant) -> bool {
        matches!(self.state, State::Well) && self.passed_at.is_none_or(|at| at < since)
    }

    /// Another worker calls no more, and probes again at `until`. Our first probe follows its, by `latest`.
    pub fn paused_elsewhere(
        &mut self,
        worker: &WorkerId,
        cause: Cause,
        (until, latest): (Instant, Instant),
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        let after_theirs = until + self.gaps.next_and_a_little(rng);
        self.heard_of = Some(worker.clone());
        self.state = State::Paused {
            cause,
            since: now,
            next_probe: after_theirs.min(latest),
            probe: None,
        };
    }

    /// Another worker calls. Those who heard of its pause go on with it.
    pub fn resumed_elsewhere(&mut self, worker: &WorkerId) {
        if self.heard_of.as_ref() == Some(worker) {
            self.resume();
        }
    }

    /// Whether the pause is not known from calls of our own.
    pub fn is_hearsay(&self) -> bool {
        self.heard_of.is_some()
    }

    /// The next probe goes out then at the latest.
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
        self.heard_of = None;
        self.control_failed = false;
        self.state = State::Well;
        self.probed.clear();
        self.gaps.reset();
    }

    /// A call failed. `denied_since` is where the user's first 403 stood, if there was one.
    pub fn failed(
        &mut self,
        user: &UserId,
        (call, probe): (Call, Option<ProbeId>),
        fault: Fault,
        denied_since: Option<Mark>,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Judgement {
        if call != Call::Control && self.is_probe(probe) {
            self.probed.retain(|probed| probed != user);
            self.probed.push_back(user.clone());
            while self.probed.len() > FEW_USERS {
                self.probed.pop_front();
            }
        }
        match fault {
            Fault::Command(_) | Fault::Throttled { .. } | Fault::CredentialsRenewed => {
                self.probe_ended(probe);
                Judgement::Plain
            }
            Fault::Credentials => {
                self.pause(Cause::Credentials, probe, now, rng);
                Judgement::Excused
            }
            Fault::Worker => {
                self.pause(Cause::Worker, probe, now, rng);
                Judgement::Excused
            }
            Fault::Denied if denied_since.is_some_and(|mark| self.passed_by_another(user, mark)) => {
                self.probe_ended(probe);
                Judgement::Forbidden
            }
            Fault::Denied => {
                self.trouble(user, call);
                if self.failures >= 2 {
                    self.pause(Cause::Credentials, probe, now, rng);
                    if self.troubled.len() < FEW_USERS {
                        self.probe_by(now + self.gap_max_denied);
                    }
                }
                Judgement::SetAside
            }
            Fault::Unreachable => {
                self.pause(Cause::Outage, probe, now, rng);
                Judgement::Excused
            }
            Fault::Broken | Fault::Unknown => {
                self.trouble(user, call);
                if call == Call::Write {
                    self.latest.add(now, Some(user.clone()));
                }
                let in_a_row = self.failures >= FAILURES_IN_A_ROW && self.failing.len() >= 2;
                if in_a_row || self.latest.fails_for_many() || !matches!(self.state, State::Well) {
                    self.latest.clear();
                    self.excused = Some(self.streak);
                    self.pause(Cause::Outage, probe, now, rng);
                    return Judgement::Excused;
                }
                Judgement::Spent { streak: self.streak }
            }
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
            Fault::Throttled { .. } | Fault::CredentialsRenewed => return self.probe_ended(probe),
            Fault::Credentials | Fault::Denied | Fault::Command(_) => Cause::Credentials,
            Fault::Unreachable | Fault::Broken | Fault::Unknown => Cause::Outage,
            Fault::Worker => Cause::Worker,
        };
        self.pause(cause, probe, now, rng);
    }

    pub fn excused(&self, streak: Streak) -> bool {
        self.excused == Some(streak)
    }

    /// A control that fails says something of the provider, and nothing of the user that was read.
    fn trouble(&mut self, user: &UserId, call: Call) {
        self.failures += 1;
        if call == Call::Control {
            self.control_failed = true;
            return;
        }
        for users in [&mut self.troubled, &mut self.failing] {
            if users.len() < FEW_USERS && !users.contains(user) {
                users.push(user.clone());
            }
        }
    }

    /// Starts a pause, or goes on with one after its probe failed. The answers of other calls, which were in
    /// flight when it began, change nothing.
    fn pause(&mut self, cause: Cause, probe: Option<ProbeId>, now: Instant, rng: &mut fastrand::Rng) {
        self.heard_of = None;
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
        let mut gap = self.gaps.next_and_a_little(rng);
        if cause == Cause::Worker {
            gap = gap.min(OWN_TROUBLE_GAP_MAX);
        }
        self.state = State::Paused {
            cause,
            since,
            next_probe: now + gap,
            probe: None,
        };
    }

    fn passed_by_another(&self, user: &UserId, since: Mark) -> bool {
        self.passed
            .iter()
            .flatten()
            .any(|(passed, mark)| passed != user && *mark > since)
    }

    /// Where "since now" begins.
    pub fn mark(&self) -> Mark {
        self.passes
    }

    /// When a call passed last.
    pub fn passed_at(&self) -> Option<Instant> {
        self.passed_at
    }

    /// Why nobody calls, since when, and when the next probe comes.
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
