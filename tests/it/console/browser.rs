//! The console in Debian's Chromium: the programs of `tests/console`, each with a scene of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;
use usher::broker::topology::DEAD_LETTERS;
use usher::provider::Kind;

use super::served::{AUDITOR, OPERATOR, Served, VIEWER};
use super::staged::{self, BATCH};
use crate::dead_letters::{fail, id, json_of, scene, until_depth};
use crate::scene::Scene;

/// Where tests/run puts them.
const PLAYWRIGHT: &str = "target/playwright-core-1.61.1";
const AXE: &str = "target/axe-core-4.14.1/node_modules/axe-core/axe.min.js";
const CHROMIUM: &str = "/usr/bin/chromium";

/// A program that takes longer never ends.
const PATIENCE: Duration = Duration::from_secs(240);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn installed(path: &str) -> PathBuf {
    let path = root().join(path);
    assert!(
        path.exists(),
        "there is no {}: run tests/run, which installs it",
        path.display()
    );
    path
}

/// Runs a program to its end, which is a good one.
#[expect(clippy::print_stdout, reason = "some programs tell how long a page took")]
async fn browse(program: &str, scene: &Scene, console: &Served, more: &[(&str, &str)]) {
    installed(CHROMIUM);
    let mut node = Command::new("node");
    node.arg(root().join("tests/console").join(program))
        .envs(scene.settings().variables())
        .env("PLAYWRIGHT", installed(PLAYWRIGHT))
        .env("AXE", installed(AXE))
        .env("USHER", env!("CARGO_BIN_EXE_usher"))
        .env("CONSOLE_URL", &console.url)
        .env("OPERATOR_TOKEN", OPERATOR)
        .env("AUDITOR_TOKEN", AUDITOR)
        .env("VIEWER_TOKEN", VIEWER)
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = timeout(PATIENCE, node.output()).await;
    let ended = ended.unwrap_or_else(|_| panic!("no end after {PATIENCE:?}: {program}"));
    let ended = ended.unwrap_or_else(|error| panic!("node: {error}: run tests/run, which installs it"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, said) = (text(&ended.stdout), text(&ended.stderr));
    assert!(ended.status.success(), "{program}: {printed}\n{said}");
    print!("{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_screen_meets_wcag_in_light_and_dark_on_narrow_and_wide_windows() {
    let (scene, worker) = staged::with_all_that_is_shown("console-look").await;
    let operations = json_of(&scene, &["operations", "list"], 0).await;
    let redrive = |one: &&Value| one["kind"] == "redrive";
    let redrive = operations.as_array().unwrap().iter().find(redrive).unwrap();
    let operation = format!("/operations/{}", redrive["id"].as_str().unwrap());
    let console = Served::start(&scene.settings()).await;
    let nowhere = Scene::new(Kind::Zitadel, "amqp://127.0.0.1:9/v".to_owned(), 0, 1).await;
    let away = Served::start(&nowhere.settings()).await;
    let more = [
        ("FAILURE", format!("/failures/{}", id(19))),
        ("OPERATION", operation),
        ("BATCH", format!("/batches/{BATCH}")),
        ("AWAY_URL", away.url.clone()),
    ];
    let more = more.each_ref().map(|(name, value)| (*name, value.as_str()));
    browse("look.mjs", &scene, &console, &more).await;
    worker.killed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_works_without_javascript_and_with_the_keyboard_alone() {
    let (scene, worker) = staged::with_all_that_is_shown("console-keys").await;
    let console = Served::start(&scene.settings()).await;
    let more = [("FAILURE_ID", id(1)), ("BATCH", BATCH.to_owned())];
    let more = more.each_ref().map(|(name, value)| (*name, value.as_str()));
    browse("act.mjs", &scene, &console, &more).await;
    worker.killed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_control_is_reached_by_tab_and_keeps_its_focus_through_live_updates() {
    let (scene, worker) = staged::with_all_that_is_shown("console-focus").await;
    let console = Served::start(&scene.settings()).await;
    let more = [
        ("FAILURE", format!("/failures/{}", id(1))),
        ("BATCH", format!("/batches/{BATCH}")),
    ];
    let more = more.each_ref().map(|(name, value)| (*name, value.as_str()));
    browse("focus.mjs", &scene, &console, &more).await;
    worker.killed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_pages_follow_until_updates_are_paused_and_tables_are_saved() {
    let (scene, worker) = staged::with_all_that_is_shown("console-follow").await;
    let console = Served::start(&scene.settings()).await;
    let failure = format!("/failures/{}", id(1));
    browse("live.mjs", &scene, &console, &[("FAILURE", &failure)]).await;
    worker.killed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_failures_are_listed_page_by_page_each_once() {
    let scene = scene("console-many").await;
    let channel = fail(&scene, 10_000, 100_000).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 10_000).await;
    let console = Served::start(&scene.settings()).await;
    browse("many.mjs", &scene, &console, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_wrote_is_shown_as_text_and_runs_no_script() {
    let scene = scene("console-strangers").await;
    staged::with_strangers(&scene).await;
    let console = Served::start_for(&scene.settings(), staged::STRANGE_NAMES).await;
    let strange = serde_json::to_string(&staged::STRANGE).unwrap();
    browse("strangers.mjs", &scene, &console, &[("STRANGE", &strange)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_of_many_is_stopped_half_way_and_resumed_or_aborted_and_its_account_adds_up() {
    let scene = scene("console-redrive").await;
    let channel = fail(&scene, 400, 16).await;
    until_depth(&scene, &channel, DEAD_LETTERS, 400).await;
    let worker = scene.settings().start(&["run"]);
    let console = Served::start(&scene.settings()).await;
    browse("redrive.mjs", &scene, &console, &[]).await;
    worker.killed().await;
}
