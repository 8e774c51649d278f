//! A provider that throttles everybody for a while, over real HTTP and a real broker.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::time::Instant;
use usher::provider::Kind;

use crate::node::Node;
use crate::scene::Scene;

const THROTTLES_FOR: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What is on its way when the first 429 is sent can't know of it.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// When a call came, and whether it was throttled.
type Calls = Arc<Mutex<Vec<(Instant, bool)>>>;

async fn provider() -> (SocketAddr, Calls) {
    let calls = Calls::default();
    let seen = calls.clone();
    let start = Instant::now();
    let answer = move || {
        let throttled = start.elapsed() < THROTTLES_FOR;
        seen.lock().unwrap().push((Instant::now(), throttled));
        async move { if throttled { throttle() } else { ok() } }
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (address, calls)
}

fn throttle() -> Response {
    let retry_after = [(header::RETRY_AFTER, RETRY_AFTER.as_secs().to_string())];
    (StatusCode::TOO_MANY_REQUESTS, retry_after, "slow down").into_response()
}

fn ok() -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        r#"{"details":{"sequence":"2"}}"#,
    )
        .into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_made_within_a_pause_and_none_is_charged_for_it() {
    let (address, calls) = provider().await;
    let url = Node::shared().await.vhost("throttled").await;
    let scene = Scene::new(Kind::Zitadel, url, 200, 100).await;
    let settings = scene
        .settings()
        .with("PROVIDER__BASE_URL", &format!("http://{address}"));
    scene.publish().await;
    let worker = settings.start(&["run"]);
    let events = scene.events(210).await;
    worker.drained().await;

    let succeeded = events
        .iter()
        .filter(|event| event["type"] == "USER_UPDATE_SUCCESS");
    let attempts: BTreeSet<_> = succeeded
        .map(|event| event["data"]["attempts"].as_u64())
        .collect();
    assert_eq!(attempts, BTreeSet::from([Some(1)]));
    assert_eq!(
        scene.dead_letters(10).await.values().sum::<usize>(),
        10,
        "only what was bad from the start"
    );
    let calls = calls.lock().unwrap().clone();
    for (paused_at, _) in calls.iter().filter(|(_, throttled)| *throttled) {
        let within = |at: &Instant| *at > *paused_at + ON_ITS_WAY && *at < *paused_at + RETRY_AFTER;
        assert!(!calls.iter().any(|(at, _)| within(at)), "a call within a pause");
    }
    let throttled = calls.iter().filter(|(_, throttled)| *throttled).count();
    assert!(throttled <= 64 * 6, "{throttled} throttled calls in five pauses");
}
