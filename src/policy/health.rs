//! Whether to call at all: the provider's health, and whether it accepts the worker's credentials.
//!
//! One rule decides between a command's fault and the provider's: a failure is the command's only while
//! the provider answers others. When it fails for several users in a row, or can't be reached, or
//! refuses the credentials, nobody calls but one probe at a time, at growing gaps, until a call passes.

use std::time::Duration;

use tokio::time::Instant;

use super::retry::{self, Schedule};
use crate::contract::{Fault, UserId};

/// Failures in a row, of at least two users, that count as an outage.
const FAILURES_IN_A_ROW: u32 = 5;

/// Up to here it may be these users' own trouble, and a read of somebody else can show it. With more
/// users in trouble only a write that passes proves that the provider is well.
const FEW_USERS: usize = 5;

/// Rotated credentials are found within this gap.
const CREDENTIALS_GAP_MAX: Duration = Duration::from_secs(5);

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
    /// The provider failed on this command while it was well: an attempt is spent.
    Spent,
    /// Not the command's fault: nothing is spent.
    Excused,
    /// 403 so far for this user alone, or for everybody: others have to be tried.
    SetAside,
    /// 403 for this user, while others pass.
    Forbidden,
}

/// Counts passed calls, so that "since" can be said without a clock.
pub type Mark = u64;

#[derive(Debug)]
pub struct Health {
    state: State,
    passes: Mark,
    /// The two users that passed last, with the mark of each.
    passed: [Option<(UserId, Mark)>; 2],
    /// Failures since a write or a control passed.
    failures: u32,
    /// Users that failed or were denied since the last pass of a write, a few of them.
    troubled: Vec<UserId>,
    outage_gaps: Schedule,
    credentials_gaps: Schedule,
}

impl Health {
    pub fn new(retry: &retry::Config) -> Self {
        Self {
            state: State::Well,
            passes: 0,
            passed: [None, None],
            failures: 0,
            troubled: Vec::new(),
            outage_gaps: Schedule::new(retry),
            credentials_gaps: Schedule::between(retry.delay_min, retry.delay_max.min(CREDENTIALS_GAP_MAX)),
        }
    }

    /// May a call go out now? A probe is counted as out from here on.
    pub fn leave(&mut self, now: Instant, can_read: bool) -> Leave {
        let control = self.control(can_read);
        match &mut self.state {
            State::Well => Leave::Call,
            State::Paused {
                probe_is_out: true, ..
            } => Leave::ProbeIsOut,
            State::Paused { next_probe, .. } if *next_probe > now => Leave::NotBefore(*next_probe),
            State::Paused { probe_is_out, .. } => {
                *probe_is_out = true;
                Leave::Probe(control)
            }
        }
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

    /// The provider answered `user`'s call, if only with what is wrong with the command.
    pub fn passed(&mut self, user: &UserId, call: Call) {
        self.passes += 1;
        match &mut self.passed {
            [Some((latest, mark)), _] if latest == user => *mark = self.passes,
            passed => {
                passed.swap(0, 1);
                passed[0] = Some((user.clone(), self.passes));
            }
        }
        match call {
            Call::Write => {
                self.failures = 0;
                self.troubled.clear();
                self.resume();
            }
            Call::Control => {
                self.failures = 0;
                self.resume();
            }
            Call::Read if self.troubled.len() < FEW_USERS => self.resume(),
            Call::Read => self.probe_dropped(),
        }
    }

    /// Other credentials were found: the next probe need not wait.
    pub fn credentials_changed(&mut self, now: Instant) {
        if let State::Paused {
            cause: Cause::Credentials,
            next_probe,
            ..
        } = &mut self.state
        {
            *next_probe = now.min(*next_probe);
        }
    }

    fn resume(&mut self) {
        self.state = State::Well;
        self.outage_gaps.reset();
        self.credentials_gaps.reset();
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
                }
                Judgement::SetAside
            }
            Fault::Unreachable => {
                self.pause(Cause::Outage, now, rng);
                Judgement::Excused
            }
            Fault::Broken | Fault::Unknown => {
                self.trouble(user, call);
                let outage = self.failures >= FAILURES_IN_A_ROW && self.troubled.len() >= 2;
                if outage || !matches!(self.state, State::Well) {
                    self.pause(Cause::Outage, now, rng);
                    return Judgement::Excused;
                }
                Judgement::Spent
            }
        }
    }

    /// A control that fails says something of the provider, and nothing of the user that was read.
    fn trouble(&mut self, user: &UserId, call: Call) {
        self.failures += 1;
        if call != Call::Control && self.troubled.len() < FEW_USERS && !self.troubled.contains(user) {
            self.troubled.push(user.clone());
        }
    }

    /// Starts a pause, or goes on with one after its probe failed. The answers of calls that were in
    /// flight when it began change nothing.
    fn pause(&mut self, cause: Cause, now: Instant, rng: &mut fastrand::Rng) {
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
        let gaps = match cause {
            Cause::Outage => &mut self.outage_gaps,
            Cause::Credentials => &mut self.credentials_gaps,
        };
        self.state = State::Paused {
            cause,
            since,
            next_probe: now + gaps.next_at_least_half(rng),
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
