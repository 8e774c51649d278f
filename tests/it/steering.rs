//! Operators' orders at the command line, and workers that follow them.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::Value;
use usher::broker::topology::AUDIT_LOG;
use usher::broker::{Config, Streamed, amqp};
use usher::provider::Kind;

use crate::node::Node;
use crate::permissions::url_of;
use crate::process::{Folder, Settings};
use crate::scene::Scene;

use crate::support::{eventually, get, http, readiness};
use crate::trouble::commands;

const BY: [&str; 2] = ["--by", "alex"];

async fn run(settings: &Settings, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = settings.run(arguments, b"").await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What the verb prints as JSON.
async fn told(settings: &Settings, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let (code, out, err) = run(settings, &arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn until_states(admins: &[SocketAddr], what: &str, is: impl Fn(&Value) -> bool) {
    for admin in admins {
        eventually(what, async || {
            readiness(*admin)
                .await
                .map(|(_, said)| said)
                .filter(|said| is(said))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_reach_three_workers_and_a_fourth_that_starts_later() {
    let url = Node::shared().await.vhost("steering").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let settings = scene.settings();
    let mut admins: Vec<_> = (0..3).map(|_| free_address()).collect();
    let start = |admin: &SocketAddr| settings.clone().with("ADMIN__LISTEN", admin).start(&["run"]);
    let mut workers: Vec<_> = admins.iter().map(start).collect();
    until_states(&admins, "all run", |said| said["ready"] == true).await;

    let paused = told(
        &settings,
        &[&["pause", "--reason", "maintenance"][..], &BY].concat(),
    )
    .await;
    assert_eq!(paused["workers"].as_array().unwrap().len(), 3, "{paused}");
    let all_follow = |told: &Value| {
        let workers = told["workers"].as_array().unwrap();
        workers.iter().all(|worker| worker["follows"] == true)
    };
    assert!(all_follow(&paused), "{paused}");
    admins.push(free_address());
    workers.push(start(&admins[3]));
    let is_paused = |said: &Value| said["state"] == "operator" && said["orders"]["pause"]["by"] == "alex";
    until_states(&admins, "all are paused", is_paused).await;
    scene.publish_lines(&commands(5, 5)).await;

    let pinned = told(
        &settings,
        &[&["pace", "pin", "600/min", "--for", "2h"][..], &BY].concat(),
    )
    .await;
    assert_eq!(pinned["orders"]["pace"]["perSecond"], 10.0, "{pinned}");
    assert!(all_follow(&pinned), "{pinned}");
    until_states(&admins, "the pace", |said| {
        said["orders"]["pace"]["perSecond"] == 10.0
    })
    .await;
    let unpinned = told(&settings, &["pace", "unpin"]).await;
    assert!(unpinned["orders"]["pace"].is_null(), "{unpinned}");
    assert_eq!(scene.provider.summary().applied, 0);

    told(&settings, &["resume"]).await;
    eventually("all are applied", async || {
        (scene.provider.summary().applied == 5).then_some(())
    })
    .await;
    for worker in workers {
        worker.drained().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_batch_is_told_in_the_audit_log_and_dead_lettered() {
    let url = Node::shared().await.vhost("cancelled").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let settings = scene.settings();
    assert!(settings.run(&["topology", "declare"], b"").await.status.success());
    let (code, _, said) = run(&settings, &["batch", "cancel", "b1"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--yes"), "{said}");
    let cancel = ["batch", "cancel", "b1", "--yes", "--by", "alex"];
    assert_eq!(
        told(&settings, &cancel).await["batches"]["b1"]["state"],
        "cancelled"
    );
    let lines = commands(5, 5).replace("\"userId\"", "\"batchId\":\"b1\",\"userId\"");
    scene.publish_lines(&lines).await;
    let worker = settings.start(&["run"]);
    let config = Config {
        url: scene.url.parse().unwrap(),
        ..Config::default()
    };
    let inspector = amqp::inspector(&config).await.unwrap();
    eventually("five dead letters", async || {
        let depth = inspector.depth("user.dead-letters").await.unwrap();
        depth.filter(|depth| depth.ready == 5)
    })
    .await;
    assert_eq!(scene.provider.summary().applied, 0);
    let resumed = run(&settings, &["batch", "resume", "b1", "--by", "alex"]).await;
    assert_eq!(resumed.0, Some(0), "{}", resumed.2);
    let again = run(&settings, &["batch", "resume", "b1", "--by", "alex"]).await;
    assert_eq!(again.0, Some(2), "{}", again.2);
    let mut log = inspector.read(AUDIT_LOG, None).await.unwrap();
    let mut types = Vec::new();
    while let Streamed::Message(message) = log.next().await.unwrap() {
        types.push(message.properties.message_type().unwrap().to_owned());
    }
    let cancelled = ["BATCH_CANCELLED", "OPERATION_PLANNED", "OPERATION_ENDED"];
    assert_eq!(types, [&cancelled[..], &["BATCH_RESUMED"]].concat());
    let operations = told(&settings, &["operations", "list"]).await;
    let operation = &operations[0];
    assert_eq!(
        (
            &operation["kind"],
            &operation["by"],
            &operation["filter"]["batch"]
        ),
        (&"cancel".into(), &"alex".into(), &"b1".into())
    );
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_orders_are_refused_with_the_fix_and_a_broker_that_is_away_is_named() {
    let away = Settings::default()
        .with(
            "BROKER__URL",
            &format!("amqp://guest:guest@{}/%2f", free_address()),
        )
        .with("PROVIDER__NAME", &"zitadel-eu");
    let nameless = away.clone().without("PROVIDER__NAME");
    for (settings, arguments, expected) in [
        (&away, &["pause"][..], "--reason"),
        (&away, &["pause", "--reason", "x"], "--by"),
        (&away, &["pause", "--reason", " ", "--by", "al"], "--reason"),
        (
            &away,
            &["pause", "--reason", "x", "--by", "al", "--until", "tomorrow"],
            "such as 2h",
        ),
        (&away, &["pace", "pin", "fast", "--by", "al"], "such as 20/s"),
        (&away, &["pace", "pin", "0", "--by", "al"], "such as 20/s"),
        (&away, &["batch", "pause", "", "--by", "al"], "ID"),
        (&away, &["why"], "COMMAND-ID"),
        (&away, &["why", "c1", "--since", "yesterday"], "such as"),
        (&nameless, &["resume"], "--provider"),
        (&nameless, &["waiting"], "--provider"),
    ] {
        let (code, out, said) = run(settings, arguments).await;
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected) && out.is_empty(), "{arguments:?}: {said}");
    }
    for arguments in [
        &["pause", "--reason", "x", "--by", "al"][..],
        &["resume"],
        &["pace", "show"],
        &["pace", "pin", "20/s", "--by", "al"],
        &["batch", "pause", "b1", "--by", "al"],
        &["why", "c1"],
        &["waiting"],
    ] {
        let answered = tokio::time::timeout(Duration::from_secs(60), run(&away, arguments)).await;
        let (code, _, said) = answered.expect("it ends by itself");
        assert_eq!(code, Some(4), "{arguments:?}: {said}");
        assert!(said.contains("127.0.0.1:"), "{arguments:?}: {said}");
    }
}

/// The exit code of `usher why`, and what it tells of the command.
async fn story(settings: &Settings, id: &str) -> (Option<i32>, Value) {
    let output = settings.run(&["why", id, "--json", "--since", "1h"], b"").await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), told["stories"][0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn why_and_waiting_tell_of_commands_on_every_side_of_a_pause() {
    let url = Node::shared().await.vhost("why").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let settings = scene.settings().with("BROKER__PARTITIONS", &2);
    assert!(settings.run(&["topology", "declare"], b"").await.status.success());
    let worker = settings.start(&["run"]);
    // Whoever asks need not know the number of partitions.
    let asks = scene.settings().without("BROKER__PARTITIONS");
    let lines = commands(4, 4);
    let id = |n: usize| {
        let line: Value = serde_json::from_str(lines.lines().nth(n).unwrap()).unwrap();
        line["id"].as_str().unwrap().to_owned()
    };
    let story = async |id: &str| story(&asks, id).await;
    eventually("a worker answers", async || {
        let told = told(&asks, &["waiting"]).await;
        (told[0]["leases"].as_array().map(Vec::len) == Some(2)).then_some(())
    })
    .await;
    let (code, never) = story(&id(0)).await;
    assert!(code == Some(1) && never["state"] == "not_seen", "{never}");
    let (first, rest) = lines.split_at(lines.match_indices('\n').nth(1).unwrap().0 + 1);
    scene.publish_lines(first).await;
    eventually("it has succeeded", async || {
        let (code, told) = story(&id(0)).await;
        (code == Some(0) && told["state"] == "succeeded").then_some(())
    })
    .await;
    let pause = ["pause", "--reason", "maintenance", "--by", "alex"];
    told(&asks, &pause).await;
    scene.publish_lines(rest).await;
    let paused = eventually("it waits", async || {
        let (_, told) = story(&id(3)).await;
        (told["state"] == "in_hand").then_some(told)
    })
    .await;
    let because = paused["because"].to_string();
    assert!(because.contains("alex paused it: maintenance"), "{because}");
    assert_eq!(paused["ends"], "`usher resume`");
    let waiting = told(&asks, &["waiting"]).await;
    let cause = &waiting[0]["causes"][0];
    assert!(cause["for"] == "pause" && cause["commands"] == 2, "{waiting}");
    let (code, text, _) = run(&asks, &["why", "--user", paused["userId"].as_str().unwrap()]).await;
    assert!(
        code == Some(0) && text.contains(&id(3)) && text.contains("usher resume"),
        "{text}"
    );
    told(&asks, &["resume"]).await;
    eventually("all succeed", async || {
        (scene.provider.summary().applied == 4).then_some(())
    })
    .await;
    worker.drained().await;
    let (_, text, _) = run(&asks, &["waiting"]).await;
    assert!(text.contains("no worker answers"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_followed_after_a_signal_and_a_bad_one_changes_nothing() {
    let url = Node::shared().await.vhost("reloaded").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let (folder, admin) = (Folder::new(), free_address());
    let settings = scene
        .settings()
        .without("PROVIDER__RATE__PER_SECOND")
        .with("ADMIN__LISTEN", &admin);
    let write = |text: &str| folder.write("usher.toml", text);
    let file = write("[provider]\nrate = { per_second = 1 }\n");
    let worker = settings.start(&["run", "--config", &file]);
    until_states(&[admin], "it runs", |said| said["ready"] == true).await;
    let pace = async || {
        let metrics = get(&format!("http://{admin}/metrics")).await?.text().await.ok()?;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("usher_pace_per_second "))?;
        line.split(' ').next_back()?.parse::<f64>().ok()
    };
    let until_pace = async |expected: f64| {
        eventually("the pace", async || {
            pace().await.filter(|pace| (pace - expected).abs() < 0.1)
        })
        .await
    };
    until_pace(0.98).await;
    write("[provider]\nrate = { per_second = 20 }\n[worker]\ngrace_period = \"20s\"\n");
    worker.signal("HUP").await;
    until_pace(19.6).await;
    write("[provider]\nrate = { per_second = \"many\" }\n");
    let reload = http()
        .post(format!("http://{admin}/reload"))
        .send()
        .await
        .unwrap();
    assert_eq!(reload.status(), 422);
    let wrong = reload.text().await.unwrap();
    assert!(
        wrong.contains("per_second") && wrong.contains("nothing was changed"),
        "{wrong}"
    );
    until_pace(19.6).await;
    write("[provider]\nrate = { per_second = 30 }\n");
    worker.signal("HUP").await;
    until_pace(29.4).await;
    let said = worker.drained().await;
    for expected in [
        "provider.rate.per_second",
        "worker.grace_period",
        "changes nothing",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_holds_after_a_failure_goes_on_once_the_failed_command_is_discarded() {
    let url = Node::shared().await.vhost("held").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let settings = scene.settings();
    assert!(settings.run(&["topology", "declare"], b"").await.status.success());
    // Zitadel checks no versions, so the first one is refused.
    let lines = commands(4, 1);
    let lines = lines.replacen("\"userId\"", "\"expectedVersion\":\"7\",\"userId\"", 1);
    let publish = [
        "publish",
        "-",
        "--bulk",
        "--yes",
        "--allow",
        "email,phone,username",
        "--batch",
        "b1",
        "--on-failure",
        "hold",
    ];
    let published = settings
        .run(&[&publish[..], &BY].concat(), lines.as_bytes())
        .await;
    assert!(published.status.success(), "{published:?}");
    let worker = settings.start(&["run"]);
    let config = Config {
        url: scene.url.parse().unwrap(),
        ..Config::default()
    };
    let inspector = amqp::inspector(&config).await.unwrap();
    let until_dead_letters = async |count| {
        eventually("dead letters", async || {
            let depth = inspector.depth("user.dead-letters").await.unwrap();
            depth.filter(|depth| depth.ready == count)
        })
        .await;
    };
    until_dead_letters(4).await;
    assert_eq!(scene.provider.summary().applied, 0);
    let status = run(&settings, &["batch", "status", "b1", "--json"]).await.1;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["usersHeld"], 1, "{status}");
    assert_eq!(status["account"]["reasons"]["held_behind"], 3, "{status}");
    for (verb, reason) in [("discard", "unsupported_field"), ("redrive", "held_behind")] {
        let change = ["dead-letters", verb, "--reason", reason, "--yes"];
        let changed = run(&settings, &[&change[..], &BY].concat()).await;
        assert_eq!(changed.0, Some(0), "{}", changed.2);
    }
    until_dead_letters(0).await;
    assert_eq!(scene.provider.summary().applied, 3);
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_may_steer_and_ask() {
    let vhost = "controlled";
    let url = Node::shared().await.vhost(vhost).await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let worker = scene.settings().start(&["run"]);
    let controller = scene
        .settings()
        .without("BROKER__URL")
        .with("BROKER__URL", &url_of(vhost, "controller").await);
    eventually("the worker answers", async || {
        let (code, out, _) = run(&controller, &["waiting"]).await;
        (code == Some(0) && out.contains("1 lease")).then_some(())
    })
    .await;
    let pause = [&["pause", "--reason", "maintenance"][..], &BY].concat();
    let paused = told(&controller, &pause).await;
    assert_eq!(paused["workers"][0]["follows"], true, "{paused}");
    told(&controller, &["resume"]).await;
    for verb in ["pause", "resume"] {
        let (code, _, said) = run(&controller, &[&["batch", verb, "b1"][..], &BY].concat()).await;
        assert_eq!(code, Some(0), "{said}");
    }
    let (code, out, _) = run(&controller, &["why", "--user", "nobody"]).await;
    assert!(code == Some(0) && out.contains("has none since"), "{out}");
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_reload_does_not_end_a_worker_that_waits_for_its_broker() {
    let url = Node::shared().await.vhost("waits-for-broker").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let (admin, away) = (
        free_address(),
        format!("amqp://guest:guest@{}/%2f", free_address()),
    );
    let settings = scene.settings().without("BROKER__URL").with("BROKER__URL", &away);
    let mut worker = settings.with("ADMIN__LISTEN", &admin).start(&["run"]);
    until_states(&[admin], "it waits", |said| said["state"] == "starting").await;
    worker.signal("HUP").await;
    worker.signal("HUP").await;
    until_states(&[admin], "it still waits", |said| said["state"] == "starting").await;
    assert!(worker.is_running());
    worker.drained().await;
}
