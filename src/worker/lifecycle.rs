//! Long pauses of the provider, published once for the whole fleet.
//!
//! The worker that holds the first partition's lease publishes them. The outcome log has the events of its
//! predecessors, so it knows what was published already.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::fleet::Fleet;
use super::gate::{Gate, Pause};
use super::ledger::LogPart;
use crate::broker::topology::OUTCOMES;
use crate::broker::{Message, Properties, Publisher};
use crate::clock::Clock;
use crate::contract::ProviderName;
use crate::contract::event::CONTENT_TYPE;
use crate::contract::lifecycle::{
    LifecycleBody, LifecycleEvent, LifecycleKind, ProviderPaused, ProviderResumed,
};
use crate::contract::notice::PauseCause;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shorter throttling is normal when a quota is used in full.
const THROTTLED_FOR: Duration = Duration::from_secs(10 * 60);

/// A shorter outage, or refusal of credentials, is over before anyone could act on it.
const PAUSED_FOR: Duration = Duration::from_secs(5);

/// If no command waits, no call proves that a pause is over. It is over when no other has followed for this long.
const CALM_FOR: Duration = Duration::from_secs(5);

/// The pause that was published last, unless its end was published too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Published {
    id: Uuid,
    cause: PauseCause,
    since: Timestamp,
    /// Whether this worker observed it itself.
    seen: bool,
}

pub(super) struct Lifecycle {
    provider: ProviderName,
    clock: Clock,
    published: Mutex<Option<Published>>,
    /// `published` is the latest: events of the log's older part no longer matter.
    latest: AtomicBool,
}

impl Lifecycle {
    pub(super) fn new(provider: ProviderName, clock: Clock) -> Self {
        Self {
            provider,
            clock,
            published: Mutex::default(),
            latest: AtomicBool::new(false),
        }
    }

    /// Whether this is the topic of a lifecycle event.
    pub(super) fn is_of(topic: &str) -> bool {
        [LifecycleKind::Paused, LifecycleKind::Resumed]
            .iter()
            .any(|kind| kind.topic() == topic)
    }

    /// Takes in an event from the outcome log.
    pub(super) fn read(&self, body: &[u8], part: LogPart) {
        match part {
            LogPart::Earlier if self.latest.load(Ordering::Acquire) => return,
            LogPart::Earlier => {}
            LogPart::End => self.latest.store(true, Ordering::Release),
        }
        let Ok(event) = serde_json::from_slice::<LifecycleEvent>(body) else {
            return;
        };
        let mut published = self.published();
        match event.body {
            LifecycleBody::Paused(_)
                if published
                    .as_ref()
                    .is_some_and(|published| published.id == event.id) => {}
            LifecycleBody::Paused(paused) => {
                *published = Some(Published {
                    id: event.id,
                    cause: paused.cause,
                    since: paused.since,
                    seen: false,
                });
            }
            // Other topics are not read here.
            _ => *published = None,
        }
    }

    fn published(&self) -> MutexGuard<'_, Option<Published>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event to publish.
    fn next(&self, pause: Option<&Pause>, calm: Calm, now: Instant) -> Option<LifecycleEvent> {
        let published = self.published().clone();
        let wall = self.clock.now();
        match (published, pause.and_then(|pause| worth_publishing(pause, now))) {
            (Some(published), Some((cause, ..))) if published.cause == cause => None,
            (_, Some((cause, since, until))) => {
                let before = |span: Duration| SignedDuration::try_from(span).unwrap_or_default();
                let paused = ProviderPaused {
                    cause,
                    since: wall - before(now.saturating_duration_since(since)),
                    next_probe: until.map(|until| {
                        let ahead = before(until.saturating_duration_since(now));
                        wall.checked_add(ahead).unwrap_or(Timestamp::MAX)
                    }),
                    ordered: pause
                        .filter(|_| cause == PauseCause::Operator)
                        .and_then(|pause| pause.why.as_ref().map(ToString::to_string)),
                };
                Some(LifecycleEvent::paused(&self.provider, paused, wall))
            }
            (Some(published), None) if calm.proves_an_end(published.seen, now) => {
                let (cause, since) = (published.cause, published.since);
                let resumed = ProviderResumed { cause, since };
                Some(LifecycleEvent::resumed(
                    &self.provider,
                    published.id,
                    resumed,
                    wall,
                ))
            }
            (_, None) => None,
        }
    }

    fn was_published(&self, event: &LifecycleEvent) {
        self.latest.store(true, Ordering::Release);
        *self.published() = match &event.body {
            LifecycleBody::Paused(paused) => Some(Published {
                id: event.id,
                cause: paused.cause,
                since: paused.since,
                seen: true,
            }),
            _ => None,
        };
    }
}

/// The event as it is published.
pub fn message(provider: &ProviderName, event: &LifecycleEvent) -> Message {
    let seconds = u64::try_from(event.time.as_second()).unwrap_or(0);
    Message {
        exchange: OUTCOMES.into(),
        routing_key: event.routing_key(provider),
        properties: Properties::persistent(&event.id.to_string(), CONTENT_TYPE)
            .with_message_type(event.kind().as_str())
            .with_timestamp(seconds),
        // An event holds strings, numbers and times only, so this does not fail.
        body: Bytes::from(serde_json::to_vec(event).unwrap_or_default()),
        mandatory: false,
    }
}

/// When a pause was last worth publishing, and when a call last passed.
#[derive(Debug, Clone, Copy)]
struct Calm {
    since: Instant,
    passed_at: Option<Instant>,
}

impl Calm {
    /// A worker that has not observed the pause itself needs a call to prove its end.
    fn proves_an_end(self, seen: bool, now: Instant) -> bool {
        let passed = self.passed_at.is_some_and(|at| at >= self.since);
        passed || seen && now.saturating_duration_since(self.since) >= CALM_FOR
    }
}

/// The pause's cause, its beginning and the time of the next call. Trouble of this worker alone is not published.
fn worth_publishing(pause: &Pause, now: Instant) -> Option<(PauseCause, Instant, Option<Instant>)> {
    let known = [
        PauseCause::Throttled,
        PauseCause::Outage,
        PauseCause::Credentials,
        PauseCause::Configuration,
        PauseCause::Operator,
    ];
    let cause = known.into_iter().find(|cause| cause.as_str() == pause.cause)?;
    let long = match cause {
        PauseCause::Throttled => pause
            .until
            .is_some_and(|until| until.saturating_duration_since(pause.since) > THROTTLED_FOR),
        PauseCause::Operator => true,
        PauseCause::Outage | PauseCause::Credentials | PauseCause::Configuration => {
            now.saturating_duration_since(pause.since) >= PAUSED_FOR
        }
    };
    long.then_some((cause, pause.since, pause.until))
}

/// Publishes the fleet's lifecycle events, each until the broker confirms it. Never ends.
pub(super) async fn publish(fleet: Arc<Fleet>, gate: Arc<Gate>, publisher: Arc<dyn Publisher>) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut long_pause_at = Instant::now();
    let mut unconfirmed: Option<LifecycleEvent> = None;
    loop {
        look.tick().await;
        let now = Instant::now();
        let pause = gate.pause();
        if pause
            .as_ref()
            .is_some_and(|pause| worth_publishing(pause, now).is_some())
        {
            long_pause_at = now;
        }
        if !fleet.speaks() {
            unconfirmed = None;
            continue;
        }
        // Published events may be in a part of the log that is not read yet.
        if !fleet.has_read_all() {
            continue;
        }
        let calm = Calm {
            since: long_pause_at,
            passed_at: gate.passed_at(),
        };
        // An unconfirmed event may have arrived, so it is published again unchanged.
        let next = unconfirmed
            .take()
            .or_else(|| fleet.lifecycle.next(pause.as_ref(), calm, now));
        let Some(event) = next else { continue };
        let message = message(&fleet.lifecycle.provider, &event);
        match publisher.publish(&message).await {
            Ok(()) => fleet.lifecycle.was_published(&event),
            Err(_) => unconfirmed = Some(event),
        }
    }
}
