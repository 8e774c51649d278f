//! `usher health`: the exit code that a container's health check needs.

use std::process::Output;

use usher::provider::Kind;

use crate::node::{Node, free_ports};
use crate::process::Settings;
use crate::scene::Scene;
use crate::support::eventually;

/// Its exit code, what it printed, and what it said.
async fn asked(settings: &Settings, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = settings.run(&[&["health"][..], arguments].concat(), b"").await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_0_for_a_live_worker_and_ready_only_while_commands_make_progress() {
    let url = Node::shared().await.vhost("health").await;
    let scene = Scene::new(Kind::Zitadel, url, 1, 1).await;
    let [port] = free_ports();
    let at = format!("127.0.0.1:{port}");
    let settings = scene
        .settings()
        .without("ADMIN__LISTEN")
        .with("ADMIN__LISTEN", &at);
    // Nothing but the address is looked at.
    let alone = Settings::default().with("ADMIN__LISTEN", &at);
    for arguments in [&[][..], &["--ready"]] {
        let (code, printed, said) = asked(&alone, arguments).await;
        assert_eq!((code, printed.as_str()), (Some(4), ""), "{said}");
        assert!(
            said.contains(&format!("no worker listens on admin.listen {at}")),
            "{said}"
        );
    }
    let worker = settings.start(&["run"]);
    eventually("it is ready", async || {
        let (code, printed, _) = asked(&alone, &["--ready"]).await;
        (code == Some(0)).then(|| assert_eq!(printed, "ready: idle\n"))
    })
    .await;
    let pause = ["pause", "--reason", "maintenance", "--by", "alex"];
    assert_eq!(settings.run(&pause, b"").await.status.code(), Some(0));
    eventually("it is not ready", async || {
        let (code, _, said) = asked(&alone, &["--ready"]).await;
        (code == Some(4)).then(|| assert!(said.contains("is not ready: operator"), "{said}"))
    })
    .await;
    assert_eq!(
        asked(&alone, &[]).await,
        (Some(0), "alive\n".to_owned(), String::new()),
        "a pause is no reason for a restart"
    );
    worker.drained().await;
    assert_eq!(asked(&alone, &[]).await.0, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_of_an_address_that_is_none_is_wrong_use() {
    let settings = Settings::default().with("ADMIN__LISTEN", &"nowhere");
    let (code, _, said) = asked(&settings, &[]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("USHER_ADMIN__LISTEN"), "{said}");
}
