//! The main job with real processes, a real broker and real HTTP: commands in, users updated, events out.
//!
//! `USHER_TEST_COMMANDS=20000` publishes as many; a quarter of that is the number of users.

use std::collections::BTreeMap;
use std::time::Duration;

use usher::provider::Kind;
use usher::simulator::Faults;

use crate::node::Node;
use crate::scene::Scene;

const FAULTS: Faults = Faults {
    broken: 0.02,
    drop_before: 0.0,
    drop_after: 0.01,
    slow: 0.0,
    slow_ms: 0,
    garbage: 0.0,
    throttle_after: 0.0,
    broken_after: 0.0,
};

fn commands() -> u64 {
    let set = std::env::var("USHER_TEST_COMMANDS").ok();
    set.map_or(2000, |text| {
        text.parse().expect("USHER_TEST_COMMANDS is a number")
    })
}

async fn scene(kind: Kind, vhost: &str, commands: u64) -> Scene {
    let url = Node::shared().await.vhost(vhost).await;
    faulty(Scene::new(kind, url, commands, commands / 4).await)
}

fn faulty(scene: Scene) -> Scene {
    scene.provider.set_faults(FAULTS);
    scene
}

fn ten_refusals() -> BTreeMap<String, usize> {
    BTreeMap::from([("invalid".to_owned(), 5), ("undecodable".to_owned(), 5)])
}

/// A dead letter may come twice where the break fell between it and its ack.
async fn check_repeated_refusals(scene: &Scene) {
    let reasons = scene.dead_letters(10).await;
    assert!(
        reasons["invalid"] >= 5 && reasons["undecodable"] >= 5 && reasons.len() == 2,
        "{reasons:?}"
    );
}

async fn every_command_ends_once(kind: Kind, commands: u64) {
    let scene = scene(kind, &format!("once-{kind}"), commands).await;
    scene.publish().await;
    let worker = scene.settings().start(&["run"]);
    scene.check().await;
    assert_eq!(scene.dead_letters(10).await, ten_refusals());
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_once_and_the_last_value_stands_at_zitadel() {
    every_command_ends_once(Kind::Zitadel, commands()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_once_and_the_last_value_stands_at_karmo() {
    every_command_ends_once(Kind::Karmo, commands() / 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_once_and_the_last_value_stands_at_sivo() {
    every_command_ends_once(Kind::Sivo, commands() / 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_once_and_the_last_value_stands_at_mattr() {
    every_command_ends_once(Kind::Mattr, commands() / 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_once_and_the_last_value_stands_at_scim() {
    every_command_ends_once(Kind::Scim, commands() / 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_once_and_the_last_value_stands_at_a_plain_api() {
    every_command_ends_once(Kind::Rest, commands() / 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_loses_nothing_and_leaves_no_user_on_an_older_value() {
    let scene = scene(Kind::Zitadel, "killed", commands()).await;
    scene.publish().await;
    for third in 1..3 {
        let worker = scene.settings().start(&["run"]);
        scene.applied(scene.commands * third / 3).await;
        worker.killed().await;
    }
    let worker = scene.settings().start(&["run"]);
    scene.check().await;
    check_repeated_refusals(&scene).await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_and_starts_again_loses_nothing() {
    let node = Node::own().await;
    let scene = faulty(
        Scene::new(
            Kind::Zitadel,
            node.vhost("stopped").await,
            commands(),
            commands() / 4,
        )
        .await,
    );
    scene.publish().await;
    let worker = scene.settings().start(&["run"]);
    scene.applied(scene.commands / 3).await;
    node.ctl(&["stop_app"]).await;
    node.ctl(&["start_app"]).await;
    scene.check().await;
    check_repeated_refusals(&scene).await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_drained_one_after_another_do_nothing_twice() {
    let url = Node::shared().await.vhost("drained").await;
    // At full speed: acks that the broker has in hand when the channel closes would be lost with it.
    let scene = Scene::with_latency(Duration::ZERO, Kind::Zitadel, url, commands(), commands() / 4).await;
    scene.publish().await;
    for part in 1..8 {
        let worker = scene.settings().start(&["run"]);
        scene.applied(scene.commands * part / 8).await;
        worker.drained().await;
    }
    let worker = scene.settings().start(&["run"]);
    scene.check().await;
    assert_eq!(scene.provider.summary().writes, scene.commands);
    // A settled command that comes again finds its user as asked.
    let events = scene.events(usize::try_from(scene.commands).unwrap() + 10).await;
    let again = events
        .iter()
        .filter(|event| event["data"]["changed"] == false)
        .count();
    assert_eq!(again, 0, "settled commands that came again");
    assert_eq!(scene.dead_letters(10).await, ten_refusals());
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once_with_its_own_exit_code() {
    let scene = scene(Kind::Zitadel, "aborted", 100).await;
    scene.provider.set_faults(Faults {
        slow: 1.0,
        slow_ms: 8000,
        ..Faults::default()
    });
    scene.publish().await;
    let patient = scene.settings().with("PROVIDER__TIMEOUT", &"20s");
    let worker = patient.start(&["run"]);
    scene.applied(5).await;
    worker.signal("TERM").await;
    worker.signal("INT").await;
    let (status, said) = worker.ended().await;
    assert_eq!(status.code(), Some(3), "{said}");
}
