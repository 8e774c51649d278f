//! What is in `deploy/` works: alerts fire when they should, panels have data, manifests are valid.

mod dashboard;
mod expressions;
mod manifests;
mod panels;
mod rules;
mod scraped;

use std::process::Command;

use serde_json::Value;

use crate::readme::root;

const RULES: &str = "deploy/prometheus/usher.rules.yml";

/// The Python that tests/run installed, with PyYAML and the schemas of Kubernetes.
const PYTHON: &str = "target/kubernetes-validate-1.37.0/bin/python3";

/// Runs a program at the top of the repository, to its end. Answers what it printed.
#[track_caller]
fn printed(program: &str, arguments: &[&str]) -> String {
    let program = match program.starts_with("target/") {
        true => root().join(program),
        false => program.into(),
    };
    let ran = Command::new(&program)
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}: run tests/run once", program.display()));
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert!(ran.status.success(), "{arguments:?}: {out}{err}");
    format!("{out}{err}")
}

/// The documents of a file of YAML.
#[track_caller]
fn as_json(path: &str) -> Vec<Value> {
    let program = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    serde_json::from_str(&printed(PYTHON, &["-c", program, path])).unwrap()
}
