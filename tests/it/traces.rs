//! Traces as they leave the program: what a collector receives, and what becomes of a worker without one.

pub mod collector;
mod joined;

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use tokio::time::{Instant, timeout};
use usher::broker::topology::COMMANDS;
use usher::provider::Kind;
use usher::simulator::Faults;

use self::collector::{Collector, attribute};
use crate::node::Node;
use crate::process::{Folder, Settings};
use crate::scene::{Scene, TOKEN};
use crate::support::eventually;

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN_ID: &str = "b7ad6b7169203331";

const ID: &str = "01900000-0000-7000-8000-000000000001";

async fn declare(settings: &Settings) {
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
}

/// One command for the user `user-0`, with a context that is sampled.
async fn publish(scene: &Scene) {
    let mut headers = FieldTable::default();
    let traceparent = format!("00-{TRACE_ID}-{SPAN_ID}-01");
    headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
    let body = json!({ "id": ID, "provider": scene.kind, "userId": "user-0", "update": { "email": "a@example.com" } });
    let key = format!("{}.user-0", scene.kind);
    let (body, options) = (body.to_string(), BasicPublishOptions::default());
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(ID.into())
        .with_headers(headers);
    let channel = scene.channel().await;
    channel
        .basic_publish(COMMANDS.into(), key.into(), options, body.as_bytes(), properties)
        .await
        .unwrap()
        .await
        .unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn only<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let named: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(named.len(), 1, "{name}: {spans:#?}");
    named[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_trace_of_a_command_by_the_end_of_the_worker() {
    let collector = Collector::start().await;
    let url = Node::shared().await.vhost("traces").await;
    let scene = Scene::new(Kind::Rest, url, 1, 1).await;
    let folder = Folder::new();
    let settings = scene
        .settings()
        .with("TELEMETRY__OTLP_ENDPOINT", &collector.address())
        .with(
            "TELEMETRY__OTLP_HEADERS_FILE",
            &folder.write("headers", "authorization: Bearer for-the-collector\n"),
        );
    declare(&settings).await;
    let worker = settings.start(&["run"]);
    publish(&scene).await;
    scene.events(1).await;
    let log = worker.drained().await;
    assert!(!log.contains("traces:"), "{log}");
    assert!(!log.contains("for-the-collector"), "{log}");

    let (heads, spans) = (collector.heads(), collector.spans());
    for head in heads {
        assert!(head.starts_with("post /v1/traces"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        assert!(head.contains("authorization: bearer for-the-collector"), "{head}");
    }
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE_ID));
    let process = only(&spans, "process user.update.rest.0");
    assert_eq!(hex(&process.parent_span_id), SPAN_ID);
    assert_eq!(process.kind(), SpanKind::Consumer);
    assert_eq!(attribute(process, "messaging.message.id").as_deref(), Some(ID));
    let call = only(&spans, "PATCH /users/{userId}");
    assert_eq!(call.parent_span_id, process.span_id);
    assert_eq!(call.kind(), SpanKind::Client);
    assert_eq!(
        attribute(call, "url.template").as_deref(),
        Some("/users/{userId}")
    );
    assert_eq!(attribute(call, "server.address").as_deref(), Some("127.0.0.1"));
    assert_eq!(
        attribute(call, "http.response.status_code").as_deref(),
        Some("200")
    );
    let published: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "publish user.outcomes")
        .collect();
    assert_eq!(published.len(), 2);
    for span in published {
        assert_eq!(span.parent_span_id, process.span_id);
        assert_eq!(span.kind(), SpanKind::Producer);
    }
    let said = format!("{spans:?}");
    for secret in ["user-0", "a@example.com", TOKEN] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_has_sent_the_traces_of_its_commands_when_it_ends() {
    let collector = Collector::start().await;
    let settings = Settings::default()
        .with("TELEMETRY__OTLP_ENDPOINT", &collector.address())
        .with("TELEMETRY__SAMPLE", &1);
    let update =
        json!({ "id": ID, "provider": "rest", "userId": "user-0", "update": { "email": "a@example.com" } });
    let input = update.to_string();
    let applied = settings
        .run(&["apply", "-", "--simulate", "rest"], input.as_bytes())
        .await;
    assert_eq!(applied.status.code(), Some(0), "{applied:?}");
    let spans = collector.spans();
    let process = only(&spans, "process user.update.rest.0");
    assert_eq!(attribute(process, "messaging.message.id").as_deref(), Some(ID));
    assert_eq!(attribute(process, "usher.outcome").as_deref(), Some("SUCCESS"));
    let below = |name: &str| {
        let is_below = |span: &&Span| span.name == name && span.parent_span_id == process.span_id;
        spans.iter().filter(is_below).count()
    };
    assert!(below("PATCH /users/{userId}") >= 1, "{spans:#?}");
    assert_eq!(below("publish user.outcomes"), 2, "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_out_of_reach_costs_a_line_and_a_worker_ends_in_time() {
    // Nothing listens there any more.
    let gone = Collector::start().await.address();
    // Nothing answers there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for (name, address) in [("gone", gone), ("silent", silent)] {
        let url = Node::shared().await.vhost(&format!("traces-{name}")).await;
        let scene = Scene::new(Kind::Rest, url, 200, 50).await;
        scene.provider.set_faults(Faults::default());
        let settings = scene
            .settings()
            .with("WORKER__GRACE_PERIOD", &"10s")
            .with("LOG__LEVEL", &"trace")
            .with("TELEMETRY__SAMPLE", &1)
            .with("TELEMETRY__OTLP_ENDPOINT", &address);
        scene.publish().await;
        let worker = settings.start(&["run"]);
        scene.events(200 + 10).await;
        let asked_at = Instant::now();
        let log = timeout(Duration::from_secs(60), worker.drained()).await.unwrap();
        assert!(
            asked_at.elapsed() < Duration::from_secs(10),
            "{:?}",
            asked_at.elapsed()
        );
        let lines: Vec<_> = log.lines().filter(|line| line.contains("traces:")).collect();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].contains("dropped"), "{lines:?}");
        assert!(!log.to_lowercase().contains("opentelemetry"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_comes_back_is_told_of_and_gets_the_later_spans() {
    let collector = Collector::start().await;
    collector.refuse(true);
    let url = Node::shared().await.vhost("traces-again").await;
    let scene = Scene::new(Kind::Rest, url, 20, 10).await;
    let settings = scene
        .settings()
        .with("TELEMETRY__SAMPLE", &1)
        .with("TELEMETRY__OTLP_ENDPOINT", &collector.address());
    declare(&settings).await;
    let worker = settings.start(&["run"]);
    scene.publish_lines(&scene.lines()).await;
    scene.events(20).await;
    eventually("a refused request", async || {
        (collector.refused() > 0).then_some(())
    })
    .await;
    collector.refuse(false);
    publish(&scene).await;
    let log = worker.drained().await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("traces:")).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].contains("takes no spans") && lines[1].contains("again"),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_can_not_be_used_is_refused_at_the_start() {
    let url = Node::shared().await.vhost("traces-refused").await;
    let scene = Scene::new(Kind::Rest, url, 1, 1).await;
    let refused = async |settings: Settings, said: &str| {
        let output = settings.run(&["run"], b"").await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    };
    let endpoint = |address: &str| scene.settings().with("TELEMETRY__OTLP_ENDPOINT", &address);
    refused(endpoint("localhost:4318"), "telemetry.otlp_endpoint").await;
    let no_file = endpoint("https://collector.example").with("TELEMETRY__OTLP_HEADERS_FILE", &"/no/file");
    refused(no_file, "telemetry.otlp_headers_file").await;
}
