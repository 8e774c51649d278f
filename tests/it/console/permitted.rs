//! The console with the permissions that `docs/security.md` gives one that only looks.

use axum::http::StatusCode;
use serde_json::json;
use usher::broker::topology::DEAD_LETTERS;

use super::{OPERATOR, Served};
use crate::dead_letters::{fail, id, json_of, scene, until_depth, usher};
use crate::permissions::url_of;
use crate::process::Folder;
use crate::scene::Scene;
use crate::support::eventually;

/// What parts a query from what is before it.
fn and(path: &str) -> char {
    if path.contains('?') { '&' } else { '?' }
}

/// Something for each screen: a batch, a dead letter, and an operation, whose id is returned.
async fn prepared(scene: &Scene) -> String {
    let folder = Folder::new();
    let update =
        json!({ "id": id(5000), "provider": "zitadel", "userId": "u", "update": { "nickname": "n" } });
    let file = folder.write("commands.jsonl", &format!("{update}\n"));
    usher(scene, &["publish", &file, "--yes", "--batch", "m-1"], 0).await;
    let discard = [
        "dead-letters",
        "discard",
        "--user",
        "user-1",
        "--yes",
        "--by",
        "al",
    ];
    usher(scene, &discard, 0).await;
    eventually("the discard is told", async || {
        let all = json_of(scene, &["operations", "list"], 0).await;
        let mut operations = all.as_array()?.iter();
        let discard = operations.find(|one| one["kind"] == "discard" && one["state"] == "done")?;
        Some(discard["id"].as_str()?.to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seven_screens_answer_with_the_permissions_of_a_console_that_only_looks() {
    let vhost = "console-permitted";
    let scene = scene(vhost).await;
    let channel = fail(&scene, 3, 100).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 3).await;
    let operation = format!("/operations/{}", prepared(&scene).await);
    let worker = scene.settings().start(&["run"]);
    scene.applied(1).await;

    let permitted = scene
        .settings()
        .with("BROKER__URL", &url_of(vhost, "console").await);
    let console = Served::start(&permitted).await;
    let letter = format!("/failures/{}", id(2));
    // Each screen, with something that it can know from the broker alone.
    for (path, told) in [
        ("/", "2 dead letters"),
        ("/failures", "rejected"),
        (&letter, "/update/givenName"),
        ("/operations", "discard"),
        (&operation, "Last told"),
        ("/batches", "m-1"),
        ("/batches/m-1", "1"),
        ("/why?user=u", "u"),
        ("/fleet", "zitadel"),
    ] {
        let text = eventually(path, async || {
            let (status, text) = console.page(&format!("{path}{}fresh=1", and(path))).await;
            (status == StatusCode::OK && text.contains(told)).then_some(text)
        })
        .await;
        for refused in ["permission", "refused access", "access to", "no worker answers"] {
            assert!(!text.contains(refused), "{path}: {refused}: {text}");
        }
    }

    // Whoever signs in acts on nothing: the broker takes no order from it.
    let pause = [("reason", "r"), ("what", "all calls"), ("until", "1h")];
    let (status, text) = console.post(OPERATOR, "/fleet", "/act/pause", &pause).await;
    assert!(
        status.is_client_error() || status.is_server_error(),
        "{status}: {text}"
    );
    let shown = json_of(&scene, &["pace", "show"], 0).await;
    assert!(shown["orders"]["pause"].is_null(), "{shown}");
    until_depth(&scene, &channel, DEAD_LETTERS, 2).await;
    worker.drained().await;
}
