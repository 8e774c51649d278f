//! The house stays tidy: imports point down, each crate has one home, files are short and say what they know.
//!
//! It reads the sources and says which rule is broken where.

mod paths;
mod source;
mod tiers;

use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

const LINES_MAX: usize = 500;
/// Nine files in ten are shorter.
const LINES_MOSTLY: usize = 400;

const TOP_LEVEL: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "benches",
    "deploy",
    "docker-compose.yml",
    "docs",
    "schemas",
    "src",
    "target",
    "tests",
];

/// Words that may not stand in the program's code, and why.
const FORBIDDEN_CALLS: [(&str, &str); 7] = [
    (
        "basic_nack",
        "a requeued delivery comes back behind the user's later ones: hand back by closing the channel",
    ),
    (
        "basic_reject",
        "a requeued delivery comes back behind the user's later ones: hand back by closing the channel",
    ),
    (
        "nack",
        "a requeued delivery comes back behind the user's later ones: hand back by closing the channel",
    ),
    (
        "reject",
        "a requeued delivery comes back behind the user's later ones: hand back by closing the channel",
    ),
    (
        "basic_cancel",
        "it lets the next worker begin while deliveries are unsettled: close the channel",
    ),
    (
        "enable_auto_recover",
        "deliveries of a lost connection would look alive: the supervisor makes a new epoch",
    ),
    (
        "until_ready",
        "it ignores tokio's paused clock: ask, and wait ourselves",
    ),
];

/// Where such a word may stand all the same: what is too large is given up without a requeue, and a lease's queue
/// holds one message.
const ALLOWED_CALLS: [(&str, &str); 2] = [
    ("src/broker/amqp/epoch.rs", "reject"),
    ("src/broker/amqp/lease_claim.rs", "reject"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under these folders, its path relative to the root.
fn sources(folders: &[&str]) -> Vec<Source> {
    fn look(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in folders {
        look(&root().join(folder), &mut found);
    }
    found.sort();
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        Source::new(&name, &fs::read_to_string(&path).unwrap())
    };
    found.into_iter().map(read).collect()
}

fn everything() -> Vec<Source> {
    sources(&["src", "tests", "benches"])
}

#[track_caller]
fn assert_tidy(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn imports_point_down_and_each_crate_has_one_home() {
    let files = sources(&["src"]);
    let seen: usize = files.iter().map(|file| paths::of(file).len()).sum();
    assert!(
        seen > files.len() * 5,
        "only {seen} paths were read: the reader is broken"
    );
    let violations: Vec<_> = files.iter().flat_map(tiers::violations).collect();
    assert_tidy(&violations);
}

#[test]
fn files_are_short() {
    let files = everything();
    let too_long = |file: &&Source| file.lines() > LINES_MAX;
    let mut violations: Vec<_> = files
        .iter()
        .filter(too_long)
        .map(|file| format!("{}: {} lines; {LINES_MAX} is the most", file.name, file.lines()))
        .collect();
    let mut long: Vec<_> = files.iter().filter(|file| file.lines() >= LINES_MOSTLY).collect();
    long.sort_by_key(|file| file.lines());
    if long.len() * 10 > files.len() {
        let names: Vec<_> = long.iter().map(|file| file.name.as_str()).collect();
        violations.push(format!(
            "{} of {} files have {LINES_MOSTLY} lines or more; nine in ten must be shorter: {names:?}",
            long.len(),
            files.len()
        ));
    }
    assert_tidy(&violations);
}

#[test]
fn each_file_begins_with_what_it_knows() {
    let undocumented = |file: &&Source| !file.text.starts_with("//!");
    let violations: Vec<_> = everything()
        .iter()
        .filter(undocumented)
        .map(|file| {
            format!(
                "{}:1: a file begins with a `//!` line that says what it knows",
                file.name
            )
        })
        .collect();
    assert_tidy(&violations);
}

#[test]
fn a_folder_has_a_module_file_beside_it() {
    let violations: Vec<_> = everything()
        .iter()
        .filter(|file| file.name.ends_with("/mod.rs"))
        .map(|file| {
            format!(
                "{}: no mod.rs: name it after its folder, and put it beside that",
                file.name
            )
        })
        .collect();
    assert_tidy(&violations);
}

#[test]
fn nothing_is_left_for_later() {
    let mut violations = Vec::new();
    for file in everything() {
        for (line, word) in file.words() {
            if ["TODO", "FIXME", "XXX"].contains(&word) {
                violations.push(format!("{}:{line}: {word}: do it, or open an issue", file.name));
            }
        }
        for (line, name) in file.macros() {
            if ["dbg", "todo", "unimplemented"].contains(&name) {
                violations.push(format!("{}:{line}: {name}!: not in what is committed", file.name));
            }
        }
    }
    assert_tidy(&violations);
}

#[test]
fn forbidden_calls_are_not_used() {
    let mut violations = Vec::new();
    for file in sources(&["src"]) {
        for (line, word) in file.identifiers() {
            let allowed = ALLOWED_CALLS.contains(&(file.name.as_str(), word));
            if let Some((_, reason)) = FORBIDDEN_CALLS.iter().find(|(name, _)| *name == word && !allowed) {
                violations.push(format!("{}:{line}: {word}: {reason}", file.name));
            }
        }
    }
    // Its `eventually` is the one place that asks again after a while.
    let waits = |file: &Source| file.name == "tests/it/support.rs";
    for file in sources(&["tests/it"]).into_iter().filter(|file| !waits(file)) {
        for path in paths::of(&file) {
            if ["thread::sleep", "time::sleep"]
                .iter()
                .any(|sleep| path.text.ends_with(sleep))
            {
                let reason = "ask with `eventually` until it is so: a sleep is too short or too long";
                violations.push(format!("{}:{}: {}: {reason}", file.name, path.line, path.text));
            }
        }
    }
    assert_tidy(&violations);
}

/// The programs of the browser tests: their `eventually` is the one place that waits by the clock.
#[test]
fn programs_of_the_browser_are_short_say_what_they_know_and_wait_for_conditions() {
    let mut violations = Vec::new();
    let programs = fs::read_dir(root().join("tests/console")).unwrap();
    for path in programs.map(|entry| entry.unwrap().path()) {
        let (name, text) = (
            path.file_name().unwrap().to_str().unwrap(),
            fs::read_to_string(&path).unwrap(),
        );
        if text.lines().count() > LINES_MAX {
            violations.push(format!("tests/console/{name}: {LINES_MAX} lines are the most"));
        }
        if !text.starts_with("// ") {
            violations.push(format!(
                "tests/console/{name}:1: a file begins with what it knows"
            ));
        }
        let waits = text.matches("setTimeout").count() + text.matches("waitForTimeout").count();
        if waits > usize::from(name == "browser.mjs") {
            violations.push(format!(
                "tests/console/{name}: ask with `eventually`, or wait for a condition"
            ));
        }
    }
    assert_tidy(&violations);
}

#[test]
fn the_top_level_holds_what_is_meant_to_be_there() {
    let violations: Vec<_> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| {
            format!(
                "{name}: the top level holds {} and dotfiles",
                TOP_LEVEL.join(", ")
            )
        })
        .collect();
    assert_tidy(&violations);
}

/// The files that a delivery meets, from frame to ack, each of which uses the next.
const PATH: [(&str, &str); 5] = [
    ("broker/amqp/consumer.rs", "Arrival"),
    ("worker/dispatch.rs", "runner::"),
    ("worker/runner.rs", "attempts::"),
    ("worker/attempts.rs", "Outcome"),
    ("worker/settle.rs", "Publisher"),
];

#[test]
fn the_path_that_is_shown_is_the_real_one() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let mut violations = Vec::new();
    for (file, uses) in PATH {
        if !read(&format!("src/{file}")).contains(uses) {
            violations.push(format!(
                "src/{file}: does not use {uses}; correct the path here, in lib.rs and in README.md"
            ));
        }
    }
    for map in ["src/lib.rs", "README.md"] {
        let text = read(map);
        let places: Vec<_> = PATH.iter().map(|(file, _)| text.find(file)).collect();
        if places.iter().any(Option::is_none) || !places.is_sorted() {
            violations.push(format!(
                "{map}: does not name the files of the path in their order"
            ));
        }
    }
    assert_tidy(&violations);
}
