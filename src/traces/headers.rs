//! A trace's context as the headers of a message or of a request carry it.

use super::state::State;

/// The header that names the span.
pub const TRACEPARENT: &str = "traceparent";

/// The header beside it, with entries of vendors.
pub const TRACESTATE: &str = "tracestate";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    pub traceparent: String,
    pub tracestate: Option<State>,
}

impl Headers {
    /// By their names. One that names no span has no second.
    pub fn read(header: impl Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            traceparent: header(TRACEPARENT)?,
            tracestate: header(TRACESTATE).and_then(|text| State::parse(&text)),
        })
    }

    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let state = self.tracestate.as_ref().map(|state| (TRACESTATE, state.as_str()));
        [(TRACEPARENT, self.traceparent.as_str())]
            .into_iter()
            .chain(state)
    }
}
