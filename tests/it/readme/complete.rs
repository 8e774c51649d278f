//! Pages that list a closed set list all of it: reasons, states of `/readyz`, waits, verbs, findings.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use usher::contract::Reason;
use usher::operations::findings::Number;
use usher::worker::waits::Wait;

use super::pages::root;

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The codes in the first cells of tables.
fn rows(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect()
}

/// The texts in quotes.
fn texts(code: &str) -> impl Iterator<Item = &str> {
    code.split('"').skip(1).step_by(2)
}

#[test]
fn every_reason_has_its_row() {
    let page = read("docs/dead-letters.md");
    for reason in Reason::ALL {
        let begins = format!("| `{reason}` |");
        let row = page.lines().find(|line| line.starts_with(&begins));
        // What `usher dead-letters list` says to do about it.
        let says_what_to_do = row.is_some_and(|row| row.contains(&format!("| {}", reason.remedy())));
        assert!(
            says_what_to_do,
            "docs/dead-letters.md: {reason}: {}",
            reason.remedy()
        );
    }
}

#[test]
fn every_state_and_every_wait_has_its_row() {
    let documented = rows(&read("docs/operating.md"));
    let code = read("src/admin/readiness.rs");
    let list = code.split("NOT_READY: ").nth(1).unwrap();
    let list = list.split("];").next().unwrap();
    let states = texts(list).chain(["working", "idle", "standby"]);
    let waits = Wait::ALL.iter().map(|wait| wait.as_str());
    for name in states.chain(waits) {
        assert!(documented.contains(name), "docs/operating.md: {name}");
    }
}

#[test]
fn every_finding_has_its_section_and_no_other_has_one() {
    let page = read("docs/findings.md");
    let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let known = Number::ALL.map(|number| format!("{number}: {}", number.about().title));
    assert_eq!(
        sections, known,
        "left: docs/findings.md, right: src/operations/findings/list.rs"
    );
}

#[test]
fn every_verb_is_shown() {
    let help = Command::new(env!("CARGO_BIN_EXE_usher"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let operating = read("docs/operating.md");
    let verbs = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        // The others go on with a text.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| verb.chars().all(|c| c.is_ascii_lowercase() || c == '-') && *verb != "help");
    let mut count = 0;
    for verb in verbs {
        count += 1;
        assert!(
            operating.contains(&format!("\nusher {verb}")),
            "docs/operating.md: {verb}"
        );
    }
    assert!(count >= 9, "{help}");
}

/// The text of a macro's call: the first literal that is no field's name.
fn text_of(call: &str) -> String {
    let text = texts(call).find(|text| text.contains(' ')).unwrap_or_default();
    text.to_owned()
}

#[test]
fn every_line_at_error_is_in_the_table_and_every_line_of_the_table_is_written() {
    let page = read("docs/operating.md");
    let table = page.split_once("| message | level |").unwrap().1;
    let table: Vec<_> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(begins, rest)| (begins, rest.split(' ').next().unwrap()))
        .collect();
    // What a worker writes.
    let mut code = ["src/telemetry.rs", "src/cli/reload.rs"].map(read).concat();
    for folder in ["worker", "broker", "provider"] {
        super::sources(&root().join("src").join(folder), &mut code);
    }
    let said = |level: &str| -> Vec<_> {
        let macro_call = format!("tracing::{level}!(");
        code.split(&macro_call).skip(1).map(text_of).collect()
    };
    let (errors, warnings) = (said("error"), said("warn"));
    for (begins, level) in &table {
        let said = if *level == "error" { &errors } else { &warnings };
        assert!(
            said.iter().any(|text| text.starts_with(begins)),
            "no line at {level} begins with {begins}"
        );
    }
    for error in &errors {
        let is_told = |(begins, _): &(&str, &str)| error.starts_with(begins);
        assert!(table.iter().any(is_told), "docs/operating.md lacks: {error}");
    }
    assert!(errors.len() >= 10, "{errors:?}");
}
