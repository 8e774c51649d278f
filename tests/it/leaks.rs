//! No value of a field and no token is in anything that the worker says, at its most talkative.

mod echo;

use std::net::TcpListener;

use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use serde_json::{Value, json};
use usher::broker::topology::{COMMANDS, DEAD_LETTERS};
use usher::provider::Kind;
use usher::simulator::Faults;

use self::echo::Echo;
use crate::node::Node;
use crate::process::{Folder, Settings};
use crate::scene::{Scene, TOKEN};
use crate::support::{eventually, get, readiness};
use crate::traces::collector::Collector;

/// In every value of every command, in some spelling.
const MARKER: &str = "zqmarker";

const COUNT: u64 = 60;

const GET: BasicGetOptions = BasicGetOptions { no_ack: true };

/// How the users' ids begin.
const USERS: [&str; 5] = ["missing-", "forbidden-", "vanishing-", "locked-", "user-"];

/// Commands that go every way: well, refused at the door, refused by the provider, given up.
fn command(n: u64) -> (String, Value) {
    let kind = usize::try_from(n % 10).unwrap();
    let user = format!("{}{n}", USERS.get(kind).unwrap_or(&"user-"));
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
    let collector = Collector::start().await;
    let settings = scene
        .settings()
        .with("WORKER__DEAD_LETTER_SHARE_MAX", &1)
        // A third of the calls fails: by chance many probes in a row do.
        .with("RETRY__PROBE_GAP_MAX", &"1s")
        .with("LOG__LEVEL", &"trace")
        .with("LOG__FORMAT", &"json")
        .with("TELEMETRY__SAMPLE", &1)
        .with("TELEMETRY__OTLP_ENDPOINT", &collector.address())
        .with("ADMIN__LISTEN", &admin);
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let channel = scene.channel().await;
    let (options, arguments) = (QueueDeclareOptions::default(), FieldTable::default());
    let replies = channel.queue_declare("replies".into(), options, arguments);
    publish_all(&scene, replies.await.unwrap().name().as_str()).await;

    let worker = settings.start(&["run"]);
    let events = scene.events(usize::try_from(COUNT).unwrap() + 1).await;
    let scrape = eventually("a scrape", async || {
        let answer = get(&format!("http://{admin}/metrics")).await?;
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
    let traces = collector.said();
    assert!(traces.len() > 100, "{} spans", traces.len());
    for user in USERS {
        let of_user = traces.iter().find(|span| span.contains(user));
        assert_eq!(of_user, None, "no span names a user");
    }
    let mut said = vec![("the log", log), ("the metrics", scrape)];
    said.extend(traces.into_iter().map(|span| ("a span", span)));
    said.extend(events.iter().map(|event| ("an event", event.to_string())));
    while let Some(dead_letter) = channel.basic_get(DEAD_LETTERS.into(), GET).await.unwrap() {
        said.push(("a dead letter's headers", format!("{:?}", dead_letter.properties)));
    }
    assert!(said.len() > 100, "{} things were said", said.len());
    check(said, &secrets);
}

/// None of the words is in what was said.
fn check(said: Vec<(&str, String)>, words: &[String]) {
    for (what, text) in said {
        let text = text.to_lowercase();
        for word in words {
            assert!(
                !text.contains(&word.to_lowercase()),
                "{word} is in {what}: {text}"
            );
        }
    }
}

/// Words that the kind could take for a code of its own, and one of them as the token.
fn words(kind: Kind) -> ([&'static str; 2], &'static str) {
    match kind {
        Kind::Karmo => (["71829364", "61518372"], "58204917"),
        Kind::Zitadel => (["ALREADY_EXISTS", "ZQMARK-a1b2c3"], "ZQTOK-9z8y7x"),
        Kind::Scim => (["uniqueness", "mutability"], "invalidVers"),
        _ => (["quota_of_names", "no_such_team"], "token_in_the_list"),
    }
}

/// An OAuth error each, as the client's id and its secret.
const CLIENT: [&str; 2] = ["temporarily_unavailable", "unsupported_grant_type"];

/// For each status and each word a command whose values are that word, or such that the word is in them.
fn echoed(kind: Kind, words: &[String], credentials_from: usize) -> Vec<Value> {
    let final_ones = ["400", "404", "r409", "412", "422", "r400", "200"];
    // Each of them holds all others up for a while. With a number, a 403, 429 or 503 may ask for a wait of hours.
    let no_numbers = [0, 2];
    let passing = ["429", "302", "401", "r403", "500", "503", "r504"];
    let each_word = |status: &'static str| (0..words.len()).map(move |word| (status, word));
    let one_word = passing
        .into_iter()
        .enumerate()
        .map(|(n, status)| (status, no_numbers[n % no_numbers.len()]));
    let all = final_ones.into_iter().flat_map(each_word).chain(one_word);
    all.enumerate()
        .map(|(n, (status, word))| {
            let value = words[word].as_str();
            // The credentials are echoed to those whose values are others.
            let value = if word < credentials_from { value } else { MARKER };
            let user = format!("{status}.{word}");
            let mut command = json!({
                "id": uuid::Uuid::from_u128(n as u128 + 1), "provider": kind, "userId": user,
                "update": { "email": format!("{MARKER}{n}@example.com"), "phone": "+61412345678",
                    "givenName": value, "familyName": format!("x {value} x") },
            });
            if kind == Kind::Sivo {
                command["expectedVersion"] = "2026-01-01T00:00:00.000Z".into();
            }
            command
        })
        .collect()
}

/// The worker's settings with the provider there, and what else stands in the file.
fn settings_with(scene: &Scene, provider: &Echo) -> Settings {
    let base_url = format!("http://{}", provider.address);
    scene
        .settings()
        .without("PROVIDER__AUTH__TOKEN")
        .with("PROVIDER__AUTH__OAUTH2__TOKEN_URL", &format!("{base_url}/token"))
        .with("PROVIDER__AUTH__OAUTH2__CLIENT_ID", &CLIENT[0])
        .with("PROVIDER__AUTH__OAUTH2__CLIENT_SECRET", &CLIENT[1])
        .with("PROVIDER__BASE_URL", &base_url)
        .with("WORKER__DEAD_LETTER_SHARE_MAX", &1)
        .with("RETRY__ATTEMPTS", &3)
        .with("RETRY__PROBE_GAP_MAX", &"1s")
        .with("LOG__LEVEL", &"trace")
}

/// Users can be read at every kind, and every word is a code where the configuration says which are.
fn file_with(codes: &[String]) -> String {
    format!(
        "[provider.karmo]\nread_path = \"/users/{{userId}}\"\n[provider.sivo]\ncodes = {codes:?}\n\
         [provider.mattr]\ncodes = {codes:?}\n\
         [provider.rest]\nerror_code_at = [\"/code\"]\nerror_pointer_at = [\"/detail\"]\nerror_codes = {codes:?}\n"
    )
}

/// What a provider of this kind is told, it says again wherever it can, and so does its token endpoint. Nothing of
/// it goes further.
async fn echoed_values_do_not_leak(kind: Kind) {
    let (own, token) = words(kind);
    let mut words: Vec<_> = [MARKER, "12345678", "alex.zqmarker"].map(String::from).into();
    words.extend(own.map(String::from));
    let credentials_from = words.len();
    words.push(token.to_owned());
    words.extend(CLIENT.map(String::from));
    // The first is for `usher check`; the worker has the second, and one more when that one is refused.
    let refusals = [Some(CLIENT[0]), None, Some(CLIENT[1]), Some(MARKER), Some(token)];
    let refusals = refusals.map(|word| word.map(String::from)).into();
    let provider = Echo::start(words.clone(), token, refusals).await;
    let commands = echoed(kind, &words, credentials_from);

    let url = Node::shared().await.vhost(&format!("echo-{kind}")).await;
    let scene = Scene::new(kind, url, 0, 1).await;
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = Folder::new();
    let file = folder.write("usher.toml", &file_with(&words));
    let collector = Collector::start().await;
    let settings = settings_with(&scene, &provider)
        .with("ADMIN__LISTEN", &admin)
        .with("TELEMETRY__SAMPLE", &1)
        .with("TELEMETRY__OTLP_ENDPOINT", &collector.address());
    let declared = settings
        .run(&["topology", "declare", "--config", &file], b"")
        .await;
    assert!(declared.status.success(), "{declared:?}");
    let lines: String = commands.iter().map(|command| format!("{command}\n")).collect();
    scene.publish_lines(&lines).await;
    let checked = settings.run(&["check", "--config", &file], b"").await;

    let worker = settings.start(&["run", "--config", &file]);
    let events = scene.events(commands.len()).await;
    let mut said = vec![("usher check", format!("{checked:?}"))];
    for page in ["metrics", "readyz"] {
        let answer = eventually(page, async || {
            let answer = get(&format!("http://{admin}/{page}")).await?;
            answer.text().await.ok()
        });
        said.push((page, answer.await));
    }
    said.push(("the log", worker.drained().await));
    let traces = collector.said();
    assert!(traces.len() > commands.len(), "{} spans", traces.len());
    said.extend(traces.into_iter().map(|span| ("a span", span)));
    said.extend(events.iter().map(|event| ("an event", event.to_string())));
    let channel = scene.channel().await;
    let before = said.len();
    while let Some(dead_letter) = channel.basic_get(DEAD_LETTERS.into(), GET).await.unwrap() {
        said.push(("a dead letter's headers", format!("{:?}", dead_letter.properties)));
    }
    assert!(
        said.len() - before > commands.len() / 2,
        "{} things were said",
        said.len()
    );
    check(said, &words);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_echoed_by_karmo_do_not_leak() {
    echoed_values_do_not_leak(Kind::Karmo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_echoed_by_zitadel_do_not_leak() {
    echoed_values_do_not_leak(Kind::Zitadel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_echoed_by_sivo_do_not_leak() {
    echoed_values_do_not_leak(Kind::Sivo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_echoed_by_mattr_do_not_leak() {
    echoed_values_do_not_leak(Kind::Mattr).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_echoed_by_scim_do_not_leak() {
    echoed_values_do_not_leak(Kind::Scim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_echoed_by_a_plain_api_do_not_leak() {
    echoed_values_do_not_leak(Kind::Rest).await;
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
    assert_eq!(get(&format!("http://{admin}/livez")).await.unwrap().status(), 200);
    scene.provider.set_faults(Faults::default());
    becomes((true, "idle")).await;
    assert_eq!(scene.dead_letters(10).await.values().sum::<usize>(), 10);
    worker.drained().await;
}
