//! Sends traces to a collector, by OTLP over HTTP, beside the commands: none of them waits for it.

mod endpoint;
mod exporter;
mod span;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanExporter as Exporter, SpanProcessor as _,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::oneshot;

use self::endpoint::Endpoint;
use self::exporter::{Counted, Queue};
use crate::traces::{Span, Spans};

pub use self::endpoint::Refused;

/// The most spans that wait for the collector. Further ones are dropped.
const SPANS_MAX: usize = 8 * 1024;

/// The most spans of one request.
const BATCH_SPANS_MAX: usize = 512;

/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// For one request with its repetitions.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "TelemetryConfig")]
pub struct Config {
    /// The collector that `usher run` and `usher apply` send traces to, by OTLP over HTTP: its address, to which
    /// `/v1/traces` is added. Default: none, and nothing is traced.
    #[schemars(with = "String", extend("examples" = ["http://127.0.0.1:4318"]))]
    pub otlp_endpoint: Option<String>,
    /// A file with headers for the collector, such as a token: one to a line, as `name: value`. It is read at the start.
    /// Default: none.
    #[schemars(with = "String", extend("examples" = ["/run/secrets/collector"]))]
    pub otlp_headers_file: Option<PathBuf>,
    /// The share of the commands without a `traceparent` that are traced. For the others, their publisher decides.
    #[schemars(range(min = 0, max = 1))]
    pub sample: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_headers_file: None,
            sample: 0.01,
        }
    }
}

/// Takes spans, and sends them from a thread of its own.
pub struct Collector {
    processor: BatchSpanProcessor,
    queue: Arc<Queue>,
    scope: InstrumentationScope,
}

impl Collector {
    /// `None`: no collector is configured. `worker` tells this process from others.
    pub fn new(config: &Config, provider: &str, worker: &str) -> Result<Option<Arc<Self>>, Refused> {
        let Some(address) = &config.otlp_endpoint else {
            return Ok(None);
        };
        let endpoint = Endpoint::new(address, config.otlp_headers_file.as_deref())?;
        let exporter = exporter_to(&endpoint)?;
        let resource = Resource::builder()
            .with_service_name("usher")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", worker.to_owned()),
                KeyValue::new("usher.provider", provider.to_owned()),
            ])
            .build();
        Ok(Some(Arc::new(Self::with(exporter, endpoint.shown(), &resource))))
    }

    fn with(exporter: impl Exporter + 'static, address: String, resource: &Resource) -> Self {
        let queue = Arc::new(Queue::new(SPANS_MAX, address));
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_MAX)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(GATHER)
            .build();
        let mut processor = BatchSpanProcessor::new(Counted::new(exporter, queue.clone()), batches);
        processor.set_resource(resource);
        Self {
            processor,
            queue,
            scope: InstrumentationScope::builder("usher")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }

    /// Sends what is left, for so long at most. Nothing is sent afterwards.
    pub async fn flush(self: Arc<Self>, within: Duration) {
        // It waits for the sending thread. A thread of the runtime would keep the program from ending meanwhile.
        let (sender, flushed) = oneshot::channel();
        thread::spawn(move || {
            let _timed_out = self.processor.shutdown_with_timeout(within);
            self.queue.end();
            let _not_awaited = sender.send(());
        });
        let _panicked = flushed.await;
    }
}

impl Spans for Collector {
    fn ended(&self, span: Span) {
        if self.queue.enters() {
            self.processor.on_end(span::data(span, self.scope.clone()));
        }
    }
}

/// The blocking client: the sending thread is not one of a runtime.
fn exporter_to(endpoint: &Endpoint) -> Result<opentelemetry_otlp::SpanExporter, Refused> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(endpoint.client(EXPORT_MAX)?)
        .with_endpoint(endpoint.traces())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_MAX)
        .with_retry_policy(RetryPolicy::recommended())
        .with_headers(endpoint.headers())
        .build();
    exporter.map_err(|_| Refused("telemetry.otlp_endpoint: can't be used as an address; correct it".into()))
}
