//! README and `docs/` are no braver than the code: each test that they name runs, each link leads somewhere, what is
//! generated is what the code says, and nothing that an operator may meet is left out.

mod complete;
mod generated;
mod links;
mod pages;
mod recording;

use std::fs;
use std::path::Path;

use pages::{Page, pages};

pub use pages::root;

/// What is wrong with a link of that page, if anything is.
pub fn problem_of_link(page: &str, target: &str) -> Option<String> {
    let page = Page {
        name: page.to_owned(),
        text: fs::read_to_string(root().join(page)).unwrap(),
    };
    links::problem(&page, target)
}

fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_documents_name_runs() {
    let mut all = String::new();
    for folder in ["src", "tests"] {
        sources(&root().join(folder), &mut all);
    }
    let mut known = 0;
    let mut missing = Vec::new();
    for page in pages() {
        let prose = page.prose();
        for name in tests_named(&prose) {
            let runs = all.rsplit(&format!("fn {name}(")).skip(1).any(is_a_test);
            known += usize::from(runs);
            if !runs {
                missing.push(format!("{} names {name}", page.name));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "there is no such test that runs: {missing:#?}"
    );
    assert!(known >= 100, "only {known} tests are named");
}

/// A fact has several words; keys and reasons have fewer, and metrics begin with the program's name.
fn tests_named(prose: &str) -> impl Iterator<Item = &str> {
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.matches('_').count() >= 3 && !name.starts_with("usher_"))
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

/// Whether the attributes at the end of this make what follows a test that is not left out.
fn is_a_test(before: &str) -> bool {
    let own_line = before.lines().last().unwrap_or_default();
    let is_whole = before.ends_with('\n');
    let above = before.lines().rev().skip(usize::from(!is_whole));
    let attributes: Vec<_> = above
        .map(str::trim)
        .take_while(|line| line.starts_with("#["))
        .collect();
    let test = |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    (is_whole || own_line.trim() == "async")
        && attributes.iter().any(test)
        && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

#[test]
fn a_test_that_is_left_out_does_not_count() {
    assert!(is_a_test("}\n\n#[tokio::test(start_paused = true)]\nasync "));
    assert!(is_a_test("#[test]\n"));
    for none in [
        "#[test]\n#[ignore]\n",
        "#[test]\n#[ignore = \"slow\"]\nasync ",
        "fn other() {}\n\n",
        "// ",
    ] {
        assert!(!is_a_test(none), "{none}");
    }
}

/// Each promise of README links to the section that names its tests.
#[test]
fn every_promise_leads_to_tests() {
    let all = pages();
    let page = |name: &str| all.iter().find(|page| page.name == name).unwrap();
    let testing = page("docs/testing.md").prose();
    let sections: Vec<_> = testing.split("\n## ").skip(1).collect();
    for number in 1..=8 {
        let row = format!("| {number} | [**");
        assert!(
            page("README.md").text.contains(&row),
            "README has no promise {number}"
        );
        assert!(
            page("README.md")
                .text
                .contains(&format!("(docs/testing.md#{number}-"))
        );
        let section = sections
            .iter()
            .find(|section| section.starts_with(&format!("{number}. ")));
        let proven = section.is_some_and(|section| tests_named(section).count() >= 2);
        assert!(proven, "docs/testing.md names no tests of promise {number}");
    }
}
