//! What is broken when: drawn from a seed before anything runs.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

/// How often both sides show that they live.
pub const HEARTBEAT: Duration = Duration::from_secs(4);

/// The fleet begins in peace.
const FIRST: Duration = Duration::from_secs(4);
/// And has a moment to recover before the publishers end.
const LAST: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Break {
    /// A worker, by SIGKILL; another is started.
    Kill,
    /// A worker, by SIGSTOP and SIGCONT, shorter than its heartbeat.
    ShortFreeze,
    /// Longer than it takes the broker to give its deliveries to somebody else.
    LongFreeze,
    /// A worker, by SIGTERM; another is started.
    Drain,
    /// The one node, by kill -9; it is started again.
    BrokerKill,
    /// One node of several.
    OneNode,
    /// All nodes but one.
    Majority,
    MemoryAlarm,
    CloseConnections,
    Broken,
    DropBefore,
    DropAfter,
    /// Answers that come late, but in time.
    Slow,
    /// Answers that come after the worker has given up.
    TooSlow,
    Garbage,
    ThrottleAfter,
    BrokenAfter,
    HalfTheRate,
    /// Every call fails.
    Outage,
    /// Every token is refused.
    TokenRevoked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub what: Break,
    /// Since the start.
    pub at: Duration,
    pub lasts: Duration,
    /// Which worker, which node, which kind of outage.
    pub dice: u64,
}

impl Break {
    pub const ALL: [Self; 20] = [
        Self::Kill,
        Self::ShortFreeze,
        Self::LongFreeze,
        Self::Drain,
        Self::BrokerKill,
        Self::OneNode,
        Self::Majority,
        Self::MemoryAlarm,
        Self::CloseConnections,
        Self::Broken,
        Self::DropBefore,
        Self::DropAfter,
        Self::Slow,
        Self::TooSlow,
        Self::Garbage,
        Self::ThrottleAfter,
        Self::BrokenAfter,
        Self::HalfTheRate,
        Self::Outage,
        Self::TokenRevoked,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::ShortFreeze => "short-freeze",
            Self::LongFreeze => "long-freeze",
            Self::Drain => "drain",
            Self::BrokerKill => "broker-kill",
            Self::OneNode => "one-node",
            Self::Majority => "majority",
            Self::MemoryAlarm => "memory-alarm",
            Self::CloseConnections => "close-connections",
            Self::Broken => "broken",
            Self::DropBefore => "drop-before",
            Self::DropAfter => "drop-after",
            Self::Slow => "slow",
            Self::TooSlow => "too-slow",
            Self::Garbage => "garbage",
            Self::ThrottleAfter => "throttle-after",
            Self::BrokenAfter => "broken-after",
            Self::HalfTheRate => "half-the-rate",
            Self::Outage => "outage",
            Self::TokenRevoked => "token-revoked",
        }
    }

    /// How often it is drawn once every kind has had its turn.
    fn weight(self) -> usize {
        match self {
            Self::Kill => 4,
            Self::Drain => 3,
            Self::ShortFreeze | Self::LongFreeze | Self::CloseConnections | Self::OneNode => 2,
            _ => 1,
        }
    }

    /// From one to another, in milliseconds.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            Self::Kill | Self::Drain | Self::CloseConnections => (0, 1500),
            Self::ShortFreeze => (500, 2500),
            Self::LongFreeze => (13_000, 16_000),
            Self::BrokerKill => (0, 4000),
            Self::OneNode => (2000, 10_000),
            Self::Majority => (30_000, 30_001),
            Self::MemoryAlarm => (3000, 6000),
            Self::Outage | Self::TokenRevoked => (2000, 6000),
            _ => (2000, 5000),
        }
    }
}

/// Each kind has its turn before one comes again, as far as there is time; then they come by weight. From one to the
/// next it is `gap` on average, and less where each kind would not have its turn otherwise.
pub fn plan(seed: u64, seconds: u64, gap: Duration, may: impl Fn(Break) -> bool) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed ^ 0x0c4a_0500_0000_0000);
    let end = Duration::from_secs(seconds).saturating_sub(LAST);
    let kinds: Vec<_> = Break::ALL.into_iter().filter(|what| may(*what)).collect();
    let mut turns = kinds.clone();
    rng.shuffle(&mut turns);
    // What takes long comes early: later there would be no time for it.
    for index in 0..turns.len() {
        if turns[index].lasts_ms().1 > 10_000 {
            let earlier = rng.usize(..=index.min(turns.len() / 3));
            turns.swap(index, earlier);
        }
    }
    let weighted: Vec<_> = kinds
        .iter()
        .flat_map(|what| std::iter::repeat_n(*what, what.weight()))
        .collect();
    let turn = end.saturating_sub(FIRST) * 9 / 10 / u32::try_from(kinds.len().max(1)).unwrap();
    let gap_ms = u64::try_from(turn.min(gap).as_millis()).unwrap();
    let (mut at, mut planned) = (FIRST, Vec::new());
    while at < end && !kinds.is_empty() {
        // What no longer fits before the end is left out for one that does.
        let fits = |what: &Break| at + Duration::from_millis(what.lasts_ms().1) <= end;
        let what = match turns.iter().position(fits) {
            Some(index) => Some(turns.remove(index)),
            None => Some(weighted[rng.usize(..weighted.len())]).filter(fits),
        };
        if let Some(what) = what {
            let (shortest, longest) = what.lasts_ms();
            planned.push(Planned {
                what,
                at,
                lasts: Duration::from_millis(rng.u64(shortest..longest)),
                dice: rng.u64(..),
            });
        }
        let together = what.is_some() && rng.u32(..4) == 0;
        if !together {
            at += Duration::from_millis(rng.u64(gap_ms / 2..gap_ms * 3 / 2));
        }
    }
    planned
}

const GAP: Duration = Duration::from_secs(4);

#[test]
fn a_seed_gives_one_plan() {
    assert_eq!(plan(7, 600, GAP, |_| true), plan(7, 600, GAP, |_| true));
    assert_ne!(plan(7, 600, GAP, |_| true), plan(8, 600, GAP, |_| true));
}

#[test]
fn impossible_breaks_are_not_planned_and_all_others_are() {
    let may = |what| what != Break::BrokerKill;
    let planned = plan(7, 600, GAP, may);
    for what in Break::ALL {
        assert_eq!(
            planned.iter().any(|planned| planned.what == what),
            may(what),
            "{what:?}"
        );
    }
    assert!(plan(7, 600, GAP, |_| false).is_empty());
}

#[test]
fn a_minute_has_time_for_every_break_of_one_node() {
    for seed in 0..100 {
        let planned = plan(seed, 60, GAP, |what| {
            !matches!(what, Break::OneNode | Break::Majority)
        });
        let kinds: BTreeSet<_> = planned.iter().map(|planned| planned.what).collect();
        assert_eq!(kinds.len(), Break::ALL.len() - 2, "seed {seed}: {kinds:?}");
    }
}

#[test]
fn nothing_is_planned_beyond_the_end_and_some_things_break_together() {
    let planned = plan(7, 60, GAP, |_| true);
    let end = Duration::from_secs(57);
    assert!(planned.iter().all(|planned| planned.at + planned.lasts <= end));
    let long = plan(7, 3600, GAP, |_| true);
    assert!(long.windows(2).any(|pair| pair[0].at == pair[1].at));
}
