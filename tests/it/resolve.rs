//! `usher resolve` against simulated providers, and `usher publish --id-map` with what it found.

use std::net::Ipv4Addr;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use usher::provider::Kind;
use usher::simulator::quota::QuotaKind;
use usher::simulator::{self, Op, Simulated};

use crate::node::Node;
use crate::outputs::mode;
use crate::process::{Folder, Settings};
use crate::publish::tables::taken;
use crate::scene::Scene;
use crate::support::eventually;

async fn provider(settings: simulator::Settings) -> (Simulated, Settings) {
    let kind = settings.kind;
    let provider = simulator::start(settings, (Ipv4Addr::LOCALHOST, 0).into())
        .await
        .unwrap();
    let settings = Settings::default()
        .with("PROVIDER__NAME", &kind)
        .with("PROVIDER__KIND", &kind)
        .with("PROVIDER__BASE_URL", &provider.base_url())
        .with("PROVIDER__AUTH__TOKEN", &"t0ken")
        .with("PROVIDER__RATE__PER_SECOND", &500);
    (provider, settings)
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !said.contains("users.example") && !said.contains("t0ken"),
        "{said}"
    );
    said
}

fn table(keys: impl IntoIterator<Item = String>) -> String {
    let rows = keys.into_iter().map(|key| format!("{key}\n"));
    std::iter::once("email\n".to_owned()).chain(rows).collect()
}

#[tokio::test]
async fn found_keys_are_a_map_and_the_others_are_counted_by_line_and_never_shown() {
    for kind in [Kind::Zitadel, Kind::Scim, Kind::Mattr] {
        let (_provider, settings) = provider(simulator::Settings::new(kind)).await;
        let folder = Folder::new();
        let file = folder.write(
            "keys.csv",
            "\u{feff}name;E-Mail\nA;alex@users.example\nB;missing-1@users.example\nC;twin-1@users.example\nD;\n\
             E;\"o, neil@users.example\"\n",
        );
        let (out, rest) = (folder.path("map.csv"), folder.path("rest.csv"));
        let resolve = [
            "resolve",
            &file,
            "--out",
            &out,
            "--unresolved",
            &rest,
            "--json",
            "--rate",
            "500",
        ];
        let resolved = settings.run(&resolve, b"").await;
        assert_eq!(resolved.status.code(), Some(1), "{kind} {resolved:?}");
        assert_eq!(
            folder.read("map.csv"),
            "key,userId\nalex@users.example,alex\n\"o, neil@users.example\",\"o, neil\"\n",
            "{kind}"
        );
        assert_eq!(
            folder.read("rest.csv"),
            "E-Mail,line,outcome,reason\nmissing-1@users.example,3,missing,no user has this key\n\
             twin-1@users.example,4,ambiguous,several users have this key\n,5,failed,the cell is empty\n"
        );
        assert_eq!((mode(&out), mode(&rest)), (0o600, 0o600));
        let counts: Value = serde_json::from_slice(&resolved.stdout).unwrap();
        assert_eq!(
            counts,
            json!({ "resolved": 2, "missing": 1, "ambiguous": 1, "failed": 1 })
        );
        let said = said(&resolved);
        for line in [
            "line 3: no user has this key",
            "line 4: several users",
            "line 5: the cell is empty",
        ] {
            assert!(said.contains(line), "{said}");
        }

        // The same again asks nothing, and says the same; what is left can be asked for by itself.
        let again = settings.run(&resolve, b"").await;
        assert_eq!(again.status.code(), Some(1), "{again:?}");
        assert_eq!(again.stdout, resolved.stdout);
        let left = settings.run(&["resolve", &rest, "--rate", "500"], b"").await;
        assert_eq!(left.status.code(), Some(1), "{left:?}");
        assert_eq!(left.stdout, b"key,userId\n");
    }
}

#[tokio::test]
async fn all_resolved_is_success_and_stdin_goes_to_stdout() {
    let (_provider, settings) = provider(simulator::Settings::new(Kind::Scim)).await;
    let resolved = settings
        .run(
            &["resolve", "-", "--by", "external-id", "--column", "crm"],
            b"crm\nA-1\n",
        )
        .await;
    assert_eq!(resolved.status.code(), Some(0), "{resolved:?}");
    assert_eq!(resolved.stdout, b"key,userId\nA-1,A-1\n");
}

#[tokio::test]
async fn a_kind_that_can_not_look_up_and_other_wrong_use_is_refused_with_the_fix_and_no_call() {
    let folder = Folder::new();
    let file = folder.write("keys.csv", "email\nalex@users.example\n");
    for (kind, arguments, fix) in [
        (Kind::Karmo, &[][..], "make the id map from an export"),
        (Kind::Sivo, &[], "make the id map from an export"),
        (
            Kind::Zitadel,
            &["--by", "external-id", "--column", "email"],
            "by email or username",
        ),
        (Kind::Zitadel, &["--column", "mail"], "there is no column mail"),
        (
            Kind::Zitadel,
            &["--by", "phone"],
            "write email, username or external-id",
        ),
        (Kind::Zitadel, &["--rate", "0"], "write calls per second"),
        (Kind::Zitadel, &["--json"], "--out"),
        (Kind::Zitadel, &["--out", &file], "the same file"),
    ] {
        let (provider, settings) = provider(simulator::Settings::new(kind)).await;
        let arguments = [&["resolve", &file], arguments].concat();
        let refused = settings.run(&arguments, b"").await;
        assert_eq!(refused.status.code(), Some(2), "{kind} {arguments:?} {refused:?}");
        assert!(said(&refused).contains(fix), "{kind} {arguments:?} {refused:?}");
        assert!(
            refused.stdout.is_empty() && provider.calls().is_empty(),
            "{kind} {arguments:?}"
        );
    }
    let (_provider, settings) = provider(simulator::Settings::new(Kind::Zitadel)).await;
    for text in ["", "{\"email\":1}\n", "alex@users.example\n"] {
        let refused = settings.run(&["resolve", "-"], text.as_bytes()).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(said(&refused).contains("first line"), "{refused:?}");
    }
}

#[tokio::test]
async fn throttled_lookups_wait_and_lose_no_row() {
    let (provider, settings) = provider(simulator::Settings {
        quota: Some(QuotaKind::Bucket {
            per_second: 40,
            burst: 5,
        }),
        ..simulator::Settings::new(Kind::Zitadel)
    })
    .await;
    let keys = table((0..60).map(|n| format!("u{n}@users.example")));
    let resolved = settings
        .run(&["resolve", "-", "--rate", "400"], keys.as_bytes())
        .await;
    assert_eq!(resolved.status.code(), Some(0), "{resolved:?}");
    assert_eq!(String::from_utf8_lossy(&resolved.stdout).lines().count(), 61);
    assert!(provider.summary().throttled > 0);
    said(&resolved);
}

#[tokio::test]
async fn the_default_pace_is_a_tenth_of_the_configured_rate() {
    let (provider, settings) = provider(simulator::Settings::new(Kind::Zitadel)).await;
    let keys = table((0..40).map(|n| format!("u{n}@users.example")));
    let settings = settings.with("PROVIDER__RATE__PER_SECOND", &200);
    let resolved = settings.run(&["resolve", "-"], keys.as_bytes()).await;
    assert_eq!(resolved.status.code(), Some(0), "{resolved:?}");
    assert!(
        said(&resolved).contains("19.6 a second at most (a tenth of provider.rate"),
        "{resolved:?}"
    );
    let calls = provider.calls();
    let took = calls[39].at - calls[0].at;
    assert!(took >= Duration::from_millis(1500), "{took:?}");
}

#[tokio::test]
async fn a_killed_run_goes_on_behind_its_rows_and_an_interrupted_one_says_so() {
    let (provider, settings) = provider(simulator::Settings::new(Kind::Zitadel)).await;
    let folder = Folder::new();
    let keys = |n| format!("u{n}@users.example");
    let file = folder.write("keys.csv", &table((0..200).map(keys)));
    let out = folder.path("map.csv");
    let arguments = ["resolve", &file, "--out", &out, "--rate", "40"];
    let looked_up = async |least: usize| {
        eventually("so many keys are looked up", async || {
            (provider.calls().len() >= least).then_some(())
        })
        .await;
    };
    let killed = settings.start_between(Stdio::null(), &arguments, Stdio::null());
    looked_up(60).await;
    eventually("some rows are kept", async || {
        let kept = std::fs::read_to_string(folder.path("map.csv.usher-checkpoint")).ok()?;
        let kept: serde_json::Value = serde_json::from_str(&kept).ok()?;
        (kept["counts"]["resolved"].as_u64()? > 0).then_some(())
    })
    .await;
    killed.killed().await;
    // Half a row was on its way to the disk.
    let kept = folder.read("map.csv");
    std::fs::write(&out, format!("{kept}u1@us")).unwrap();
    let before = provider.calls().len();
    let interrupted = settings.start_between(Stdio::null(), &arguments, Stdio::null());
    looked_up(before + 40).await;
    let mut beside = arguments.to_vec();
    beside.push("--restart");
    let beside = settings.run(&beside, b"").await;
    assert!(
        said(&beside).contains("is being written by another"),
        "{beside:?}"
    );
    interrupted.signal("INT").await;
    let (status, text) = interrupted.ended().await;
    assert_eq!(status.code(), Some(3), "{text}");
    assert!(
        text.contains("going on after row") && text.contains("goes on from here"),
        "{text}"
    );
    let resolved = settings
        .run(&["resolve", &file, "--out", &out, "--rate", "500"], b"")
        .await;
    assert_eq!(resolved.status.code(), Some(0), "{resolved:?}");
    let expected: String = (0..200).map(|n| format!("{},u{n}\n", keys(n))).collect();
    assert_eq!(folder.read("map.csv"), format!("key,userId\n{expected}"));
    // A second's worth of lookups is repeated at most, and those in flight.
    let calls = provider.calls().len();
    assert!((200..320).contains(&calls), "{calls}");
    assert_eq!(mode(&out), 0o600);
    what_an_earlier_run_wrote_is_not_overwritten(&settings, &folder, &file, &out).await;
}

async fn what_an_earlier_run_wrote_is_not_overwritten(
    settings: &Settings,
    folder: &Folder,
    file: &str,
    out: &str,
) {
    let other = folder.write("other.csv", "email\nkim@users.example\n");
    for (arguments, fix) in [
        (&["resolve", &other, "--out", out][..], "--restart"),
        (&["resolve", file, "--out", &other], "--restart"),
        (
            &["resolve", file, "--out", out, "--unresolved", "/tmp/none"],
            "without --unresolved",
        ),
    ] {
        let refused = settings.run(arguments, b"").await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(said(&refused).contains(fix), "{refused:?}");
    }
}

#[tokio::test]
async fn an_unreachable_provider_and_a_refused_token_end_the_run_with_the_cause() {
    let (gone, settings) = provider(simulator::Settings::new(Kind::Zitadel)).await;
    let address = gone.base_url();
    gone.stop().await;
    let keys = table((0..3).map(|n| format!("u{n}@users.example")));
    let unreachable = settings.run(&["resolve", "-"], keys.as_bytes()).await;
    assert_eq!(unreachable.status.code(), Some(4), "{unreachable:?}");
    assert!(said(&unreachable).contains(&address), "{unreachable:?}");

    let (_provider, settings) = provider(simulator::Settings {
        token: Some("other".into()),
        ..simulator::Settings::new(Kind::Zitadel)
    })
    .await;
    let refused = settings.run(&["resolve", "-"], keys.as_bytes()).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(
        said(&refused).contains("replace it with a valid one"),
        "{refused:?}"
    );
}

async fn scene(name: &str) -> Scene {
    let url = Node::shared().await.vhost(name).await;
    let scene = Scene::new(Kind::Zitadel, url, 20, 10).await;
    let declared = scene.settings().run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
    scene
}

#[tokio::test]
async fn what_was_resolved_is_published_under_the_providers_ids() {
    let scene = scene("id-map").await;
    let folder = Folder::new();
    let users =
        "email,update.nickname\nalex@users.example,Al\nmissing-1@users.example,Mi\nkim@users.example,Ki\n";
    let file = folder.write("users.csv", users);
    let (map, rejects) = (folder.path("map.csv"), folder.path("rejects.jsonl"));
    let resolve = ["resolve", &file, "--out", &map, "--rate", "20"];
    let resolved = scene.settings().run(&resolve, b"").await;
    assert_eq!(resolved.status.code(), Some(1), "{resolved:?}");
    assert!(scene.provider.calls().iter().all(|call| call.op == Op::Search));

    let publish = [
        "publish",
        &file,
        "--provider",
        "zitadel",
        "--batch",
        "m-1",
        "--id-from",
        "email",
        "--id-map",
        &map,
        "--map-from",
        "email",
    ];
    let refused = scene.settings().run(&publish, b"").await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let text = said(&refused);
    assert!(
        text.contains("line 3, column email") && text.contains("usher resolve"),
        "{text}"
    );
    let kept = [&publish[..], &["--rejects", &rejects]].concat();
    let published = scene.settings().run(&kept, b"").await;
    assert_eq!(published.status.code(), Some(1), "{published:?}");
    let mut users = Vec::new();
    for body in taken(&scene, "user.update.zitadel.0").await {
        let command: Value = serde_json::from_str(&body).unwrap();
        users.push((command["userId"].clone(), command["update"]["nickname"].clone()));
    }
    assert_eq!(users, [(json!("alex"), json!("Al")), (json!("kim"), json!("Ki"))]);
    assert_eq!(folder.read("rejects.jsonl").lines().count(), 1);

    // The file is published, so another map is another publication.
    std::fs::write(&map, "key,userId\nalex@users.example,other\n").unwrap();
    let again = scene.settings().run(&kept, b"").await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert_eq!(taken(&scene, "user.update.zitadel.0").await.len(), 1);
}

#[tokio::test]
async fn an_id_map_that_can_not_be_right_is_refused_with_its_lines() {
    let scene = scene("id-map-refused").await;
    let folder = Folder::new();
    let file = folder.write("users.csv", "id,email,update.nickname\n");
    let lines = folder.write("users.jsonl", "{\"id\":1}\n");
    let map = folder.path("map.csv");
    for (text, input, wrong) in [
        (
            "key,userId\na@users.example,u1\nb,u2\na@users.example,u3\n",
            &file,
            "lines 2 and 4",
        ),
        (
            "email,userId\na@users.example,u1\n",
            &file,
            "columns key and userId",
        ),
        ("key,userId\na@users.example\n", &file, "line 2"),
        ("key,userId\na@users.example,\n", &file, "line 2: the userId"),
        ("key,userId\na@users.example,u1\n", &lines, "--id-map are for CSV"),
    ] {
        std::fs::write(&map, text).unwrap();
        let arguments = [
            "publish",
            input,
            "--provider",
            "zitadel",
            "--id-map",
            &map,
            "--map-from",
            "email",
        ];
        let refused = scene.settings().run(&arguments, b"").await;
        assert_eq!(refused.status.code(), Some(2), "{text} {refused:?}");
        assert!(said(&refused).contains(wrong), "{text} {refused:?}");
    }
    let alone = scene
        .settings()
        .run(&["publish", &file, "--id-map", &map], b"")
        .await;
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
}
