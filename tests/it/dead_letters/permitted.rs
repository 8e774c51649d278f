//! The permissions that `docs/security.md` gives to those who look at dead letters and to those who change them.

use super::{fail, scene, until_depth, usher};
use crate::permissions::url_of;
use usher::broker::topology::DEAD_LETTERS;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_and_only_a_redriver_changes() {
    let vhost = "letters-permitted";
    let mut scene = scene(vhost).await;
    let channel = fail(&scene, 7, 100).await;
    let worker = scene.settings().start(&["run"]);
    let redrive = [
        "dead-letters",
        "redrive",
        "--user",
        "user-1",
        "--yes",
        "--by",
        "al",
    ];

    scene.url = url_of(vhost, "operator").await;
    usher(&scene, &["dead-letters", "list"], 0).await;
    usher(&scene, &["operations", "list"], 0).await;
    let (_, said) = usher(&scene, &["batch", "list"], 0).await;
    assert!(said.contains("the orders can't be read"), "{said}");
    let (_, said) = usher(&scene, &redrive, 2).await;
    assert!(said.contains("usher.operation."), "{said}");
    until_depth(&scene, &channel, DEAD_LETTERS, 7).await;

    scene.url = url_of(vhost, "redriver").await;
    let (_, said) = usher(&scene, &redrive, 0).await;
    assert!(said.contains("done: 2 of 2 sent again; 2 succeeded"), "{said}");
    usher(
        &scene,
        &["dead-letters", "discard", "--all", "--yes", "--by", "al"],
        0,
    )
    .await;
    until_depth(&scene, &channel, DEAD_LETTERS, 0).await;
    worker.drained().await;
}
