//! README is no braver than the code: each test that it names is there, and runs.

use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

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
fn every_test_that_the_readme_names_runs() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let mut all = String::new();
    for folder in ["src", "tests"] {
        sources(&Path::new(ROOT).join(folder), &mut all);
    }
    // A fact has several words; keys and reasons have fewer.
    let code = readme.split('`').skip(1).step_by(2);
    let named: Vec<_> = code
        .filter(|name| name.matches('_').count() >= 3 && !name.contains(['=', '/', ' ']))
        .collect();
    let tests: Vec<_> = named
        .iter()
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        // Those are metrics.
        .filter(|name| !name.starts_with("usher_"))
        .collect();
    assert!(tests.len() >= 12, "{tests:?}");
    for name in tests {
        let runs = all.rsplit(&format!("fn {name}(")).skip(1).any(is_a_test);
        assert!(runs, "README names {name}, and there is no such test that runs");
    }
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
