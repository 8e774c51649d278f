//! What `/readyz` says: whether commands make progress, and if not, why not and until when.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use serde::Serialize;
use tokio::time::Instant;

use crate::broker::{Link, Partition};
use crate::worker::Progress;
use crate::worker::gate::Pause;

/// With commands in hand and nobody paused, something settles within this time, or the worker hangs.
const STALLED_AFTER: Duration = Duration::from_secs(120);

/// Throttling is how a quota is used to the full; but not for so long.
const LONG_PAUSE: Duration = Duration::from_secs(10 * 60);

const STANDS_BY: &str = "other workers hold every lease; this one takes over when one of them goes";

/// What readiness is made of.
pub(super) struct Seen {
    pub(super) progress: Progress,
    pub(super) pause: Option<Pause>,
    /// Why the broker can't be used.
    pub(super) down: Option<String>,
    pub(super) draining: bool,
    /// Partitions whose lease no known worker holds.
    pub(super) holder_unknown: Vec<Partition>,
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    /// `starting`, `standby`, `idle`, `working`, `throttled`, `outage`, `credentials`, `worker`, `dead_letters`,
    /// `broker`, `holder_unknown`, `stalled` or `draining`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_for_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_call_in_ms: Option<u64>,
    /// The same moment by the wall clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_call_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<Leases>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commands: Option<Commands>,
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
    parked: usize,
    succeeded: u64,
    dead_lettered: u64,
    repeated: u64,
}

pub(super) fn down(consuming: &Link, publishing: &Link) -> Option<String> {
    [("consuming", consuming), ("publishing", publishing)]
        .into_iter()
        .find_map(|(what, link)| match link {
            Link::Up => None,
            Link::Down { reason } => Some(format!("{what}: not connected: {reason}")),
            Link::Blocked { reason } => Some(format!("{what}: the broker takes no messages: {reason}")),
        })
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
        }
    }

    pub(super) fn of(seen: Seen) -> Self {
        let (ready, state) = seen.state();
        let detail = seen.detail(state);
        let Seen {
            progress,
            pause,
            holder_unknown,
            now,
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
            next_call_at: next_call_in.and_then(|wait| moment(seen.wall, wait)),
            leases: Some(Leases {
                held: progress.leases,
                partitions: progress.partitions,
                holder_unknown,
            }),
            commands: Some(Commands {
                running: progress.running,
                parked: progress.parked,
                succeeded: progress.successes(),
                dead_lettered: progress.failures(),
                repeated: progress.repeated,
            }),
        }
    }
}

impl Seen {
    fn state(&self) -> (bool, &'static str) {
        let progress = &self.progress;
        let in_hand = progress.running + progress.parked;
        let still = self.now.saturating_duration_since(progress.moved_at);
        match (&self.pause, &self.down) {
            _ if self.draining => (false, "draining"),
            (_, Some(_)) => (false, "broker"),
            (Some(pause), None) => (pause.cause == "throttled" && !is_long(pause), pause.cause),
            (None, None) if self.nobody_holds_any() => (false, "holder_unknown"),
            (None, None) if in_hand == 0 && progress.leases == 0 => (true, "standby"),
            (None, None) if in_hand == 0 => (true, "idle"),
            (None, None) if still > STALLED_AFTER => (false, "stalled"),
            (None, None) => (true, "working"),
        }
    }

    fn nobody_holds_any(&self) -> bool {
        self.progress.partitions > 0 && self.holder_unknown.len() == self.progress.partitions
    }

    fn detail(&self, state: &str) -> Option<String> {
        if self.down.is_some() {
            return self.down.clone();
        }
        if let Some(pause) = &self.pause {
            let why = pause.why.as_deref();
            let until = pause.until.filter(|_| is_long(pause));
            let until = until.and_then(|at| moment(self.wall, at.saturating_duration_since(self.now)));
            return match (until, why) {
                (Some(until), why) => {
                    let why = why.unwrap_or("another worker of the fleet said so");
                    Some(format!("the next call goes out at {until}: {why}"))
                }
                (None, why) => why.map(str::to_owned),
            };
        }
        if !self.holder_unknown.is_empty() {
            return Some(format!(
                "no known worker holds the lease of partition {}: see who consumes the usher.lease queues on the \
                 broker; commands there wait until a worker holds it",
                list(&self.holder_unknown)
            ));
        }
        (state == "standby").then(|| STANDS_BY.to_owned())
    }
}

/// From its beginning to its end.
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

    fn seen() -> Seen {
        let now = Instant::now();
        let mut progress = Progress::new(2);
        progress.leases = 1;
        Seen {
            progress,
            pause: None,
            down: None,
            draining: false,
            holder_unknown: Vec::new(),
            now: now + STALLED_AFTER * 2,
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
        assert_eq!(readiness(|seen| seen.progress.leases = 0), (true, "standby"));
        assert_eq!(readiness(|seen| seen.progress.running = 1), (false, "stalled"));
        assert_eq!(readiness(pause("throttled", SHORT)), (true, "throttled"));
        for cause in ["outage", "credentials", "worker", "dead_letters"] {
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
        seen.progress.leases = 0;
        seen.holder_unknown = vec![1];
        let some = Readiness::of(seen);
        assert_eq!((some.ready, some.state), (true, "standby"));
        assert!(some.detail.unwrap().contains("partition 1"));
        let all = |seen: &mut Seen| {
            seen.progress.leases = 0;
            seen.holder_unknown = vec![0, 1];
        };
        assert_eq!(readiness(all), (false, "holder_unknown"));
    }
}
