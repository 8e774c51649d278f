//! How far a batch is, as its operator sees it: a status that adds up, a watch that ends, a table and a page.

use std::net::TcpListener;

use serde_json::{Value, json};
use usher::provider::Kind;

use crate::node::Node;
use crate::outputs::mode;
use crate::process::{Folder, Settings};
use crate::scene::Scene;
use crate::support::eventually;

const BATCH: &str = "m<script>-1";

/// The command of each twentieth line has expired.
fn lines(commands: u64) -> String {
    let line = |n: u64| {
        let mut command = json!({
            "id": uuid::Uuid::from_u128(u128::from(n) + 1), "provider": "zitadel",
            "userId": format!("user,{n}"), "update": { "nickname": format!("s3cret-{n}") },
        });
        if n % 20 == 7 {
            command["expiresAt"] = "2020-01-01T00:00:00Z".into();
        }
        format!("{command}\n")
    };
    (0..commands).map(line).collect()
}

async fn run(settings: &Settings, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = settings.run(arguments, b"").await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The exit code, and the status, which adds up to so many.
async fn status(settings: &Settings, published: u64) -> (Option<i32>, Value) {
    let (code, out, said) = run(settings, &["batch", "status", BATCH, "--json"]).await;
    let status: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{said}"));
    let account = &status["account"];
    let parts = ["succeeded", "unchanged", "failed", "inFlight", "waiting"];
    let sum: u64 = parts.iter().map(|part| account[part].as_u64().unwrap()).sum();
    assert_eq!(
        (account["published"].as_u64(), sum),
        (Some(published), published),
        "{status}"
    );
    (code, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_listed_watched_and_reported_and_its_numbers_add_up() {
    let url = Node::shared().await.vhost("batches").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let settings = scene.settings().with("PROVIDER__RATE__PER_SECOND", &40);
    assert!(settings.run(&["topology", "declare"], b"").await.status.success());
    let (code, _, said) = run(&settings, &["batch", "status", BATCH]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("`usher batch list`") && said.contains("--provider"),
        "{said}"
    );

    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &lines(200));
    let publish = ["publish", &file, "--bulk", "--yes", "--batch", BATCH];
    let (code, _, said) = run(&settings, &publish).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, waiting) = status(&settings, 200).await;
    assert_eq!(
        (code, &waiting["account"]["waiting"]),
        (Some(0), &200.into()),
        "{waiting}"
    );
    assert_eq!(waiting["closed"], true);
    let (_, listed, _) = run(&settings, &["batch", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed[0]["batchId"], &listed[0]["commands"]),
        (&BATCH.into(), &200.into())
    );

    // One that is interrupted, and one that is not.
    let interrupted = settings.start(&["batch", "watch", BATCH]);
    let worker = settings.start(&["run"]);
    let watching = settings.clone();
    let watch = tokio::spawn(async move { run(&watching, &["batch", "watch", BATCH]).await });
    eventually("some have ended", async || {
        let (_, status) = status(&settings, 200).await;
        (status["account"]["succeeded"].as_u64() > Some(20)).then_some(())
    })
    .await;
    interrupted.signal("INT").await;
    let (ended, said) = interrupted.ended().await;
    assert_eq!(ended.code(), Some(3), "{said}");
    assert!(said.contains("200 published: "), "{said}");
    let (code, out, said) = watch.await.unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        out.contains("200 published: 190 succeeded, 0 unchanged, 10 failed, 0 in flight, 0 waiting"),
        "{out}"
    );
    assert!(said.contains("200 published: "), "{said}");
    worker.drained().await;
    let (code, done) = status(&settings, 200).await;
    assert_eq!(
        (code, &done["done"], &done["share"]),
        (Some(1), &true.into(), &1.0.into()),
        "{done}"
    );
    assert_eq!(done["account"]["reasons"], json!({ "expired": 10 }));

    reports(&settings, &folder).await;
}

async fn reports(settings: &Settings, folder: &Folder) {
    let (csv, html) = (folder.path("out.csv"), folder.path("out.html"));
    let both = ["batch", "report", BATCH, "--csv", &csv, "--html", &html];
    let (code, out, said) = run(settings, &both).await;
    assert_eq!((code, &*out), (Some(1), ""), "{said}");
    assert_eq!((mode(&csv), mode(&html)), (0o600, 0o600));
    let (table, page) = (folder.read("out.csv"), folder.read("out.html"));
    let rows: Vec<_> = table.lines().collect();
    assert_eq!(
        rows[0],
        "id,user,outcome,reason,attempts,when,duration_ms,redrives"
    );
    let mut ids: Vec<_> = rows[1..].iter().map(|row| &row[..36]).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((rows.len(), ids.len()), (201, 200));
    let of = |outcome: &str| rows.iter().filter(|row| row.contains(outcome)).count();
    assert_eq!(
        (of(",succeeded,,1,"), of(",failed,expired,0,")),
        (190, 10),
        "{table}"
    );
    assert!(
        rows.iter().any(|row| row.contains(",\"user,7\",failed,")),
        "{table}"
    );
    let (code, out, _) = run(settings, &["batch", "report", BATCH, "--csv"]).await;
    assert_eq!((code, out), (Some(1), table));

    for never in [
        "<script", "<link", "<img", "src=", "href=", "@import", "user,7", "s3cret", "://",
    ] {
        assert!(!page.contains(never), "{never}: {page}");
    }
    assert_eq!(page.matches("http").count(), 1, "the policy alone: {page}");
    assert!(page.contains("Batch m&lt;script&gt;-1 of zitadel"), "{page}");
    assert!(page.contains("<td>expired</td><td class=\"n\">10</td>"), "{page}");
    for (open, close) in [
        ("<table>", "</table>"),
        ("<svg", "</svg>"),
        ("<tr", "</tr>"),
        ("<td", "</td>"),
    ] {
        assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
    }

    let (code, _, said) = run(settings, &both).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("out.csv exists") && said.contains("--force"),
        "{said}"
    );
    let (code, _, said) = run(settings, &[&both[..], &["--force"]].concat()).await;
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_looked_at_is_refused_with_the_fix_and_a_broker_that_is_away_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Settings::default()
        .with("BROKER__URL", &format!("amqp://guest:guest@{port}/%2f"))
        .with("PROVIDER__NAME", &"zitadel-eu");
    for (arguments, code, expected) in [
        (&["batch", "report", "b1"][..], 2, "--csv"),
        (&["batch", "status", "b1", "--since", "soon"], 2, "such as"),
        (&["batch", "list"], 4, "127.0.0.1:"),
        (&["batch", "status", "b1"], 4, "127.0.0.1:"),
        (&["batch", "watch", "b1"], 4, "127.0.0.1:"),
        (&["batch", "report", "b1", "--csv"], 4, "127.0.0.1:"),
    ] {
        let (ended, out, said) = run(&away, arguments).await;
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected) && out.is_empty(), "{arguments:?}: {said}");
    }
}
