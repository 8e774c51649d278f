//! The console as a browser meets it, against a real broker.

use axum::http::StatusCode;
use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_SECURITY_POLICY, HOST, ORIGIN};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use usher::broker::topology::DEAD_LETTERS;
use usher::provider::Kind;

use crate::dead_letters::{fail, id, json_of, scene, until_depth, usher};
use crate::node::Node;
use crate::process::{Folder, Settings};
use crate::scene::Scene;
use crate::steering::free_address;
use crate::support::{eventually, http};

const OPERATOR: &str = "operator-token-1234";
const AUDITOR: &str = "auditor-token-12345";
const VIEWER: &str = "viewer-token-123456";

/// In every value of the dead letters.
const MARKER: &str = "zqmarker";

struct Served {
    _child: Child,
    url: String,
    _folder: Folder,
}

impl Served {
    async fn start(settings: &Settings) -> Self {
        let folder = Folder::new();
        let people = format!("operator op {OPERATOR}\nauditor eva {AUDITOR}\nviewer vi {VIEWER}\n");
        let file = folder.write("people", &people);
        let settings = settings.clone().with("CONSOLE__TOKEN_FILE", &file);
        let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
        command
            .args(["console", "--listen", "127.0.0.1:0"])
            .env_clear()
            .envs(settings.variables())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines
            .next_line()
            .await
            .unwrap()
            .expect("it says where it listens");
        Self {
            _child: child,
            url: url.trim_end_matches('/').to_owned(),
            _folder: folder,
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        http().get(format!("{}{path}", self.url)).bearer_auth(VIEWER)
    }

    /// Waits while it says that it is still looking.
    async fn page(&self, path: &str) -> (StatusCode, String) {
        eventually(path, async || {
            let response = self.get(path).send().await.ok()?;
            assert!(
                response.headers()[CONTENT_SECURITY_POLICY]
                    .to_str()
                    .unwrap()
                    .contains("default-src 'none'")
            );
            let (status, text) = (response.status(), response.text().await.ok()?);
            (!text.contains("has not answered yet") && !text.contains("it follows")).then_some((status, text))
        })
        .await
    }

    async fn ok(&self, path: &str) -> String {
        let (status, text) = self.page(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }

    /// Sends a form of the page as somebody.
    async fn post(
        &self,
        token: &str,
        page: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (StatusCode, String) {
        let shown = http().get(format!("{}{page}", self.url)).bearer_auth(token);
        let shown = shown.send().await.unwrap().text().await.unwrap();
        let form_token = part(&shown, "name=\"form_token\" value=\"", "\"").unwrap_or_default();
        let body: Vec<_> = fields
            .iter()
            .chain([&("form_token", form_token.as_str())])
            .map(|(name, value)| {
                format!(
                    "{name}={}",
                    value.replace('+', "%2B").replace(' ', "+").replace(':', "%3A")
                )
            })
            .collect();
        let sent = http()
            .post(format!("{}{path}", self.url))
            .bearer_auth(token)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        let answer = sent.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }
}

fn part(text: &str, before: &str, after: &str) -> Option<String> {
    let rest = text.split_once(before)?.1;
    Some(rest.split_once(after)?.0.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_screen_is_served_without_values_and_a_strangers_names_are_text() {
    let scene = scene("console-screens").await;
    let channel = fail(&scene, 30, 1000).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 30).await;
    let folder = Folder::new();
    let line = |n: u128| {
        format!(
            "{{\"id\":\"{}\",\"provider\":\"zitadel\",\"userId\":\"<b>u{n}\",\"update\":{{\"nickname\":\"{MARKER}\"}}}}\n",
            id(5000 + n)
        )
    };
    let file = folder.write("commands.jsonl", &(0..10).map(line).collect::<String>());
    let batch = "m<script>-1";
    usher(
        &scene,
        &["publish", &file, "--bulk", "--yes", "--batch", batch],
        0,
    )
    .await;
    usher(
        &scene,
        &["pause", "--reason", "<img src=x>", "--by", "al<script>"],
        0,
    )
    .await;
    let console = Served::start(&scene.settings()).await;
    let letter = format!("/failures/{}", id(3));
    let paths = [
        "/",
        "/failures",
        "/failures?reason=rejected&user=user-1",
        &letter,
        "/operations",
        "/batches",
        "/batches/m%3Cscript%3E-1",
        "/why",
        "/why?user=%3Cscript%3E",
        "/fleet",
    ];
    for path in paths {
        let text = console.ok(path).await;
        assert!(!text.contains(MARKER), "{path}: {text}");
        assert!(
            !text.contains("<script>") && !text.contains("<img"),
            "{path}: {text}"
        );
        assert!(!text.contains("style=\""), "{path}: nothing is inline");
        // It would stand for the id of its form, and a live update would lose what is typed there.
        assert!(!text.contains("name=\"id\""), "{path}");
    }
    says_what_there_is(&console, &letter).await;
    assert_eq!(console.page("/other").await.0, StatusCode::NOT_FOUND);
}

async fn says_what_there_is(console: &Served, letter: &str) {
    let overview = console.ok("/").await;
    assert!(
        overview.contains("no worker answers") && overview.contains("30 dead letters"),
        "{overview}"
    );
    assert!(overview.contains("paused by al&#60;script&#62;"), "{overview}");
    let failures = console.ok("/failures?user=user-1").await;
    assert!(failures.contains("6 of 30 dead letters chosen"), "{failures}");
    assert!(!failures.contains("action=\"/act/"), "a viewer gets no forms");
    let story = console.ok(letter).await;
    assert!(
        story.contains("/update/givenName") && story.contains("only with the role auditor"),
        "{story}"
    );
    let csv = console.ok("/failures?csv=groups").await;
    assert!(
        csv.starts_with("Count,Reason") && csv.contains("30,rejected"),
        "{csv}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_or_sends_from_elsewhere_is_refused() {
    let scene = scene("console-access").await;
    let console = Served::start(&scene.settings()).await;
    let plain = http()
        .get(format!("{}/failures", console.url))
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), StatusCode::UNAUTHORIZED);
    assert!(plain.text().await.unwrap().contains("name=\"token\""));
    let rebound = console
        .get("/")
        .header(HOST, "evil.example:9465")
        .send()
        .await
        .unwrap();
    assert_eq!(rebound.status(), StatusCode::FORBIDDEN);
    for (token, form, code) in [
        (VIEWER, "", StatusCode::FORBIDDEN),
        (AUDITOR, "", StatusCode::FORBIDDEN),
        (OPERATOR, "", StatusCode::FORBIDDEN),
        (
            OPERATOR,
            "0123456789abcdef0123456789abcdef",
            StatusCode::FORBIDDEN,
        ),
    ] {
        let sent = http()
            .post(format!("{}/act/resume", console.url))
            .bearer_auth(token);
        let sent = sent
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("form_token={form}"));
        assert_eq!(sent.send().await.unwrap().status(), code, "{token}");
    }
    let sign_in = |from: &str, token: &str| {
        let request = http().post(format!("{}/sign-in", console.url));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.header(ORIGIN, from).body(format!("token={token}")).send()
    };
    assert_eq!(
        sign_in("http://evil.example", VIEWER).await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        sign_in(&console.url, "wrong").await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let signed = sign_in(&console.url, VIEWER).await.unwrap();
    // The shared client follows to the overview without the cookie.
    assert!(signed.status() == StatusCode::SEE_OTHER || signed.status() == StatusCode::UNAUTHORIZED);
    let looked = scene
        .settings()
        .with("CONSOLE__LISTEN", &"0.0.0.0:0")
        .run(&["console"], b"")
        .await;
    assert_eq!(looked.status.code(), Some(2), "{looked:?}");
    assert!(String::from_utf8_lossy(&looked.stderr).contains("console.token_file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_told_with_its_address() {
    let url = "amqp://al:s3cret@127.0.0.1:9/v";
    let scene = Scene::new(Kind::Zitadel, url.to_owned(), 0, 1).await;
    let console = Served::start(&scene.settings()).await;
    let (status, text) = console.page("/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        text.contains("127.0.0.1:9") && text.contains("can&#39;t be reached"),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_is_planned_and_then_sent_in_the_background_by_name() {
    let scene = scene("console-acts").await;
    let channel = fail(&scene, 12, 1000).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 12).await;
    let worker = scene.settings().start(&["run"]);
    let console = Served::start(&scene.settings()).await;

    let redrive = "/act/redrive?user=user-1&user=user-2";
    let (status, plan) = console.post(OPERATOR, "/failures", redrive, &[]).await;
    assert_eq!(status, StatusCode::OK, "{plan}");
    assert!(plan.contains("Nothing is changed yet"), "{plan}");
    until_depth(&scene, &channel, DEAD_LETTERS, 12).await;
    let until = part(&plan, "name=\"dead_until\" value=\"", "\"").unwrap();
    let yes = [
        ("yes", "yes"),
        ("dead_until", until.as_str()),
        ("rate", "50/s"),
        ("canary", "0"),
    ];
    let (status, text) = console.post(OPERATOR, "/failures", redrive, &yes).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let redriven = eventually("the redrive ends", async || {
        let all = json_of(&scene, &["operations", "list"], 0).await;
        let is_done = |one: &&Value| one["kind"] == "redrive" && one["state"] == "done";
        all.as_array()?.iter().find(is_done).cloned()
    })
    .await;
    assert_eq!(
        (&redriven["by"], &redriven["counts"]["done"]),
        (&"op".into(), &5.into()),
        "{redriven}"
    );
    let page = console
        .ok(&format!("/operations/{}", redriven["id"].as_str().unwrap()))
        .await;
    assert!(
        page.contains("done") && page.contains("It has ended (done)"),
        "{page}"
    );

    worker.killed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_shown_to_auditors_alone_and_the_audit_log_knows_it() {
    let scene = scene("console-reveals").await;
    let channel = fail(&scene, 2, 1000).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 2).await;
    let console = Served::start(&scene.settings()).await;
    let letter = format!("/failures/{}", id(1));
    let reveal = format!("/act/reveal?command={}", id(1));
    let (status, _) = console.post(OPERATOR, "/failures", &reveal, &[]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    console.ok(&letter).await;
    let (status, text) = console.post(AUDITOR, &letter, &reveal, &[]).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains(MARKER), "{text}");
    let all = json_of(&scene, &["operations", "list"], 0).await;
    let revealed = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["kind"] == "reveal")
        .unwrap();
    assert_eq!(revealed["by"], "eva");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pauses_resumes_and_pins_by_name() {
    let scene = scene("console-orders").await;
    let console = Served::start(&scene.settings()).await;
    let pause = [
        ("reason", "maintenance window"),
        ("what", "all calls"),
        ("until", "1h"),
    ];
    console.post(OPERATOR, "/fleet", "/act/pause", &pause).await;
    let shown = json_of(&scene, &["pace", "show"], 0).await;
    assert_eq!(shown["orders"]["pause"]["by"], "op", "{shown}");
    console.post(OPERATOR, "/fleet", "/act/resume", &[]).await;
    console
        .post(OPERATOR, "/fleet", "/act/pin", &[("rate", "20/s")])
        .await;
    let shown = json_of(&scene, &["pace", "show"], 0).await;
    assert_eq!(
        (&shown["orders"]["pause"], &shown["orders"]["pace"]["perSecond"]),
        (&Value::Null, &20.0.into())
    );
    console
        .post(OPERATOR, "/fleet", "/act/batch/pause?batch=b1", &[])
        .await;
    let shown = json_of(&scene, &["pace", "show"], 0).await;
    assert_eq!(shown["orders"]["batches"]["b1"]["state"], "paused", "{shown}");
    let told = json_of(&scene, &["operations", "list"], 0).await;
    let told: Vec<_> = told.as_array().unwrap().iter().collect();
    let kinds: Vec<_> = told.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["pause", "resume", "pin"], "{told:?}");
    assert!(told.iter().all(|one| one["by"] == "op" && one["state"] == "done"));
    assert_eq!(told[0]["options"]["reason"], "maintenance window", "{told:?}");
    assert_eq!(told[2]["options"]["rate"], "20/s", "{told:?}");
    let overview = console.ok("/").await;
    assert!(
        overview.contains("The pace is pinned to 20/s by op"),
        "{overview}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_failures_are_listed_within_a_second_once_they_are_looked_at() {
    let scene = scene("console-many").await;
    let channel = fail(&scene, 10_000, 100_000).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 10_000).await;
    let console = Served::start(&scene.settings()).await;
    console.ok("/failures").await;
    let begun = tokio::time::Instant::now();
    let text = console.ok("/failures?reason=rejected&page=200").await;
    assert!(
        text.contains("Page 200 of 200") && text.contains("10\u{202f}000 of 10\u{202f}000"),
        "{text}"
    );
    assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_page_is_sent_again_as_a_fragment() {
    let scene = scene("console-live").await;
    let console = Served::start(&scene.settings()).await;
    let mut live = console.get("/live/fleet").send().await.unwrap();
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let chunk = live.chunk().await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&chunk).into_owned();
    assert!(
        text.starts_with("data: ") && text.contains("id=\"verdict\"") && !text.contains("<html"),
        "{text}"
    );
    let page = console.ok("/fleet").await;
    assert!(page.contains("hx-sse:connect=\"/live/fleet\""), "{page}");
    let paused = console.ok("/fleet?live=off").await;
    assert!(
        !paused.contains("hx-sse") && !paused.contains("<script"),
        "{paused}"
    );
}

#[test]
fn the_script_is_the_one_of_the_package() {
    let script = include_bytes!("../../src/console/pages/htmax-4.0.1.min.js");
    let digest = rustls::crypto::ring::default_provider();
    let sha256 = digest
        .cipher_suites
        .iter()
        .find_map(|suite| {
            let hash = suite.tls13()?.common.hash_provider;
            (hash.algorithm() == rustls::crypto::hash::HashAlgorithm::SHA256).then_some(hash)
        })
        .unwrap();
    let hex: String = sha256
        .hash(script)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "a262eab3dc3da7353552239b52b9a33397ea62b0eb36c65cd0e709fcd85ccc35"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_is_told_and_the_console_reconnects_by_itself() {
    let mut node = Node::own().await;
    let url = node.vhost("console").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    assert!(
        scene
            .settings()
            .run(&["topology", "declare"], b"")
            .await
            .status
            .success()
    );
    let console = Served::start(&scene.settings()).await;
    console.ok("/fleet").await;
    node.kill9().await;
    eventually("the console tells it", async || {
        let answer = console.get("/fleet?fresh=1").send().await.ok()?;
        (answer.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    node.restart().await;
    eventually("the console looks again", async || {
        let answer = console.get("/fleet?fresh=1").send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_serves_the_console_besides() {
    let url = Node::shared().await.vhost("console-in-run").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let address = free_address();
    let settings = scene
        .settings()
        .with("CONSOLE__IN_RUN", &true)
        .with("CONSOLE__LISTEN", &address);
    assert!(settings.run(&["topology", "declare"], b"").await.status.success());
    let worker = settings.start(&["run"]);
    let fleet = eventually("a page with the worker", async || {
        let response = http().get(format!("http://{address}/fleet")).send().await.ok()?;
        let text = response.text().await.ok()?;
        text.contains("1 worker holds all").then_some(text)
    })
    .await;
    assert!(fleet.contains("only with the role operator"), "{fleet}");
    worker.drained().await;
}
