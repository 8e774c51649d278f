//! `usher dead-letters` and `usher operations` as operators run them.

mod killed;
mod permitted;
mod wrong_use;

use std::process::Output;

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel};
use serde_json::{Value, json};
use usher::broker::topology::{COMMANDS, DEAD_LETTERS};
use usher::provider::Kind;
use uuid::Uuid;

use crate::node::Node;
use crate::outputs::mode;
use crate::process::Folder;
use crate::scene::Scene;
use crate::support::eventually;

/// In every value.
const MARKER: &str = "zqmarker";

pub fn id(n: u128) -> String {
    Uuid::from_u128((0x0190_0000_0000_7000_9000 << 48) | n).to_string()
}

/// A scene with its topology, and no worker.
pub async fn scene(name: &str) -> Scene {
    let url = Node::shared().await.vhost(name).await;
    let scene = Scene::new(Kind::Zitadel, url, 20, 10).await;
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    scene
}

/// Runs it with this exit code. Answers what it printed and what it said.
pub async fn usher(scene: &Scene, arguments: &[&str], code: i32) -> (String, String) {
    let ended = scene.settings().run(arguments, b"").await;
    ended_with(&ended, arguments, code)
}

fn ended_with(ended: &Output, arguments: &[&str], code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (printed, said) = (text(&ended.stdout), text(&ended.stderr));
    assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {printed}{said}");
    (printed, said)
}

pub async fn json_of(scene: &Scene, arguments: &[&str], code: i32) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&usher(scene, &arguments, code).await.0).unwrap()
}

/// The n-th command, of user n modulo 5. The provider takes it, or refuses the given name.
fn body(n: u128, refused: bool) -> String {
    let name = if refused { "rejected" } else { MARKER };
    let update = json!({ "givenName": name, "familyName": MARKER, "displayName": MARKER });
    json!({ "id": id(n), "provider": "zitadel", "userId": format!("user-{}", n % 5), "batchId": "b1", "update": update })
        .to_string()
}

fn properties(n: u128, reason: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    let user = n % 5;
    for (name, value) in [
        ("tenant", MARKER.to_owned()),
        ("x-usher-reason", reason.to_owned()),
        (
            "x-usher-detail",
            "/update/givenName: the provider refuses it".to_owned(),
        ),
        ("x-usher-dead-at", format!("2026-11-21T10:00:{:02}Z", n % 60)),
        ("x-usher-exchange", "user.commands".to_owned()),
        ("x-usher-routing-key", format!("zitadel.user-{user}")),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    headers.insert("x-usher-redrives".into(), AMQPValue::LongLongInt(0));
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(id(n).into())
        .with_headers(headers)
}

async fn publish(channel: &Channel, exchange: &str, key: &str, body: &str, properties: BasicProperties) {
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties)
        .await
        .unwrap()
        .await
        .unwrap();
}

/// So many dead letters, of which every so many-th fails again.
pub async fn fail(scene: &Scene, count: u128, refused_each: u128) -> Channel {
    let channel = scene.channel().await;
    let mut confirms = Vec::new();
    for n in 0..count {
        let body = body(n, n % refused_each == refused_each - 1);
        let properties = properties(n, "rejected");
        let options = BasicPublishOptions::default();
        let key = "zitadel.rejected".into();
        let sent = channel.basic_publish(DEAD_LETTERS.into(), key, options, body.as_bytes(), properties);
        confirms.push(sent.await.unwrap());
    }
    for confirm in confirms {
        assert!(confirm.await.unwrap().is_ack());
    }
    channel
}

pub async fn until_depth(scene: &Scene, channel: &Channel, queue: &str, count: u32) {
    eventually(&format!("{count} messages in {queue}"), async || {
        (scene.depth(channel, queue).await == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_counted_and_listed_without_a_value() {
    let scene = scene("letters-list").await;
    let channel = fail(&scene, 30, 100).await;
    publish(
        &channel,
        DEAD_LETTERS,
        "zitadel.conflict",
        &body(99, false),
        properties(99, "conflict"),
    )
    .await;

    let (table, said) = usher(&scene, &["dead-letters", "list"], 0).await;
    assert!(
        table.contains("30     rejected  -     /update/givenName"),
        "{table}"
    );
    assert!(table.contains("Look at status and code"), "{table}");
    assert!(said.contains("31 dead letters"), "{said}");
    let by_reason = json_of(&scene, &["dead-letters", "list", "--by", "reason"], 0).await;
    assert_eq!(by_reason["groups"][0]["count"], 30);
    assert_eq!(by_reason["groups"][1]["reason"], "conflict");
    assert_eq!(
        (&by_reason["count"], &by_reason["seen"]),
        (&31.into(), &31.into())
    );
    let of_batch = json_of(
        &scene,
        &[
            "dead-letters",
            "list",
            "--by",
            "day",
            "--batch",
            "b1",
            "--user",
            "user-3",
        ],
        0,
    )
    .await;
    assert_eq!(of_batch["groups"][0]["day"], "2026-11-21");
    assert_eq!(of_batch["count"], 6);
    let (each, _) = usher(
        &scene,
        &["dead-letters", "list", "--each", "--reason", "conflict"],
        0,
    )
    .await;
    let line = format!("{}  user-4  conflict  -  2026-11-21T10:00:39Z  0\n", id(99));
    assert_eq!(each, line);
    for text in [&table, &each, &said] {
        assert!(!text.contains(MARKER), "{text}");
    }
    until_depth(&scene, &channel, DEAD_LETTERS, 31).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_without_a_value() {
    let scene = scene("letters-show").await;
    let channel = fail(&scene, 10, 100).await;
    let (story, _) = usher(&scene, &["dead-letters", "show", &id(7)], 0).await;
    for part in [
        "/update/givenName",
        "what to do",
        "\"familyName\": \"…\"",
        "user-2",
    ] {
        assert!(story.contains(part), "{part}: {story}");
    }
    let shown = json_of(&scene, &["dead-letters", "show", &id(7)], 0).await;
    assert_eq!(shown[0]["headers"]["tenant"], "…");
    assert_eq!(shown[0]["command"]["update"]["givenName"], "…");
    for text in [&story, &shown.to_string()] {
        assert!(!text.contains(MARKER), "{text}");
    }
    let (_, said) = usher(&scene, &["dead-letters", "show", &id(1234)], 1).await;
    assert!(said.contains("no dead letter of command"), "{said}");
    until_depth(&scene, &channel, DEAD_LETTERS, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sees_the_values_is_in_the_audit_log() {
    let scene = scene("letters-reveal").await;
    fail(&scene, 3, 100).await;
    let show = ["dead-letters", "show", &id(1), "--reveal", "--by", "alex"];
    let (story, _) = usher(&scene, &show, 0).await;
    assert!(story.contains(MARKER), "{story}");
    let operations = json_of(&scene, &["operations", "list"], 0).await;
    assert_eq!(operations.as_array().unwrap().len(), 1);
    assert_eq!(operations[0]["kind"], "reveal");
    assert_eq!(
        (&operations[0]["by"], &operations[0]["state"]),
        (&"alex".into(), &"done".into())
    );
    assert_eq!(operations[0]["filter"]["id"], id(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_commands_are_published_again_as_they_are() {
    let scene = scene("letters-export").await;
    let channel = fail(&scene, 10, 100).await;
    publish(
        &channel,
        DEAD_LETTERS,
        "zitadel.undecodable",
        "{no JSON",
        properties(98, "undecodable"),
    )
    .await;
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&body(97, false)).unwrap());
    publish(
        &channel,
        DEAD_LETTERS,
        "zitadel.rejected",
        &pretty.unwrap(),
        properties(97, "rejected"),
    )
    .await;
    let folder = Folder::new();
    let (commands, reasons) = (folder.path("commands.jsonl"), folder.path("reasons.jsonl"));
    let export = ["dead-letters", "export", &commands, "--with-reasons", &reasons];
    let account = json_of(&scene, &export, 0).await;
    assert_eq!(account, json!({ "exported": 11, "skipped": 1 }));
    assert_eq!((mode(&commands), mode(&reasons)), (0o600, 0o600));
    assert_eq!(folder.read("commands.jsonl").lines().count(), 11);
    let kept: Value = serde_json::from_str(folder.read("reasons.jsonl").lines().nth(10).unwrap()).unwrap();
    assert_eq!(kept["headers"]["x-usher-reason"], "undecodable");
    assert_eq!(kept["body"], "{no JSON");
    // It is not written over.
    let (_, said) = usher(&scene, &export, 2).await;
    assert!(said.contains("exists already"), "{said}");
    let published = json_of(&scene, &["publish", &commands], 0).await;
    assert_eq!(published["published"], 11);
    until_depth(&scene, &channel, DEAD_LETTERS, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_is_planned_first_and_what_fails_again_is_listed() {
    let scene = scene("letters-redrive").await;
    let channel = fail(&scene, 40, 10).await;
    let (plan, said) = usher(&scene, &["dead-letters", "redrive", "--reason", "rejected"], 0).await;
    assert!(
        plan.contains("zitadel: 40 dead letters to send again, of 5 users"),
        "{plan}"
    );
    assert!(
        plan.contains("40  batch b1") && said.contains("--yes"),
        "{plan}{said}"
    );
    assert_eq!(json_of(&scene, &["operations", "list"], 0).await, json!([]));
    until_depth(&scene, &channel, DEAD_LETTERS, 40).await;

    let worker = scene.settings().start(&["run"]);
    let redrive = [
        "dead-letters",
        "redrive",
        "--all",
        "--yes",
        "--rate",
        "100/s",
        "--by",
        "alex",
    ];
    let account = json_of(&scene, &redrive, 1).await;
    let report = &account["operations"][0];
    assert_eq!(report["end"], "done", "{account}");
    let counts = json!({ "planned": 40, "done": 40, "succeeded": 36, "failed": 4 });
    assert_eq!(report["counts"], counts);
    let id_of = report["id"].as_str().unwrap();
    let shown = json_of(&scene, &["operations", "show", id_of], 0).await;
    let failed = shown["failedAgain"].as_array().unwrap();
    let ids: Vec<_> = failed.iter().map(|failure| failure["id"].clone()).collect();
    assert_eq!(ids, [id(9), id(19), id(29), id(39)]);
    assert!(failed.iter().all(|failure| failure["reason"] == "rejected"));
    until_depth(&scene, &channel, DEAD_LETTERS, 4).await;

    let discard = ["dead-letters", "discard", "--reason", "rejected", "--yes"];
    let (_, said) = usher(&scene, &discard, 2).await;
    assert!(said.contains("--by"), "{said}");
    let (plan, _) = usher(&scene, &[&discard[..], &["--by", "alex"]].concat(), 0).await;
    assert!(plan.contains("4 dead letters to remove for good"), "{plan}");
    until_depth(&scene, &channel, DEAD_LETTERS, 0).await;
    let operations = json_of(&scene, &["operations", "list"], 0).await;
    assert_eq!(operations[1]["kind"], "discard");
    assert_eq!(operations[1]["counts"]["done"], 4);
    worker.drained().await;
}

/// As a shovel or the management plugin moves it: further headers, other delivery flags.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_moved_by_hand_ends_as_success_or_as_a_dead_letter() {
    let scene = scene("letters-by-hand").await;
    let channel = scene.channel().await;
    for (n, refused) in [(1, false), (2, true)] {
        let properties = properties(n, "rejected").with_delivery_mode(1);
        let mut headers = properties.headers().clone().unwrap_or_default();
        let mut death = FieldTable::default();
        death.insert("reason".into(), AMQPValue::LongString("rejected".into()));
        death.insert("count".into(), AMQPValue::LongLongInt(1));
        death.insert("queue".into(), AMQPValue::LongString(DEAD_LETTERS.into()));
        let deaths = FieldArray::from(vec![AMQPValue::FieldTable(death)]);
        headers.insert("x-death".into(), AMQPValue::FieldArray(deaths));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(30));
        headers.insert("x-shovelled".into(), AMQPValue::Boolean(true));
        let properties = properties.with_headers(headers).with_priority(0);
        publish(
            &channel,
            COMMANDS,
            &format!("zitadel.user-{n}"),
            &body(n, refused),
            properties,
        )
        .await;
    }
    let worker = scene.settings().start(&["run"]);
    let events = scene.events(2).await;
    let ended = |n: u128| {
        let mut of = events.iter().filter(|event| event["data"]["commandId"] == id(n));
        of.rfind(|event| event["type"] != "USER_UPDATE_START").unwrap()["type"].clone()
    };
    assert_eq!(ended(1), "USER_UPDATE_SUCCESS");
    assert_eq!(ended(2), "USER_UPDATE_FAIL");
    let listed = json_of(&scene, &["dead-letters", "list"], 0).await;
    assert_eq!(listed["count"], 1);
    let shown = json_of(&scene, &["dead-letters", "show", &id(2)], 0).await;
    assert_eq!(shown[0]["letter"]["redrives"], 1);
    worker.drained().await;
}
