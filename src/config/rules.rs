//! Rules between two keys that are valid by themselves.

use std::time::Duration;

use serde_json::Value;

use super::check::{Check, Problem};
use super::tree::{Node, Place};

/// `low` multiplied by `times` must not exceed `high`.
struct Rule {
    low: &'static str,
    times: f64,
    high: &'static str,
    why: &'static str,
}

const RULES: [Rule; 6] = [
    Rule {
        low: "retry.delay_min",
        times: 1.0,
        high: "retry.delay_max",
        why: "delays grow from the one to the other",
    },
    Rule {
        low: "retry.delay_min",
        times: 1.0,
        high: "retry.probe_gap_max",
        why: "gaps between probes grow from the one to the other",
    },
    Rule {
        low: "broker.reconnect_delay_min",
        times: 1.0,
        high: "broker.reconnect_delay_max",
        why: "delays grow from the one to the other",
    },
    Rule {
        low: "broker.heartbeat",
        times: 4.0,
        high: "broker.consumer_timeout",
        why: "the broker has to detect a frozen worker before it takes single commands back from it, out of order",
    },
    Rule {
        low: "broker.ledger_window",
        times: 1.0,
        high: "broker.outcome_log_max_age",
        why: "a starting worker reads this much of the outcome log",
    },
    Rule {
        low: "worker.suspect_after",
        times: 1.0,
        high: "worker.poison_after",
        why: "a command runs alone before it becomes a dead letter",
    },
];

/// At most one of each pair.
const EITHER: [(&str, &str); 1] = [("admin.token", "admin.token_file")];

impl Check<'_> {
    /// Checks the rules between keys.
    pub fn rules(&mut self, tree: &Node) {
        for (one, other) in EITHER {
            if let (Some(node), Some(_)) = (tree.get(one), tree.get(other)) {
                let detail = format!("is set together with {other}; set only one of the two");
                let problem = Problem::new(node.place.clone(), one, detail);
                self.problems.push(problem);
            }
        }
        for rule in RULES {
            if let (Some(low), Some(high)) = (self.measure(tree, rule.low), self.measure(tree, rule.high))
                && low * rule.times > high
            {
                let problem = self.broken(tree, &rule);
                self.problems.push(problem);
            }
        }
    }

    /// Reported at the key that is set, since the other one has its default.
    fn broken(&self, tree: &Node, rule: &Rule) -> Problem {
        let place = |key: &str| tree.get(key).map(|node| node.place.clone());
        let times = match rule.times {
            1.0 => String::new(),
            times => format!("{times} times "),
        };
        let (low, high) = (
            self.with_default(tree, rule.low),
            self.with_default(tree, rule.high),
        );
        let (place, key, detail) = match (place(rule.low), place(rule.high)) {
            (None, Some(place)) => (place, rule.high, format!("must not be below {times}{low}")),
            (place, _) if rule.times == 1.0 => (
                place.unwrap_or(Place::File(None)),
                rule.low,
                format!("must not be above {high}"),
            ),
            (place, _) => (
                place.unwrap_or(Place::File(None)),
                rule.low,
                format!("{times}this must not be above {high}"),
            ),
        };
        Problem::new(place, key, format!("{detail}: {}", rule.why))
    }

    /// A key, with its default if it is not set.
    fn with_default(&self, tree: &Node, key: &str) -> String {
        match self.default(key) {
            Some(default) if tree.get(key).is_none() => format!("{key} (default: {default})"),
            _ => key.to_owned(),
        }
    }

    fn default(&self, key: &str) -> Option<String> {
        let default = self.schema.get(key)?.default()?;
        Some(
            default
                .as_str()
                .map_or_else(|| default.to_string(), str::to_owned),
        )
    }

    /// A number, or a duration in seconds; `None` if it has a problem.
    fn measure(&self, tree: &Node, key: &str) -> Option<f64> {
        let shape = self.schema.get(key)?;
        if self.is_reported(key) {
            return None;
        }
        let value = match tree.get(key) {
            Some(node) => node.to_json(),
            None => shape.default()?.clone(),
        };
        match value {
            Value::String(text) => (shape.span()?.read)(&text).as_ref().map(Duration::as_secs_f64),
            number => number.as_f64(),
        }
    }
}
