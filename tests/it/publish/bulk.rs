//! Bulk publishes: what they do is shown and agreed to first, and they keep the queues short.

use lapin::options::QueuePurgeOptions;
use serde_json::json;

use super::{declare, scene, text};
use crate::process::Folder;
use crate::scene::Scene;
use crate::support::eventually;

const BULK: &str = "user.update.bulk.zitadel.0";

fn line(n: u64, update: &serde_json::Value) -> String {
    let id = uuid::Uuid::from_u128(u128::from(n) + 1);
    let command = json!({ "id": id, "provider": "zitadel", "userId": format!("u{n}"), "update": update });
    format!("{command}\n")
}

fn mixed() -> String {
    [
        line(1, &json!({ "email": "s3cret@example.com", "nickname": null })),
        line(2, &json!({ "email": "b@example.com", "username": "s3cret" })),
        line(3, &json!({ "locale": "fr" })),
    ]
    .concat()
}

async fn bulk(scene: &Scene, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let arguments = [&["publish", "--bulk"], arguments].concat();
    let published = scene.settings().run(&arguments, input.as_bytes()).await;
    (published.status.code(), text(&published.stderr))
}

#[tokio::test]
async fn a_bulk_publish_shows_its_effect_and_needs_consent_and_each_field_that_reaches_users() {
    let scene = scene("publish-effect").await;
    declare(&scene).await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &mixed());
    let (code, said) = bulk(&scene, &[&file, "--yes"], "").await;
    assert_eq!(code, Some(2), "{said}");
    for shown in [
        "this bulk publish of 3 commands:",
        "zitadel: 3 commands",
        "sets email in 2, locale in 1, username in 1",
        "clears nickname in 1",
        "users may be sent up to 2 verification e-mails",
        "the sessions of up to 1 user may end",
        "nothing was sent; add --allow email,username",
    ] {
        assert!(said.contains(shown), "{shown}: {said}");
    }
    assert!(!said.contains("s3cret"), "{said}");
    let (code, said) = bulk(&scene, &[&file, "--yes", "--allow", "email"], "").await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("add --allow email,username"), "{said}");
    let allowed = ["--allow", "email,username"];
    let (code, said) = bulk(&scene, &[&[&*file], &allowed[..]].concat(), "").await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nothing was sent; add --yes"), "{said}");
    let channel = scene.channel().await;
    assert_eq!(scene.depth(&channel, BULK).await, 0);
    let (code, said) = bulk(&scene, &[&[&*file, "--yes"], &allowed[..]].concat(), "").await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(scene.depth(&channel, BULK).await, 3);
}

#[tokio::test]
async fn a_bulk_publish_of_stdin_needs_consent_beforehand_and_refuses_row_by_row() {
    let scene = scene("publish-effect-stdin").await;
    declare(&scene).await;
    let (code, said) = bulk(&scene, &["-"], &mixed()).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nothing was sent; add --yes"), "{said}");
    let folder = Folder::new();
    let rejects = folder.path("rejects.jsonl");
    let (code, said) = bulk(&scene, &["-", "--yes", "--rejects", &rejects], &mixed()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("line 1: invalid at /update/email") && said.contains("--allow email"),
        "{said}"
    );
    assert_eq!(scene.depth(&scene.channel().await, BULK).await, 1);
    // So does a file that is not checked first.
    let file = folder.write("commands.jsonl", &mixed());
    let (code, said) = bulk(&scene, &[&file, "--no-check-first"], "").await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nothing was sent; add --yes"), "{said}");
}

#[tokio::test]
async fn a_publish_waits_while_the_queue_is_as_long_as_it_may_be() {
    let scene = scene("publish-max-queued").await;
    declare(&scene).await;
    let folder = Folder::new();
    let lines: String = (0..25).map(|n| line(n, &json!({ "nickname": "x" }))).collect();
    let file = folder.write("commands.jsonl", &lines);
    let arguments = ["publish", &file, "--bulk", "--yes", "--max-queued", "10"];
    let mut run = scene.settings().start(&arguments);
    let channel = scene.channel().await;
    let mut taken = 0;
    for expected in [10, 10, 5] {
        eventually("the queue is full", async || {
            (scene.depth(&channel, BULK).await == expected).then_some(())
        })
        .await;
        if expected == 10 {
            assert!(run.is_running());
        }
        let purged = channel.queue_purge(BULK.into(), QueuePurgeOptions::default());
        taken += purged.await.unwrap();
    }
    let (status, said) = run.ended().await;
    assert_eq!((status.code(), taken), (Some(0), 25), "{said}");
}
