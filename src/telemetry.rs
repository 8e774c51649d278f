//! Sets up logs, metrics and traces: ids and no values, on stderr, on the admin port and at a collector.

pub mod otlp;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::panic;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::metrics;

pub use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "LogConfig")]
pub struct Config {
    pub format: Format,
    /// How much usher logs. Its libraries log only warnings and errors, at every level.
    pub level: Level,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `pretty` on a terminal, `json` elsewhere.
    #[default]
    Auto,
    Pretty,
    Json,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// Whether a terminal's user wants colours: not with `NO_COLOR` set to anything, nor on a terminal without escapes.
fn takes_colour(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    variable("NO_COLOR").is_none_or(|value| value.is_empty()) && !is_dumb(variable("TERM"))
}

fn is_dumb(terminal: Option<OsString>) -> bool {
    terminal.is_some_and(|name| name == "dumb")
}

/// Whether a terminal of this process is to have colours.
pub fn takes_colours() -> bool {
    takes_colour(|name| env::var_os(name))
}

/// Whether the terminal supports no escape sequences (`TERM=dumb`): neither colours nor a progress bar.
pub fn is_dumb_terminal() -> bool {
    is_dumb(env::var_os("TERM"))
}

/// Changes the level of the log that was started.
type SetLevel = Box<dyn Fn(Level) + Send + Sync>;

static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();

/// Changes how much is logged from now on.
pub fn set_level(level: Level) {
    if let Some(set_level) = SET_LEVEL.get() {
        set_level(level);
    }
}

fn filter(level: Level) -> EnvFilter {
    // Libraries log what crosses the wire at their lower levels, field values included; and lapin reports
    // each closed channel as an error, also after a check whether a queue exists.
    match level {
        Level::Error => EnvFilter::new("error,lapin=off"),
        level => EnvFilter::new(format!("warn,lapin=off,usher={}", level.as_str())),
    }
}

/// Starts logging to `writer`; `colours`: in the pretty format. Called once, by the program.
pub fn log_to(config: &Config, writer: BoxMakeWriter, colours: bool) {
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        Format::Auto => !terminal,
        Format::Pretty => false,
        Format::Json => true,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(config.level))
        .with_writer(writer)
        .with_ansi(!json && colours);
    let set_level: SetLevel = if json {
        let subscriber = subscriber.json().flatten_event(true).with_filter_reloading();
        let handle = subscriber.reload_handle();
        subscriber.init();
        Box::new(move |level| drop(handle.reload(filter(level))))
    } else {
        let subscriber = subscriber.with_target(false).with_filter_reloading();
        let handle = subscriber.reload_handle();
        subscriber.init();
        Box::new(move |level| drop(handle.reload(filter(level))))
    };
    // There is one log, so it is set once.
    let _set_before = SET_LEVEL.set(set_level);
    panic::set_hook(Box::new(|panic| {
        // Not its message: it may quote a value.
        let at = panic.location().map(ToString::to_string);
        tracing::error!(panic.at = at, "panic: a defect of usher; please report it");
    }));
}

/// Starts collecting metrics for the admin port.
pub fn collect_metrics() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in metrics::histograms() {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)?;
    }
    let handle = builder.install_recorder()?;
    metrics::describe();
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_and_a_dumb_terminal_get_no_colours() {
        for (no_color, term, expected) in [
            (None, Some("xterm-256color"), true),
            (None, None, true),
            (Some(""), Some("xterm"), true),
            (Some("1"), Some("xterm"), false),
            (Some("0"), None, false),
            (None, Some("dumb"), false),
        ] {
            let variable = |name: &str| match name {
                "NO_COLOR" => no_color.map(OsString::from),
                _ => term.map(OsString::from),
            };
            assert_eq!(
                takes_colour(variable),
                expected,
                "NO_COLOR {no_color:?}, TERM {term:?}"
            );
        }
    }
}
