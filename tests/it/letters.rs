//! What the broker gave up: a command whose time ran out in the queue, or that a stranger refused.

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
use usher::broker::topology::{COMMANDS, COMMANDS_BULK, DEAD_LETTERS, GIVEN_UP};
use usher::broker::{Delivery, FleetMessage, Listener};
use usher::provider::Kind;
use uuid::Uuid;

use crate::bench::{Bench, promises};
use crate::node::Node;
use crate::scene::Scene;
use crate::support::{self, eventually};

promises!(
    what_the_broker_gave_up_comes_one_at_a_time_and_again_when_its_listener_goes,
    a_cut_connection_brings_back_what_was_not_acked,
);

async fn given_up(listener: &mut Box<dyn Listener>) -> Delivery {
    let heard = async {
        loop {
            if let FleetMessage::GivenUp(delivery) = listener.next().await {
                return delivery;
            }
        }
    };
    timeout(Duration::from_secs(60), heard).await.expect("in time")
}

async fn hears_nothing(listener: &mut Box<dyn Listener>) {
    let heard = timeout(Duration::from_millis(400), listener.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}

async fn publish_given_up(bench: &dyn Bench, count: usize) {
    let publisher = bench.publisher().await;
    for number in 0..count {
        let letter = support::message(GIVEN_UP, "sivo.x", number);
        publisher.publish(&letter).await.unwrap();
    }
}

async fn what_the_broker_gave_up_comes_one_at_a_time_and_again_when_its_listener_goes(bench: &dyn Bench) {
    let mut first = bench.listener().await;
    let mut second = bench.listener().await;
    publish_given_up(bench, 3).await;
    let letter = given_up(&mut first).await;
    assert_eq!((support::id(&letter).as_str(), letter.redelivered), ("0", false));
    hears_nothing(&mut first).await;
    letter.ack().await.unwrap();
    let letter = given_up(&mut first).await;
    assert_eq!(support::id(&letter), "1");
    hears_nothing(&mut second).await;
    drop(first);
    let again = given_up(&mut second).await;
    assert_eq!((support::id(&again).as_str(), again.redelivered), ("1", true));
    assert!(letter.ack().await.is_err(), "it is stale");
    again.ack().await.unwrap();
    assert_eq!(support::id(&given_up(&mut second).await), "2");
}

async fn a_cut_connection_brings_back_what_was_not_acked(bench: &dyn Bench) {
    let mut listener = bench.listener().await;
    publish_given_up(bench, 1).await;
    let letter = given_up(&mut listener).await;
    bench.drop_connections().await;
    let again = given_up(&mut listener).await;
    assert!(again.redelivered);
    assert!(!letter.usable());
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

/// A command that a stranger refuses, and one of a partition that is no more. No multiples of three.
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

async fn letters_become(scene: &Scene, channel: &Channel, count: u64) {
    eventually("so many dead letters", async || {
        let depth = scene.depth(channel, DEAD_LETTERS).await;
        (u64::from(depth) == count).then_some(())
    })
    .await;
}

/// Empties the queue. Each letter as a reason and what it is about, and its headers.
async fn taken(channel: &Channel) -> Vec<(String, BTreeMap<String, String>)> {
    let mut letters = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(letter) = channel.basic_get(DEAD_LETTERS.into(), options).await.unwrap() {
        let headers = letter.properties.headers().clone().unwrap_or_default();
        let text = |value: &AMQPValue| match value {
            AMQPValue::LongString(text) => text.to_string(),
            value => format!("{value:?}"),
        };
        let headers: BTreeMap<_, _> = headers
            .inner()
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        let body = String::from_utf8(letter.data.clone()).unwrap();
        let about = match serde_json::from_str::<Value>(&body) {
            Ok(command) => command["userId"].as_str().unwrap().to_owned(),
            Err(_) => body,
        };
        letters.push((about, headers));
    }
    letters
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

async fn given_up_becomes(scene: &Scene, channel: &Channel, count: u64) {
    eventually("so many are given up", async || {
        let depth = scene.depth(channel, GIVEN_UP).await;
        (u64::from(depth) == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_the_broker_gave_up_end_with_one_event_and_a_complete_letter_each() {
    let (scene, channel) = unattended("given-up").await;
    let count = expired();
    for n in 0..count {
        publish(&channel, n, Some("1")).await;
    }
    given_up_becomes(&scene, &channel, count).await;
    publish(&channel, REFUSED, None).await;
    refuse_one(&scene).await;
    given_up_becomes(&scene, &channel, count + 1).await;

    let worker = scene.settings().start(&["run"]);
    let all = usize::try_from(count).unwrap() + 1;
    let events = scene.events(all).await;
    letters_become(&scene, &channel, count + 1).await;
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
    letters_become(&scene, &channel, count + 2).await;
    given_up_becomes(&scene, &channel, 0).await;
    worker.drained().await;
    check_letters(&taken(&channel).await);
}

/// A command of a partition that is no more.
async fn expires_elsewhere(channel: &Channel) {
    let mut arguments = FieldTable::default();
    for (name, value) in [("x-queue-type", "quorum"), ("x-dead-letter-exchange", GIVEN_UP)] {
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
fn check_letters(letters: &[(String, BTreeMap<String, String>)]) {
    // Two queues: each one's are in its order.
    let users: Vec<u64> = letters
        .iter()
        .map(|(user, _)| user[1..].parse().unwrap())
        .collect();
    for bulk in [true, false] {
        let of_class: Vec<_> = users.iter().filter(|n| n.is_multiple_of(3) == bulk).collect();
        assert!(of_class.is_sorted(), "{of_class:?}");
    }
    assert_eq!(users.len() as u64, expired() + 2);
    for (user, headers) in letters {
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
        let word = if n == REFUSED { "rejected" } else { "expired" };
        let begins = format!("the broker dead-lettered it ({word}): ");
        assert!(headers["x-usher-detail"].starts_with(&begins), "{headers:?}");
        for name in ["attempts", "dead-at", "redrives", "version"] {
            assert!(headers.contains_key(&format!("x-usher-{name}")), "{headers:?}");
        }
        assert!(headers.contains_key("x-death"));
    }
}

/// What a publisher sets, or what a dead letter has that was moved, decides nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_reason_and_death_hide_no_command_that_expires() {
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
    given_up_becomes(&scene, &channel, 1).await;
    let worker = scene.settings().start(&["run"]);
    let events = scene.events(1).await;
    letters_become(&scene, &channel, 1).await;
    worker.drained().await;
    let expected = BTreeMap::from([(id(1).to_string(), "expired".to_owned())]);
    assert_eq!(failures(&events), expected);
}

/// Completed, told and not acked: nobody can tell whether that was this message, so it is completed once more, as the
/// command's next run.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_before_a_letters_ack_leaves_one_outcome_for_each_run() {
    let (scene, channel) = unattended("letter-unacked").await;
    for n in 0..3 {
        publish(&channel, n, Some("1")).await;
    }
    given_up_becomes(&scene, &channel, 3).await;
    let deadly = scene.settings().with_variable("FAILPOINT", "before_ack");
    let (status, said) = deadly.start(&["run"]).ended().await;
    assert!(status.code().is_none(), "it was not killed: {said}");
    given_up_becomes(&scene, &channel, 3).await;
    let worker = scene.settings().start(&["run"]);
    let events = scene.events(4).await;
    letters_become(&scene, &channel, 4).await;
    worker.drained().await;
    assert_eq!(failures(&events).len(), 3);
    assert_eq!(
        scene.dead_letters(4).await,
        BTreeMap::from([("expired".to_owned(), 4)])
    );
}
