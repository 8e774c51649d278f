//! `usher batch report --verify`: users of a finished batch are read back at a simulated provider, and compared.

use std::process::Stdio;

use serde_json::{Value, json};
use usher::provider::Kind;

use crate::node::Node;
use crate::outputs::mode;
use crate::process::{Folder, Settings};
use crate::scene::Scene;
use crate::support::eventually;

const BATCH: &str = "m-1";
const USERS: usize = 20;

/// A table of 20 users, the fourth of which has two rows. Each value begins with `s3cret`.
fn table() -> String {
    let rows = (0..USERS).map(|n| format!("k{n},user-{n},s3cret-{n},s3cret-name\n"));
    let header = "crm,userId,update.nickname,update.displayName\n".to_owned();
    std::iter::once(header)
        .chain(rows)
        .chain(["k3b,user-3,s3cret-last,\n".to_owned()])
        .collect()
}

/// The exit code, and what stands on stdout. No value is told anywhere.
async fn verified(settings: &Settings, file: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let report = ["batch", "report", BATCH, "--commands", file, "--id-from", "crm"];
    let rate: &[&str] = match more.contains(&"--rate") {
        true => &[],
        false => &["--rate", "100"],
    };
    let output = settings.run(&[&report[..], rate, more].concat(), b"").await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, said) = (text(output.stdout), text(output.stderr));
    for never in ["s3cret", "t0ken"] {
        assert!(!out.contains(never) && !said.contains(never), "{out}{said}");
    }
    (output.status.code(), out, said)
}

async fn ran(settings: &Settings, arguments: &[&str]) {
    let output = settings.run(arguments, b"").await;
    assert!(output.status.success(), "{arguments:?} {output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_batch_is_read_back_and_who_was_changed_behind_it_is_listed_without_values() {
    let url = Node::shared().await.vhost("read-back").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let settings = scene.settings().with("PROVIDER__READ_LAG", &"50ms");
    ran(&settings, &["topology", "declare"]).await;
    let folder = Folder::new();
    let file = folder.write("users.csv", &table());
    let named = ["--provider", "zitadel", "--batch", BATCH, "--id-from", "crm"];
    ran(&settings, &[&["publish", &file][..], &named].concat()).await;
    let (code, out, said) = verified(&settings, &file, &["--verify", "100%"]).await;
    assert_eq!((code, &*out), (Some(2), ""), "{said}");
    assert!(
        said.contains("has not ended") && said.contains("`usher batch status m-1`"),
        "{said}"
    );
    let worker = settings.start(&["run"]);
    ran(&settings, &["batch", "watch", BATCH]).await;
    worker.drained().await;

    let (code, out, said) = verified(&settings, &file, &["--verify", "100%", "--json"]).await;
    assert_eq!(code, Some(0), "{out}{said}");
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&all["users"], &all["commands"], &all["asAsked"], &all["rows"]),
        (&json!(20), &json!(21), &json!(20), &json!([])),
        "{all}"
    );

    let changed = json!({
        "id": uuid::Uuid::new_v4(), "provider": "zitadel", "userId": "user-5", "update": { "nickname": "s3cret-behind" },
    });
    ran(
        &settings,
        &["apply", &folder.write("behind.jsonl", &format!("{changed}\n"))],
    )
    .await;
    scene.provider.remove_user("user-6");
    differences(&settings, &folder, &file).await;
    wrong_use(&settings, &folder, &file).await;
    interrupted(&scene, &settings, &folder, &file).await;

    drop(scene);
    let (code, out, said) = verified(&settings, &file, &["--verify", "100%"]).await;
    assert_eq!(code, Some(4), "{said}");
    assert!(
        said.contains("127.0.0.1:") && out.contains("0 as asked"),
        "{out}{said}"
    );
}

async fn differences(settings: &Settings, folder: &Folder, file: &str) {
    let (rows, html) = (folder.path("rows.csv"), folder.path("report.html"));
    let csv = folder.path("report.csv");
    let outputs = ["--differences", &rows, "--html", &html, "--csv", &csv];
    let verify = [&["--verify", "100%"][..], &outputs].concat();
    let (code, out, said) = verified(settings, file, &verify).await;
    assert_eq!(code, Some(1), "{out}{said}");
    assert!(
        out.contains("18 as asked, 1 different, 0 can't be told, 1 gone, 0 unread"),
        "{out}"
    );
    assert!(
        out.contains("different: user user-5, command ") && out.contains("gone: user user-6"),
        "{out}"
    );
    let table = folder.read("rows.csv");
    let lines: Vec<_> = table.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "what,user,id,fields,why"), "{table}");
    assert!(
        lines[1].starts_with("different,user-5,") && lines[1].ends_with(",nickname,"),
        "{table}"
    );
    assert!(lines[2].starts_with("gone,user-6,"), "{table}");
    let page = folder.read("report.html");
    assert!(
        page.contains("<tr><td>nickname</td><td class=\"n\">1</td><td class=\"n\">0</td></tr>"),
        "{page}"
    );
    for never in ["user-5", "s3cret"] {
        assert!(
            !page.contains(never) && (never == "user-5" || !table.contains(never)),
            "{never}"
        );
    }
    assert_eq!((mode(&rows), mode(&html), mode(&csv)), (0o600, 0o600, 0o600));
    assert_eq!(folder.read("report.csv").lines().count(), 22);
    let (code, _, said) = verified(settings, file, &verify).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--force"), "{said}");

    let (_, five, _) = verified(settings, file, &["--verify", "5", "--json"]).await;
    let five: Value = serde_json::from_str(&five).unwrap();
    assert_eq!(
        (&five["users"], &five["complete"]),
        (&json!(5), &json!(true)),
        "{five}"
    );
}

async fn wrong_use(settings: &Settings, folder: &Folder, file: &str) {
    let other = folder.write("other.csv", "crm,userId,update.nickname\nx1,user-1,s3cret\n");
    let out_of_place = folder.path("out.csv");
    for (file, more, expected) in [
        (
            &*other,
            &["--verify", "100%"][..],
            "is it the file that was published",
        ),
        (file, &["--verify", "100%", "--csv"], "--csv FILE"),
        (file, &["--verify", "all"], "such as 1%"),
        (
            file,
            &["--verify", "100%", "--differences", file],
            "--differences",
        ),
        (
            file,
            &["--verify", "100%", "--provider", "other"],
            "the configuration of zitadel",
        ),
        (file, &["--html", &out_of_place], "--verify"),
    ] {
        let (code, out, said) = verified(settings, file, more).await;
        assert_eq!((code, &*out), (Some(2), ""), "{more:?}: {said}");
        assert!(said.contains(expected), "{more:?}: {said}");
    }
}

async fn interrupted(scene: &Scene, settings: &Settings, folder: &Folder, file: &str) {
    let html = folder.path("partial.html");
    let before = scene.provider.calls().len();
    let options = [
        "--commands",
        file,
        "--id-from",
        "crm",
        "--rate",
        "1",
        "--html",
        &html,
    ];
    let report = [&["batch", "report", BATCH, "--verify", "100%"][..], &options].concat();
    let reading = settings.start_between(Stdio::null(), &report, Stdio::null());
    eventually("a user is read", async || {
        (scene.provider.calls().len() > before).then_some(())
    })
    .await;
    reading.signal("INT").await;
    let (ended, said) = reading.ended().await;
    assert_eq!(ended.code(), Some(3), "{said}");
    let page = folder.read("partial.html");
    assert!(page.contains("it ended early"), "{page}");
}

#[tokio::test]
async fn users_of_a_provider_that_shows_none_can_t_be_read_back() {
    let folder = Folder::new();
    let file = folder.write("users.csv", &table());
    let settings = Settings::default()
        .with("PROVIDER__NAME", &"own")
        .with("PROVIDER__KIND", &"rest")
        .with("PROVIDER__BASE_URL", &"http://127.0.0.1:1")
        .with("PROVIDER__AUTH__TOKEN", &"t0ken")
        .with("PROVIDER__REST__PATH", &"/users/{userId}")
        .with("PROVIDER__REST__FIELDS__NICKNAME", &"nickname");
    let (code, out, said) = verified(&settings, &file, &["--verify", "1%"]).await;
    assert_eq!((code, &*out), (Some(2), ""), "{said}");
    assert!(said.contains("read_path"), "{said}");
}
