//! Trouble of the whole fleet, published once: long pauses of the provider, refused credentials, commands that make no
//! progress.
//!
//! The worker that holds the first partition's lease publishes it. The outcome log has the events of its predecessors, so it
//! knows what was published already.

mod known;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::known::{Change, Known, Published};
use super::fleet::{Fleet, HEARD_WITHIN};
use super::gate::{Gate, Pause};
use super::ledger::LogPart;
use crate::broker::topology::OUTCOMES;
use crate::broker::{Message, Properties, Publisher};
use crate::clock::Clock;
use crate::contract::ProviderName;
use crate::contract::event::CONTENT_TYPE;
use crate::contract::lifecycle::{
    CredentialsRefused, Intake, LifecycleBody, LifecycleEvent, LifecycleKind, ProviderPaused, ProviderResumed,
};
use crate::contract::notice::{PauseCause, StallCause};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shorter throttling is normal when a quota is used in full.
const THROTTLED_FOR: Duration = Duration::from_secs(10 * 60);

/// A shorter outage, or refusal of credentials, is over before anyone could act on it.
const PAUSED_FOR: Duration = Duration::from_secs(5);

/// If no command waits, no call proves that a pause is over. It is over when no other has followed for this long.
const CALM_FOR: Duration = Duration::from_secs(5);

/// There is one refusal, whatever its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused;

pub(super) struct Lifecycle {
    provider: ProviderName,
    clock: Clock,
    calls: Known<PauseCause>,
    credentials: Known<Refused>,
    intake: Known<StallCause>,
}

impl Lifecycle {
    pub(super) fn new(provider: ProviderName, clock: Clock) -> Self {
        Self {
            provider,
            clock,
            calls: Known::default(),
            credentials: Known::default(),
            intake: Known::default(),
        }
    }

    /// Whether this is the topic of an event that is published here.
    pub(super) fn is_of(topic: &str) -> bool {
        [
            LifecycleKind::Paused,
            LifecycleKind::Resumed,
            LifecycleKind::CredentialsRefused,
            LifecycleKind::CredentialsAccepted,
            LifecycleKind::IntakeStalled,
            LifecycleKind::IntakeResumed,
        ]
        .iter()
        .any(|kind| kind.topic() == topic)
    }

    /// Takes in an event from the outcome log.
    pub(super) fn read(&self, body: &[u8], part: LogPart) {
        if let Ok(event) = serde_json::from_slice::<LifecycleEvent>(body) {
            self.take(&event, Source::Log(part));
        }
    }

    fn take(&self, event: &LifecycleEvent, source: Source) {
        match &event.body {
            LifecycleBody::Paused(paused) => {
                source.tell(&self.calls, began(event, paused.cause, paused.since));
            }
            LifecycleBody::Resumed(_) => source.tell(&self.calls, None),
            LifecycleBody::CredentialsRefused(refused) => {
                source.tell(&self.credentials, began(event, Refused, refused.since));
            }
            LifecycleBody::CredentialsAccepted(_) => source.tell(&self.credentials, None),
            LifecycleBody::IntakeStalled(stalled) => {
                source.tell(&self.intake, began(event, stalled.cause, stalled.since));
            }
            LifecycleBody::IntakeResumed(_) => source.tell(&self.intake, None),
            // Others publish these.
            _ => {}
        }
    }

    /// The next event to publish.
    fn next(&self, seen: &Seen, now: Instant) -> Option<LifecycleEvent> {
        let wall = Wall {
            now,
            time: self.clock.now(),
        };
        self.of_calls(seen, wall)
            .or_else(|| self.of_credentials(seen, wall))
            .or_else(|| self.of_intake(seen, wall))
    }

    fn of_calls(&self, seen: &Seen, wall: Wall) -> Option<LifecycleEvent> {
        let pause = seen.pause.as_ref();
        let present = pause.and_then(|pause| worth_publishing(pause, wall.now));
        let is_over = |seen_here| seen.calm.proves_an_end(seen_here, wall.now);
        match self.calls.change(present, is_over)? {
            Change::Begins(cause) => {
                let pause = pause?;
                let ordered = pause.why.as_ref().filter(|_| cause == PauseCause::Operator);
                let paused = ProviderPaused {
                    cause,
                    since: wall.of(pause.since),
                    next_probe: pause.until.map(|until| wall.of(until)),
                    ordered: ordered.map(ToString::to_string),
                };
                Some(LifecycleEvent::paused(&self.provider, paused, wall.time))
            }
            Change::Ends(Published { id, cause, since, .. }) => {
                let resumed = ProviderResumed { cause, since };
                Some(LifecycleEvent::resumed(&self.provider, id, resumed, wall.time))
            }
        }
    }

    fn of_credentials(&self, seen: &Seen, wall: Wall) -> Option<LifecycleEvent> {
        let pause = seen
            .pause
            .as_ref()
            .filter(|pause| refuses_credentials(pause, wall.now));
        // Only a call proves that they are accepted: another cause may have taken the pause over.
        let passed = seen.calm.passed_at.is_some_and(|at| at >= seen.refused_at);
        match self.credentials.change(pause.map(|_| Refused), |_| passed)? {
            Change::Begins(Refused) => {
                let pause = pause?;
                let refused = CredentialsRefused {
                    since: wall.of(pause.since),
                    next_probe: pause.until.map(|until| wall.of(until)),
                };
                Some(LifecycleEvent::refused(&self.provider, refused, wall.time))
            }
            Change::Ends(Published { id, since, .. }) => {
                Some(LifecycleEvent::accepted(&self.provider, id, since, wall.time))
            }
        }
    }

    fn of_intake(&self, seen: &Seen, wall: Wall) -> Option<LifecycleEvent> {
        let present = seen.stalled.map(|(cause, _)| cause);
        // A successor hears the others out before it says that all is well.
        let is_over = |seen_here| seen_here || wall.now.duration_since(seen.listens_since) >= HEARD_WITHIN;
        match self.intake.change(present, is_over)? {
            Change::Begins(cause) => {
                let (_, since) = seen.stalled?;
                let since = wall.of(since);
                let stalled = Intake { cause, since };
                Some(LifecycleEvent::stalled(&self.provider, stalled, wall.time))
            }
            Change::Ends(Published { id, cause, since, .. }) => {
                let was = Intake { cause, since };
                Some(LifecycleEvent::progresses(&self.provider, id, was, wall.time))
            }
        }
    }
}

/// Where an event is known from.
#[derive(Clone, Copy)]
enum Source {
    Log(LogPart),
    /// This worker has published it.
    Here,
}

impl Source {
    fn tell<C: Copy + PartialEq>(self, known: &Known<C>, event: Option<Published<C>>) {
        match self {
            Self::Log(part) => known.read(event, part),
            Self::Here => known.was_published(event.map(|event| Published { seen: true, ..event })),
        }
    }
}

fn began<C>(event: &LifecycleEvent, cause: C, since: Timestamp) -> Option<Published<C>> {
    Some(Published {
        id: event.id,
        cause,
        since,
        seen: false,
    })
}

/// One moment by both clocks.
#[derive(Clone, Copy)]
struct Wall {
    now: Instant,
    time: Timestamp,
}

impl Wall {
    fn of(self, at: Instant) -> Timestamp {
        let span = |span: Duration| SignedDuration::try_from(span).unwrap_or_default();
        match at > self.now {
            true => {
                let ahead = span(at - self.now);
                self.time.checked_add(ahead).unwrap_or(Timestamp::MAX)
            }
            false => self.time - span(self.now - at),
        }
    }
}

/// What this worker sees of the fleet and the provider.
struct Seen {
    pause: Option<Pause>,
    calm: Calm,
    /// When the credentials were last refused.
    refused_at: Instant,
    stalled: Option<(StallCause, Instant)>,
    listens_since: Instant,
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

/// The pause's cause. Trouble of this worker alone is not published.
fn worth_publishing(pause: &Pause, now: Instant) -> Option<PauseCause> {
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
    long.then_some(cause)
}

fn refuses_credentials(pause: &Pause, now: Instant) -> bool {
    worth_publishing(pause, now) == Some(PauseCause::Credentials)
}

/// Publishes the fleet's lifecycle events, each until the broker confirms it. Never ends.
pub(super) async fn publish(fleet: Arc<Fleet>, gate: Arc<Gate>, publisher: Arc<dyn Publisher>) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let (mut long_pause_at, mut refused_at) = (began, began);
    let mut unconfirmed: Option<LifecycleEvent> = None;
    loop {
        look.tick().await;
        let now = Instant::now();
        let pause = gate.pause();
        if let Some(pause) = &pause {
            if worth_publishing(pause, now).is_some() {
                long_pause_at = now;
            }
            if refuses_credentials(pause, now) {
                refused_at = now;
            }
        }
        if !fleet.speaks() {
            unconfirmed = None;
            continue;
        }
        // Published events may be in a part of the log that is not read yet.
        if !fleet.has_read_all() {
            continue;
        }
        let seen = Seen {
            pause,
            calm: Calm {
                since: long_pause_at,
                passed_at: gate.passed_at(),
            },
            refused_at,
            stalled: fleet.stalled(now),
            listens_since: began,
        };
        // An unconfirmed event may have arrived, so it is published again unchanged.
        let next =
            |unconfirmed: &mut Option<_>| unconfirmed.take().or_else(|| fleet.lifecycle.next(&seen, now));
        while let Some(event) = next(&mut unconfirmed) {
            let message = message(&fleet.lifecycle.provider, &event);
            match publisher.publish(&message).await {
                Ok(()) => fleet.lifecycle.take(&event, Source::Here),
                Err(_) => {
                    unconfirmed = Some(event);
                    break;
                }
            }
        }
    }
}
