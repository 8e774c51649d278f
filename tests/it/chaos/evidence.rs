//! What a run leaves behind, as plain data: the checks read this and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use usher::simulator::{Call, CallEnd, Op};

use super::breaking::Broken;
use super::command::{Command, number_in, user_of};
use super::fleet::Ended;
use super::outcomes::{Account, DeadLetter};
use super::plan::Break;

/// A worker that was frozen for so long that others took over may send what it had in hand when it wakes: what is
/// not promised. It has so long for it; then it has to know.
const WAKING: Duration = Duration::from_millis(250);

/// On a busy machine a worker may call before it is noted here that it was woken; while it is frozen it can't.
const NOTED_WITHIN: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Evidence {
    /// Calls per second.
    pub quota: u32,
    /// The broker takes deliveries back early, at moments that nobody knows.
    pub consumer_timeout: bool,
    pub published: Vec<Command>,
    pub account: Account,
    pub dead_letters: Vec<DeadLetter>,
    /// Every call, in the order of their start.
    pub arrivals: Vec<Arrival>,
    /// The calls that change a user, in the order of their start.
    pub writes: Vec<Write>,
    /// The number in each user's value at the end.
    pub last: HashMap<u32, Option<u32>>,
    pub broken: Vec<Broken>,
    pub stalls: Vec<Stall>,
    /// Messages that no worker has taken in the end.
    pub left: Vec<(String, u32)>,
    pub ended: Vec<Ended>,
}

#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub at: Duration,
    pub worker: Option<u32>,
}

#[derive(Debug, Clone)]
pub struct Write {
    pub at: Duration,
    /// None: never.
    pub ended: Option<Duration>,
    pub worker: Option<u32>,
    pub user: u32,
    pub n: u32,
    pub applied: bool,
    /// It was answered at once, well and truly: whoever sent it knows that it is done, or broke.
    pub clean: bool,
    /// How it ended, for people.
    pub end: String,
}

/// This process stood still until `at`: what the provider notes then may have come up to `lag` earlier.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    pub at: Duration,
    pub lag: Duration,
}

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub struct Violation {
    pub promise: &'static str,
    pub what: String,
    pub user: Option<u32>,
    pub at: Option<Duration>,
}

impl Evidence {
    pub fn take_calls(&mut self, calls: &[Call]) {
        for call in calls {
            let worker = call.token.strip_prefix("worker-").and_then(|n| n.parse().ok());
            self.arrivals.push(Arrival { at: call.at, worker });
            let text = String::from_utf8_lossy(&call.body);
            let (Op::Write, Some(user), Some(n)) = (call.op, user_of(&call.user), number_in(&text)) else {
                continue;
            };
            let end = match (call.end, call.trouble) {
                (CallEnd::Answered(status), None) => status.to_string(),
                (CallEnd::Answered(status), Some(trouble)) => format!("{status} {trouble:?}"),
                (end, trouble) => format!("{end:?} {trouble:?}"),
            };
            self.writes.push(Write {
                at: call.at,
                ended: call.ended,
                worker,
                user,
                n,
                applied: call.applied,
                clean: call.trouble.is_none() && call.end == CallEnd::Answered(200),
                end,
            });
        }
    }

    pub fn writes_by_user(&self) -> BTreeMap<u32, Vec<&Write>> {
        let mut by_user: BTreeMap<u32, Vec<&Write>> = BTreeMap::new();
        for write in &self.writes {
            by_user.entry(write.user).or_default().push(write);
        }
        by_user
    }

    /// Whether a worker that had just woken from a long freeze made it: that others have its commands by now it
    /// can't have known.
    pub fn is_of_a_waking_worker(&self, write: &Write) -> bool {
        self.long_freezes_of(write)
            .any(|freeze| freeze.to <= write.at + NOTED_WITHIN && write.at <= freeze.to + WAKING)
    }

    /// Whether its worker was frozen in the middle of it for longer than it takes the broker to give its commands
    /// to others.
    pub fn froze_within(&self, write: &Write) -> bool {
        let ended = write.ended.unwrap_or(Duration::MAX);
        self.long_freezes_of(write)
            .any(|freeze| freeze.from <= ended && write.at <= freeze.to)
    }

    fn long_freezes_of(&self, write: &Write) -> impl Iterator<Item = &Broken> {
        let worker = write.worker;
        let is_its = move |broken: &&Broken| broken.what == Break::LongFreeze && broken.worker == worker;
        self.broken.iter().filter(is_its)
    }

    /// Whether something broke between two calls of one command that makes the second one necessary: the first
    /// one's worker was killed or frozen, or lost its connection.
    pub fn broke_between(&self, first: &Write, second: &Write) -> bool {
        let meets = |broken: &Broken| broken.from <= second.at && first.at <= broken.to;
        let matters = |broken: &&Broken| match broken.what {
            Break::Kill | Break::ShortFreeze | Break::LongFreeze => broken.worker == first.worker,
            Break::BrokerKill | Break::OneNode | Break::Majority | Break::CloseConnections => true,
            // Whoever drains finishes its calls and settles them; an alarm holds up publishes alone.
            _ => false,
        };
        self.consumer_timeout || self.broken.iter().filter(matters).any(meets)
    }

    /// What was broken nearest to a moment, and how far from it.
    pub fn nearest(&self, at: Duration) -> Option<(&Broken, Duration)> {
        let distance = |broken: &Broken| {
            let before = broken.from.saturating_sub(at);
            before.max(at.saturating_sub(broken.to))
        };
        let far = self.broken.iter().map(|broken| (broken, distance(broken)));
        far.min_by_key(|(_, distance)| *distance)
    }
}
