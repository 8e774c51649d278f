//! What holds for all verbs: how much they say, colours, and what a signal does.

use std::process::Output;

use serde_json::{Value, json};

use crate::dead_letters::{fail, id, scene};
use crate::process::{Folder, Settings};
use crate::scene::Scene;

const ESCAPE: char = '\u{1b}';

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Without a broker: `check` finds the configuration wrong, and says so on stdout.
async fn check(settings: &Settings, options: &[&str]) -> String {
    let output = settings.run(&[&["check"], options].concat(), b"").await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    printed(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_or_asked_for_and_never_in_json() {
    let none = Settings::default();
    let no_color = none.clone().with_variable("NO_COLOR", "1");
    let plain = check(&none, &[]).await;
    assert!(plain.starts_with("WRONG  U001"), "{plain}");
    for options in [&["--color", "auto"], &["--color", "never"]] {
        assert_eq!(check(&none, options).await, plain);
    }
    for settings in [&none, &no_color] {
        let coloured = check(settings, &["--color", "always"]).await;
        assert!(
            coloured.starts_with("\u{1b}[1m\u{1b}[31mWRONG\u{1b}[0m"),
            "{coloured:?}"
        );
        let json = check(settings, &["--color", "always", "--json"]).await;
        assert!(!json.contains(ESCAPE), "{json:?}");
        serde_json::from_str::<Value>(&json).unwrap();
    }
    let help = none.run(&["--color=always", "check", "--help"], b"").await;
    assert!(printed(&help).contains(ESCAPE));
    let wrong = none.run(&["check", "--color", "green"], b"").await;
    assert_eq!(wrong.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_there_are_colours_unless_no_color_is_set() {
    let terminal = Settings::default().with_variable("TERM", "xterm");
    let no_color = terminal.clone().with_variable("NO_COLOR", "1");
    let empty = terminal.clone().with_variable("NO_COLOR", "");
    for (settings, option, expected) in [
        (&terminal, "", true),
        (&empty, "", true),
        (&no_color, "", false),
        (&no_color, "--color always", true),
        (&terminal, "--color never", false),
    ] {
        let script = format!("script -qec '\"$USHER\" check {option}' /dev/null");
        let shown = printed(&settings.script(&script).await);
        assert!(shown.contains("WRONG"), "{shown}");
        assert_eq!(shown.contains(ESCAPE), expected, "{option:?}: {shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_and_verbose_exclude_each_other_and_a_worker_has_its_level() {
    let settings = Settings::default();
    for arguments in [["-q", "check", "-v"], ["check", "--verbose", "--quiet"]] {
        let output = settings.run(&arguments, b"").await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains("cannot be used with"), "{output:?}");
    }
    for flag in ["-q", "-v"] {
        let output = settings.run(&["run", flag], b"").await;
        assert_eq!(output.status.code(), Some(2), "{flag}");
        assert!(said(&output).contains("log.level"), "{output:?}");
    }
}

async fn list(scene: &Scene, option: &[&str]) -> (String, String) {
    let arguments = [&["dead-letters", "list"], option].concat();
    let output = scene.settings().run(&arguments, b"").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    (printed(&output), said(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_leaves_the_results_and_verbose_tells_what_is_read_and_published() {
    let scene = scene("conventions").await;
    let _channel = fail(&scene, 3, 100).await;
    let (table, normal) = list(&scene, &[]).await;
    assert!(normal.contains("usher: 3 dead letters"), "{normal}");
    assert_eq!(list(&scene, &["--quiet"]).await, (table.clone(), String::new()));
    let (same, told) = list(&scene, &["--verbose"]).await;
    assert_eq!(same, table);
    for part in [
        "usher: connected to amqp://",
        "looking into the queue user.dead-letters",
        "3 messages of the queue user.dead-letters read after ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("guest:guest"), "{told}");
    let why = scene.settings().run(&["-v", "why", &id(1)], b"").await;
    assert!(
        said(&why).contains("reading the stream user.outcomes.log"),
        "{why:?}"
    );

    let folder = Folder::new();
    let update =
        json!({ "id": id(900), "provider": "zitadel", "userId": "u1", "update": { "nickname": "zqmarker" } });
    let file = folder.write("commands.jsonl", &format!("{update}\n"));
    let publish = |options: &[&str]| {
        let arguments: Vec<_> = ["publish", &file, "--restart"]
            .iter()
            .chain(options)
            .map(|each| (*each).to_owned())
            .collect();
        let settings = scene.settings();
        async move {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let output = settings.run(&arguments, b"").await;
            (output.status.code(), said(&output))
        }
    };
    assert_eq!(publish(&["-q"]).await, (Some(0), String::new()));
    let (code, told) = publish(&["-v"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("1 message published and confirmed after "),
        "{told}"
    );
    assert!(!told.contains("zqmarker"), "{told}");
    // Consent is asked for all the same, and what it is about is said.
    let (code, told) = publish(&["-q", "--bulk"]).await;
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("this bulk publish of 1 command") && told.contains("add --yes"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_that_only_looks_ends_with_the_first_signal_and_says_so() {
    // A broker that takes connections, and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://{}", silent.local_addr().unwrap());
    let settings = Settings::default()
        .with("BROKER__URL", &url)
        .with("PROVIDER__NAME", &"sivo");
    for verb in [
        &["why", "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e"][..],
        &["batch", "status", "b1"],
        &["batch", "report", "b1", "--csv"],
        &["dead-letters", "list"],
        &["waiting"],
    ] {
        let process = settings.start(verb);
        let (_connection, _) = silent.accept().await.unwrap();
        process.signal("INT").await;
        let (status, said) = process.ended().await;
        assert_eq!(status.code(), Some(3), "{verb:?}: {said}");
        assert!(said.contains("usher: interrupted"), "{verb:?}: {said}");
    }
    // These have something to finish: the second signal ends them at once.
    let watch = settings.start(&["batch", "watch", "b1"]);
    let (_connection, _) = silent.accept().await.unwrap();
    watch.signal("INT").await;
    watch.signal("TERM").await;
    let (status, said) = watch.ended().await;
    assert_eq!(status.code(), Some(3), "{said}");
}
