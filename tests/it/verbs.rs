//! What all verbs have in common: help that fits the terminal, completions and a page for man.

use crate::process::Settings;

/// The names in the list of commands of this help.
fn names(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    list.take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

async fn help(columns: usize, verb: &[String]) -> String {
    let settings = Settings::default().with_variable("COLUMNS", &columns.to_string());
    let mut arguments: Vec<_> = verb.iter().map(String::as_str).collect();
    arguments.push("--help");
    let output = settings.run(&arguments, b"").await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// All verbs, those of verbs included.
async fn verbs() -> Vec<Vec<String>> {
    let (mut found, mut open) = (Vec::new(), vec![Vec::new()]);
    while let Some(verb) = open.pop() {
        let inner = names(&help(100, &verb).await);
        match inner.is_empty() {
            true => found.push(verb),
            false => open.extend(inner.into_iter().map(|name| {
                let mut inner = verb.clone();
                inner.push(name);
                inner
            })),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_of_each_verb_fits_80_and_60_columns_with_an_example_and_the_exit_codes() {
    let verbs = verbs().await;
    assert!(verbs.len() >= 25, "{verbs:?}");
    for verb in &verbs {
        for columns in [80, 60] {
            let help = help(columns, verb).await;
            let wide = help.lines().find(|line| {
                let can_break = line.trim().contains(' ') && !line.starts_with("Usage:");
                can_break && line.chars().count() > columns
            });
            assert_eq!(wide, None, "{verb:?} at {columns} columns");
            for part in ["\nExample", "\nExit codes:\n  0  done\n", "\nEnvironment:\n"] {
                assert!(help.contains(part), "{verb:?}: no {part:?}");
            }
            let example = format!("\n  usher {}", verb.join(" "));
            assert!(help.contains(&example), "{verb:?}: no example");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_the_page_for_man_know_each_verb() {
    let settings = Settings::default();
    let page = settings.run(&["man"], b"").await;
    let page = String::from_utf8(page.stdout).unwrap().replace('\\', "");
    let mut scripts = Vec::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = settings.run(&["completions", shell], b"").await;
        assert_eq!(script.status.code(), Some(0), "{shell}");
        scripts.push(String::from_utf8(script.stdout).unwrap());
    }
    for verb in verbs().await {
        assert!(page.contains(&verb.join(" ")), "{verb:?}");
        let last = verb.last().unwrap();
        assert!(
            scripts.iter().all(|script| script.contains(last.as_str())),
            "{verb:?}"
        );
    }
    let wrong = settings.run(&["completions", "none"], b"").await;
    assert_eq!(wrong.status.code(), Some(2));
}
