//! What a trace tells of a command: its process, its waits, its calls, and what it publishes.
//!
//! The hops note these here as plain spans, and whoever the edge hands in takes them. A command that is not traced costs a
//! branch in each place. No span holds a user's id or a value: what is noted are ids of commands, names that the
//! configuration gives, and words of usher's own.

mod call;
mod context;
mod headers;
mod process;
mod span;
mod state;

use std::sync::Arc;

use futures_util::future::Either;
use tokio::time::Instant;

pub use self::call::Request;
pub use self::context::Context;
pub use self::headers::{Headers, TRACEPARENT, TRACESTATE};
pub use self::process::{Process, Publishing, Trace};
pub use self::span::{Attribute, Kind, Span, Value};
pub use self::state::State;
use crate::clock::Clock;

tokio::task_local! {
    /// The trace of the command that the task runs.
    static CURRENT: Arc<Trace>;
}

/// Takes finished spans. It must not wait.
pub trait Spans: Send + Sync {
    fn ended(&self, span: Span);
}

/// Decides which commands are traced.
pub struct Traces {
    pub spans: Arc<dyn Spans>,
    /// The share of the commands without a context that are traced.
    pub sample: f64,
    pub clock: Clock,
}

impl Traces {
    /// A publisher's context decides for its command. `None`: it is not traced, and has no context to hand on.
    pub fn begin(&self, carried: Option<&Headers>, received_at: Instant) -> Option<Process> {
        let parent = carried.and_then(|headers| Context::parse(&headers.traceparent));
        // It says something of the publisher's trace alone.
        let state = parent.and(carried).and_then(|headers| headers.tracestate.clone());
        let is_sampled = match parent {
            Some(parent) => parent.is_sampled(),
            None => fastrand::f64() < self.sample,
        };
        if !is_sampled {
            return parent.map(|parent| Process::passing(parent, state));
        }
        Some(Process::begin(
            parent,
            state,
            self.spans.clone(),
            self.clock,
            received_at,
        ))
    }
}

/// Runs the command's part of a task, so that its requests are noted in its trace.
pub fn within<T>(trace: Option<Arc<Trace>>, run: impl Future<Output = T>) -> impl Future<Output = T> {
    // Not an async function, which would hold the large future twice.
    match trace {
        Some(trace) => Either::Left(CURRENT.scope(trace, run)),
        None => Either::Right(run),
    }
}

/// The task's command sends this request. Returns the context for it.
pub fn sends(request: impl FnOnce() -> Request) -> Option<Headers> {
    CURRENT.try_with(|trace| trace.sends(request)).ok()?
}

/// The request of the task's command was answered.
pub fn answered(status: u16) {
    let _untraced = CURRENT.try_with(|trace| trace.answered(status));
}
