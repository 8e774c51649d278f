//! `usher check` at a real broker: what is right, what is wrong, and what works and may not for ever.

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;
use tokio::net::TcpListener;
use usher::broker::topology::Topology;
use usher::broker::{Config, amqp};
use usher::provider::Kind;

use crate::connection::{Authority, saying};
use crate::node::{Node, free_ports};
use crate::process::{Folder, Settings};
use crate::scene::Scene;
use crate::support::{eventually, readiness};

async fn scene(name: &str) -> Scene {
    let url = Node::shared().await.vhost(name).await;
    Scene::new(Kind::Zitadel, url, 0, 1).await
}

/// The exit code, and all checks.
async fn checks(settings: &Settings, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = settings
        .run(&[&["check", "--json"][..], arguments].concat(), b"")
        .await;
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for check in &checks {
        assert_eq!(check["ok"] == true, check["level"] != "wrong", "{check}");
        assert_eq!(check["number"].is_null(), check["level"] == "ok", "{check}");
        let has_fix = !["ok", "fixed"].contains(&check["level"].as_str().unwrap());
        assert_eq!(check["fix"].is_string(), has_fix, "{check}");
    }
    (output.status.code(), checks)
}

/// The numbers of what was found.
fn numbers(checks: &[Value]) -> Vec<&str> {
    checks
        .iter()
        .filter_map(|check| check["number"].as_str())
        .collect()
}

/// What `usher check` lists for people.
async fn listed(settings: &Settings, arguments: &[&str]) -> String {
    let output = settings.run(&[&["check"][..], arguments].concat(), b"").await;
    String::from_utf8(output.stdout).unwrap()
}

async fn declare(settings: &Settings) {
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
}

/// The exit code, and the findings about one thing: level and detail.
async fn check(settings: &Settings, what: &str) -> (Option<i32>, Vec<(String, String)>) {
    let (code, findings) = checks(settings, &[]).await;
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let about = findings.iter().filter(|finding| finding["what"] == what);
    let said = about.map(|finding| (text(finding, "level"), text(finding, "detail")));
    (code, said.collect())
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
    let table = listed(&held, &[]).await;
    assert!(
        table.contains("WARN   U010  broker") && table.contains("WARN   U007  broker"),
        "{table}"
    );
    assert!(!table.contains("s3cret"), "{table}");

    let none = held.with("BROKER__URL", &format!("amqp://127.0.0.1:{dead}"));
    let (code, broker) = check(&none, "broker").await;
    assert_eq!(code, Some(4));
    assert_says(&broker, "wrong", "can't be reached");
    assert!(listed(&none, &[]).await.contains("WRONG  U008  broker"));
    let stranger = scene.url.replacen("://", "://nobody", 1);
    let (code, found) = checks(&scene.settings().with("BROKER__URL", &stranger), &[]).await;
    assert_eq!((code, numbers(&found)), (Some(2), vec!["U009"]));
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
    assert_says(&found, "warning", "as an earlier version left them");
    // Workers of that version may run.
    let (_, found) = checks(&scene.settings(), &["--fix"]).await;
    assert_eq!(numbers(&found), ["U015"], "nothing may be declared yet");
}

#[tokio::test]
async fn missing_objects_are_declared_by_fix_alone_and_what_differs_is_left_alone() {
    let scene = scene("check-fix").await;
    let settings = scene.settings();
    for _ in 0..2 {
        let (code, found) = checks(&settings, &[]).await;
        assert_eq!((code, numbers(&found)), (Some(0), vec!["U013"]), "{found:#?}");
    }
    let table = listed(&settings, &["--fix"]).await;
    assert!(
        table.starts_with("FIXED  U013  topology ") && table.contains("queue user.update.zitadel.0"),
        "{table}"
    );
    let closing = |table: &str| table.lines().last().unwrap().to_owned();
    assert!(closing(&table).ends_with(" checks, nothing to mend"), "{table}");
    let table = listed(&settings, &[]).await;
    assert_eq!(table.lines().count(), 1, "{table}");
    let table = listed(&settings, &["--all"]).await;
    assert!(
        table.contains("ok           topology ") && closing(&table).ends_with(" checks, nothing to mend"),
        "{table}"
    );

    let other = settings.with("BROKER__OUTCOME_LOG_BYTES_MAX", &1_000_000_000);
    let (code, found) = checks(&other, &["--fix"]).await;
    assert_eq!((code, numbers(&found)), (Some(2), vec!["U014"]), "{found:#?}");
}

#[tokio::test]
async fn what_a_running_worker_says_and_what_operators_ordered_are_found() {
    let scene = scene("check-worker").await;
    let admin = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let settings = scene
        .settings()
        .without("ADMIN__LISTEN")
        .with("ADMIN__LISTEN", &admin);
    declare(&settings).await;
    let (_, found) = check(&settings, "worker").await;
    assert_says(&found, "ok", &format!("none answers at {admin}"));
    scene.publish_lines(&crate::trouble::commands(3, 3)).await;
    let (code, found) = checks(&settings, &[]).await;
    assert_eq!((code, numbers(&found)), (Some(0), vec!["U017"]), "{found:#?}");

    let worker = settings.start(&["run"]);
    eventually("it is idle", async || {
        readiness(admin).await.filter(|(_, said)| said["state"] == "idle")
    })
    .await;
    let (code, found) = checks(&settings, &[]).await;
    assert_eq!((code, numbers(&found)), (Some(0), vec![]), "{found:#?}");
    for order in [
        &["pause", "--reason", "night", "--by", "alex"][..],
        &["pace", "pin", "7/s", "--by", "sam"],
        &["batch", "pause", "b1", "--by", "kim"],
    ] {
        let ordered = settings.run(order, b"").await;
        assert!(ordered.status.success(), "{ordered:?}");
    }
    eventually("it is paused", async || {
        readiness(admin)
            .await
            .filter(|(_, said)| said["state"] == "operator")
    })
    .await;
    let (code, found) = checks(&settings, &[]).await;
    assert_eq!(code, Some(0));
    assert_eq!(numbers(&found), ["U024", "U025", "U026"], "{found:#?}");
    let said = format!("{found:?}");
    for words in ["by alex: night", "pinned to 7 calls/s", "by sam", "b1 since"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    worker.drained().await;
}

#[tokio::test]
async fn an_invalid_or_unreadable_configuration_is_findings_in_the_same_form() {
    let folder = Folder::new();
    let file = folder.write("usher.toml", "[provider]\nname = 7\nkid = \"zitadel\"\n");
    let none = Settings::default();
    let (code, found) = checks(&none, &["--config", &file]).await;
    assert!(code == Some(2) && found.len() >= 3, "{found:#?}");
    assert!(numbers(&found).iter().all(|number| *number == "U001"));
    let line = format!("{file}:2: provider.name");
    let names_it = |problem: &Value| problem["detail"].as_str().unwrap().starts_with(&line);
    assert!(found.iter().any(names_it), "{found:#?}");
    let (code, found) = checks(&none, &["--config", "/nowhere/usher.toml"]).await;
    assert_eq!((code, numbers(&found)), (Some(2), vec!["U001"]), "{found:#?}");
    let table = listed(&none, &["--config", "/nowhere/usher.toml"]).await;
    assert!(
        table.starts_with("WRONG  U001  configuration ") && table.ends_with("1 check, 1 finding\n"),
        "{table}"
    );
}

#[tokio::test]
async fn an_api_path_in_base_url_is_found_for_each_kind() {
    let settings = |kind: Kind, path: &str| {
        let settings = Settings::default()
            .with("BROKER__URL", &"amqp://127.0.0.1:1")
            .with("PROVIDER__NAME", &kind)
            .with("PROVIDER__KIND", &kind)
            .with("PROVIDER__BASE_URL", &format!("http://127.0.0.1:1{path}"))
            .with("PROVIDER__AUTH__TOKEN", &"t0ken");
        match kind {
            Kind::Rest => settings
                .with("PROVIDER__REST__PATH", &"/v1/people/{userId}")
                .with("PROVIDER__REST__FIELDS__EMAIL", &"email"),
            _ => settings,
        }
    };
    for (kind, path) in [
        (Kind::Zitadel, "/v2"),
        (Kind::Zitadel, "/v2/users/"),
        (Kind::Scim, "/scim/v2/Users"),
        (Kind::Rest, "/api/v1"),
    ] {
        let (_, found) = check(&settings(kind, path), "base_url").await;
        assert_says(&found, "warning", "ends in /");
    }
    for (kind, path) in [
        (Kind::Zitadel, "/gateway"),
        (Kind::Scim, "/scim/v2"),
        (Kind::Rest, ""),
    ] {
        let (_, found) = check(&settings(kind, path), "base_url").await;
        assert_says(&found, "ok", "does not end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_end_soon_are_found_at_the_broker_and_the_provider() {
    let scene = scene("check-tls").await;
    let folder = Folder::new();
    let authority = Authority::new("A");
    let trusted = folder.write("trusted.pem", &authority.pem);
    let (scheme, rest) = scene.url.split_once("://").unwrap();
    let (login, rest) = rest.split_once('@').unwrap();
    let (broker, vhost) = rest.split_once('/').unwrap();
    assert_eq!(scheme, "amqp");
    let provider = scene.provider.base_url();
    let provider = provider.trim_start_matches("http://");
    let settings = async |until| {
        let port = authority.in_front_of(broker.to_owned(), until).await;
        let url = format!("amqps://{login}@127.0.0.1:{port}/{vhost}");
        let base_url = authority.in_front_of(provider.to_owned(), until).await;
        scene
            .settings()
            .with_variable("SSL_CERT_FILE", &trusted)
            .with("BROKER__URL", &url)
            .with("PROVIDER__BASE_URL", &format!("https://127.0.0.1:{base_url}"))
    };
    declare(&scene.settings()).await;
    let day = jiff::Zoned::now()
        .date()
        .checked_add(jiff::Span::new().days(7))
        .unwrap();
    let soon = (
        i32::from(day.year()),
        u8::try_from(day.month()).unwrap(),
        u8::try_from(day.day()).unwrap(),
    );
    let (code, found) = checks(&settings(soon).await, &[]).await;
    assert_eq!(
        (code, numbers(&found)),
        (Some(0), vec!["U012", "U031"]),
        "{found:#?}"
    );
    let (code, found) = check(&settings((2999, 1, 1)).await, "certificate").await;
    assert_eq!((code, found.len()), (Some(0), 2), "{found:?}");
    let (code, found) = checks(&settings((2021, 1, 1)).await, &[]).await;
    assert_eq!(
        (code, numbers(&found)),
        (Some(4), vec!["U032", "U032"]),
        "{found:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_clock_and_its_limit_are_compared_with_this_machine_and_the_configuration() {
    let port = saying(
        b"HTTP/1.1 404 Not Found\r\ndate: Sat, 21 Nov 2020 10:00:00 GMT\r\nratelimit-policy: \"d\";q=100;w=60\r\n\
          content-type: application/json\r\ncontent-length: 10\r\n\r\n{\"code\":5}",
    )
    .await;
    let settings = Settings::default()
        .with("BROKER__URL", &"amqp://127.0.0.1:1")
        .with("PROVIDER__NAME", &"zitadel")
        .with("PROVIDER__KIND", &"zitadel")
        .with("PROVIDER__BASE_URL", &format!("http://127.0.0.1:{port}"))
        .with("PROVIDER__AUTH__TOKEN", &"t0ken")
        .with("PROVIDER__RATE__PER_SECOND", &50);
    let (code, clock) = check(&settings, "clock").await;
    assert_eq!(code, Some(4), "there is no broker");
    assert_says(&clock, "warning", "behind this machine");
    let (_, quota) = check(&settings, "quota").await;
    assert_says(&quota, "warning", "allows 100 calls in 60 s");

    // Something else listens where a worker would.
    let admin = saying(b"SSH-2.0-OpenSSH_9.2p1\r\n").await;
    let settings = settings.with("ADMIN__LISTEN", &format!("127.0.0.1:{admin}"));
    let (_, worker) = check(&settings, "worker").await;
    assert_says(&worker, "advice", "could not be asked for /readyz");
}
