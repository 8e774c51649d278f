//! Which folder may know which, and where each crate is at home.

use super::paths::{self, NamedPath};
use super::source::Source;

/// A folder and what it may import of ours, beside itself, the clock, the backoff and traces.
const TIERS: [(&str, &[&str]); 14] = [
    ("traces", &[]),
    ("contract", &[]),
    ("broker", &[]),
    ("metrics", &["contract"]),
    ("web", &[]),
    ("policy", &["contract", "metrics"]),
    ("provider", &["contract", "metrics"]),
    ("worker", &["contract", "metrics", "policy", "broker", "provider"]),
    ("simulator", &["contract", "provider"]),
    ("telemetry", &["contract", "metrics"]),
    // It holds the table of each of them.
    (
        "config",
        &[
            "contract",
            "metrics",
            "policy",
            "broker",
            "provider",
            "worker",
            "telemetry",
        ],
    ),
    (
        "operations",
        &["contract", "metrics", "policy", "broker", "provider", "worker"],
    ),
    (
        "admin",
        &[
            "contract",
            "metrics",
            "policy",
            "broker",
            "provider",
            "worker",
            "telemetry",
            "config",
            "web",
        ],
    ),
    (
        "console",
        &[
            "contract",
            "metrics",
            "policy",
            "broker",
            "provider",
            "worker",
            "config",
            "operations",
            "web",
        ],
    ),
];

/// What everything may import.
const BOTTOM: [&str; 3] = ["backoff", "clock", "traces"];

/// The edge: it may import everything.
const EDGE: [&str; 3] = ["cli", "main", "lib"];

/// Adapters of the broker, which the worker must not know: it is handed ports.
const BROKERS: [&str; 2] = ["broker::amqp", "broker::memory"];

/// Tests of adapters, which run against a simulation of their provider.
const AGAINST_THE_SIMULATOR: [&str; 3] = ["src/provider/testbed", "src/provider/conformance", "/tests"];

/// A crate, and the beginnings of the paths where it may stand.
const HOMES: [(&str, &[&str]); 29] = [
    ("lapin", &["src/broker"]),
    ("governor", &["src/policy/pace"]),
    ("backoff", &["src/backoff.rs"]),
    (
        "reqwest",
        &["src/provider", "src/simulator/tests.rs", "src/telemetry/otlp"],
    ),
    ("hyper", &["src/web", "src/provider"]),
    ("hyper_util", &["src/web", "src/provider"]),
    ("metrics", &["src/metrics.rs"]),
    ("metrics_exporter_prometheus", &["src/telemetry", "src/admin"]),
    ("axum", &["src/admin", "src/console", "src/simulator", "src/web"]),
    ("askama", &["src/console"]),
    ("clap", &["src/cli", "src/main.rs"]),
    ("clap_complete", &["src/cli"]),
    ("clap_mangen", &["src/cli"]),
    ("anyhow", &["src/cli", "src/main.rs"]),
    ("indicatif", &["src/cli", "src/main.rs"]),
    ("console", &["src/cli/bar.rs"]),
    ("flate2", &["src/cli/input"]),
    ("x509_parser", &["src/cli/check/certificates.rs"]),
    ("toml", &["src/config", "src/provider/answers"]),
    ("regex", &["src/provider/answers"]),
    ("icu_normalizer", &["src/provider/equal.rs"]),
    ("h2", &["src/provider/http"]),
    ("rustix", &["src/provider/token/program.rs"]),
    ("csv_core", &["src/cli/input"]),
    ("strsim", &["src/config", "src/operations/table"]),
    ("tracing_subscriber", &["src/telemetry"]),
    ("opentelemetry", &["src/telemetry/otlp"]),
    ("opentelemetry_sdk", &["src/telemetry/otlp"]),
    ("opentelemetry_otlp", &["src/telemetry/otlp"]),
];

/// Each broken rule, with its place.
pub fn violations(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    for path in paths::of(source) {
        let broken = match path.text.strip_prefix("crate::") {
            Some(ours) => of_tiers(&source.name, ours),
            None => of_homes(&source.name, &path),
        };
        if let Some(broken) = broken {
            violations.push(format!("{}:{}: {}: {broken}", source.name, path.line, path.text));
        }
    }
    violations
}

fn first_name(path: &str) -> &str {
    path.split("::").next().unwrap_or_default()
}

fn folder_of(name: &str) -> &str {
    let path = name.trim_start_matches("src/");
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

fn of_tiers(file: &str, ours: &str) -> Option<String> {
    let folder = folder_of(file);
    let target = first_name(ours);
    let tests_an_adapter = || AGAINST_THE_SIMULATOR.iter().any(|name| file.contains(name));
    if EDGE.contains(&folder)
        || target == folder
        || BOTTOM.contains(&target)
        || target == "simulator" && folder == "provider" && tests_an_adapter()
    {
        return None;
    }
    let Some((_, below)) = TIERS.iter().find(|(name, _)| *name == folder) else {
        return Some(format!(
            "the folder {folder} has no tier: give it one in this test"
        ));
    };
    if !below.contains(&target) {
        return Some(match below.is_empty() {
            true => format!("imports point down: {folder} imports nothing of ours"),
            false => format!("imports point down: {folder} imports {} alone", below.join(", ")),
        });
    }
    (["worker", "operations", "console"].contains(&folder) && is_behind_a_port(ours))
        .then(|| "it knows ports, and this is behind one: the edge hands it in".into())
}

/// Adapters of the broker, and every module of `provider`: the port is its types.
fn is_behind_a_port(ours: &str) -> bool {
    let module_of_provider = ours
        .strip_prefix("provider::")
        .is_some_and(|rest| rest.starts_with(char::is_lowercase));
    module_of_provider
        || BROKERS.iter().any(|adapter| {
            ours.strip_prefix(adapter)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
}

fn of_homes(file: &str, path: &NamedPath) -> Option<String> {
    let name = first_name(&path.text);
    let (_, homes) = HOMES.iter().find(|(krate, _)| *krate == name)?;
    // Modules of ours have these names too, and stand where they were imported.
    let ours = ["metrics", "config", "console"].contains(&name)
        && !path.imported
        && !(path.called && name == "metrics");
    if ours || homes.iter().any(|home| file.starts_with(home)) {
        return None;
    }
    Some(format!(
        "the crate {name} is at home in {} alone",
        homes.join(" and ")
    ))
}

#[test]
fn forbidden_imports_are_reported_with_their_lines() {
    let caught = |name: &str, text: &str| -> Vec<String> {
        let cut = |violation: String| violation.split(": ").take(2).collect::<Vec<_>>().join(" ");
        violations(&Source::new(name, text))
            .into_iter()
            .map(cut)
            .collect()
    };
    let up = "//! x\nuse crate::worker::Worker;\nuse crate::{clock::Clock, contract};\n";
    assert_eq!(
        caught("src/policy/pace.rs", up),
        ["src/policy/pace.rs:2 crate::worker::Worker"]
    );
    assert_eq!(
        caught(
            "src/contract/event.rs",
            "fn f() { crate::metrics::panic(); super::outcome::g(); }"
        ),
        ["src/contract/event.rs:1 crate::metrics::panic"]
    );
    assert_eq!(
        caught(
            "src/worker/dispatch.rs",
            "use crate::{broker::{self, topology, amqp::Link}, provider::{Provider, http}};"
        ),
        [
            "src/worker/dispatch.rs:1 crate::broker::amqp::Link",
            "src/worker/dispatch.rs:1 crate::provider::http"
        ]
    );
    assert_eq!(
        caught("src/broker/memory.rs", "use super::super::contract::Reason;"),
        ["src/broker/memory.rs:1 crate::contract::Reason"]
    );
    let homes = "use lapin::Channel;\nuse metrics::{counter};\nfn f() { metrics::gauge!(); axum::serve(); }";
    assert_eq!(
        caught("src/worker/gate.rs", homes),
        [
            "src/worker/gate.rs:1 lapin::Channel",
            "src/worker/gate.rs:2 metrics::counter",
            "src/worker/gate.rs:3 metrics::gauge",
            "src/worker/gate.rs:3 axum::serve",
        ]
    );
    assert_eq!(caught("src/newcomer.rs", "use crate::contract::Reason;").len(), 1);
}

#[test]
fn allowed_imports_are_not_reported() {
    for (name, text) in [
        ("src/cli/run.rs", "use crate::broker::amqp; use clap::Parser;"),
        (
            "src/worker/turn.rs",
            "use crate::broker::topology::COMMANDS; use crate::metrics; fn f() { metrics::panic(); }",
        ),
        ("src/broker.rs", "mod config; pub use config::Config;"),
        (
            "src/backoff.rs",
            "// use lapin::Channel\nconst X: &str = \"crate::worker::Worker\"; use backoff::Backoff;",
        ),
        (
            "src/provider/zitadel/tests.rs",
            "use crate::simulator::Simulated;",
        ),
    ] {
        assert_eq!(violations(&Source::new(name, text)), [""; 0], "{name}");
    }
}
