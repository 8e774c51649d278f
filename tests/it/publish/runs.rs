//! A file that is published by several runs: killed, interrupted, repeated.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use serde_json::{Value, json};
use tokio::time::timeout;
use usher::contract::lifecycle::Digest;
use uuid::Uuid;

use super::tables::taken;
use super::{declare, scene, text};
use crate::outputs::mode;
use crate::process::{Folder, Process};
use crate::scene::Scene;
use crate::support::eventually;

const QUEUE: &str = "user.update.zitadel.0";
const BULK: &str = "user.update.bulk.zitadel.0";

fn id(n: u64) -> Uuid {
    Uuid::from_u128((0x0190_0000_0000_7000_8000 << 48) | u128::from(n))
}

fn nicknames(count: u64) -> String {
    let line = |n| {
        let command = json!({ "id": id(n), "provider": "zitadel", "userId": format!("u{}", n % 50), "update": { "nickname": "x" } });
        format!("{command}\n")
    };
    (0..count).map(line).collect()
}

async fn has_depth(scene: &Scene, channel: &Channel, queue: &str, least: u32) {
    eventually("enough is published", async || {
        (scene.depth(channel, queue).await >= least).then_some(())
    })
    .await;
}

/// The events of batches from now on.
async fn batch_events(channel: &Channel) -> Consumer {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let queue = "analytics.batches";
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
    declared.await.unwrap();
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let bound = channel.queue_bind(
        queue.into(),
        "user.outcomes".into(),
        "batch.#".into(),
        options,
        arguments,
    );
    bound.await.unwrap();
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    consumer.await.unwrap()
}

/// The next event's routing key, type and data.
async fn next(events: &mut Consumer) -> (String, String, Value) {
    let delivery = timeout(Duration::from_secs(30), events.next()).await;
    let delivery = delivery.unwrap().unwrap().unwrap();
    let event: Value = serde_json::from_slice(&delivery.data).unwrap();
    let kind = delivery.properties.kind().clone().unwrap().to_string();
    assert_eq!(event["type"], kind.as_str());
    assert_eq!(event["subject"], "m-1");
    (delivery.routing_key.to_string(), kind, event["data"].clone())
}

fn kept(folder: &Folder) -> Value {
    serde_json::from_str(&folder.read("commands.jsonl.usher-checkpoint")).unwrap()
}

#[tokio::test]
async fn a_run_that_is_killed_goes_on_behind_what_it_knows_of_and_closes_the_batch_once() {
    let scene = scene("publish-killed").await;
    declare(&scene).await;
    let channel = scene.channel().await;
    let mut events = batch_events(&channel).await;
    let folder = Folder::new();
    let total = 3000;
    let file = folder.write("commands.jsonl", &nicknames(total));
    let arguments = ["publish", &file, "--bulk", "--yes", "--batch", "m-1", "--json"];
    let first = scene
        .settings()
        .start(&[&arguments[..], &["--rate", "500/s"]].concat());
    has_depth(&scene, &channel, BULK, 900).await;
    first.killed().await;
    assert_eq!(mode(&folder.path("commands.jsonl.usher-checkpoint")), 0o600);
    let rows = kept(&folder)["confirmed"]["rows"].as_u64().unwrap();
    assert!((1..total).contains(&rows), "{rows}");

    let second = scene.settings().run(&arguments, b"").await;
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    let account: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(account["earlier"], rows);
    assert_eq!(account["published"], total - rows);
    assert_eq!(account["complete"], true);
    let ids: Vec<Uuid> = taken(&scene, BULK)
        .await
        .iter()
        .map(|body| {
            serde_json::from_str::<Value>(body).unwrap()["id"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len() as u64, total);
    // What was published within the last second before the kill is unknown to the checkpoint.
    let repeated = ids.len() as u64 - total;
    assert!(repeated <= 1000, "{repeated}");
    let behind = &ids[ids.len() - usize::try_from(total - rows).unwrap()..];
    assert!(behind.contains(&id(rows)) && !behind.contains(&id(rows - 1)));

    let opened = json!({ "batchId": "m-1", "bulk": true, "commands": total });
    assert_eq!(
        next(&mut events).await,
        ("batch.opened.zitadel".into(), "BATCH_OPENED".into(), opened)
    );
    let mut digest = Digest::default();
    (0..total).for_each(|n| digest.add(id(n)));
    let closed = json!({ "batchId": "m-1", "commands": total, "ids": digest.to_string() });
    assert_eq!(
        next(&mut events).await,
        ("batch.closed.zitadel".into(), "BATCH_CLOSED".into(), closed)
    );

    // A third run has nothing to do.
    let third = scene.settings().run(&arguments, b"").await;
    assert_eq!(third.status.code(), Some(0), "{third:?}");
    assert!(
        text(&third.stderr).contains("an earlier run published all of"),
        "{third:?}"
    );
    assert_eq!(scene.depth(&channel, BULK).await, 0);
}

/// A run that was interrupted in the middle.
async fn interrupted(scene: &Scene, file: &str) {
    let channel = scene.channel().await;
    let run: Process = scene.settings().start(&["publish", file, "--rate", "50"]);
    has_depth(scene, &channel, QUEUE, 10).await;
    run.signal("INT").await;
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("the same command goes on from here"), "{said}");
}

#[tokio::test]
async fn an_interrupted_run_goes_on_without_a_repeat_and_not_with_another_file_or_other_options() {
    let scene = scene("publish-interrupted").await;
    declare(&scene).await;
    let folder = Folder::new();
    let total = 400;
    let file = folder.write("commands.jsonl", &nicknames(total));
    interrupted(&scene, &file).await;
    let rows = kept(&folder)["confirmed"]["rows"].as_u64().unwrap();

    let other = scene
        .settings()
        .run(&["publish", &file, "--bulk", "--yes"], b"")
        .await;
    assert_eq!(other.status.code(), Some(2), "{other:?}");
    let said = text(&other.stderr);
    assert!(
        said.contains("other options (without --bulk)") && said.contains("--restart"),
        "{said}"
    );

    folder.write("commands.jsonl", &nicknames(total + 1));
    let changed = scene.settings().run(&["publish", &file], b"").await;
    assert_eq!(changed.status.code(), Some(2), "{changed:?}");
    let said = text(&changed.stderr);
    assert!(
        said.contains(&format!("published its first {rows} rows")) && said.contains("--restart"),
        "{said}"
    );

    folder.write("commands.jsonl", &nicknames(total));
    let rest = scene.settings().run(&["publish", &file], b"").await;
    assert_eq!(rest.status.code(), Some(0), "{rest:?}");
    let bodies = taken(&scene, QUEUE).await;
    assert_eq!(bodies.len() as u64, total);
    assert_eq!(bodies.iter().collect::<BTreeSet<_>>().len() as u64, total);

    let again = scene.settings().run(&["publish", &file, "--restart"], b"").await;
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(taken(&scene, QUEUE).await.len() as u64, total);
}

#[tokio::test]
async fn a_checkpoint_that_can_t_be_written_is_noticed_before_the_first_command() {
    let scene = scene("publish-checkpoint").await;
    declare(&scene).await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &nicknames(3));
    let nowhere = folder.path("missing/checkpoint");
    let refused = scene
        .settings()
        .run(&["publish", &file, "--checkpoint", &nowhere], b"")
        .await;
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(
        text(&refused.stderr).contains("--checkpoint FILE names another place"),
        "{refused:?}"
    );
    assert_eq!(scene.depth(&scene.channel().await, QUEUE).await, 0);
    let broken = folder.write("broken", "{");
    let refused = scene
        .settings()
        .run(&["publish", &file, "--checkpoint", &broken], b"")
        .await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("is no checkpoint"), "{refused:?}");
    let anew = scene
        .settings()
        .run(&["publish", &file, "--checkpoint", &broken, "--restart"], b"")
        .await;
    assert_eq!(anew.status.code(), Some(0), "{anew:?}");
}
