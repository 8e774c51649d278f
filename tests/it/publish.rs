//! `usher publish`: what it refuses, what it notices, and what is shown of commands that reached no queue.

mod bulk;
mod runs;
pub mod tables;

use std::io::Write;
use std::process::Stdio;

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};
use usher::broker::topology::{COMMANDS, UNROUTABLE};
use usher::provider::Kind;

use crate::apply::{commands, lines, slow_provider};
use crate::node::{Node, free_ports};
use crate::outputs::mode;
use crate::process::{Folder, Settings};
use crate::scene::Scene;
use crate::support::{eventually, get};

const BULK: [&str; 4] = ["--bulk", "--yes", "--allow", "email"];

async fn scene(name: &str) -> Scene {
    let url = Node::shared().await.vhost(name).await;
    Scene::new(Kind::Zitadel, url, 20, 10).await
}

/// The exit code, the account and what was said.
async fn publish(scene: &Scene, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let arguments = [&["publish", "-", "--json"], arguments].concat();
    let published = scene.settings().run(&arguments, scene.lines().as_bytes()).await;
    let account = serde_json::from_slice(&published.stdout).unwrap();
    let said = String::from_utf8(published.stderr).unwrap();
    (published.status.code(), account, said)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn declare(scene: &Scene) {
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
}

/// What `usher check` says of one thing, where nothing is wrong.
async fn finding(scene: &Scene, what: &str) -> Value {
    let check = scene.settings().run(&["check", "--json"], b"").await;
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    let findings: Vec<Value> = serde_json::from_slice(&check.stdout).unwrap();
    let found = findings.into_iter().find(|finding| finding["what"] == what);
    found.unwrap()
}

#[tokio::test]
async fn check_names_the_longest_user_id_that_can_be_published() {
    let scene = scene("unroutable-user-ids").await;
    let limit = finding(&scene, "user ids").await;
    let detail = limit["detail"].as_str().unwrap();
    assert!(detail.starts_with("of up to 247 bytes"), "{detail}");
}

#[tokio::test]
async fn commands_for_a_provider_without_queues_are_refused_and_what_is_missing_is_named() {
    let scene = scene("unroutable-refused").await;
    let (code, account, said) = publish(&scene, &[]).await;
    assert_eq!((code, &account["published"]), (Some(2), &0.into()), "{said}");
    for object in [
        "exchange user.commands,",
        "queue user.update.zitadel.0",
        "queue user.unroutable",
    ] {
        assert!(said.contains(object), "{object}: {said}");
    }
    assert!(said.contains("`usher topology declare`"), "{said}");

    declare(&scene).await;
    assert_eq!(publish(&scene, &[]).await.0, Some(0));
    assert_eq!(publish(&scene, &BULK).await.0, Some(0));
    let channel = scene.channel().await;
    let bulk = "user.update.bulk.zitadel.0";
    let deleted = channel.queue_delete(bulk.into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
    assert_eq!(publish(&scene, &[]).await.0, Some(0));
    let (code, _, said) = publish(&scene, &BULK).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains(&format!("missing on the broker: queue {bulk};")),
        "{said}"
    );

    // A provider that was not declared, among one that was: nothing of the file is published.
    let folder = Folder::new();
    let other = scene.lines().replace("\"zitadel\"", "\"zitadel-eu\"");
    let file = folder.write("both.jsonl", &format!("{}{other}", scene.lines()));
    let published = scene.settings().run(&["publish", &file], b"").await;
    assert_eq!(published.status.code(), Some(2), "{published:?}");
    let said = String::from_utf8_lossy(&published.stderr);
    assert!(said.contains("queue user.update.zitadel-eu.0;"), "{said}");
    assert_eq!(scene.depth(&channel, UNROUTABLE).await, 0);
    assert_eq!(scene.depth(&channel, "user.update.zitadel.0").await, 40);
}

#[tokio::test]
async fn a_partitioned_providers_missing_exchange_is_named_to_a_publisher_that_knows_of_no_partitions() {
    let scene = scene("unroutable-hashing").await;
    let three = scene.settings().with("BROKER__PARTITIONS", &3);
    let declared = three.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    assert_eq!(publish(&scene, &[]).await.0, Some(0));
    let channel = scene.channel().await;
    let deleted = channel.exchange_delete("user.commands.zitadel".into(), ExchangeDeleteOptions::default());
    deleted.await.unwrap();
    let (code, account, said) = publish(&scene, &[]).await;
    assert_eq!((code, &account["published"]), (Some(2), &0.into()), "{said}");
    assert!(said.contains("exchange user.commands.zitadel;"), "{said}");
}

#[tokio::test]
async fn a_command_lost_to_a_deleted_binding_is_shown_as_unroutable_until_it_is_gone() {
    let scene = scene("unroutable-binding").await;
    declare(&scene).await;
    let channel = scene.channel().await;
    let unbound = channel.queue_unbind(
        "user.update.zitadel.0".into(),
        COMMANDS.into(),
        "zitadel.#".into(),
        FieldTable::default(),
    );
    unbound.await.unwrap();
    let (code, account, said) = publish(&scene, &[]).await;
    // The first one is enough to know it.
    assert_eq!((code, &account["published"]), (Some(2), &1.into()), "{said}");
    assert_eq!(account["complete"], false);
    assert!(
        said.contains("user.unroutable holds 1 more than before"),
        "{said}"
    );
    assert!(said.contains("`usher topology declare`"), "{said}");

    let warned = finding(&scene, "unroutable").await;
    assert_eq!(warned["level"], "warning");
    let detail = warned["detail"].as_str().unwrap();
    assert_eq!(
        (&warned["number"], detail),
        (&"U016".into(), "user.unroutable holds 1 message")
    );

    let [port] = free_ports();
    let listen = format!("127.0.0.1:{port}");
    let worker = scene
        .settings()
        .without("ADMIN__LISTEN")
        .with("ADMIN__LISTEN", &listen)
        .start(&["run"]);
    let gauge = async |value: &str| {
        let line = format!("usher_unroutable {value}\n");
        eventually(&line, async || {
            let metrics = get(&format!("http://{listen}/metrics")).await?;
            metrics.text().await.ok()?.contains(&line).then_some(())
        })
        .await;
    };
    gauge("1").await;
    // The worker has bound the queue again.
    assert_eq!(publish(&scene, &[]).await.0, Some(0));
    let purged = channel.queue_purge(UNROUTABLE.into(), QueuePurgeOptions::default());
    purged.await.unwrap();
    gauge("0").await;
    let said = worker.drained().await;
    let logged = said
        .lines()
        .filter(|line| line.contains("lie in user.unroutable"));
    assert_eq!(logged.count(), 1, "{said}");
}

#[tokio::test]
async fn a_broker_that_is_away_is_named_by_its_address_and_without_its_password() {
    let [dead] = free_ports();
    let scene = scene("unroutable-away").await;
    let away = scene
        .settings()
        .without("BROKER__URL")
        .with("BROKER__URL", &format!("amqp://u:s3cret@127.0.0.1:{dead}/v"));
    for arguments in [
        &["publish", "-"][..],
        &["topology", "plan"],
        &["topology", "declare"],
    ] {
        let ended = away.run(arguments, scene.lines().as_bytes()).await;
        assert_eq!(ended.status.code(), Some(4), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains(&format!("127.0.0.1:{dead}")), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[tokio::test]
async fn an_interrupt_ends_a_publish_that_waits_for_its_stdin() {
    let scene = scene("unroutable-stdin").await;
    declare(&scene).await;
    let (input, mut open) = std::io::pipe().unwrap();
    let publish = scene
        .settings()
        .start_between(input.into(), &["publish", "-"], Stdio::null());
    open.write_all(scene.lines().as_bytes()).unwrap();
    let channel = scene.channel().await;
    eventually("what was written is published", async || {
        (scene.depth(&channel, "user.update.zitadel.0").await == 20).then_some(())
    })
    .await;
    publish.signal("INT").await;
    let (status, said) = publish.ended().await;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("20 commands published and confirmed"), "{said}");
    drop(open);
}

#[tokio::test]
async fn every_refused_line_is_kept_with_its_reason_and_the_others_are_published() {
    let scene = scene("publish-rejects").await;
    declare(&scene).await;
    let folder = Folder::new();
    let bad = "{\"id\":\"s3cret\"}\n".repeat(30);
    let file = folder.write("commands.jsonl", &format!("{bad}{}", commands(2)));
    let rejects = folder.path("rejects.jsonl");
    let arguments = ["publish", &file, "--rejects", &rejects, "--json"];
    let published = scene.settings().run(&arguments, b"").await;
    assert_eq!(published.status.code(), Some(1), "{published:?}");
    let account: Value = serde_json::from_slice(&published.stdout).unwrap();
    let expected = json!({
        "lines": 32, "refused": 30, "earlier": 0, "published": 2, "complete": false, "error": null,
    });
    assert_eq!(account, expected);
    let channel = scene.channel().await;
    assert_eq!(scene.depth(&channel, "user.update.zitadel.0").await, 2);
    let said = text(&published.stderr);
    assert_eq!(said.lines().filter(|line| line.contains(": line ")).count(), 20);
    assert!(said.contains("30 rows refused; all of them are in"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    assert_eq!(mode(&rejects), 0o600);
    let kept = lines(&folder.read("rejects.jsonl"));
    assert_eq!(kept.len(), 30);
    assert_eq!(kept[29]["line"], 30);
    assert_eq!(kept[29]["reason"], "invalid");
    assert_eq!(kept[29]["pointer"], "/id");
    assert_eq!(kept[29]["text"], "{\"id\":\"s3cret\"}");
    assert!(kept[29]["detail"].as_str().unwrap().len() > 5);

    // Without a file for them, nothing is published, and no broker is asked.
    let file = folder.write("again.jsonl", &folder.read("commands.jsonl"));
    let without = Settings::default().run(&["publish", &file], b"").await;
    assert_eq!(without.status.code(), Some(1), "{without:?}");
    let hint = "nothing was published; the first 20 are shown, --rejects FILE keeps all of them";
    assert!(text(&without.stderr).contains(hint), "{without:?}");
}

#[tokio::test]
async fn a_user_id_of_many_bytes_is_applied_and_publish_names_the_limit() {
    let (_provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let user = "\u{1d11e}".repeat(200);
    let line = commands(1).replace("u0", &user);
    let applied = settings.run(&["apply", "-"], line.as_bytes()).await;
    assert_eq!(applied.status.code(), Some(0), "{applied:?}");
    let file = folder.write("commands.jsonl", &line);
    let published = settings.run(&["publish", &file], b"").await;
    assert_eq!(published.status.code(), Some(1), "{published:?}");
    let why = "invalid at /userId: it has 800 bytes in UTF-8, and 247 are the most";
    assert!(text(&published.stderr).contains(why), "{published:?}");
}

#[tokio::test]
async fn the_first_line_of_stdin_that_is_refused_ends_it_with_those_before_it_published() {
    let scene = scene("publish-stdin").await;
    declare(&scene).await;
    let folder = Folder::new();
    let rejects = folder.path("rejects.jsonl");
    let lines_in = format!("{}no JSON\n{}", scene.lines(), scene.lines());
    let arguments = ["publish", "-", "--json"];
    let published = scene.settings().run(&arguments, lines_in.as_bytes()).await;
    assert_eq!(published.status.code(), Some(1), "{published:?}");
    let account: Value = serde_json::from_slice(&published.stdout).unwrap();
    let expected = json!({
        "lines": 21, "refused": 1, "earlier": 0, "published": 20, "complete": false, "error": null,
    });
    assert_eq!(account, expected);
    assert!(
        text(&published.stderr).contains("line 21: undecodable"),
        "{published:?}"
    );

    // With a file for them it goes on.
    let arguments = ["publish", "-", "--json", "--rejects", &rejects];
    let published = scene.settings().run(&arguments, lines_in.as_bytes()).await;
    assert_eq!(published.status.code(), Some(1), "{published:?}");
    let account: Value = serde_json::from_slice(&published.stdout).unwrap();
    assert_eq!(
        (&account["lines"], &account["published"]),
        (&41.into(), &40.into())
    );
    assert_eq!(lines(&folder.read("rejects.jsonl"))[0]["line"], 21);
}

#[tokio::test]
async fn an_exchange_that_is_deleted_meanwhile_is_named() {
    let scene = scene("publish-exchange").await;
    declare(&scene).await;
    let (input, mut open) = std::io::pipe().unwrap();
    let publish = scene
        .settings()
        .start_between(input.into(), &["publish", "-"], Stdio::null());
    open.write_all(scene.lines().as_bytes()).unwrap();
    let channel = scene.channel().await;
    eventually("what was written is published", async || {
        (scene.depth(&channel, "user.update.zitadel.0").await == 20).then_some(())
    })
    .await;
    let deleted = channel.exchange_delete(COMMANDS.into(), ExchangeDeleteOptions::default());
    deleted.await.unwrap();
    open.write_all(scene.lines().as_bytes()).unwrap();
    drop(open);
    let (status, said) = publish.ended().await;
    assert_eq!(status.code(), Some(2), "{said}");
    let why = "missing on the broker: exchange user.commands;";
    assert!(
        said.contains(why) && said.contains("`usher topology declare`"),
        "{said}"
    );
}
