//! What the rules and the dashboard ask for exists: each metric and each of its labels is in the table of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use regex::Regex;
use usher::contract::Reason;
use usher::metrics::table::{ALL, Kind, Metric};
use usher::worker::waits::Wait;

use super::panels::ROWS;
use super::{RULES, as_json, root};

/// What Prometheus itself adds to a sample, or to an alert.
const ADDED: [&str; 6] = ["job", "instance", "le", "alertname", "alertstate", "severity"];

/// Each expression, with the alert or the panel that it is of.
fn all() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for group in as_json(RULES)[0]["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap();
            all.push((name.to_owned(), rule["expr"].as_str().unwrap().to_owned()));
        }
    }
    for (_, panels) in ROWS {
        for panel in panels {
            let of = |target: &super::panels::Target| (panel.title.to_owned(), target.expr.to_owned());
            all.extend(panel.targets.iter().map(of));
        }
    }
    all
}

fn metric(sample: &str) -> Option<&'static Metric> {
    let histogram = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| sample.strip_suffix(suffix));
    ALL.iter().find(|metric| match metric.kind {
        Kind::Histogram => histogram == Some(metric.name),
        _ => sample == metric.name,
    })
}

/// What is wrong with an expression.
fn problems(expr: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let samples = Regex::new(r"\b(usher_[a-z0-9_]+)\b(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).unwrap();
    let mut labels = BTreeSet::from(ADDED);
    for found in samples.captures_iter(expr) {
        let sample = found.get(1).unwrap().as_str();
        let Some(metric) = metric(sample) else {
            problems.push(format!("{sample} is no metric"));
            continue;
        };
        labels.extend(metric.labels);
        for matched in matcher.captures_iter(found.get(2).map_or("", |matchers| matchers.as_str())) {
            let (label, values) = (matched.get(1).unwrap().as_str(), matched.get(2).unwrap().as_str());
            if !ADDED.contains(&label) && !metric.labels.contains(&label) {
                problems.push(format!("{sample} has no label {label}"));
            }
            let known = values_of(metric.name, label);
            let unknown = values.split('|').find(|value| !known.contains(*value));
            if let Some(value) = unknown.filter(|_| !known.is_empty()) {
                problems.push(format!("{sample} has no {label} {value}"));
            }
        }
    }
    let grouping = Regex::new(r"\b(?:by|on|ignoring|without) \(([^)]*)\)").unwrap();
    for group in grouping.captures_iter(expr) {
        for label in group.get(1).unwrap().as_str().split(", ") {
            if !labels.contains(label) {
                problems.push(format!("nothing in it has a label {label}"));
            }
        }
    }
    problems
}

/// The values that a label may have, where they are told. Empty: any.
fn values_of(metric: &str, label: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    match (metric, label) {
        (_, "for") => Wait::ALL.iter().map(|wait| wait.as_str().to_owned()).collect(),
        ("usher_standing_still" | "usher_paused", "cause") => {
            let row = Regex::new(r"(?m)^\| `([a-z_]+)` \| .* \| .* \|$").unwrap();
            row.captures_iter(&text).map(|row| row[1].to_owned()).collect()
        }
        ("usher_commands_total", "outcome") => {
            let mut outcomes: BTreeSet<_> = Reason::ALL
                .iter()
                .map(|reason| reason.as_str().to_owned())
                .collect();
            outcomes.insert("success".to_owned());
            outcomes
        }
        _ => BTreeSet::new(),
    }
}

#[test]
fn each_metric_label_and_value_of_rules_and_dashboard_is_one_that_workers_have() {
    let all = all();
    assert!(all.len() >= 60, "only {} expressions were found", all.len());
    let wrong: BTreeMap<_, _> = all
        .iter()
        .map(|(name, expr)| (name, problems(expr)))
        .filter(|(_, problems)| !problems.is_empty())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_metric_is_on_the_dashboard() {
    let asked: String = ROWS
        .iter()
        .flat_map(|(_, panels)| panels.iter())
        .flat_map(|panel| panel.targets)
        .map(|target| format!("{} ", target.expr))
        .collect();
    let missing: Vec<_> = ALL
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !asked.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_metric_label_or_value_that_no_worker_has_is_found() {
    for (expr, found) in [
        (
            "usher_dead_letters_total",
            "usher_dead_letters_total is no metric",
        ),
        ("usher_wait_seconds", "usher_wait_seconds is no metric"),
        ("usher_leases_sum", "usher_leases_sum is no metric"),
        (
            r#"usher_leases{partition="0"}"#,
            "usher_leases has no label partition",
        ),
        (
            r#"usher_standing_still{cause=~"stalled|frozen"}"#,
            "usher_standing_still has no cause frozen",
        ),
        (
            r#"usher_commands_total{outcome!~"success|canceled"}"#,
            "usher_commands_total has no outcome canceled",
        ),
        (
            "sum by (job, user) (usher_leases)",
            "nothing in it has a label user",
        ),
    ] {
        assert_eq!(problems(expr), [found], "{expr}");
    }
}
