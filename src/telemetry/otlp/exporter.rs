//! Counts the spans that wait, and says once that the collector takes none, and once that it does again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use crate::metrics;

/// The spans that are not sent yet.
#[derive(Debug)]
pub(super) struct Queue {
    spans: AtomicUsize,
    spans_max: usize,
    /// Whether the last request came to nothing.
    fails: AtomicBool,
    address: String,
}

impl Queue {
    pub(super) fn new(spans_max: usize, address: String) -> Self {
        Self {
            spans: AtomicUsize::new(0),
            spans_max,
            fails: AtomicBool::new(false),
            address,
        }
    }

    /// Whether there is room for one more, which then counts.
    pub(super) fn enters(&self) -> bool {
        let has_room = self.spans.fetch_add(1, Ordering::AcqRel) < self.spans_max;
        if !has_room {
            self.spans.fetch_sub(1, Ordering::AcqRel);
            metrics::spans_dropped(1);
        }
        has_room
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.spans.load(Ordering::Acquire)
    }

    fn sent(&self, spans: usize, result: &OTelSdkResult) {
        self.spans.fetch_sub(spans, Ordering::AcqRel);
        match result {
            Ok(()) if self.fails.swap(false, Ordering::AcqRel) => {
                tracing::info!(
                    collector = self.address,
                    "traces: the collector takes spans again"
                );
            }
            Ok(()) => {}
            Err(error) => {
                metrics::spans_dropped(spans);
                if !self.fails.swap(true, Ordering::AcqRel) {
                    tracing::warn!(
                        collector = self.address,
                        reason = %error,
                        "traces: the collector takes no spans; they are dropped until it does, and commands go on"
                    );
                }
            }
        }
    }

    /// The worker ends: what was not sent by now is dropped.
    pub(super) fn end(&self) {
        let left = self.spans.load(Ordering::Acquire);
        metrics::spans_dropped(left);
        if left > 0 && !self.fails.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                collector = self.address,
                spans = left,
                "traces: the worker ends before the collector has taken the last spans; they are dropped"
            );
        }
    }
}

/// An exporter whose results are counted.
#[derive(Debug)]
pub(super) struct Counted<E> {
    exporter: E,
    queue: Arc<Queue>,
}

impl<E> Counted<E> {
    pub(super) fn new(exporter: E, queue: Arc<Queue>) -> Self {
        Self { exporter, queue }
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.queue.sent(spans, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
