//! One trace through programs of others: a Python publisher, the worker, and a Python subscriber, at the collector Rotel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use usher::provider::Kind;
use usher::simulator::{Call, CallEnd, Faults, Op};

use super::declare;
use crate::node::{Node, free_ports};
use crate::process::Folder;
use crate::scene::Scene;
use crate::support::{eventually, get};

/// Where tests/run puts Rotel, the SDK of OpenTelemetry and pika.
const VENV: &str = "target/rotel-0.0.1a15-opentelemetry-1.45.2";

const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the packages that Python finds there.
fn installed(file: &str) -> PathBuf {
    let lib = std::fs::read_dir(root().join(VENV).join("lib"));
    let versions = lib.into_iter().flatten().flatten();
    let mut paths = versions.map(|version| version.path().join("site-packages").join(file));
    paths
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("there is no {file} in {VENV}: run tests/run, which installs it"))
}

/// A collector that writes what it receives into a file. It ends when this is dropped.
struct Rotel {
    url: String,
    folder: Folder,
    _agent: Child,
}

impl Rotel {
    async fn start() -> Self {
        let folder = Folder::new();
        let [http, grpc] = free_ports();
        let said = std::fs::File::create(folder.path("said")).unwrap();
        let agent = Command::new(installed("rotel/rotel-agent"))
            .args(["start", "--exporter", "blackhole"])
            .args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .stdin(Stdio::null())
            .stdout(said)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{http}");
        eventually("Rotel listens", async || get(&url).await).await;
        Self {
            url,
            folder,
            _agent: agent,
        }
    }

    /// The spans so far. The last one may be cut.
    fn spans(&self) -> Vec<Received> {
        let said = self.folder.read("said");
        let of_resource = |text: &str| {
            let mut parts = text.split("\nSpan #");
            let resource = fields(parts.next().unwrap());
            let service = resource.get("service.name").cloned().unwrap_or_default();
            let read = |part: &str| Received {
                service: service.clone(),
                fields: fields(part),
            };
            parts.map(read).collect::<Vec<_>>()
        };
        said.split("ResourceSpans #")
            .skip(1)
            .flat_map(of_resource)
            .collect()
    }
}

/// A span, as Rotel writes it.
#[derive(Debug)]
struct Received {
    service: String,
    /// `Trace ID`, `Parent ID`, `ID`, `Name`, `Kind` and the attributes, of which numbers are written as `Int(503)`.
    fields: BTreeMap<String, String>,
}

impl Received {
    fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    fn id(&self) -> &str {
        self.get("ID")
    }

    fn is_child_of(&self, parent: &Self) -> bool {
        self.get("Parent ID") == parent.id()
    }
}

/// The lines `<name>: <value>`; those of attributes begin with an arrow.
fn fields(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let read = |(name, value): (&str, &str)| {
        let name = name.trim().trim_start_matches("-> ").to_owned();
        let value = value.trim();
        let text = value.strip_prefix("Str(").and_then(|rest| rest.strip_suffix(')'));
        (name, text.unwrap_or(value).to_owned())
    };
    pairs.map(read).collect()
}

fn python(program: &str, arguments: &[&str], url: &str) -> Command {
    let mut python = Command::new(root().join(VENV).join("bin/python3"));
    python
        .arg(root().join("tests/it/traces").join(program))
        .args(arguments)
        .env("AMQP_URL", url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    python
}

/// The provider answers writes with 503 until it has got one.
async fn fail_once(scene: &Scene) {
    eventually("a refused write", async || {
        let calls = scene.provider.calls();
        let refused = |call: &Call| call.op == Op::Write && call.end == CallEnd::Answered(503);
        calls.iter().any(refused).then_some(())
    })
    .await;
    scene.provider.set_faults(Faults::default());
}

/// What the programs of others say and get, with a provider that refuses the first write.
async fn published_and_received(scene: &Scene, collector: &str) -> (String, Vec<String>) {
    let mut subscriber = python("subscribe.py", &[collector], &scene.url).spawn().unwrap();
    let mut lines = BufReader::new(subscriber.stdout.take().unwrap()).lines();
    let first = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    assert_eq!(first.as_deref(), Some("waiting for events"));
    let published = python("publish.py", &[collector, "rest", "user-0"], &scene.url).output();
    let published = timeout(PATIENCE, published).await.unwrap().unwrap();
    assert!(published.status.success(), "{published:?}");
    fail_once(scene).await;
    let mut events = Vec::new();
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
        events.push(line);
    }
    let ended = timeout(PATIENCE, subscriber.wait()).await.unwrap();
    assert!(ended.unwrap().success(), "{events:?}");
    (String::from_utf8(published.stdout).unwrap(), events)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_joins_a_python_publisher_the_retry_and_a_python_subscriber_at_a_collector_of_others() {
    let rotel = Rotel::start().await;
    let url = Node::shared().await.vhost("traces-joined").await;
    let scene = Scene::new(Kind::Rest, url, 1, 1).await;
    let settings = scene
        .settings()
        .with("TELEMETRY__OTLP_ENDPOINT", &rotel.url)
        // No command is traced but by its publisher's wish.
        .with("TELEMETRY__SAMPLE", &0)
        // Longer than the test takes to see the first answer.
        .with("RETRY__DELAY_MIN", &"2s");
    declare(&settings).await;
    scene.provider.set_faults(Faults {
        broken_after: 1.0,
        ..Faults::default()
    });
    let worker = settings.start(&["run"]);
    let collector = format!("{}/v1/traces", rotel.url);
    let (published, events) = published_and_received(&scene, &collector).await;
    worker.drained().await;

    // An event may come twice. Each brings the vendor's entry back.
    let is_start = |event: &&String| event.as_str() == "USER_UPDATE_START vendor=opaque-1";
    let starts = events.iter().filter(is_start).count();
    assert!(starts >= 1, "{events:?}");
    assert_eq!(events[starts..], ["USER_UPDATE_SUCCESS vendor=opaque-1"]);
    let spans = eventually("all spans at the collector", async || {
        let spans = rotel.spans();
        let received = spans.iter().filter(|span| span.service == "subscriber").count();
        let processed = spans.iter().any(|span| span.get("Name") == PROCESS);
        (processed && received == starts + 1).then_some(spans)
    })
    .await;
    let (trace_id, span_id) = published.trim().split_once(' ').expect("two ids");
    for span in &spans {
        assert_eq!(span.get("Trace ID"), trace_id, "{span:?}");
        assert_eq!(span.get("TraceState"), "vendor=opaque-1", "{span:?}");
    }
    check_parents(&spans, span_id);
}

/// The worker's own span, which it sends last.
const PROCESS: &str = "process user.update.rest.0";

/// The publisher's span, the worker's below it, its calls and events below that, and the subscriber's below the events.
fn check_parents(spans: &[Received], published: &str) {
    let of = |service: &str, name: &str| -> Vec<&Received> {
        let is_meant = |span: &&Received| span.service == service && span.get("Name").starts_with(name);
        spans.iter().filter(is_meant).collect()
    };
    let [publish] = of("publisher", "publish user.commands")[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(publish.id(), published);
    let [process] = of("usher", PROCESS)[..] else {
        panic!("{spans:#?}");
    };
    assert!(process.is_child_of(publish), "{process:?}");
    assert_eq!(process.get("usher.attempts"), "Int(2)");
    let calls = of("usher", "PATCH /users/{userId}");
    assert!(calls.iter().all(|call| call.is_child_of(process)), "{calls:?}");
    let answer = |call: &&Received| call.get("http.response.status_code").to_owned();
    let answers: Vec<_> = calls.iter().map(answer).collect();
    assert_eq!(
        answers,
        ["Int(503)", "Int(200)"],
        "the attempt that failed, and its retry"
    );
    let told = of("usher", "publish user.outcomes");
    assert!(told.iter().all(|told| told.is_child_of(process)), "{told:?}");
    for heard in of("subscriber", "process ") {
        let parent = told.iter().find(|told| heard.is_child_of(told));
        let event = parent.unwrap_or_else(|| panic!("{heard:?} in {spans:#?}"));
        assert_eq!(heard.get("Name"), format!("process {}", event.get("usher.event")));
    }
}
