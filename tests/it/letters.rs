//! Dead letters that the broker made: a command whose time ran out in the queue, or that a stranger refused.
//!
//! `USHER_TEST_COMMANDS=65000` lets 1,300 expire: more than a worker has in hand at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use serde_json::{Value, json};
use tokio::time::timeout;
use usher::broker::topology::{COMMANDS, COMMANDS_BULK, DEAD_LETTERS};
use usher::broker::{Header, Heard, Listener, Message, Picked, Wanted};
use usher::provider::Kind;
use uuid::Uuid;

use crate::bench::{AmqpBench, Bench, promises};
use crate::node::Node;
use crate::scene::Scene;
use crate::support::{self, eventually, ids, numbers};

promises!(
    letters_that_are_not_acked_go_back_in_order,
    a_listener_hears_of_letters_that_nobody_explained,
);

/// Every letter but those whose number ends so.
fn all_but(digit: char) -> Wanted {
    Arc::new(move |letter: &Message| !letter.body.ends_with(&[digit as u8]))
}

async fn everything(bench: &dyn Bench) -> Picked {
    let all: Wanted = Arc::new(|_| true);
    bench.dead_letters().pick(all).await.unwrap()
}

/// Many: a broker may keep a few in order by chance.
async fn letters_that_are_not_acked_go_back_in_order(bench: &dyn Bench) {
    let publisher = bench.publisher().await;
    let publish = async |range: std::ops::Range<usize>| {
        for number in range {
            let letter = support::message(DEAD_LETTERS, "sivo.x", number);
            publisher.publish(&letter).await.unwrap();
        }
    };
    publish(0..120).await;
    let queue = bench.dead_letters();
    let mut picked = queue.pick(all_but('3')).await.unwrap();
    let expected = numbers((0..120).filter(|n| n % 10 != 3));
    assert_eq!((ids(&picked.letters), picked.more), (expected, false));
    publish(120..150).await;
    for (index, letter) in std::mem::take(&mut picked.letters).into_iter().enumerate() {
        if index % 2 == 0 {
            letter.ack().await.unwrap();
        }
    }
    picked.close().await;
    let left: Vec<_> = (0..120).filter(|n| n % 10 != 3).skip(1).step_by(2).collect();
    let left = numbers((0..150).filter(|n| *n >= 120 || n % 10 == 3 || left.contains(n)));
    // Its caller went away in the middle.
    let dropped = queue.pick(all_but('0')).await.unwrap();
    assert_eq!(
        dropped.letters.len(),
        left.iter().filter(|id| !id.ends_with('0')).count()
    );
    drop(dropped);
    let picked = eventually("all are back", async || {
        let picked = everything(bench).await;
        match picked.letters.len() == left.len() {
            true => Some(picked),
            false => {
                picked.close().await;
                None
            }
        }
    })
    .await;
    assert_eq!(ids(&picked.letters), left);
    picked.close().await;
}

async fn heard(listener: &mut Box<dyn Listener>) -> Option<Heard> {
    timeout(std::time::Duration::from_millis(400), listener.next())
        .await
        .ok()
}

async fn a_listener_hears_of_letters_that_nobody_explained(bench: &dyn Bench) {
    let mut listener = bench.listener().await;
    let publisher = bench.publisher().await;
    let explained = support::message(DEAD_LETTERS, "sivo.conflict", "a");
    let reason = [("x-usher-reason".to_owned(), Header::Text("conflict".to_owned()))];
    let explained = Message {
        properties: explained.properties.with_headers(reason),
        ..explained
    };
    publisher.publish(&explained).await.unwrap();
    assert!(heard(&mut listener).await.is_none());
    let unexplained = support::message(DEAD_LETTERS, "sivo.user.with.dots", "b");
    publisher.publish(&unexplained).await.unwrap();
    assert!(matches!(listener.next().await, Heard::Unexplained));
    assert!(heard(&mut listener).await.is_none());
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_was_cut_off_says_that_letters_may_have_come() {
    let bench = AmqpBench::new("letters-cut-off").await;
    let mut listener = bench.listener().await;
    assert!(heard(&mut listener).await.is_none());
    bench.drop_connections().await;
    assert!(matches!(listener.next().await, Heard::Unexplained));
    drop(listener);
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

/// Letters that no worker has to complete: one that a worker made, and one of somebody else.
async fn publish_others(channel: &Channel, n: u64) {
    let mut headers = FieldTable::default();
    headers.insert("x-usher-reason".into(), AMQPValue::LongString("conflict".into()));
    let explained = BasicProperties::default().with_headers(headers);
    send(
        channel,
        DEAD_LETTERS,
        "zitadel.conflict",
        &format!("explained {n}"),
        explained,
    )
    .await;
    let others = BasicProperties::default();
    send(
        channel,
        DEAD_LETTERS,
        "zitadel.who",
        &format!("foreign {n}"),
        others,
    )
    .await;
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

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_the_broker_gave_up_end_with_one_event_and_a_complete_letter_each() {
    let (scene, channel) = unattended("given-up").await;
    let count = expired();
    publish_others(&channel, 0).await;
    for n in 0..count {
        publish(&channel, n, Some("1")).await;
    }
    letters_become(&scene, &channel, 2 + count).await;
    for n in 1..20 {
        publish_others(&channel, n).await;
    }
    publish(&channel, REFUSED, None).await;
    refuse_one(&scene).await;
    letters_become(&scene, &channel, 40 + count + 1).await;

    let worker = scene.settings().start(&["run"]);
    let all = usize::try_from(count).unwrap() + 1;
    let events = scene.events(all).await;
    letters_become(&scene, &channel, 40 + count + 1).await;
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

    // The next one hears of a letter while it runs, and finds nothing else to do.
    let worker = scene.settings().start(&["run"]);
    expires_elsewhere(&channel).await;
    scene.events(all + 1).await;
    letters_become(&scene, &channel, 40 + count + 2).await;
    worker.drained().await;
    check_letters(&taken(&channel).await);
}

/// A command of a partition that is no more.
async fn expires_elsewhere(channel: &Channel) {
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-exchange", DEAD_LETTERS),
        ("x-dead-letter-routing-key", "zitadel.x"),
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
fn check_letters(letters: &[(String, BTreeMap<String, String>)]) {
    let about: Vec<_> = letters.iter().map(|(about, _)| about.clone()).collect();
    let others = (0..20).flat_map(|n| [format!("explained {n}"), format!("foreign {n}")]);
    assert!(about[..40].iter().cloned().eq(others), "{about:?}");
    // Two queues: each one's are in its order.
    let users: Vec<u64> = about[40..]
        .iter()
        .map(|user| user[1..].parse().unwrap())
        .collect();
    for bulk in [true, false] {
        let of_class: Vec<_> = users.iter().filter(|n| n.is_multiple_of(3) == bulk).collect();
        assert!(of_class.is_sorted(), "{of_class:?}");
    }
    assert_eq!(users.len() as u64, expired() + 2);
    for (user, headers) in &letters[40..] {
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

/// Completed, told and not acked: the broker's own letter is there again, and goes without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_before_a_letters_ack_leaves_one_outcome_and_one_letter() {
    let (scene, channel) = unattended("letter-unacked").await;
    for n in 0..3 {
        publish(&channel, n, Some("1")).await;
    }
    letters_become(&scene, &channel, 3).await;
    let deadly = scene.settings().with_variable("FAILPOINT", "before_ack");
    let (status, said) = deadly.start(&["run"]).ended().await;
    assert!(status.code().is_none(), "it was not killed: {said}");
    // What it had in hand is back, and what it completed lies behind it.
    letters_become(&scene, &channel, 4).await;
    let worker = scene.settings().start(&["run"]);
    let events = scene.events(3).await;
    letters_become(&scene, &channel, 3).await;
    worker.drained().await;
    assert_eq!(failures(&events).len(), 3);
    assert_eq!(
        scene.dead_letters(3).await,
        BTreeMap::from([("expired".to_owned(), 3)])
    );
}
