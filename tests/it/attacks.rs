//! Messages that are made to break a worker: headers nested as deeply as a frame can hold, ten thousand of them, bodies as
//! large as the broker takes, on every exchange and queue that a worker reads.

use std::fs;

use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use serde_json::json;
use usher::broker::topology::{
    BROKER_DEAD_LETTERS, COMMANDS, COMMANDS_BULK, DEAD_LETTERS, OUTCOME_LOG, OUTCOMES,
};
use usher::provider::Kind;
use uuid::Uuid;

use crate::node::Node;
use crate::process::Process;
use crate::raw_amqp::{RawAmqp, nested_arrays, nested_tables};
use crate::scene::Scene;
use crate::support::eventually;

/// What a broker of each version takes by default.
const BODY_BYTES: usize = 16 * 1024 * 1024;

/// What is kept out are gigabytes: 20 bodies, or what a prefetch of them would take.
const MEMORY_KIB_MAX: u64 = 480 * 1024;

async fn send(channel: &Channel, exchange: &str, key: &str, body: &[u8], headers: FieldTable) {
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers);
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
    sent.await.unwrap().await.unwrap();
}

fn many(count: usize) -> FieldTable {
    let mut table = FieldTable::default();
    for n in 0..count {
        table.insert(format!("h{n}").into(), AMQPValue::Void);
    }
    table
}

fn memory_kib(worker: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn first_dead_letter(channel: &Channel) -> BasicGetMessage {
    let options = BasicGetOptions { no_ack: true };
    let dead_letter = channel.basic_get(DEAD_LETTERS.into(), options).await;
    dead_letter.unwrap().expect("a dead letter")
}

/// Each of them takes a debug build a second or two.
async fn dead_letters_become(scene: &Scene, channel: &Channel, count: u32) {
    for at_least in 1..=count {
        eventually(&format!("{at_least} dead letters"), async || {
            (scene.depth(channel, DEAD_LETTERS).await >= at_least).then_some(())
        })
        .await;
    }
    assert_eq!(scene.depth(channel, DEAD_LETTERS).await, count);
}

/// Everything that a worker reads. The last three are no commands: nothing comes of them.
const READ: [(&str, &str, u32); 6] = [
    (COMMANDS, "zitadel.u", 1),
    (COMMANDS_BULK, "zitadel.u", 1),
    (BROKER_DEAD_LETTERS, "zitadel.u", 1),
    (OUTCOMES, "user.update.start.zitadel", 0),
    ("", OUTCOME_LOG, 0),
    ("usher.fleet.zitadel", "", 0),
];

async fn scene(vhost: &str) -> (Scene, Channel) {
    let url = Node::shared().await.vhost(vhost).await;
    let scene = Scene::new(Kind::Zitadel, url, 1, 1).await;
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let channel = scene.channel().await;
    let options = ConfirmSelectOptions::default();
    channel.confirm_select(options).await.unwrap();
    (scene, channel)
}

/// The worker still takes commands.
async fn works(scene: &Scene, channel: &Channel, user: &str) {
    let command =
        json!({ "id": Uuid::new_v4(), "provider": "zitadel", "userId": user, "update": { "nickname": "n" } });
    let body = command.to_string();
    send(
        channel,
        COMMANDS,
        &format!("zitadel.{user}"),
        body.as_bytes(),
        FieldTable::default(),
    )
    .await;
    eventually("a call", async || {
        scene
            .provider
            .calls()
            .iter()
            .any(|call| call.user == user)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deepest_headers_end_no_worker_and_become_one_dead_letter_each() {
    let (scene, channel) = scene("deepest-headers").await;
    let worker = scene.settings().start(&["run"]);
    works(&scene, &channel, "before").await;
    let mut raw = RawAmqp::connect(&scene.url);
    let mut expected = 0;
    // A frame has 128 KiB, and each level takes five bytes of it, or seven.
    for headers in [
        nested_arrays(12_000),
        nested_arrays(26_000),
        nested_tables(8_000),
        nested_tables(18_000),
    ] {
        for (exchange, key, dead_letters) in READ {
            raw.publish(exchange, key, b"{no JSON", &headers);
            expected += dead_letters;
        }
    }
    dead_letters_become(&scene, &channel, expected).await;
    works(&scene, &channel, "after").await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_headers_are_cut_and_the_dead_letter_says_so() {
    let (scene, channel) = scene("many-headers").await;
    let worker = scene.settings().start(&["run"]);
    let mut expected = 0;
    for (exchange, key, dead_letters) in READ {
        send(&channel, exchange, key, b"{no JSON", many(17_000)).await;
        expected += dead_letters;
    }
    dead_letters_become(&scene, &channel, expected).await;
    works(&scene, &channel, "after").await;
    worker.drained().await;
    let dead_letter = first_dead_letter(&channel).await;
    let headers = dead_letter.properties.headers().clone().unwrap();
    assert!(headers.inner().contains_key("x-usher-headers-cut"));
    assert!(headers.inner().contains_key("x-usher-reason"));
    assert!(headers.inner().len() > 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_bodies_are_released_and_become_complete_dead_letters() {
    let (scene, channel) = scene("largest-bodies").await;
    let body = vec![b' '; BODY_BYTES];
    let worker = scene.settings().start(&["run"]);
    let mut expected = 0;
    // A busy broker makes the worker hold a whole round; it must not hold the one before, too.
    for _ in 0..3 {
        for (exchange, key, dead_letters) in READ {
            let count = if exchange == COMMANDS { 20 } else { 1 };
            for _ in 0..count {
                send(&channel, exchange, key, &body, FieldTable::default()).await;
            }
            expected += dead_letters * count;
        }
        dead_letters_become(&scene, &channel, expected).await;
    }
    works(&scene, &channel, "after").await;
    assert!(
        memory_kib(&worker) < MEMORY_KIB_MAX,
        "{} KiB",
        memory_kib(&worker)
    );
    worker.drained().await;
    let dead_letter = first_dead_letter(&channel).await;
    assert_eq!(dead_letter.data.len(), BODY_BYTES);
}
