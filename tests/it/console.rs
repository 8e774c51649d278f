//! The console over HTTP and in a browser, against a real broker.

mod browser;
mod served;
mod staged;

mod permitted;

use axum::http::StatusCode;
use reqwest::header::{HOST, ORIGIN};
use serde_json::Value;
use usher::broker::topology::DEAD_LETTERS;
use usher::provider::Kind;

use self::served::{AUDITOR, OPERATOR, Served, VIEWER, part};
use crate::dead_letters::{fail, id, json_of, scene, until_depth, usher};
use crate::node::Node;
use crate::process::Folder;
use crate::scene::Scene;
use crate::steering::free_address;
use crate::support::{eventually, http};

/// In every value of the dead letters.
const MARKER: &str = "zqmarker";

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
async fn an_auditor_exports_what_the_filter_chooses_and_the_audit_log_knows_it() {
    let scene = scene("console-exports").await;
    let channel = fail(&scene, 6, 1000).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 6).await;
    let console = Served::start(&scene.settings()).await;
    let failures = console.ok("/failures").await;
    assert!(failures.contains("Users with most of them"), "{failures}");
    let export = format!("/act/export?command={}", id(1));
    let (status, _) = console.post(OPERATOR, "/failures", &export, &[]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, lines) = console.post(AUDITOR, "/failures", &export, &[]).await;
    assert_eq!(status, StatusCode::OK, "{lines}");
    let command: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(command["id"], id(1));
    assert!(lines.contains(MARKER), "{lines}");
    let (_, lines) = console.post(AUDITOR, "/failures", "/act/export", &[]).await;
    assert_eq!(lines.lines().count(), 6, "{lines}");
    until_depth(&scene, &channel, DEAD_LETTERS, 6).await;
    let told = json_of(&scene, &["operations", "list"], 0).await;
    let told: Vec<_> = told.as_array().unwrap().iter().collect();
    let counts: Vec<_> = told.iter().map(|one| &one["counts"]["done"]).collect();
    assert_eq!(counts, [1, 6], "{told:?}");
    assert!(
        told.iter()
            .all(|one| one["kind"] == "reveal" && one["by"] == "eva")
    );
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
    for told in ["The pace is pinned to 20/s by op", "The batch b1 is paused by op"] {
        assert!(overview.contains(told), "{told}: {overview}");
    }
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
