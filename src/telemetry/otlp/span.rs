//! A span of usher as the SDK's.

use std::str::FromStr;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, Key, KeyValue, StringValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::traces::{Attribute, Context, Kind, Span, State, Value};

pub(super) fn data(span: Span, scope: InstrumentationScope) -> SpanData {
    let parent = span.parent.map_or(0, |parent| parent.span_id);
    SpanData {
        span_context: context(span.context, span.state.as_ref()),
        parent_span_id: SpanId::from(parent),
        parent_span_is_remote: span.parent_is_remote,
        span_kind: match span.kind {
            Kind::Consumer => SpanKind::Consumer,
            Kind::Producer => SpanKind::Producer,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
        },
        name: span.name,
        start_time: SystemTime::from(span.started_at),
        end_time: SystemTime::from(span.ended_at),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match span.failed {
            true => Status::error(""),
            false => Status::Unset,
        },
        instrumentation_scope: scope,
    }
}

fn context(context: Context, state: Option<&State>) -> SpanContext {
    let state = state.and_then(|state| TraceState::from_str(state.as_str()).ok());
    SpanContext::new(
        TraceId::from(context.trace_id),
        SpanId::from(context.span_id),
        TraceFlags::new(context.flags),
        false,
        state.unwrap_or(TraceState::NONE),
    )
}

fn attribute((name, value): Attribute) -> KeyValue {
    let key = Key::from_static_str(name);
    match value {
        Value::Text(text) => KeyValue::new(key, StringValue::from(text)),
        Value::Number(number) => KeyValue::new(key, number),
        Value::Flag(flag) => KeyValue::new(key, flag),
    }
}
