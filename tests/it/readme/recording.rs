//! The drawing at README's top shows README's commands, and is safe and readable wherever a page shows it.

use std::fs;

use super::pages::root;

#[test]
fn the_recording_shows_readmes_commands_and_loads_nothing() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let drawing = fs::read_to_string(root().join("docs/apply.svg")).unwrap();
    let commands: Vec<_> = readme
        .lines()
        .filter(|line| line.starts_with("cargo run -- apply"))
        .collect();
    assert!(!commands.is_empty(), "README.md shows no `cargo run -- apply`");
    let described = drawing.split("<desc").nth(1).unwrap();
    let described = described.split("</desc>").next().unwrap();
    for command in commands {
        assert!(
            described.contains(&format!("\n$ {command}\n")),
            "docs/apply.svg does not show `{command}`: run docs/recording/record"
        );
    }
    assert!(readme.contains("](docs/apply.svg)"));
    assert!(drawing.contains("<title") && drawing.contains("prefers-color-scheme: dark"));
    assert!(drawing.contains("prefers-reduced-motion: reduce"));
    for loading in [
        "<script",
        "href",
        "url(",
        "@import",
        "@font-face",
        "foreignObject",
    ] {
        assert!(!drawing.contains(loading), "docs/apply.svg has {loading}");
    }
    assert!(
        drawing.len() < 60_000,
        "docs/apply.svg has {} bytes",
        drawing.len()
    );
}
