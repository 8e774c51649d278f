//! The trace of one command, from its delivery to its end.

use std::borrow::Cow;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Spans;
use super::call::{Ended, Open, Request, attributes};
use super::context::Context;
use super::headers::Headers;
use super::span::{Attribute, Kind, Span, Value};
use super::state::State;
use crate::clock::Clock;

/// The most spans of a command's calls and waits, so that an outage of days does not fill the collector. Those of what it
/// publishes are few, and are always there.
const SPANS_MAX: u32 = 128;

/// A shorter wait has no span.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// How a command that came to no other end left this worker.
const HANDED_BACK: &str = "handed_back";

/// Of which broker the messages are.
const SYSTEM: Attribute = ("messaging.system", Value::Text(Cow::Borrowed("rabbitmq")));

/// A command's own span. It ends when this is dropped, with the delivery.
pub struct Process(Arc<Trace>);

/// Notes what a command does.
pub struct Trace {
    /// The publisher's context.
    parent: Option<Context>,
    /// What vendors have put beside it.
    state: Option<State>,
    /// `None` where the publisher has not sampled: its context is handed on, and nothing is noted.
    recording: Option<Recording>,
}

struct Recording {
    spans: Arc<dyn Spans>,
    context: Context,
    received_at: Instant,
    /// The same moment by both clocks.
    now: (Instant, Timestamp),
    state: Mutex<Noted>,
}

struct Noted {
    /// The request whose answer is awaited.
    open: Option<Open>,
    noted: u32,
    left_out: u32,
    name: String,
    attributes: Vec<Attribute>,
    outcome: &'static str,
    /// Why the command is a dead letter.
    reason: Option<&'static str>,
}

/// A message on its way to the broker. It ends when this is dropped.
pub struct Publishing {
    trace: Arc<Trace>,
    context: Context,
    since: Instant,
    exchange: &'static str,
    attributes: Vec<Attribute>,
}

impl Process {
    pub(super) fn passing(parent: Context, state: Option<State>) -> Self {
        Self(Arc::new(Trace {
            parent: Some(parent),
            state,
            recording: None,
        }))
    }

    pub(super) fn begin(
        parent: Option<Context>,
        state: Option<State>,
        spans: Arc<dyn Spans>,
        clock: Clock,
        received_at: Instant,
    ) -> Self {
        let recording = Recording {
            spans,
            context: parent.map_or_else(Context::root, Context::child),
            received_at,
            now: (Instant::now(), clock.now()),
            state: Mutex::new(Noted {
                open: None,
                noted: 0,
                left_out: 0,
                name: "process".to_owned(),
                attributes: Vec::new(),
                outcome: HANDED_BACK,
                reason: None,
            }),
        };
        Self(Arc::new(Trace {
            parent,
            state,
            recording: Some(recording),
        }))
    }

    /// Whether anything is noted.
    pub fn is_recorded(&self) -> bool {
        self.0.recording.is_some()
    }

    /// Says which command it is, and where it came from.
    pub fn of(&self, queue: &str, command_id: Option<&str>, more: impl IntoIterator<Item = Attribute>) {
        let Some(recording) = &self.0.recording else {
            return;
        };
        let mut state = recording.state();
        state.name = format!("process {queue}");
        state.attributes = vec![
            SYSTEM,
            ("messaging.operation.name", "process".into()),
            ("messaging.operation.type", "process".into()),
            ("messaging.destination.name", queue.to_owned().into()),
        ];
        let message_id = command_id.map(|id| ("messaging.message.id", id.to_owned().into()));
        state.attributes.extend(message_id);
        state.attributes.extend(more);
    }

    /// What the hops note in it.
    pub fn trace(&self) -> Arc<Trace> {
        self.0.clone()
    }

    /// What the command came to, and the reason of its dead letter.
    pub fn settled(&self, outcome: &'static str, reason: Option<&'static str>, attempts: u32) {
        let Some(recording) = &self.0.recording else {
            return;
        };
        let mut state = recording.state();
        (state.outcome, state.reason) = (outcome, reason);
        state.attributes.push(("usher.attempts", attempts.into()));
    }

    /// The outcome was known before.
    pub fn repeated(&self) {
        if let Some(recording) = &self.0.recording {
            recording.state().outcome = "repeated";
        }
    }

    /// A message is published. `None`: it has no span.
    pub fn publishes(
        &self,
        exchange: &'static str,
        message_id: Option<&str>,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Option<Publishing> {
        let recording = self.0.recording.as_ref()?;
        let mut noted = vec![
            SYSTEM,
            ("messaging.operation.name", "publish".into()),
            ("messaging.operation.type", "send".into()),
        ];
        if !exchange.is_empty() {
            noted.push(("messaging.destination.name", exchange.into()));
        }
        noted.extend(message_id.map(|id| ("messaging.message.id", id.to_owned().into())));
        noted.extend(attributes);
        Some(Publishing {
            trace: self.0.clone(),
            context: recording.context.child(),
            since: Instant::now(),
            exchange,
            attributes: noted,
        })
    }
}

impl Trace {
    /// The context for a request of the command.
    pub(super) fn sends(&self, request: impl FnOnce() -> Request) -> Option<Headers> {
        let Some(recording) = &self.recording else {
            return self.parent.map(|parent| self.headers(parent));
        };
        let context = recording.context.child();
        recording.state().open = Some(Open {
            context,
            request: request(),
            status: None,
        });
        Some(self.headers(context))
    }

    /// For what goes on from this span.
    fn headers(&self, context: Context) -> Headers {
        Headers {
            traceparent: context.to_string(),
            tracestate: self.state.clone(),
        }
    }

    fn ended(&self, recording: &Recording, span: Span) {
        recording.spans.ended(Span {
            state: self.state.clone(),
            ..span
        });
    }

    pub(super) fn answered(&self, status: u16) {
        if let Some(recording) = &self.recording
            && let Some(open) = &mut recording.state().open
        {
            open.status = Some(status);
        }
    }

    /// A call has ended now. `status`: that of an error.
    pub fn called(
        &self,
        kind: &'static str,
        started: Instant,
        answer: &'static str,
        failed: bool,
        status: Option<u16>,
    ) {
        let Some(recording) = &self.recording else { return };
        let (open, is_noted) = {
            let mut state = recording.state();
            (state.open.take(), state.has_room())
        };
        if !is_noted {
            return;
        }
        let ended = Ended {
            kind,
            answer,
            failed,
            status,
        };
        let context = open.as_ref().map(|open| open.context);
        let span = Span {
            context: context.unwrap_or_else(|| recording.context.child()),
            failed,
            ..recording.span(
                open.as_ref().map_or_else(|| kind.to_owned(), Open::name),
                Kind::Client,
                started,
                attributes(open, &ended),
            )
        };
        self.ended(recording, span);
    }

    /// A wait has ended now.
    pub fn waited(&self, cause: &'static str, since: Instant) {
        let Some(recording) = &self.recording else { return };
        if since.elapsed() < WAIT_MIN || !recording.state().has_room() {
            return;
        }
        let name = format!("wait {cause}");
        let attributes = vec![("usher.wait", cause.into())];
        self.ended(recording, recording.span(name, Kind::Internal, since, attributes));
    }

    /// When the command arrived.
    pub fn received_at(&self) -> Option<Instant> {
        Some(self.recording.as_ref()?.received_at)
    }
}

impl Recording {
    fn state(&self) -> MutexGuard<'_, Noted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wall(&self, at: Instant) -> Timestamp {
        let (now, wall) = self.now;
        let span = |span: Duration| SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        let moment = match at > now {
            true => wall.checked_add(span(at - now)),
            false => wall.checked_sub(span(now - at)),
        };
        moment.unwrap_or(wall)
    }

    /// A span below the command's own, that ends now.
    fn span(&self, name: String, kind: Kind, since: Instant, attributes: Vec<Attribute>) -> Span {
        Span {
            context: self.context.child(),
            state: None,
            parent: Some(self.context),
            parent_is_remote: false,
            name: name.into(),
            kind,
            started_at: self.wall(since),
            ended_at: self.wall(Instant::now()),
            failed: false,
            attributes,
        }
    }
}

impl Noted {
    /// Counts one more span of those that are limited.
    fn has_room(&mut self) -> bool {
        let has_room = self.noted < SPANS_MAX;
        match has_room {
            true => self.noted += 1,
            false => self.left_out += 1,
        }
        has_room
    }
}

impl Publishing {
    /// The context for the message.
    pub fn headers(&self) -> Headers {
        self.trace.headers(self.context)
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        let Some(recording) = &self.trace.recording else {
            return;
        };
        let name = match self.exchange {
            "" => "publish reply".to_owned(),
            exchange => format!("publish {exchange}"),
        };
        let attributes = mem::take(&mut self.attributes);
        let span = Span {
            context: self.context,
            ..recording.span(name, Kind::Producer, self.since, attributes)
        };
        self.trace.ended(recording, span);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(recording) = &self.0.recording else {
            return;
        };
        let mut state = recording.state();
        let mut attributes = mem::take(&mut state.attributes);
        attributes.push(("usher.outcome", state.outcome.into()));
        if let Some(reason) = state.reason {
            attributes.push(("usher.reason", reason.into()));
            attributes.push(("error.type", reason.into()));
        }
        if state.left_out > 0 {
            attributes.push(("usher.spans_left_out", state.left_out.into()));
        }
        let name = mem::take(&mut state.name);
        let failed = state.reason.is_some();
        drop(state);
        let span = Span {
            context: recording.context,
            parent: self.0.parent,
            parent_is_remote: true,
            failed,
            ..recording.span(name, Kind::Consumer, recording.received_at, attributes)
        };
        self.0.ended(recording, span);
    }
}
