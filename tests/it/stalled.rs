//! What stands still says why, on a real broker, and goes on by itself.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::net::TcpListener;
use usher::provider::Kind;

use crate::node::Node;
use crate::scene::Scene;
use crate::support::{eventually, readiness};

const ALL: &str = ".*";
const NO_LOG: &str = r"^(?!user\.outcomes\.log$).*";

async fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Until the worker says so; answers what it said.
async fn says(admin: SocketAddr, state: &str) -> Value {
    eventually(state, async || {
        let (_, said) = readiness(admin).await?;
        (said["state"] == state).then_some(said)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_outcome_log_is_named_until_it_can_be_read() {
    let node = Node::shared().await;
    let url = node.vhost("unreadable-log").await;
    let scene = Scene::new(Kind::Zitadel, url, 20, 10).await;
    assert!(
        scene
            .settings()
            .run(&["topology", "declare"], b"")
            .await
            .status
            .success()
    );
    let may = async |read: &str| node.permitted("unreadable-log", "worker", ALL, ALL, read).await;
    let restricted = may(NO_LOG).await;
    scene.publish().await;
    let admin = port().await;
    let settings = scene
        .settings()
        .with("BROKER__URL", &restricted)
        .with("ADMIN__LISTEN", &admin);
    let worker = settings.start(&["run"]);
    let said = says(admin, "outcome_log").await;
    let detail = said["detail"].as_str().unwrap();
    assert!(
        detail.contains("ACCESS_REFUSED") && detail.contains("user.outcomes.log"),
        "{said}"
    );
    assert!(!readiness(admin).await.unwrap().0);
    assert_eq!(said["leases"]["held"], 0);
    assert_eq!(scene.provider.summary().applied, 0);
    may(ALL).await;
    scene.applied(20).await;
    says(admin, "idle").await;
    worker.drained().await;
}
