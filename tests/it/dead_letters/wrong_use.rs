//! What is refused before anything is changed, and a broker that is away.

use uuid::Uuid;

use super::scene;
use crate::node::free_ports;
use crate::process::Settings;

#[tokio::test]
async fn wrong_use_of_dead_letters_is_refused_and_the_way_out_is_named() {
    let file = std::env::temp_dir().join("never");
    let file = file.to_str().unwrap();
    let cases: [(&[&str], &str); 11] = [
        (&["dead-letters", "redrive"], "or give --all"),
        (&["dead-letters", "discard", "--yes"], "or give --all"),
        (
            &["dead-letters", "redrive", "--all", "--user", "u"],
            "--all stands alone",
        ),
        (
            &["dead-letters", "list", "--reason", "conflct"],
            "the reasons are",
        ),
        (
            &["dead-letters", "list", "--since", "yesterday"],
            "how long ago, such as 2h",
        ),
        (
            &["dead-letters", "list", "--each", "--by", "day"],
            "cannot be used with",
        ),
        (
            &["dead-letters", "redrive", "--all", "--rate", "0"],
            "such as 5/s",
        ),
        (
            &["dead-letters", "redrive", "--all", "--canary-timeout", "1ms"],
            "such as 10m",
        ),
        (
            &["dead-letters", "export", file, "--with-reasons", file],
            "same file",
        ),
        (&["dead-letters", "redrive", "--all", "--yes"], "--by NAME"),
        (&["operations", "resume", "x"], "invalid value"),
    ];
    for (arguments, hint) in cases {
        let ended = Settings::default().run(arguments, b"").await;
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(hint), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn every_verb_of_dead_letters_names_a_broker_that_is_away() {
    let [dead] = free_ports();
    let url = format!("amqp://u:s3cret@127.0.0.1:{dead}/v");
    let away = Settings::default().with("BROKER__URL", &url);
    let id = Uuid::new_v4().to_string();
    for arguments in [
        &["dead-letters", "list"][..],
        &["dead-letters", "show", &id],
        &["dead-letters", "export", "/nowhere/at/all"],
        &["dead-letters", "redrive", "--all", "--yes", "--by", "al"],
        &["dead-letters", "discard", "--user", "u"],
        &["operations", "list"],
        &["operations", "show", &id],
        &["operations", "abort", &id],
        &["operations", "resume", &id],
    ] {
        let ended = away.run(arguments, b"").await;
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(4), "{arguments:?}: {said}");
        assert!(said.contains(&format!("127.0.0.1:{dead}")), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_is_not_known_is_refused() {
    let scene = scene("letters-unknown").await;
    let id = Uuid::new_v4().to_string();
    for verb in ["show", "abort", "resume"] {
        let (_, said) = super::usher(&scene, &["operations", verb, &id], 2).await;
        assert!(said.contains("has no operation"), "{said}");
    }
    let (printed, said) = super::usher(&scene, &["operations", "list"], 0).await;
    assert!(printed.is_empty() && said.contains("no operation"), "{said}");
    let (printed, _) = super::usher(
        &scene,
        &["dead-letters", "redrive", "--all", "--yes", "--by", "al"],
        0,
    )
    .await;
    assert!(printed.contains("no dead letter is chosen"), "{printed}");
}
