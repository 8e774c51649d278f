//! Redrives that are killed or interrupted while a worker runs, and gone on with.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;
use usher::broker::topology::DEAD_LETTERS;

use super::{fail, id, json_of, scene, until_depth, usher};
use crate::process::Process;
use crate::scene::Scene;
use crate::support::eventually;

const COUNT: u128 = 200;

/// A redrive that is in the middle of sending.
async fn sending(scene: &Scene) -> (Process, String) {
    let arguments = [
        "dead-letters",
        "redrive",
        "--all",
        "--yes",
        "--rate",
        "40/s",
        "--canary",
        "5",
        "--by",
        "alex",
    ];
    let redrive = scene
        .settings()
        .start_between(Stdio::null(), &arguments, Stdio::null());
    scene.applied(40).await;
    let operations = json_of(scene, &["operations", "list"], 0).await;
    assert_eq!(operations[0]["state"], "running", "{operations}");
    assert_eq!(operations[0]["by"], "alex");
    (redrive, operations[0]["id"].as_str().unwrap().to_owned())
}

/// Each command has succeeded, under one event id.
fn check(events: &[Value]) {
    let mut ended: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in events
        .iter()
        .filter(|event| event["type"] == "USER_UPDATE_SUCCESS")
    {
        let command = event["data"]["commandId"].as_str().unwrap();
        let ids = ended.entry(command).or_default();
        ids.push(event["id"].as_str().unwrap());
        ids.dedup();
    }
    assert_eq!(ended.len(), usize::try_from(COUNT).unwrap());
    assert!((0..COUNT).all(|n| ended[id(n).as_str()].len() == 1));
    assert!(events.iter().all(|event| event["type"] != "USER_UPDATE_FAIL"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_is_killed_is_resumed_and_every_dead_letter_ends_once() {
    let scene = scene("letters-killed").await;
    let channel = fail(&scene, COUNT, COUNT + 1).await;
    let worker = scene.settings().start(&["run"]);
    let (redrive, operation) = sending(&scene).await;
    let (_, said) = usher(&scene, &["operations", "resume", &operation], 2).await;
    assert!(said.contains("runs: stop it where it runs"), "{said}");
    redrive.killed().await;

    eventually("the broker notices", async || {
        let operations = json_of(&scene, &["operations", "list"], 0).await;
        (operations[0]["state"] == "interrupted").then_some(())
    })
    .await;
    let report = json_of(&scene, &["operations", "resume", &operation], 0).await;
    assert_eq!(
        (&report["end"], &report["counts"]["done"]),
        (&"done".into(), &200.into())
    );
    check(&scene.events(usize::try_from(COUNT).unwrap()).await);
    until_depth(&scene, &channel, DEAD_LETTERS, 0).await;
    let (_, said) = usher(&scene, &["operations", "resume", &operation], 2).await;
    assert!(said.contains("has ended"), "{said}");
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_redrive_names_the_way_on_and_can_be_aborted() {
    let scene = scene("letters-interrupted").await;
    let channel = fail(&scene, COUNT, COUNT + 1).await;
    let worker = scene.settings().start(&["run"]);
    let (redrive, operation) = sending(&scene).await;
    redrive.signal("INT").await;
    let (status, said) = redrive.ended().await;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(
        said.contains(&format!("usher operations resume {operation}")),
        "{said}"
    );
    let report = json_of(&scene, &["operations", "abort", &operation], 0).await;
    assert_eq!(report["end"], "aborted");
    let all = eventually("each is applied or a dead letter again", async || {
        let left = u64::from(scene.depth(&channel, DEAD_LETTERS).await);
        let applied = scene.provider.summary().applied;
        (left + applied == COUNT as u64).then_some((left, applied))
    })
    .await;
    assert!(all.0 > 0 && all.1 > 0, "{all:?}");
    let (line, _) = usher(&scene, &["operations", "show", &operation], 0).await;
    assert!(line.contains("aborted") && line.contains("by alex"), "{line}");
    worker.drained().await;
}
