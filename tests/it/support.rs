//! Waiting for a condition, the messages that the tests send, and the requests that they get.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use usher::broker::topology::COMMANDS;
use usher::broker::{Delivery, Message, Properties};

use crate::greedy_consumer::GreedyConsumer;

/// The provider whose topology the tests use.
pub const PROVIDER: &str = "sivo";

const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until there is an answer. The only place where a test sleeps.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "it didn't happen within {PATIENCE:?}: {what}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// For what a plan does at a moment of its own, whatever the world is like by then.
pub async fn moment(at: Instant) {
    sleep_until(at).await;
}

/// One for all requests of the tests: a client of one's own reads the machine's certificates each time. It keeps no
/// connection, which would end with the runtime of the test that made it.
pub fn http() -> &'static reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(10));
        client.build().unwrap()
    });
    &CLIENT
}

pub async fn get(url: &str) -> Option<reqwest::Response> {
    http().get(url).send().await.ok()
}

/// What a worker's `/readyz` says, and whether that is ready.
pub async fn readiness(admin: SocketAddr) -> Option<(bool, Value)> {
    let answer = get(&format!("http://{admin}/readyz")).await?;
    let ready = answer.status().is_success();
    Some((ready, answer.json().await.ok()?))
}

/// Shows what the broker's adapters say, where a test fails.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::new("off,usher=info");
    let _ = tracing_subscriber::fmt()
        .with_test_writer()
        .with_env_filter(filter)
        .try_init();
}

pub fn message(exchange: &str, key: &str, id: impl Display) -> Message {
    let id = id.to_string();
    Message {
        exchange: exchange.to_owned(),
        routing_key: key.to_owned(),
        properties: Properties::persistent(&id, "text/plain"),
        body: Bytes::from(id),
        mandatory: false,
    }
}

pub fn command(id: impl Display) -> Message {
    message(COMMANDS, "sivo.42", id)
}

pub fn id(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.to_vec()).unwrap()
}

pub async fn next(consumer: &mut GreedyConsumer) -> Delivery {
    timeout(PATIENCE, consumer.next())
        .await
        .expect("a delivery in time")
        .expect("no end")
}

/// As many deliveries, unsettled.
pub async fn take(consumer: &mut GreedyConsumer, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for _ in 0..count {
        deliveries.push(next(consumer).await);
    }
    deliveries
}

pub fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(id).collect()
}

pub fn numbers(range: impl IntoIterator<Item = usize>) -> Vec<String> {
    range.into_iter().map(|number| number.to_string()).collect()
}

/// Long enough for a delivery that is on its way to arrive.
pub async fn gets_nothing(consumer: &mut GreedyConsumer) {
    if let Ok(delivery) = timeout(Duration::from_millis(400), consumer.next()).await {
        panic!(
            "unexpected: {}",
            delivery.map_or("the end".to_owned(), |delivery| id(&delivery))
        );
    }
}

/// Head and body of one HTTP request, read to its end. None, where the connection ends before.
pub async fn http_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut more = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&more[..count]),
        }
    }
}
