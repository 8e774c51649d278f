//! What reaches an exporter, and what does not hold anyone up.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry::Value;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::SpanData;

use super::*;
use crate::traces::{Context, Kind, State};

/// Keeps what it gets; or fails, or never answers.
#[derive(Debug, Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<SpanData>>>,
    fails: bool,
    hangs: bool,
}

impl Exporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if self.fails {
            return Err(OTelSdkError::InternalFailure("refused".into()));
        }
        self.spans.lock().unwrap().extend(batch);
        Ok(())
    }
}

fn collector(exporter: Kept) -> Arc<Collector> {
    let resource = Resource::builder_empty().build();
    Arc::new(Collector::with(exporter, "http://collector".into(), &resource))
}

fn span(failed: bool) -> Span {
    let parent = Context::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    Span {
        context: Context {
            span_id: 0x5,
            ..parent
        },
        state: State::parse("vendor=1"),
        parent: Some(parent),
        parent_is_remote: true,
        name: "process a.queue".into(),
        kind: Kind::Consumer,
        started_at: Timestamp::from_second(10).unwrap(),
        ended_at: Timestamp::from_second(12).unwrap(),
        failed,
        attributes: vec![("usher.wait", "retry".into()), ("usher.attempts", 3_u32.into())],
    }
}

#[tokio::test]
async fn a_span_is_handed_to_the_exporter_as_it_was_noted_at_the_flush_at_the_latest() {
    let kept = Kept::default();
    let collector = collector(kept.clone());
    collector.ended(span(true));
    collector.flush(Duration::from_secs(10)).await;
    let spans = kept.spans.lock().unwrap();
    let [span] = &spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(
        span.span_context.trace_id(),
        TraceId::from(0x0af7651916cd43dd8448eb211c80319c_u128)
    );
    assert_eq!(span.span_context.span_id(), SpanId::from(5_u64));
    assert!(span.span_context.is_sampled());
    assert_eq!(span.span_context.trace_state().header(), "vendor=1");
    assert_eq!(span.parent_span_id, SpanId::from(0xb7ad6b7169203331_u64));
    assert_eq!(
        (span.span_kind.clone(), span.parent_span_is_remote),
        (SpanKind::Consumer, true)
    );
    assert_eq!(span.status, Status::error(""));
    assert_eq!(
        span.end_time.duration_since(span.start_time).unwrap(),
        Duration::from_secs(2)
    );
    let attributes: Vec<_> = span
        .attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), attribute.value.clone()))
        .collect();
    assert_eq!(
        attributes,
        [
            ("usher.wait", Value::from("retry")),
            ("usher.attempts", Value::from(3))
        ]
    );
}

#[tokio::test]
async fn spans_that_nobody_takes_are_dropped_beyond_a_bound_and_the_flush_ends_in_time() {
    let hanging = Kept {
        hangs: true,
        ..Kept::default()
    };
    let collector = collector(hanging);
    for _ in 0..2 * SPANS_MAX {
        collector.ended(span(false));
    }
    assert_eq!(collector.queue.waiting(), SPANS_MAX);
    let begun = tokio::time::Instant::now();
    collector.flush(Duration::from_millis(50)).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn spans_that_are_refused_wait_no_longer() {
    let failing = Kept {
        fails: true,
        ..Kept::default()
    };
    let collector = collector(failing);
    for _ in 0..100 {
        collector.ended(span(false));
    }
    let queue = collector.queue.clone();
    collector.flush(Duration::from_secs(10)).await;
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn without_an_address_there_is_no_collector() {
    let none = Collector::new(&Config::default(), "zitadel", "w").unwrap();
    assert!(none.is_none());
}
