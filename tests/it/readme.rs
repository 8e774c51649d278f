//! README is no braver than the code: each test that it names is there.

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
fn every_test_that_the_readme_names_exists() {
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
        .collect();
    assert!(tests.len() >= 12, "{tests:?}");
    for name in tests {
        assert!(
            all.contains(&format!("fn {name}(")),
            "README names {name}, and there is no such test"
        );
    }
}
