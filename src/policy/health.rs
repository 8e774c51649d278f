//! Whether to call at all: the provider's health, and whether it accepts the worker's credentials.
//!
//! One rule decides between a command's fault and the provider's: a failure is the command's only while
//! the provider answers others. When it fails for several users in a row, or for many users in half of
//! the calls, or can't be reached, or refuses the credentials, nobody calls but one probe at a time, at
//! growing gaps, until a call passes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

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

/// So many of the latest calls are looked at together, if they are not older than that.
const WINDOW_CALLS: usize = 40;
const WINDOW: Duration = Duration::from_secs(60);

/// An outage, though some pass: this share of at least half a window, with this many users in trouble.
const SHARE_FAILING: f64 = 0.5;

/// Why nobody calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Outage,
    Credentials,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Credentials => "credentials",
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
        probe_is_out: bool,
    },
}

/// May a call go out?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    Call,
    /// As the one probe: by reading this user, who passed before, or else with the command itself.
    Probe(Option<UserId>),
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
    latest: VecDeque<(Instant, Option<UserId>)>,
    /// Users whose probe failed in this pause, the latest few of them.
    probed: VecDeque<UserId>,
    gaps: Schedule,
    /// When a call passed last.
    passed_at: Option<Instant>,
    /// Who told of the pause, while nothing of our own has confirmed it.
    heard_of: Option<WorkerId>,
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
            latest: VecDeque::new(),
            probed: VecDeque::new(),
            passed_at: None,
            heard_of: None,
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
            State::Paused {
                probe_is_out: true, ..
            } => Leave::ProbeIsOut,
            State::Paused { next_probe, .. } if *next_probe + others_first > now => {
                Leave::NotBefore(*next_probe + others_first)
            }
            State::Paused { probe_is_out, .. } => {
                *probe_is_out = true;
                Leave::Probe(control)
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

    /// A probe ended without an answer.
    pub fn probe_dropped(&mut self) {
        if let State::Paused { probe_is_out, .. } = &mut self.state {
            *probe_is_out = false;
        }
    }

    /// A token could be fetched: what it is worth, the next probe shows.
    pub fn token_fetched(&mut self, now: Instant) {
        self.credentials_changed(now);
        self.probe_dropped();
    }

    /// The provider answered `user`'s call, if only with what is wrong with the command.
    pub fn passed(&mut self, user: &UserId, call: Call, now: Instant) {
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
                self.look_back(now, None);
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
            Call::Read => self.probe_dropped(),
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

    /// Another worker calls no more since then, and probes again at `until`. Where a call of our own has passed
    /// in the meantime, that is its own trouble. Our first probe follows its.
    pub fn paused_elsewhere(
        &mut self,
        worker: &WorkerId,
        cause: Cause,
        since: Instant,
        until: Instant,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        let passed_since = self.passed_at.is_some_and(|at| at >= since);
        if matches!(self.state, State::Well) && !passed_since {
            self.heard_of = Some(worker.clone());
            self.state = State::Paused {
                cause,
                since: now,
                next_probe: until + self.gaps.next_and_a_little(rng),
                probe_is_out: false,
            };
        }
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

    /// Adds a write to the latest ones.
    fn look_back(&mut self, now: Instant, failed: Option<UserId>) {
        self.latest.push_back((now, failed));
        while self.latest.len() > WINDOW_CALLS
            || self
                .latest
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.latest.pop_front();
        }
    }

    /// Many users fail, though some calls pass.
    fn fails_for_many(&self) -> bool {
        let failed: Vec<_> = self
            .latest
            .iter()
            .filter_map(|(_, failed)| failed.as_ref())
            .collect();
        let many = failed.len() as f64 >= SHARE_FAILING * self.latest.len() as f64
            && self.latest.len() >= WINDOW_CALLS / 2;
        let mut users = failed;
        users.sort();
        users.dedup();
        many && users.len() >= FEW_USERS
    }

    /// A call failed. `denied_since` is where the user's first 403 stood, if there was one.
    pub fn failed(
        &mut self,
        user: &UserId,
        call: Call,
        fault: Fault,
        denied_since: Option<Mark>,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Judgement {
        if call != Call::Control
            && matches!(
                self.state,
                State::Paused {
                    probe_is_out: true,
                    ..
                }
            )
        {
            self.probed.retain(|probed| probed != user);
            self.probed.push_back(user.clone());
            while self.probed.len() > FEW_USERS {
                self.probed.pop_front();
            }
        }
        match fault {
            Fault::Command(_) | Fault::Throttled { .. } | Fault::CredentialsRenewed => {
                self.probe_dropped();
                Judgement::Plain
            }
            Fault::Credentials => {
                self.pause(Cause::Credentials, now, rng);
                Judgement::Excused
            }
            Fault::Denied if denied_since.is_some_and(|mark| self.passed_by_another(user, mark)) => {
                self.probe_dropped();
                Judgement::Forbidden
            }
            Fault::Denied => {
                self.trouble(user, call);
                if self.failures >= 2 {
                    self.pause(Cause::Credentials, now, rng);
                    if self.troubled.len() < FEW_USERS {
                        self.probe_by(now + self.gap_max_denied);
                    }
                }
                Judgement::SetAside
            }
            Fault::Unreachable => {
                self.pause(Cause::Outage, now, rng);
                Judgement::Excused
            }
            Fault::Broken | Fault::Unknown => {
                self.trouble(user, call);
                if call == Call::Write {
                    self.look_back(now, Some(user.clone()));
                }
                let in_a_row = self.failures >= FAILURES_IN_A_ROW && self.failing.len() >= 2;
                if in_a_row || self.fails_for_many() || !matches!(self.state, State::Well) {
                    self.latest.clear();
                    self.excused = Some(self.streak);
                    self.pause(Cause::Outage, now, rng);
                    return Judgement::Excused;
                }
                Judgement::Spent { streak: self.streak }
            }
        }
    }

    /// A token could not be fetched.
    pub fn token_failed(&mut self, fault: Fault, now: Instant, rng: &mut fastrand::Rng) {
        match fault {
            Fault::Throttled { .. } | Fault::CredentialsRenewed => self.probe_dropped(),
            Fault::Credentials | Fault::Denied | Fault::Command(_) => {
                self.pause(Cause::Credentials, now, rng);
            }
            Fault::Unreachable | Fault::Broken | Fault::Unknown => self.pause(Cause::Outage, now, rng),
        }
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

    /// Starts a pause, or goes on with one after its probe failed. The answers of calls that were in
    /// flight when it began change nothing.
    fn pause(&mut self, cause: Cause, now: Instant, rng: &mut fastrand::Rng) {
        self.heard_of = None;
        let since = match &self.state {
            State::Paused {
                since,
                next_probe,
                probe_is_out,
                ..
            } => {
                if !probe_is_out && *next_probe > now {
                    return;
                }
                *since
            }
            State::Well => now,
        };
        self.state = State::Paused {
            cause,
            since,
            next_probe: now + self.gaps.next_and_a_little(rng),
            probe_is_out: false,
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
