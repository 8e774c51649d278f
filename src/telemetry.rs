//! Logs and metrics set up: ids and no values, on stderr and on the admin port.

use std::io::{self, IsTerminal};
use std::panic;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::metrics;

pub use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "LogConfig")]
pub struct Config {
    pub format: Format,
    /// How much usher says of itself. Its libraries say only what is wrong, at every level.
    pub level: Level,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `pretty` on a terminal, `json` elsewhere.
    #[default]
    Auto,
    Pretty,
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Starts logging to `writer`. Called once, by the program.
pub fn log_to(config: &Config, writer: BoxMakeWriter) {
    // Libraries print what crosses the wire at their lower levels, field values included; and lapin calls
    // each closed channel an error, among them those that ask whether a queue exists.
    let filter = match config.level {
        Level::Error => EnvFilter::new("error,lapin=off"),
        level => EnvFilter::new(format!("warn,lapin=off,usher={}", level.as_str())),
    };
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        Format::Auto => !terminal,
        Format::Pretty => false,
        Format::Json => true,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(terminal && !json);
    if json {
        subscriber.json().flatten_event(true).init();
    } else {
        subscriber.with_target(false).init();
    }
    panic::set_hook(Box::new(|panic| {
        // Not its message: it may quote a value.
        let at = panic.location().map(ToString::to_string);
        tracing::error!(panic.at = at, "panic: a defect of usher; please report it");
    }));
}

/// Starts collecting metrics for the admin port.
pub fn collect_metrics() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in metrics::HISTOGRAMS {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
    }
    let handle = builder.install_recorder()?;
    metrics::describe();
    Ok(handle)
}
