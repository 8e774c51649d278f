//! The alerts: promtool's tests pass, each alert has tests for both, and says what to do where it can be read.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{RULES, as_json, printed, root};
use crate::readme::problem_of_link;

const TESTS: &str = "deploy/prometheus/usher.rules.test.yml";

/// What stands before each link.
const BASE: &str = "{{ $externalLabels.usher_docs }}";

fn alerts() -> Vec<Value> {
    let rules = as_json(RULES).remove(0);
    let groups = rules["groups"].as_array().unwrap();
    let all = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    all.filter(|rule| rule["alert"].is_string()).cloned().collect()
}

#[test]
fn alerts_fire_when_they_should_and_a_healthy_fleet_has_none() {
    printed("promtool", &["check", "rules", RULES]);
    printed(
        "promtool",
        &["check", "config", "deploy/prometheus/prometheus.yml"],
    );
    printed("promtool", &["test", "rules", TESTS]);
}

#[test]
fn each_alert_is_tested_to_fire_and_not_to_fire() {
    let tests = as_json(TESTS).remove(0);
    let (mut fires, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for test in tests["tests"].as_array().unwrap() {
        let asked = test["alert_rule_test"].as_array();
        let asked = asked.map_or(&[][..], Vec::as_slice);
        let expects = |ask: &Value| !ask["exp_alerts"].as_array().unwrap().is_empty();
        let names = asked
            .iter()
            .map(|ask| ask["alertname"].as_str().unwrap().to_owned());
        match asked.iter().any(expects) {
            true => fires.extend(names),
            false => quiet.extend(names),
        }
    }
    let all: BTreeSet<_> = alerts()
        .iter()
        .map(|alert| alert["alert"].as_str().unwrap().to_owned())
        .collect();
    assert!(all.len() >= 10, "{all:?}");
    assert_eq!(fires, all, "alerts that are tested to fire");
    assert_eq!(quiet, all, "alerts that are tested not to fire");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_has_a_severity_a_command_that_usher_knows_and_a_page_that_exists() {
    let page = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}");
        let text = |key: &str| alert["annotations"][key].as_str().unwrap().to_owned();
        assert!(!text("summary").is_empty(), "{name}");
        let command = text("command");
        let arguments: Vec<_> = command.strip_prefix("usher ").unwrap().split(' ').collect();
        let help = crate::process::Settings::default()
            .run(&[&arguments[..], &["--help"]].concat(), b"")
            .await;
        assert_eq!(help.status.code(), Some(0), "{name}: {command}");
        let runbook = text("runbook_url");
        let link = runbook.strip_prefix(BASE).unwrap();
        assert_eq!(problem_of_link("README.md", link), None, "{name}: {link}");
        let relative = match link.strip_prefix("docs/monitoring.md") {
            Some(anchor) => anchor,
            None => link.strip_prefix("docs/").unwrap(),
        };
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/monitoring.md has no row for {name}"));
        for part in [
            format!("| {severity} |"),
            format!("`{command}`"),
            format!("({relative})"),
        ] {
            assert!(row.contains(&part), "{row}: no {part}");
        }
    }
}
