//! Every exchange, queue and binding of ours, deleted by somebody while a worker runs: it is declared again, and what is
//! published from then on ends as it should.

use std::time::Duration;

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    ExchangeUnbindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ExchangeKind};
use serde_json::json;
use tokio::time::Instant;
use usher::broker::topology::{Binding, COMMANDS, DEAD_LETTERS, Destination, UNROUTABLE};
use usher::broker::{Config, Topology};
use usher::provider::Kind;
use uuid::Uuid;

use crate::node::Node;
use crate::scene::Scene;
use crate::support::eventually;

const PROVIDER: &str = "zitadel";

async fn delete_exchange(channel: &Channel, name: &str) {
    let options = ExchangeDeleteOptions::default();
    channel.exchange_delete(name.into(), options).await.unwrap();
}

async fn delete_queue(channel: &Channel, name: &str) {
    let options = QueueDeleteOptions::default();
    channel.queue_delete(name.into(), options).await.unwrap();
}

async fn unbind(channel: &Channel, binding: &Binding) {
    let (source, pattern) = (binding.source.as_str().into(), binding.pattern.as_str().into());
    let (to, none) = (binding.destination.name().into(), FieldTable::default());
    match binding.destination {
        Destination::Queue(_) => channel.queue_unbind(to, source, pattern, none).await,
        Destination::Exchange(_) => {
            let options = ExchangeUnbindOptions::default();
            channel.exchange_unbind(to, source, pattern, options, none).await
        }
    }
    .unwrap();
}

/// Whether there is such a queue and exchange, on a channel of its own: a no closes it.
async fn is_there(scene: &Scene, queue: Option<&str>, exchange: Option<&str>) -> bool {
    let channel = scene.channel().await;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    if let Some(queue) = queue
        && channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await
            .is_err()
    {
        return false;
    }
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    match exchange {
        None => true,
        Some(exchange) => channel
            .exchange_declare(
                exchange.into(),
                ExchangeKind::Topic,
                passive,
                FieldTable::default(),
            )
            .await
            .is_ok(),
    }
}

/// Publishes until the broker confirms: the exchange may be gone.
async fn publish(scene: &Scene, user: &str, body: &str) {
    eventually("a confirm", async || {
        let channel = scene.channel().await;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let key = format!("{PROVIDER}.{user}");
        let sent = channel
            .basic_publish(
                COMMANDS.into(),
                key.as_str().into(),
                options,
                body.as_bytes(),
                properties,
            )
            .await;
        sent.ok()?.await.ok()
    })
    .await;
}

/// A command that succeeds and one that becomes a dead letter, and that both do.
async fn check(scene: &Scene, step: usize, what: &str) {
    let user = format!("u{step}");
    let command =
        json!({ "id": Uuid::new_v4(), "provider": PROVIDER, "userId": user, "update": { "nickname": "n" } });
    publish(scene, &user, &command.to_string()).await;
    let bad = format!("bad{step}");
    publish(scene, &bad, "{no JSON").await;
    eventually(&format!("a call after {what} was deleted"), async || {
        scene
            .provider
            .calls()
            .iter()
            .any(|call| call.user == user)
            .then_some(())
    })
    .await;
    let channel = scene.channel().await;
    eventually(&format!("a dead letter after {what} was deleted"), async || {
        // Where nothing was bound, the alternate exchange has kept it.
        let dead_letters =
            scene.depth(&channel, DEAD_LETTERS).await + scene.depth(&channel, UNROUTABLE).await;
        (dead_letters > 0).then_some(())
    })
    .await;
    for queue in [DEAD_LETTERS, UNROUTABLE] {
        channel
            .queue_purge(queue.into(), lapin::options::QueuePurgeOptions::default())
            .await
            .unwrap();
    }
}

#[expect(
    clippy::print_stdout,
    reason = "how long it took is for people, and nothing to assert"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_part_of_the_topology_is_declared_again_and_no_later_command_is_lost() {
    let url = Node::shared().await.vhost("deleted").await;
    let scene = Scene::new(Kind::Zitadel, url, 1, 1).await;
    let topology = Topology::new(PROVIDER, &Config::default());
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    // Half of all that is published here are dead letters.
    let settings = scene.settings().with("WORKER__DEAD_LETTER_SHARE_MAX", &1);
    let worker = settings.start(&["run"]);
    check(&scene, 0, "nothing").await;
    let channel = scene.channel().await;
    let mut step = 0;
    for exchange in &topology.exchanges {
        step += 1;
        let name = exchange.name.as_str();
        delete_exchange(&channel, name).await;
        let began = Instant::now();
        if name.starts_with(COMMANDS) {
            // What is published before its bindings are back lies in the unroutable.
            eventually(name, async || {
                is_there(&scene, None, Some(name)).await.then_some(())
            })
            .await;
            bound_again(&scene, &channel).await;
        }
        check(&scene, step, &format!("exchange {name}")).await;
        eventually(name, async || {
            is_there(&scene, None, Some(name)).await.then_some(())
        })
        .await;
        println!("exchange {name}: back within {:.1?}", began.elapsed());
    }
    for queue in &topology.queues {
        step += 1;
        let name = queue.name.as_str();
        delete_queue(&channel, name).await;
        let began = Instant::now();
        // What is published before a command queue is back lies in the unroutable, where nothing is bound.
        eventually(name, async || {
            is_there(&scene, Some(name), None).await.then_some(())
        })
        .await;
        println!("queue {name}: back within {:.1?}", began.elapsed());
        if name.starts_with("user.update.") {
            bound_again(&scene, &channel).await;
        }
        check(&scene, step, &format!("queue {name}")).await;
    }
    for binding in &topology.bindings {
        step += 1;
        let what = format!(
            "the binding of {} to {}",
            binding.destination.name(),
            binding.source
        );
        unbind(&channel, binding).await;
        if binding.destination.name().starts_with("user.update.") {
            bound_again(&scene, &channel).await;
        }
        check(&scene, step, &what).await;
    }
    let said = worker.drained().await;
    assert!(said.contains("queue user.dead-letters"), "it is named: {said}");
    assert!(said.contains("exchange user.outcomes"), "it is named: {said}");
}

/// Until commands reach their queue: those that don't are in the unroutable.
async fn bound_again(scene: &Scene, channel: &Channel) {
    for bulk in [COMMANDS, "user.commands.bulk"] {
        eventually("a binding", async || {
            let properties = BasicProperties::default();
            let options = BasicPublishOptions::default();
            let before = scene.depth(channel, UNROUTABLE).await;
            channel
                .basic_publish(bulk.into(), "zitadel.probe".into(), options, b"{", properties)
                .await
                .unwrap();
            tokio::time::timeout(Duration::from_millis(500), async {
                while scene.depth(channel, UNROUTABLE).await == before {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .is_err()
            .then_some(())
        })
        .await;
    }
}
