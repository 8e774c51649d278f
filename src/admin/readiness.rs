//! `/readyz`: whether commands make progress, and if not, why and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use serde::Serialize;
use tokio::time::Instant;

use crate::broker::{Link, Partition};
use crate::contract::Orders;
use crate::worker::Progress;
use crate::worker::gate::Pause;
use crate::worker::waits::Wait;
use crate::worker::watchdog::Stall;

/// Throttling is normal when a quota is used in full, but not for this long.
const LONG_PAUSE: Duration = Duration::from_secs(10 * 60);

const STARTS: &str = "no lease is held yet, and no other worker has reported yet that it holds them";

const STANDS_BY: &str = "other workers hold every lease; this one takes over when one of them stops";

/// A worker that has not read the outcome log within this time reports it.
const LOG_READ_WITHIN: Duration = Duration::from_secs(4);

/// The states in which commands do not make progress.
pub(super) const NOT_READY: [&str; 15] = [
    "broker",
    "configuration",
    "credentials",
    "dead_letters",
    "draining",
    "fleet",
    "holder_unknown",
    "operator",
    "outage",
    "outcome_log",
    "stalled",
    "starting",
    "throttled",
    "window_full",
    "worker",
];

/// What is known of the other workers.
pub(super) struct Others {
    /// Why no notices are received from them.
    pub(super) unheard: Option<String>,
    pub(super) log_trouble: Option<String>,
    pub(super) has_caught_up: bool,
    /// Whether known workers hold all leases.
    pub(super) holders_are_known: bool,
}

/// What readiness is computed from.
pub(super) struct Seen {
    pub(super) progress: Progress,
    pub(super) pause: Option<Pause>,
    /// Why the broker can't be used.
    pub(super) down: Option<String>,
    pub(super) draining: bool,
    /// Partitions whose lease no known worker holds.
    pub(super) holder_unknown: Vec<Partition>,
    /// `None`: there are no other workers.
    pub(super) others: Option<Others>,
    pub(super) still: Option<Stall>,
    /// What operators ordered. `None`: there is nobody to order anything.
    pub(super) orders: Option<Orders>,
    /// Commands in flight, by what they wait for.
    pub(super) waiting: [(Wait, usize); Wait::ALL.len()],
    /// The time since the worker started.
    pub(super) up_for: Duration,
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    /// `standby`, `idle`, `working`, or one of `NOT_READY`.
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_for_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_call_in_ms: Option<u64>,
    /// The same time by the wall clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_call_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<Leases>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commands: Option<Commands>,
    /// The operators' orders that are in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    orders: Option<Orders>,
}

/// The partitions that this worker consumes.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Leases {
    held: usize,
    partitions: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holder_unknown: Vec<Partition>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Commands {
    running: usize,
    #[serde(rename = "parked")]
    queued: usize,
    /// The most commands that this worker can hold unsettled.
    window: usize,
    /// How many commands wait, by what they wait for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    waiting: BTreeMap<&'static str, usize>,
    succeeded: u64,
    dead_lettered: u64,
    repeated: u64,
}

pub(super) fn down(consuming: &Link, publishing: &Link) -> Option<String> {
    is_down("consuming", consuming).or_else(|| is_down("publishing", publishing))
}

pub(super) fn is_down(what: &str, link: &Link) -> Option<String> {
    match link {
        Link::Up => None,
        Link::Down { reason } => Some(format!("{what}: not connected: {reason}")),
        Link::Blocked { reason } => Some(format!("{what}: the broker takes no messages: {reason}")),
    }
}

impl Readiness {
    pub(super) fn starting() -> Self {
        Self {
            ready: false,
            state: "starting",
            detail: Some("the broker has not been reached yet".into()),
            paused_for_ms: None,
            next_call_in_ms: None,
            next_call_at: None,
            leases: None,
            commands: None,
            orders: None,
        }
    }

    pub(super) fn of(seen: Seen) -> Self {
        let (ready, state) = seen.state();
        let detail = seen.detail(state);
        let Seen {
            progress,
            pause,
            holder_unknown,
            waiting,
            now,
            orders,
            wall,
            ..
        } = seen;
        let next_call = pause.as_ref().and_then(|pause| pause.until);
        let next_call_in = next_call.map(|at| at.saturating_duration_since(now));
        Self {
            ready,
            state,
            detail,
            paused_for_ms: pause.map(|pause| millis(now.saturating_duration_since(pause.since))),
            next_call_in_ms: next_call_in.map(millis),
            next_call_at: next_call_in.and_then(|wait| moment(wall, wait)),
            leases: Some(Leases {
                held: progress.leases(),
                partitions: progress.partitions,
                holder_unknown,
            }),
            commands: Some(Commands {
                running: progress.running,
                queued: progress.queued,
                window: progress.window(),
                waiting: waiting
                    .into_iter()
                    .filter(|(_, count)| *count > 0)
                    .map(|(wait, count)| (wait.as_str(), count))
                    .collect(),
                succeeded: progress.successes(),
                dead_lettered: progress.failures(),
                repeated: progress.repeated,
            }),
            orders: orders
                .map(|orders| orders.in_force(wall))
                .filter(Orders::order_something),
        }
    }
}

impl Seen {
    fn state(&self) -> (bool, &'static str) {
        let progress = &self.progress;
        let unsettled = progress.running + progress.queued;
        let others = self.others.as_ref();
        if self.draining {
            return (false, "draining");
        }
        if self.down.is_some() {
            return (false, "broker");
        }
        if others.is_some_and(|others| others.unheard.is_some()) {
            return (false, "fleet");
        }
        if let Some(pause) = &self.pause {
            return (pause.cause == "throttled" && !is_long(pause), pause.cause);
        }
        if self.log_is_missed() {
            return (false, "outcome_log");
        }
        if let Some(still) = &self.still {
            return (false, still.what.as_str());
        }
        if self.nobody_holds_any() {
            return (false, "holder_unknown");
        }
        match others {
            _ if unsettled > 0 => (true, "working"),
            _ if progress.leases() > 0 => (true, "idle"),
            Some(others) if !others.has_caught_up || !others.holders_are_known => (false, "starting"),
            _ => (true, "standby"),
        }
    }

    /// Whether the outcome log is needed and can't be read: before a lease is claimed, or for a redelivered command.
    fn log_is_missed(&self) -> bool {
        let Some(others) = &self.others else { return false };
        if !others.has_caught_up {
            return others.log_trouble.is_some() || self.up_for >= LOG_READ_WITHIN;
        }
        let is_needed = self.progress.leases() == 0 || self.waiting[Wait::Log as usize].1 > 0;
        others.log_trouble.is_some() && is_needed
    }

    fn nobody_holds_any(&self) -> bool {
        self.progress.partitions > 0 && self.holder_unknown.len() == self.progress.partitions
    }

    fn detail(&self, state: &str) -> Option<String> {
        let others = self.others.as_ref();
        match state {
            "broker" => return self.down.clone(),
            "fleet" => return others.and_then(|others| others.unheard.clone()),
            "outcome_log" => {
                let trouble = others.and_then(|others| others.log_trouble.as_deref());
                return Some(match trouble {
                    Some(why) => format!("the outcome log can't be read: {why}"),
                    None => {
                        "the outcome log is being read; no lease is claimed before that is done".to_owned()
                    }
                });
            }
            "stalled" | "window_full" => return self.still.as_ref().map(|still| still.why.clone()),
            "starting" => return Some(STARTS.to_owned()),
            _ => {}
        }
        if let Some(pause) = &self.pause {
            let why = pause.why.as_deref();
            let until = pause.until.filter(|_| is_long(pause));
            let until = until.and_then(|at| moment(self.wall, at.saturating_duration_since(self.now)));
            return match (until, why) {
                (Some(until), why) => {
                    let why = why.unwrap_or("another worker of the fleet reported it");
                    Some(format!("the next call is due at {until}: {why}"))
                }
                (None, why) => why.map(str::to_owned),
            };
        }
        if !self.holder_unknown.is_empty() {
            return Some(format!(
                "no known worker holds the lease of partition {}: check who consumes the usher.lease queues on \
                 the broker; its commands wait until a worker holds it",
                list(&self.holder_unknown)
            ));
        }
        (state == "standby").then(|| STANDS_BY.to_owned())
    }
}

/// Whether the pause is long, from its beginning to its end.
fn is_long(pause: &Pause) -> bool {
    pause
        .until
        .is_some_and(|until| until.saturating_duration_since(pause.since) > LONG_PAUSE)
}

fn list(partitions: &[Partition]) -> String {
    const NAMED_MAX: usize = 10;
    let named: Vec<_> = partitions
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    match partitions.len().saturating_sub(NAMED_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn moment(wall: Timestamp, wait: Duration) -> Option<Timestamp> {
    let at = wall.checked_add(SignedDuration::try_from(wait).ok()?).ok()?;
    at.round(Unit::Second).ok()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::notice::StallCause;
    use crate::worker::waits::Waits;

    fn seen() -> Seen {
        let now = Instant::now();
        let mut progress = Progress::new(2, 512);
        progress.held = vec![0];
        Seen {
            progress,
            pause: None,
            down: None,
            draining: false,
            holder_unknown: Vec::new(),
            others: Some(Others {
                unheard: None,
                log_trouble: None,
                has_caught_up: true,
                holders_are_known: true,
            }),
            still: None,
            orders: None,
            waiting: Waits::default().counts(0, false),
            up_for: Duration::from_secs(100),
            now,
            wall: Timestamp::UNIX_EPOCH,
        }
    }

    fn readiness(change: impl FnOnce(&mut Seen)) -> (bool, &'static str) {
        let mut seen = seen();
        change(&mut seen);
        let readiness = Readiness::of(seen);
        (readiness.ready, readiness.state)
    }

    fn pause(cause: &'static str, for_: Duration) -> impl FnOnce(&mut Seen) {
        move |seen| {
            seen.pause = Some(Pause {
                cause,
                since: seen.now,
                until: Some(seen.now + for_),
                why: None,
            });
        }
    }

    const SHORT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn readiness_is_about_progress() {
        assert_eq!(readiness(|_| ()), (true, "idle"));
        assert_eq!(readiness(|seen| seen.progress.held.clear()), (true, "standby"));
        assert_eq!(readiness(|seen| seen.progress.running = 1), (true, "working"));
        for what in [StallCause::Stalled, StallCause::WindowFull] {
            let still = |seen: &mut Seen| {
                let (since, why) = (seen.now, String::new());
                seen.still = Some(Stall { what, since, why });
            };
            assert_eq!(readiness(still), (false, what.as_str()));
        }
        assert_eq!(readiness(pause("throttled", SHORT)), (true, "throttled"));
        for cause in [
            "outage",
            "credentials",
            "configuration",
            "worker",
            "dead_letters",
            "operator",
        ] {
            assert_eq!(readiness(pause(cause, SHORT)), (false, cause));
        }
        assert_eq!(
            readiness(|seen| seen.down = Some("gone".into())),
            (false, "broker")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_for_more_than_ten_minutes_is_not_ready_and_says_until_when() {
        assert_eq!(readiness(pause("throttled", LONG_PAUSE)), (true, "throttled"));
        let week = Duration::from_secs(7 * 24 * 3600);
        let mut seen = seen();
        pause("throttled", week)(&mut seen);
        // Near its end, it is still a long one.
        seen.now += week - SHORT;
        let readiness = Readiness::of(seen);
        assert_eq!((readiness.ready, readiness.state), (false, "throttled"));
        assert_eq!(readiness.next_call_in_ms, Some(60_000));
        let said = serde_json::to_value(&readiness).unwrap();
        assert_eq!(said["next_call_at"], "1970-01-01T00:01:00Z");
        assert!(
            said["detail"].as_str().unwrap().contains("1970-01-01T00:01:00Z"),
            "{said}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_no_known_worker_holds_is_named() {
        let mut seen = seen();
        seen.progress.held.clear();
        seen.holder_unknown = vec![1];
        let some = Readiness::of(seen);
        assert_eq!((some.ready, some.state), (true, "standby"));
        assert!(some.detail.unwrap().contains("partition 1"));
        let all = |seen: &mut Seen| {
            seen.progress.held.clear();
            seen.holder_unknown = vec![0, 1];
        };
        assert_eq!(readiness(all), (false, "holder_unknown"));
    }

    fn others(seen: &mut Seen) -> &mut Others {
        seen.others.as_mut().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn standby_is_reported_only_if_other_workers_hold_all_leases() {
        let without_leases = |change: fn(&mut Seen)| {
            readiness(move |seen| {
                seen.progress.held.clear();
                change(seen);
            })
        };
        assert_eq!(without_leases(|_| ()), (true, "standby"));
        let unsaid = |seen: &mut Seen| others(seen).holders_are_known = false;
        assert_eq!(without_leases(unsaid), (false, "starting"));
        let unheard = |seen: &mut Seen| others(seen).unheard = Some("gone".into());
        assert_eq!(without_leases(unheard), (false, "fleet"));
        assert_eq!(readiness(unheard), (false, "fleet"));
        let refused = |seen: &mut Seen| others(seen).log_trouble = Some("ACCESS_REFUSED".into());
        assert_eq!(without_leases(refused), (false, "outcome_log"));
        assert_eq!(
            readiness(refused),
            (true, "idle"),
            "who holds all leases needs no log"
        );
        let unread = |seen: &mut Seen| others(seen).has_caught_up = false;
        assert_eq!(without_leases(unread), (false, "outcome_log"));
        let soon = |seen: &mut Seen| {
            others(seen).has_caught_up = false;
            seen.up_for = Duration::from_secs(1);
        };
        assert_eq!(without_leases(soon), (false, "starting"));
        let waits_for_it = |seen: &mut Seen| {
            others(seen).log_trouble = Some("ACCESS_REFUSED".into());
            seen.progress.running = 1;
            seen.waiting[Wait::Log as usize].1 = 1;
        };
        assert_eq!(readiness(waits_for_it), (false, "outcome_log"));
        let mut seen = seen();
        waits_for_it(&mut seen);
        assert!(Readiness::of(seen).detail.unwrap().contains("ACCESS_REFUSED"));
    }

    #[test]
    fn each_state_that_is_not_ready_is_listed_once() {
        assert!(NOT_READY.is_sorted());
    }
}
