//! The programs of `docs/clients.md` as its readers run them: the page's own code, a real broker, the real worker.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use usher::broker::topology::OUTCOMES;
use usher::provider::Kind;

use crate::node::Node;
use crate::process::Folder;
use crate::scene::Scene;

/// Where tests/run puts them.
const PIKA: &str = "target/pika-1.4.4/bin/python3";
const AMQPLIB: &str = "target/amqplib-2.3.1/node_modules";

/// How many events each of the page's subscribers takes before it has acked one.
const PREFETCH: u32 = 100;

const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The code block that follows the name of its file.
fn program(file: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/clients.md")).unwrap();
    let heading = format!("\n`{file}`:\n\n```");
    let after = page.split(&heading).nth(1);
    let block = after.and_then(|after| after.split("\n```").next());
    let block = block.unwrap_or_else(|| panic!("docs/clients.md has no block after `{file}`:"));
    block.split_once('\n').unwrap().1.to_owned() + "\n"
}

fn installed(path: &str) -> String {
    let path = root().join(path);
    assert!(
        path.exists(),
        "there is no {}: run tests/run, which installs it",
        path.display()
    );
    path.display().to_string()
}

/// A program of the page that runs.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(interpreter: &str, folder: &Folder, file: &str, url: &str) -> Self {
        let mut child = Command::new(interpreter)
            .arg(folder.write(file, &program(file)))
            .env("AMQP_URL", url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{interpreter}: {error}: run tests/run, which installs it"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.expect("a line in time").unwrap();
        line.expect("it runs on; its stderr says why not, and tests/run installs what it needs")
    }

    /// The words of its next line, without spaces at its end.
    async fn words(&mut self) -> Vec<String> {
        self.line().await.split_whitespace().map(str::to_owned).collect()
    }

    async fn ended(mut self) {
        let status = timeout(PATIENCE, self.child.wait()).await;
        assert!(status.expect("an end in time").unwrap().success());
    }
}

/// Events as a later version may send them, each twice, one after the other.
async fn publish_twice_each(scene: &Scene, events: u32) {
    let channel = scene.channel().await;
    for n in (0..events).flat_map(|n| [n, n]) {
        let event = json!({
            "specversion": "1.0", "id": format!("event-{n}"), "source": "/usher/zitadel", "type": "USER_UPDATE_FAIL",
            "data": { "commandId": format!("command-{n}"), "fields": ["email"], "later": 1,
                "error": { "reason": "conflict", "later": [] } },
            "later": { "a": 1 },
        })
        .to_string();
        let sent = channel.basic_publish(
            OUTCOMES.into(),
            "user.update.fail.zitadel".into(),
            BasicPublishOptions::default(),
            event.as_bytes(),
            BasicProperties::default().with_delivery_mode(2),
        );
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }
}

/// A command of the page's publisher ends as SUCCESS at the page's subscriber, which shows an event that comes twice
/// once, ignores members that it does not know, and acks: it gets more events than it may hold unacked.
async fn publishes_and_watches(name: &str, interpreter: &str, folder: &Folder, extension: &str) {
    let url = Node::shared().await.vhost(&format!("clients-{name}")).await;
    let scene = Scene::new(Kind::Zitadel, url.clone(), 1, 1).await;
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    let worker = scene.settings().start(&["run"]);
    let mut watch = Running::start(interpreter, folder, &format!("watch.{extension}"), &url);
    assert_eq!(watch.line().await, "waiting for events");

    let mut publish = Running::start(interpreter, folder, &format!("publish.{extension}"), &url);
    let published = publish.words().await;
    assert_eq!(published[0], "published");
    publish.ended().await;
    let id = published[1].as_str();
    assert_eq!(watch.words().await, ["USER_UPDATE_START", id, "email,nickname"]);
    assert_eq!(watch.words().await, ["USER_UPDATE_SUCCESS", id, "email,nickname"]);

    publish_twice_each(&scene, PREFETCH).await;
    for n in 0..PREFETCH {
        let command = format!("command-{n}");
        let expected = ["USER_UPDATE_FAIL", &command, "email", "conflict"];
        assert_eq!(watch.words().await, expected);
    }
    watch.child.kill().await.unwrap();
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_programs_of_the_page_publish_a_command_and_get_its_success() {
    let python = installed(PIKA);
    publishes_and_watches("python", &python, &Folder::new(), "py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_programs_of_the_page_publish_a_command_and_get_its_success() {
    let folder = Folder::new();
    // Where Node looks for what a module imports: beside it.
    std::os::unix::fs::symlink(installed(AMQPLIB), folder.path("node_modules")).unwrap();
    publishes_and_watches("node", "node", &folder, "mjs").await;
}
