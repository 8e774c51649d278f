//! No value of a field and no token is in anything that the worker says, at its most talkative.

use std::net::TcpListener;

use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use serde_json::{Value, json};
use usher::broker::topology::{COMMANDS, DEAD_LETTERS};
use usher::provider::Kind;
use usher::provider::simulated::Faults;

use crate::node::Node;
use crate::scene::{Scene, TOKEN};
use crate::support::{eventually, readiness};

/// In every value of every command, in some spelling.
const MARKER: &str = "zqmarker";

const COUNT: u64 = 60;

const GET: BasicGetOptions = BasicGetOptions { no_ack: true };

/// Commands that go every way: well, refused at the door, refused by the provider, given up.
fn command(n: u64) -> (String, Value) {
    let user = match n % 10 {
        0 => format!("missing-{n}"),
        1 => format!("forbidden-{n}"),
        2 => format!("vanishing-{n}"),
        3 => format!("locked-{n}"),
        _ => format!("user-{n}"),
    };
    let update = match n % 6 {
        0 => {
            json!({ "email": format!("{MARKER}{n}@example.com"), "zitadel": { "emailVerification": { "returnCode": {} } } })
        }
        1 => json!({ "givenName": MARKER, "familyName": MARKER, "displayName": MARKER, "nickname": MARKER }),
        2 => json!({ "zitadel": { "password": { "password": MARKER, "currentPassword": MARKER } } }),
        3 => json!({ "username": format!("taken-{MARKER}"), "zitadel": { "password": { "hash": MARKER } } }),
        4 => json!({ "phone": MARKER, MARKER: { MARKER: MARKER } }),
        _ => json!({ "email": format!("{MARKER}{n}@example.com"),
            "zitadel": { "emailVerification": { "sendCode": { "urlTemplate": format!("https://{MARKER}.example/") } } } }),
    };
    let id = uuid::Uuid::from_u128(u128::from(n) + 1);
    let body = json!({ "id": id, "provider": "zitadel", "userId": user, "update": update });
    (user, body)
}

async fn publish_all(scene: &Scene, reply_to: &str) {
    let channel = scene.channel().await;
    for n in 0..COUNT {
        let (user, body) = command(n);
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("m{n}").into())
            .with_reply_to(reply_to.into());
        let key = format!("zitadel.{user}");
        let body = body.to_string();
        let sent = channel.basic_publish(
            COMMANDS.into(),
            key.into(),
            lapin::options::BasicPublishOptions::default(),
            body.as_bytes(),
            properties,
        );
        sent.await.unwrap().await.unwrap();
    }
    let broken = format!("{{\"id\": {MARKER}");
    let options = lapin::options::BasicPublishOptions::default();
    let key = "zitadel.u";
    channel
        .basic_publish(
            COMMANDS.into(),
            key.into(),
            options,
            broken.as_bytes(),
            BasicProperties::default(),
        )
        .await
        .unwrap()
        .await
        .unwrap();
}

/// The verification codes that were sent to the publisher's queue.
async fn codes(channel: &Channel) -> Vec<String> {
    let mut codes = Vec::new();
    while let Some(reply) = channel.basic_get("replies".into(), GET).await.unwrap() {
        let reply: Value = serde_json::from_slice(&reply.data).unwrap();
        codes.push(reply["emailCode"].as_str().unwrap().to_owned());
    }
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_and_no_token_is_in_a_log_an_event_a_header_or_a_metric() {
    let url = Node::shared().await.vhost("leaks").await;
    let scene = Scene::new(Kind::Zitadel, url, COUNT, COUNT).await;
    scene.provider.set_faults(Faults {
        broken: 0.1,
        drop_after: 0.1,
        garbage: 0.1,
        throttle_after: 0.05,
        ..Faults::default()
    });
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = scene
        .settings()
        .with("WORKER__DEAD_LETTER_SHARE_MAX", &1)
        // A third of the calls fails: by chance many probes in a row do.
        .with("RETRY__PROBE_GAP_MAX", &"1s")
        .with("LOG__LEVEL", &"debug")
        .with("LOG__FORMAT", &"json")
        .with("ADMIN__LISTEN", &admin);
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let channel = scene.channel().await;
    let replies = channel
        .queue_declare(
            "replies".into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    publish_all(&scene, replies.name().as_str()).await;

    let worker = settings.start(&["run"]);
    let events = scene.events(usize::try_from(COUNT).unwrap() + 1).await;
    let scrape = eventually("a scrape", async || {
        let answer = reqwest::get(format!("http://{admin}/metrics")).await.ok()?;
        answer
            .text()
            .await
            .ok()
            .filter(|text| text.contains("usher_commands_total"))
    })
    .await;
    let log = worker.drained().await;

    let codes = codes(&channel).await;
    assert!(!codes.is_empty(), "codes were returned");
    let mut secrets = vec![MARKER.to_owned(), TOKEN.to_owned()];
    secrets.extend(codes);
    let mut said = vec![("the log", log), ("the metrics", scrape)];
    said.extend(events.iter().map(|event| ("an event", event.to_string())));
    while let Some(letter) = channel.basic_get(DEAD_LETTERS.into(), GET).await.unwrap() {
        said.push(("a dead letter's headers", format!("{:?}", letter.properties)));
    }
    assert!(said.len() > 100, "{} things were said", said.len());
    for (what, text) in said {
        for secret in &secrets {
            assert!(
                !text.to_lowercase().contains(&secret.to_lowercase()),
                "{secret} is in {what}: {text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_an_outage_from_work() {
    let url = Node::shared().await.vhost("ready").await;
    let scene = Scene::new(Kind::Zitadel, url, 400, 100).await;
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = scene.settings().with("ADMIN__LISTEN", &admin);
    scene.provider.set_faults(Faults {
        broken: 1.0,
        ..Faults::default()
    });
    scene.publish().await;
    let worker = settings.start(&["run"]);
    let state = async || {
        let (ready, body) = readiness(admin).await?;
        Some((ready, body["state"].as_str()?.to_owned()))
    };
    let becomes = async |wanted: (bool, &str)| {
        let what = format!("{wanted:?}");
        eventually(&what, async || {
            state()
                .await
                .filter(|(ready, state)| (*ready, state.as_str()) == wanted)
        })
        .await;
    };
    becomes((false, "outage")).await;
    assert_eq!(
        reqwest::get(format!("http://{admin}/livez"))
            .await
            .unwrap()
            .status(),
        200
    );
    scene.provider.set_faults(Faults::default());
    becomes((true, "idle")).await;
    assert_eq!(scene.dead_letters(10).await.values().sum::<usize>(), 10);
    worker.drained().await;
}
