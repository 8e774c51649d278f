//! `usher check` at a real broker: what is right, what is wrong, and what works and may not for ever.

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;
use usher::broker::topology::Topology;
use usher::broker::{Config, amqp};
use usher::provider::Kind;

use crate::node::{Node, free_ports};
use crate::process::Settings;
use crate::scene::Scene;

async fn scene(name: &str) -> Scene {
    let url = Node::shared().await.vhost(name).await;
    Scene::new(Kind::Zitadel, url, 0, 1).await
}

/// The exit code, and the findings about one thing: level and detail.
async fn check(settings: &Settings, what: &str) -> (Option<i32>, Vec<(String, String)>) {
    let output = settings.run(&["check", "--json"], b"").await;
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for finding in &findings {
        assert_eq!(finding["ok"] == true, finding["level"] != "wrong", "{finding}");
    }
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let about = findings.iter().filter(|finding| finding["what"] == what);
    let said = about.map(|finding| (text(finding, "level"), text(finding, "detail")));
    (output.status.code(), said.collect())
}

#[track_caller]
fn assert_says(findings: &[(String, String)], level: &str, words: &str) {
    let found = findings
        .iter()
        .any(|(is, detail)| is == level && detail.contains(words));
    assert!(found, "no {level} with {words}: {findings:#?}");
}

#[tokio::test]
async fn a_warning_is_marked_and_does_not_change_the_exit_code() {
    let scene = scene("check").await;
    let settings = scene.settings();
    let (code, broker) = check(&settings, "broker").await;
    assert_eq!(code, Some(0));
    assert_eq!(broker.len(), 1, "{broker:#?}");
    assert_says(&broker, "ok", "accepts the worker: RabbitMQ ");
    assert_says(&broker, "ok", "heartbeat 10 s");

    let [dead] = free_ports();
    let urls = format!("amqp://u:s3cret@127.0.0.1:{dead}/v,{}", scene.url);
    let held = settings
        .with("BROKER__URL", &urls)
        .with("BROKER__HOLD_MAX", &"13h");
    let (code, broker) = check(&held, "broker").await;
    assert_eq!(code, Some(0));
    assert_eq!(broker.len(), 3, "{broker:#?}");
    assert_says(&broker, "warning", &format!("amqp://u@127.0.0.1:{dead}/v"));
    assert_says(&broker, "warning", "broker.hold_max is 46800 s");
    let output = held.run(&["check"], b"").await;
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("WARN   broker") && !table.contains("s3cret"),
        "{table}"
    );

    let none = held.with("BROKER__URL", &format!("amqp://127.0.0.1:{dead}"));
    let (code, broker) = check(&none, "broker").await;
    assert_eq!(code, Some(4));
    assert_says(&broker, "wrong", "can't be reached");
}

#[tokio::test]
async fn check_reports_queues_of_a_version_without_leases() {
    let scene = scene("check-older").await;
    let config = Config {
        url: scene.url.parse().unwrap(),
        ..Config::default()
    };
    let name = scene.kind.to_string();
    let topology = Topology::new(&name, &config);
    amqp::declare(&config, &name).await.unwrap();
    let (_, found) = check(&scene.settings(), "topology").await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_says(&found, "ok", "`rabbitmqctl list_policies`");

    let connection = Connection::connect(&scene.url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let lease = topology.lease_queue(0);
    let deleted = channel.queue_delete(lease.as_str().into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
    let fleet = topology.fleet_exchange();
    let deleted = channel.exchange_delete(fleet.as_str().into(), ExchangeDeleteOptions::default());
    deleted.await.unwrap();
    let (code, found) = check(&scene.settings(), "topology").await;
    assert_eq!(code, Some(0));
    assert_says(&found, "ok", "2 objects are missing");
    assert_says(&found, "warning", "as an earlier version left them");
}
