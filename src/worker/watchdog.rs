//! The watchdog: reports when commands make no progress and nothing explains it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::gate::Gate;
use super::progress::Progress;
use super::waits::{Wait, Waits};
use crate::broker::{Link, Ready};
use crate::contract::notice::StallCause;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A slow pace explains that no command ends for this many of its gaps.
const GAPS: u32 = 3;

/// What makes no progress, since when, and what the commands in flight wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    pub what: StallCause,
    pub since: Instant,
    pub why: String,
}

pub(super) struct Watchdog {
    pub(super) gate: Arc<Gate>,
    pub(super) waits: Arc<Waits>,
    pub(super) progress: watch::Receiver<Progress>,
    /// `None`: there are no queues to count ready commands in.
    pub(super) ready: Option<Ready>,
    pub(super) publishing: watch::Receiver<Link>,
    pub(super) consuming: watch::Receiver<Link>,
    pub(super) stalled_after: Duration,
    pub(super) stall: watch::Sender<Option<Stall>>,
}

/// A snapshot of what the watchdog looks at.
struct Seen {
    progress: Progress,
    counts: [(Wait, usize); Wait::ALL.len()],
    paused: bool,
    /// Ready commands in the queues of the partitions that this worker holds.
    ready: u64,
    linked: bool,
    /// The time between two calls of this worker, by the pace.
    gap: Duration,
    stalled_after: Duration,
}

impl Watchdog {
    /// Never ends.
    pub(super) async fn watch(self) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy_since = None;
        loop {
            let now = tick.tick().await;
            let seen = self.look();
            busy_since = seen.is_busy().then(|| busy_since.unwrap_or(now));
            let before = self.stall.borrow().as_ref().map(|still| still.what);
            let still = busy_since.and_then(|since| seen.still(before, since, now));
            self.report(still);
        }
    }

    fn look(&self) -> Seen {
        let progress = self.progress.borrow().clone();
        let pause = self.gate.pause();
        let ready = self.ready.as_ref().map_or_else(Vec::new, |ready| ready());
        let held = progress.held.iter();
        let ready = held
            .filter_map(|partition| ready.get(usize::from(*partition)))
            .sum();
        let pace = self.gate.pace_per_second();
        Seen {
            counts: self.waits.counts(progress.queued, pause.is_some()),
            paused: pause.is_some(),
            ready,
            linked: [&self.publishing, &self.consuming]
                .into_iter()
                .all(|link| matches!(*link.borrow(), Link::Up)),
            gap: Duration::try_from_secs_f64(1.0 / pace).unwrap_or(Duration::MAX),
            stalled_after: self.stalled_after,
            progress,
        }
    }

    fn report(&self, still: Option<Stall>) {
        let before = self.stall.borrow().as_ref().map(|still| still.what);
        match (&still, before) {
            (Some(still), before) if before != Some(still.what) => tracing::error!(
                cause = still.what.as_str(),
                why = still.why,
                "worker: commands make no progress"
            ),
            (None, Some(before)) => {
                tracing::info!(cause = before.as_str(), "worker: commands progress again");
            }
            _ => {}
        }
        self.stall.send_replace(still);
    }
}

impl Seen {
    fn unsettled(&self) -> usize {
        self.progress.running + self.progress.queued
    }

    fn is_busy(&self) -> bool {
        (self.unsettled() > 0 || self.ready > 0) && !self.paused && self.linked
    }

    fn of(&self, wait: Wait) -> usize {
        self.counts[wait as usize].1
    }

    fn still(&self, before: Option<StallCause>, busy_since: Instant, now: Instant) -> Option<Stall> {
        let for_ = |at: Instant| now.saturating_duration_since(at.max(busy_since));
        let since = |span: Duration| now - span;
        let nobody_may_call = self.of(Wait::Permit) + self.of(Wait::Answer) == 0;
        let undelivered_for = for_(self.progress.delivered_at);
        // A paused batch explains both.
        let explained = self.of(Wait::Batch) > 0;
        // A single call now and then, which makes no room, is no progress.
        let was_full = before == Some(StallCause::WindowFull);
        let is_full = self.ready > 0 && self.unsettled() > 0 && (nobody_may_call || was_full);
        if is_full && !explained && undelivered_for >= self.stalled_after {
            return Some(self.as_(StallCause::WindowFull, since(undelivered_for)));
        }
        // Calls end by their time-outs, and delays end by themselves.
        let explained = explained || self.of(Wait::Answer) + self.of(Wait::Retry) > 0;
        let slow = match self.of(Wait::Permit) > 0 {
            true => self.gap.saturating_mul(GAPS),
            false => Duration::ZERO,
        };
        let unsettled_for = for_(self.progress.settled_at);
        (!explained && unsettled_for >= self.stalled_after.max(slow))
            .then(|| self.as_(StallCause::Stalled, since(unsettled_for)))
    }

    fn as_(&self, what: StallCause, since: Instant) -> Stall {
        let mut why = format!(
            "{} commands in flight, with room for {},",
            self.unsettled(),
            self.progress.window()
        );
        let waiting: Vec<_> = self.counts.iter().filter(|(_, count)| *count > 0).collect();
        for (n, (wait, count)) in waiting.into_iter().enumerate() {
            let before = if n == 0 { " wait for " } else { ", " };
            let _ = write!(why, "{before}{}: {count}", wait.as_str());
        }
        let _ = write!(why, "; {} more are ready in the queues", self.ready);
        Stall { what, since, why }
    }
}
