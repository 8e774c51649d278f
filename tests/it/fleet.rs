//! Several workers of one provider: standing by, sharing, taking over, and what a dead one leaves behind.
//!
//! `USHER_TEST_KILLS=200` kills as many workers between a terminal event's confirm and the ack,
//! `USHER_TEST_NEIGHBOURS=1000` puts a command that kills its worker among as many.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};
use usher::provider::Kind;
use usher::simulator::Op;

use crate::node::Node;
use crate::process::{Process, Settings};
use crate::scene::Scene;
use crate::support::{eventually, readiness};

const COMMANDS: u64 = 2000;

fn number(variable: &str, otherwise: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.map_or(otherwise, |text| text.parse().expect(variable))
}

async fn scene(vhost: &str, commands: u64) -> Scene {
    let url = Node::shared().await.vhost(vhost).await;
    Scene::new(Kind::Zitadel, url, commands, commands / 4).await
}

/// A worker that tells where it stands.
struct Worker {
    process: Process,
    admin: SocketAddr,
}

impl Worker {
    fn start(settings: Settings) -> Self {
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = settings.with("ADMIN__LISTEN", &admin).start(&["run"]);
        Self { process, admin }
    }

    async fn readiness(&self) -> Option<Value> {
        readiness(self.admin).await.map(|(_, body)| body)
    }

    async fn leases(&self) -> Option<u64> {
        self.readiness().await?["leases"]["held"].as_u64()
    }

    async fn becomes(&self, state: &str) {
        eventually(state, async || {
            (self.readiness().await?["state"] == state).then_some(())
        })
        .await;
    }
}

/// Until every partition has its worker and shares differ by one at most.
async fn balanced(workers: &[Worker], partitions: u64) {
    eventually("a balance", async || {
        let mut held = Vec::new();
        for worker in workers {
            held.push(worker.leases().await?);
        }
        let (most, least) = (held.iter().max()?, held.iter().min()?);
        (held.iter().sum::<u64>() == partitions && most - least <= 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stands_by_takes_over_from_a_killed_one() {
    let scene = scene("standby", COMMANDS).await;
    let first = Worker::start(scene.settings());
    first.becomes("idle").await;
    let second = Worker::start(scene.settings());
    second.becomes("standby").await;
    scene.publish().await;
    scene.applied(scene.commands / 2).await;
    assert_eq!(second.leases().await, Some(0));
    first.process.killed().await;
    scene.check().await;
    second.process.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_partitions_as_they_come_and_go() {
    let scene = scene("shares", COMMANDS).await;
    let settings = scene.settings().with("BROKER__PARTITIONS", &8);
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(Worker::start(settings.clone()));
        balanced(&workers, 8).await;
    }
    scene.publish_lines(&scene.lines()).await;
    while workers.len() > 1 {
        workers.remove(0).process.drained().await;
        balanced(&workers, 8).await;
    }
    let events = scene.events(usize::try_from(COMMANDS).unwrap()).await;
    assert!(events.iter().all(|event| event["type"] != "USER_UPDATE_FAIL"));
    let summary = scene.provider.summary();
    assert_eq!(
        (summary.applied, summary.overlapping),
        (COMMANDS, 0),
        "nothing twice"
    );
    workers.remove(0).process.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_does_nothing_twice_and_spends_no_attempt() {
    let scene = scene("rolling", COMMANDS).await;
    let settings = scene
        .settings()
        .with("BROKER__PARTITIONS", &4)
        .with("PROVIDER__RATE__PER_SECOND", &200);
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let mut workers = vec![Worker::start(settings.clone()), Worker::start(settings.clone())];
    balanced(&workers, 4).await;
    scene.publish_lines(&scene.lines()).await;
    for round in 1..=4 {
        scene.applied(scene.commands * round / 6).await;
        workers.remove(0).process.drained().await;
        workers.push(Worker::start(settings.clone()));
        balanced(&workers, 4).await;
    }
    let events = scene.events(usize::try_from(COMMANDS).unwrap()).await;
    let attempts: BTreeMap<_, usize> = events
        .iter()
        .filter(|event| event["type"] == "USER_UPDATE_SUCCESS")
        .fold(BTreeMap::new(), |mut counts, event| {
            *counts
                .entry(event["data"]["attempts"].as_u64().unwrap())
                .or_default() += 1;
            counts
        });
    assert_eq!(attempts.keys().collect::<Vec<_>>(), [&1], "{attempts:?}");
    let summary = scene.provider.summary();
    assert_eq!(
        (summary.writes, summary.overlapping),
        (COMMANDS, 0),
        "nothing twice"
    );
    for worker in workers {
        worker.process.drained().await;
    }
}

/// Settled, told and not acked: the command comes again, and is not run again, though its user has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_before_an_ack_leaves_one_outcome_and_no_second_call() {
    let kills = number("USHER_TEST_KILLS", 5);
    let scene = scene("unacked", 4).await;
    let settings = scene
        .settings()
        .with("WORKER__POISON_AFTER", &1000)
        .with("WORKER__SUSPECT_AFTER", &1000);
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let lines: String = (0..kills)
        .map(|n| {
            let id = uuid::Uuid::from_u128(u128::from(n) + 1);
            let update = json!({ "nickname": format!("n{n}") });
            let command =
                json!({ "id": id, "provider": "zitadel", "userId": format!("once-{n}"), "update": update });
            format!("{command}\n")
        })
        .collect();
    scene.publish_lines(&lines).await;
    let deadly = settings
        .clone()
        .with_variable("FAILPOINT", "before_ack")
        .with("BROKER__PREFETCH", &1);
    for n in 0..kills {
        let (status, said) = deadly.start(&["run"]).ended().await;
        assert!(status.code().is_none(), "it was not killed at {n}: {said}");
        // Whoever's command it was: those of different users have no order among them.
        let last = scene.provider.calls().pop().unwrap();
        scene.provider.remove_user(&last.user);
    }
    let worker = Worker::start(settings);
    eventually("nothing left", async || {
        let channel = scene.channel().await;
        (scene.depth(&channel, "user.update.zitadel.0").await == 0).then_some(())
    })
    .await;
    worker.becomes("idle").await;
    let events = scene.events(usize::try_from(kills).unwrap()).await;
    assert!(
        events.iter().all(|event| event["type"] != "USER_UPDATE_FAIL"),
        "{events:#?}"
    );
    let writes = scene
        .provider
        .calls()
        .iter()
        .filter(|call| call.op == Op::Write)
        .count();
    assert_eq!(writes as u64, kills, "no second call");
    worker.process.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_kills_its_worker_becomes_poison_and_its_neighbours_succeed() {
    let neighbours = number("USHER_TEST_NEIGHBOURS", 200);
    let scene = scene("poison", neighbours).await;
    let settings = scene
        .settings()
        .with("PROVIDER__TIMEOUT", &"500ms")
        .with("BROKER__PREFETCH", &1000);
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let mut lines: Vec<_> = scene.lines().lines().map(str::to_owned).collect();
    let crasher = json!({ "id": uuid::Uuid::from_u128(7), "provider": "zitadel", "userId": "crasher",
        "update": { "nickname": "c" } });
    lines.insert(lines.len() / 2, crasher.to_string());
    scene.publish_lines(&format!("{}\n", lines.join("\n"))).await;
    let deadly = settings.with_variable("FAILPOINT", "before_call=crasher");
    let mut crashes = 0;
    loop {
        let mut worker = Worker::start(deadly.clone());
        let survives = eventually("an end", async || match worker.process.is_running() {
            false => Some(false),
            true => {
                let commands = worker.readiness().await?["commands"].clone();
                (commands["dead_lettered"] == 1).then_some(true)
            }
        })
        .await;
        if survives {
            let events = scene.events(usize::try_from(neighbours).unwrap() + 1).await;
            let failed: Vec<_> = events
                .iter()
                .filter(|event| event["type"] == "USER_UPDATE_FAIL")
                .map(|event| event["data"]["error"]["reason"].as_str().unwrap())
                .collect();
            assert_eq!(failed, ["poison"]);
            worker.process.drained().await;
            break;
        }
        crashes += 1;
        assert!(crashes <= 6, "it has killed {crashes} workers");
    }
    assert!(crashes >= 3, "it was given its chances");
    assert_eq!(
        scene.dead_letters(1).await,
        BTreeMap::from([("poison".to_owned(), 1)])
    );
    assert!(scene.provider.calls().iter().all(|call| call.user != "crasher"));
}
