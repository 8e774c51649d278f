//! `usher apply` as a person runs it: files in, files out, a summary, an exit code.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use usher::provider::Kind;
use usher::simulator::{self, Simulated};

use crate::process::{Folder, Settings};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/examples");

pub fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The numbers at the beginning of the summary's rows.
pub fn rows(stderr: &[u8]) -> BTreeMap<String, u64> {
    let text = String::from_utf8_lossy(stderr).into_owned();
    let row = |line: &str| {
        let (number, what) = line.trim_start().split_once("  ")?;
        Some((what.split([' ', ':']).next()?.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

#[tokio::test]
async fn every_shared_field_is_set_and_the_later_ones_cleared_at_a_simulated_plain_api() {
    let update = |n: u8, update: Value| {
        let id = uuid::Uuid::from_u128(u128::from(n));
        json!({ "id": id, "provider": "rest", "userId": "u", "update": update }).to_string()
    };
    let commands = [
        update(
            1,
            json!({ "username": "alex", "email": "alex@example.com", "phone": "+61412345678",
            "givenName": "Alex", "familyName": "Taylor", "displayName": "Alex", "nickname": "Al", "locale": "en" }),
        ),
        update(
            2,
            json!({ "phone": null, "displayName": null, "nickname": null, "locale": null }),
        ),
    ];
    let input = commands.join("\n");
    let arguments = ["apply", "-", "--simulate", "rest"];
    let applied = Settings::default().run(&arguments, input.as_bytes()).await;
    assert_eq!(applied.status.code(), Some(0), "{applied:?}");
    let events = lines(&String::from_utf8(applied.stdout).unwrap());
    let succeeded = events
        .iter()
        .filter(|event| event["type"] == "USER_UPDATE_SUCCESS");
    assert_eq!(succeeded.count(), 2, "{events:?}");
}

#[tokio::test]
async fn the_mixed_example_shows_every_refusal_that_zitadel_can_give() {
    let folder = Folder::new();
    let (outcomes, dead) = (folder.path("outcomes.jsonl"), folder.path("dead.jsonl"));
    let file = format!("{EXAMPLES}/mixed.jsonl");
    let arguments = [
        "apply",
        &file,
        "--simulate",
        "zitadel",
        "--outcomes",
        &outcomes,
        "--dead-letters",
        &dead,
    ];
    let applied = Settings::default().run(&arguments, b"").await;
    assert_eq!(applied.status.code(), Some(1), "{applied:?}");

    let mut reasons = BTreeMap::new();
    for dead_letter in lines(&folder.read("dead.jsonl")) {
        let reason = dead_letter["headers"]["x-usher-reason"]
            .as_str()
            .unwrap()
            .to_owned();
        *reasons.entry(reason).or_insert(0) += 1;
    }
    let expected = [
        "conflict",
        "expired",
        "forbidden",
        "invalid",
        "not_found",
        "outcome_unknown",
        "oversized",
        "rejected",
        "retries_exhausted",
        "undecodable",
        "unsupported_field",
    ];
    assert_eq!(reasons.keys().collect::<Vec<_>>(), expected);
    let failed = lines(&folder.read("outcomes.jsonl"))
        .iter()
        .filter(|event| event["type"] == "USER_UPDATE_FAIL")
        .count();
    assert_eq!(failed, reasons.values().sum::<usize>());
}

/// A provider that takes its time, and the settings to reach it.
pub async fn slow_provider() -> (Simulated, Settings) {
    let slow = simulator::Settings {
        latency: Duration::from_millis(50),
        ..simulator::Settings::new(Kind::Zitadel)
    };
    let provider = simulator::start(slow, (Ipv4Addr::LOCALHOST, 0).into())
        .await
        .unwrap();
    let settings = Settings::default()
        .with("PROVIDER__NAME", &"zitadel")
        .with("PROVIDER__KIND", &"zitadel")
        .with("PROVIDER__BASE_URL", &provider.base_url())
        .with("PROVIDER__AUTH__TOKEN", &"any");
    (provider, settings)
}

pub fn commands(count: u32) -> String {
    let line = |n| {
        let id = uuid::Uuid::from_u128(n);
        format!(
            "{{\"id\":\"{id}\",\"provider\":\"zitadel\",\"userId\":\"u{n}\",\"update\":{{\"nickname\":\"n\"}},\"batchId\":\"b\"}}\n"
        )
    };
    // Nothing else is changed, so Zitadel's PUT needs the names read first.
    (0..count).map(|n| line(u128::from(n))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_goes_on_where_it_ended_and_adds_up() {
    let (provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &format!("{}no JSON\n", commands(2000)));
    let outcomes = folder.path("outcomes.jsonl");
    let arguments = ["apply", &file, "--outcomes", &outcomes];
    let first = settings.start(&arguments);
    crate::support::eventually("some writes", async || {
        (provider.summary().applied >= 300).then_some(())
    })
    .await;
    first.killed().await;
    let before = provider.summary().applied;

    let second = settings.run(&arguments, b"").await;
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let rows = rows(&second.stderr);
    assert_eq!(rows.values().sum::<u64>(), 2001, "{rows:?}");
    assert!(rows["were"] > 0 && rows["were"] <= before, "{rows:?}");
    let mut terminal: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in lines(&folder.read("outcomes.jsonl")) {
        if event["type"] != "USER_UPDATE_START" {
            let id = event["data"]["commandId"].as_str().unwrap().to_owned();
            terminal
                .entry(id)
                .or_default()
                .push(event["id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(terminal.len(), 2001);
    assert!(terminal.values().all(|ids| ids.len() == 1));
    assert_eq!(lines(&folder.read("outcomes.dead-letters.jsonl")).len(), 1);

    let third = settings.run(&arguments, b"").await;
    assert_eq!(third.status.code(), Some(1), "{third:?}");
    assert_eq!(lines(&folder.read("outcomes.dead-letters.jsonl")).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_says_what_is_left_and_ends_with_3() {
    let (provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &commands(5000));
    let outcomes = folder.path("outcomes.jsonl");
    let run = settings.start(&["apply", &file, "--outcomes", &outcomes]);
    crate::support::eventually("some writes", async || {
        (provider.summary().applied >= 100).then_some(())
    })
    .await;
    run.signal("INT").await;
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(3), "{said}");
    let rows = rows(said.as_bytes());
    assert!(rows["not"] > 0, "{said}");
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_file_with_marks_is_applied_once_and_a_second_run_goes_on() {
    let (provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let text = commands(30).replace('\n', "\r\n");
    let (first, second) = text.split_at(text.find("\r\n").unwrap() + 2);
    let joined = [
        packed(&format!("\u{feff}{first}")),
        packed(&format!("\u{feff}{second}\r\n")),
    ]
    .concat();
    let (file, outcomes) = (folder.path("commands.jsonl.gz"), folder.path("outcomes.jsonl"));
    std::fs::write(&file, &joined).unwrap();
    let arguments = ["apply", &file, "--outcomes", &outcomes];
    for _ in 0..2 {
        let applied = settings.run(&arguments, b"").await;
        assert_eq!(applied.status.code(), Some(0), "{applied:?}");
        assert_eq!(provider.summary().applied, 30);
    }
    assert_eq!(lines(&folder.read("outcomes.jsonl")).len(), 60);

    std::fs::write(&file, &joined[..joined.len() - 4]).unwrap();
    let cut = settings.run(&arguments, b"").await;
    let said = String::from_utf8_lossy(&cut.stderr);
    assert_eq!(cut.status.code(), Some(2), "{said}");
    assert!(
        said.contains("commands.jsonl.gz can't be read: its gzip data is"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn a_file_in_utf_16_without_a_mark_is_refused_once_and_no_command_of_it_becomes_a_dead_letter() {
    let (_provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let wide: Vec<u8> = commands(3).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let file = folder.path("commands.jsonl");
    std::fs::write(&file, &wide).unwrap();
    let outcomes = folder.path("outcomes.jsonl");
    let away = Settings::default().with("BROKER__URL", &"amqp://guest:guest@127.0.0.1:1/%2f");
    for (settings, arguments, input) in [
        (
            &settings,
            &["apply", &file, "--outcomes", &outcomes][..],
            &b""[..],
        ),
        (&settings, &["apply", "-", "--outcomes", &outcomes], &wide),
        (&away, &["publish", &file], b""),
    ] {
        let refused = settings.run(arguments, input).await;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert_eq!(
            said.matches("UTF-16LE, and commands are read as UTF-8").count(),
            1,
            "{said}"
        );
        assert_eq!(folder.read("outcomes.jsonl"), "");
        assert_eq!(folder.read("outcomes.dead-letters.jsonl"), "");
    }
}

#[tokio::test]
async fn events_go_to_stdout_where_no_file_is_named() {
    let (_provider, settings) = slow_provider().await;
    let applied = settings.run(&["apply", "-"], commands(3).as_bytes()).await;
    assert_eq!(applied.status.code(), Some(0), "{applied:?}");
    assert_eq!(lines(&String::from_utf8(applied.stdout).unwrap()).len(), 6);
}

#[tokio::test]
async fn wrong_use_ends_with_2_and_what_is_out_of_reach_with_4() {
    let nothing = Settings::default();
    let config = nothing.run(&["run"], b"").await;
    assert_eq!(config.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&config.stderr).contains("provider: is required; add it."),
        "{config:?}"
    );
    let file = nothing
        .run(&["apply", "/nowhere.jsonl", "--simulate", "zitadel"], b"")
        .await;
    assert_eq!(file.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&file.stderr).contains("/nowhere.jsonl can't be read"),
        "{file:?}"
    );
    let away = nothing.with("BROKER__URL", &"amqp://guest:guest@127.0.0.1:1/%2f");
    let broker = away.run(&["publish", "-"], commands(1).as_bytes()).await;
    assert_eq!(broker.status.code(), Some(4), "{broker:?}");
}

#[tokio::test]
async fn a_file_with_a_bad_line_is_not_published_at_all() {
    let folder = Folder::new();
    let file = folder.write(
        "commands.jsonl",
        &format!("{}{{\"id\":\"s3cret\"}}\n", commands(2)),
    );
    let away = Settings::default().with("BROKER__URL", &"amqp://guest:guest@127.0.0.1:1/%2f");
    let published = away.run(&["publish", &file], b"").await;
    assert_eq!(published.status.code(), Some(1));
    let said = String::from_utf8(published.stderr).unwrap();
    assert!(
        said.contains("line 3: invalid at /id: ") && said.contains("nothing was published"),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "{said}");
}

/// It can't make as many calls at a time as it may: that is no outage, spends no attempt, and is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_descriptors_says_so_and_blames_nobody_else() {
    let folder = Folder::new();
    let slow = simulator::Settings {
        latency: Duration::from_millis(300),
        ..simulator::Settings::new(Kind::Zitadel)
    };
    let provider = simulator::start(slow, (Ipv4Addr::LOCALHOST, 0).into())
        .await
        .unwrap();
    let settings = Settings::default()
        .with("PROVIDER__NAME", &"zitadel")
        .with("PROVIDER__KIND", &"zitadel")
        .with("PROVIDER__BASE_URL", &provider.base_url())
        .with("PROVIDER__RATE__PER_SECOND", &500)
        .with("PROVIDER__AUTH__TOKEN", &"t")
        .with("PROVIDER__SKIP_UNCHANGED", &false);
    let commands: Vec<_> = std::fs::read_to_string(format!("{EXAMPLES}/migration.jsonl"))
        .unwrap()
        .lines()
        .take(200)
        .map(|line| {
            let mut command: Value = serde_json::from_str(line).unwrap();
            command["provider"] = "zitadel".into();
            command.to_string()
        })
        .collect();
    let file = folder.path("commands.jsonl");
    std::fs::write(&file, commands.join("\n")).unwrap();
    let outcomes = folder.path("outcomes.jsonl");
    let arguments = ["apply", &*file, "--outcomes", &*outcomes];
    let applied = settings.run_with_descriptors(32, &arguments).await;
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert_eq!(applied.status.code(), Some(0), "{said}");
    assert!(said.contains("no file descriptor left"), "{said}");
    assert!(!said.contains("fails for every user"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_stops_the_run_and_says_what_to_check() {
    let (_provider, settings) = slow_provider().await;
    let folder = Folder::new();
    let missing = commands(1000).replace("\"userId\":\"", "\"userId\":\"missing-");
    let file = folder.write("commands.jsonl", &missing);
    let outcomes = folder.path("outcomes.jsonl");
    let stopped = settings
        .run(&["apply", &file, "--outcomes", &outcomes], b"")
        .await;
    let said = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(3), "{said}");
    assert!(said.contains("provider.base_url"), "{said}");
    let events = lines(&folder.read("outcomes.jsonl"));
    let failed = events.iter().filter(|event| event["type"] == "USER_UPDATE_FAIL");
    assert_eq!(failed.count(), 9, "{said}");
    assert_eq!(lines(&folder.read("outcomes.dead-letters.jsonl")).len(), 9);
}
