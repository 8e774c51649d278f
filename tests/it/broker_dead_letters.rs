//! Commands that the broker dead-letters itself: expired in the queue, or rejected by another client.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel};
use serde_json::{Value, json};
use tokio::time::timeout;
use usher::broker::topology::{BROKER_DEAD_LETTERS, COMMANDS, COMMANDS_BULK, DEAD_LETTERS};
use usher::broker::{Delivery, FleetMessage, Listener};
use usher::provider::Kind;
use uuid::Uuid;

use crate::bench::{Bench, promises};
use crate::node::Node;
use crate::scene::Scene;
use crate::support::{self, eventually};

promises!(
    broker_dead_letters_come_one_at_a_time_and_again_after_their_listener_ends,
    an_unacked_broker_dead_letter_comes_again_after_a_lost_connection,
);

async fn broker_dead_letter(listener: &mut Box<dyn Listener>) -> Delivery {
    let received = async {
        loop {
            if let FleetMessage::BrokerDeadLetter(delivery) = listener.next().await {
                return delivery;
            }
        }
    };
    timeout(Duration::from_secs(60), received).await.expect("in time")
}

async fn receives_nothing(listener: &mut Box<dyn Listener>) {
    let received = timeout(Duration::from_millis(400), broker_dead_letter(listener)).await;
    assert!(received.is_err(), "{received:?}");
}

async fn publish_broker_dead_letters(bench: &dyn Bench, count: usize) {
    let publisher = bench.publisher().await;
    for number in 0..count {
        let dead_letter = support::message(BROKER_DEAD_LETTERS, "sivo.x", number);
        publisher.publish(&dead_letter).await.unwrap();
    }
}

async fn broker_dead_letters_come_one_at_a_time_and_again_after_their_listener_ends(bench: &dyn Bench) {
    let mut first = bench.listener().await;
    let mut second = bench.listener().await;
    publish_broker_dead_letters(bench, 3).await;
    let dead_letter = broker_dead_letter(&mut first).await;
    assert_eq!(
        (support::id(&dead_letter).as_str(), dead_letter.redelivered),
        ("0", false)
    );
    receives_nothing(&mut first).await;
    dead_letter.ack().await.unwrap();
    let dead_letter = broker_dead_letter(&mut first).await;
    assert_eq!(support::id(&dead_letter), "1");
    receives_nothing(&mut second).await;
    drop(first);
    let again = broker_dead_letter(&mut second).await;
    assert_eq!((support::id(&again).as_str(), again.redelivered), ("1", true));
    assert!(dead_letter.ack().await.is_err(), "it is stale");
    again.ack().await.unwrap();
    assert_eq!(support::id(&broker_dead_letter(&mut second).await), "2");
}

async fn an_unacked_broker_dead_letter_comes_again_after_a_lost_connection(bench: &dyn Bench) {
    let mut listener = bench.listener().await;
    publish_broker_dead_letters(bench, 1).await;
    let dead_letter = broker_dead_letter(&mut listener).await;
    bench.drop_connections().await;
    let again = broker_dead_letter(&mut listener).await;
    assert!(again.redelivered);
    assert!(!dead_letter.usable());
    again.ack().await.unwrap();
}

/// How many commands expire.
fn expired() -> u64 {
    let set = std::env::var("USHER_TEST_COMMANDS").ok();
    let commands: u64 = set.map_or(2000, |text| {
        text.parse().expect("USHER_TEST_COMMANDS is a number")
    });
    commands / 50
}

/// A command that another client rejects, and one of a partition that no longer exists. No multiples of three.
const REFUSED: u64 = 100_000;
const ELSEWHERE: u64 = 100_003;

fn id(n: u64) -> Uuid {
    Uuid::from_u128(u128::from(n) + 1)
}

/// The n-th command, every third of it bulk.
async fn publish(channel: &Channel, n: u64, expiration: Option<&str>) {
    let exchange = if n.is_multiple_of(3) {
        COMMANDS_BULK
    } else {
        COMMANDS
    };
    let update = json!({ "nickname": "n" });
    let command = json!({ "id": id(n), "provider": "zitadel", "userId": format!("u{n}"), "update": update });
    let mut properties = BasicProperties::default().with_delivery_mode(2);
    properties = properties.with_message_id(id(n).to_string().into());
    if let Some(expiration) = expiration {
        properties = properties.with_expiration(expiration.into());
    }
    send(
        channel,
        exchange,
        &format!("zitadel.u{n}"),
        &command.to_string(),
        properties,
    )
    .await;
}

async fn send(channel: &Channel, exchange: &str, key: &str, body: &str, properties: BasicProperties) {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties);
    sent.await.unwrap().await.unwrap();
}

/// The next command, refused by somebody who has no business there.
async fn refuse_one(scene: &Scene) {
    let channel = scene.channel().await;
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let queue = "user.update.zitadel.0";
    let mut commands = channel
        .basic_consume(queue.into(), "".into(), options, arguments)
        .await
        .unwrap();
    let command = commands.next().await.unwrap().unwrap();
    let refused = BasicRejectOptions { requeue: false };
    command.acker.reject(refused).await.unwrap();
    channel.close(200, "OK".into()).await.unwrap();
}

async fn dead_letters_become(scene: &Scene, channel: &Channel, count: u64) {
    eventually("dead letters", async || {
        let depth = scene.depth(channel, DEAD_LETTERS).await;
        (u64::from(depth) == count).then_some(())
    })
    .await;
}

/// Empties the queue. Each dead letter as a reason and what it is about, and its headers.
async fn taken(channel: &Channel) -> Vec<(String, BTreeMap<String, String>)> {
    let mut dead_letters = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(dead_letter) = channel.basic_get(DEAD_LETTERS.into(), options).await.unwrap() {
        let headers = dead_letter.properties.headers().clone().unwrap_or_default();
        let text = |value: &AMQPValue| match value {
            AMQPValue::LongString(text) => text.to_string(),
            value => format!("{value:?}"),
        };
        let headers: BTreeMap<_, _> = headers
            .inner()
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        let body = String::from_utf8(dead_letter.data.clone()).unwrap();
        let about = match serde_json::from_str::<Value>(&body) {
            Ok(command) => command["userId"].as_str().unwrap().to_owned(),
            Err(_) => body,
        };
        dead_letters.push((about, headers));
    }
    dead_letters
}

/// The topology, and no worker.
async fn unattended(vhost: &str) -> (Scene, Channel) {
    let url = Node::shared().await.vhost(vhost).await;
    let scene = Scene::new(Kind::Zitadel, url, 1, 1).await;
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let channel = scene.channel().await;
    (scene, channel)
}

fn failures(events: &[Value]) -> BTreeMap<String, String> {
    let of = |event: &Value| {
        let data = &event["data"];
        let reason = data["error"]["reason"].as_str().unwrap();
        (data["commandId"].as_str().unwrap().to_owned(), reason.to_owned())
    };
    let failed = events.iter().filter(|event| event["type"] == "USER_UPDATE_FAIL");
    failed.map(of).collect()
}

async fn broker_dead_letters_become(scene: &Scene, channel: &Channel, count: u64) {
    eventually("broker dead letters", async || {
        let depth = scene.depth(channel, BROKER_DEAD_LETTERS).await;
        (u64::from(depth) == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_dead_lettered_by_the_broker_end_with_one_event_and_a_complete_dead_letter() {
    let (scene, channel) = unattended("given-up").await;
    let count = expired();
    for n in 0..count {
        publish(&channel, n, Some("1")).await;
    }
    broker_dead_letters_become(&scene, &channel, count).await;
    publish(&channel, REFUSED, None).await;
    refuse_one(&scene).await;
    broker_dead_letters_become(&scene, &channel, count + 1).await;

    let worker = scene.settings().start(&["run"]);
    let all = usize::try_from(count).unwrap() + 1;
    let events = scene.events(all).await;
    dead_letters_become(&scene, &channel, count + 1).await;
    worker.drained().await;
    let mut expected: BTreeMap<_, _> = (0..count)
        .map(|n| (id(n).to_string(), "expired".to_owned()))
        .collect();
    expected.insert(id(REFUSED).to_string(), "poison".to_owned());
    assert_eq!(failures(&events), expected);
    let started = events.iter().filter(|event| event["type"] == "USER_UPDATE_START");
    let started: std::collections::BTreeSet<_> = started
        .map(|event| event["data"]["commandId"].as_str().unwrap().to_owned())
        .collect();
    assert!(started.iter().eq(expected.keys()));
    assert!(scene.provider.calls().is_empty());

    let worker = scene.settings().start(&["run"]);
    expires_elsewhere(&channel).await;
    scene.events(all + 1).await;
    dead_letters_become(&scene, &channel, count + 2).await;
    broker_dead_letters_become(&scene, &channel, 0).await;
    worker.drained().await;
    check_dead_letters(&taken(&channel).await);
}

/// A command of a partition that no longer exists.
async fn expires_elsewhere(channel: &Channel) {
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-exchange", BROKER_DEAD_LETTERS),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let queue = "user.update.zitadel.9";
    channel
        .queue_declare(queue.into(), options, arguments)
        .await
        .unwrap();
    let command = json!({ "id": id(ELSEWHERE), "provider": "zitadel", "userId": format!("u{ELSEWHERE}"), "update": { "nickname": "n" } });
    let properties = BasicProperties::default().with_expiration("1".into());
    send(channel, "", queue, &command.to_string(), properties).await;
}

#[track_caller]
fn check_dead_letters(dead_letters: &[(String, BTreeMap<String, String>)]) {
    // Two queues: each one's are in its order.
    let users: Vec<u64> = dead_letters
        .iter()
        .map(|(user, _)| user[1..].parse().unwrap())
        .collect();
    for bulk in [true, false] {
        let of_class: Vec<_> = users.iter().filter(|n| n.is_multiple_of(3) == bulk).collect();
        assert!(of_class.is_sorted(), "{of_class:?}");
    }
    assert_eq!(users.len() as u64, expired() + 2);
    for (user, headers) in dead_letters {
        let n: u64 = user[1..].parse().unwrap();
        let (reason, exchange, key) = match n {
            REFUSED => ("poison", COMMANDS, format!("zitadel.{user}")),
            ELSEWHERE => ("expired", "", "user.update.zitadel.9".to_owned()),
            n if n.is_multiple_of(3) => ("expired", COMMANDS_BULK, format!("zitadel.{user}")),
            _ => ("expired", COMMANDS, format!("zitadel.{user}")),
        };
        assert_eq!(headers["x-usher-reason"], reason);
        assert_eq!(headers["x-usher-exchange"], exchange);
        assert_eq!(headers["x-usher-routing-key"], key);
        let reason = if n == REFUSED { "rejected" } else { "expired" };
        let begins = format!("the broker dead-lettered it ({reason}): ");
        assert!(headers["x-usher-detail"].starts_with(&begins), "{headers:?}");
        for name in ["attempts", "dead-at", "redrives", "version"] {
            assert!(headers.contains_key(&format!("x-usher-{name}")), "{headers:?}");
        }
        assert!(headers.contains_key("x-death"));
    }
}

/// What a publisher sets, or what a dead letter has that was moved, decides nothing.
#[tokio::test(flavor = "multi_thread")]
async fn forged_dead_letter_headers_do_not_hide_an_expired_command() {
    let (scene, channel) = unattended("forged-headers").await;
    let mut death = FieldTable::default();
    for (name, value) in [("queue", "usher.lease.zitadel.0"), ("reason", "rejected")] {
        death.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let deaths = FieldArray::from(vec![AMQPValue::FieldTable(death)]);
    let mut headers = FieldTable::default();
    headers.insert("x-usher-reason".into(), AMQPValue::LongString("invalid".into()));
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths));
    let command =
        json!({ "id": id(1), "provider": "zitadel", "userId": "u1", "update": { "nickname": "n" } });
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(id(1).to_string().into())
        .with_expiration("1".into())
        .with_headers(headers);
    send(&channel, COMMANDS, "zitadel.u1", &command.to_string(), properties).await;
    broker_dead_letters_become(&scene, &channel, 1).await;
    let worker = scene.settings().start(&["run"]);
    let events = scene.events(1).await;
    dead_letters_become(&scene, &channel, 1).await;
    worker.drained().await;
    let expected = BTreeMap::from([(id(1).to_string(), "expired".to_owned())]);
    assert_eq!(failures(&events), expected);
}

/// Completed and published, but not acked: it is unknown whether that was this message, so it is completed once more, as the
/// command's next run.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_before_acking_a_broker_dead_letter_leaves_one_outcome_per_run() {
    let (scene, channel) = unattended("dead-letter-unacked").await;
    for n in 0..3 {
        publish(&channel, n, Some("1")).await;
    }
    broker_dead_letters_become(&scene, &channel, 3).await;
    let deadly = scene.settings().with_variable("FAILPOINT", "before_ack");
    let (status, said) = deadly.start(&["run"]).ended().await;
    assert!(status.code().is_none(), "it was not killed: {said}");
    broker_dead_letters_become(&scene, &channel, 3).await;
    let worker = scene.settings().start(&["run"]);
    let events = scene.events(4).await;
    dead_letters_become(&scene, &channel, 4).await;
    worker.drained().await;
    assert_eq!(failures(&events).len(), 3);
    assert_eq!(
        scene.dead_letters(4).await,
        BTreeMap::from([("expired".to_owned(), 4)])
    );
}
