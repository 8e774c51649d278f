//! Tokens that are fetched, with the whole program: few, one at a time, and without a call lost.

use std::net::Ipv4Addr;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use usher::provider::Kind;
use usher::simulator::quota::QuotaKind;
use usher::simulator::{self, CallEnd, Client, Op, Simulated};

use crate::process::{Folder, Settings};
use crate::support::eventually;

const SECRET: &str = "s3cret+of the client";

/// A provider whose tokens serve for so long.
async fn provider(token_lifetime: Duration) -> Simulated {
    let settings = simulator::Settings {
        quota: Some(QuotaKind::Bucket {
            per_second: 100,
            burst: 10,
        }),
        latency: Duration::from_millis(10),
        client: Some(Client {
            id: "usher".to_owned(),
            secret: SECRET.to_owned(),
        }),
        token_lifetime,
        ..simulator::Settings::new(Kind::Zitadel)
    };
    simulator::start(settings, (Ipv4Addr::LOCALHOST, 0).into())
        .await
        .unwrap()
}

fn settings(provider: &Simulated) -> Settings {
    let base_url = provider.base_url();
    let oauth2 = |key: &str| format!("PROVIDER__AUTH__OAUTH2__{key}");
    Settings::default()
        .with("PROVIDER__NAME", &"zitadel")
        .with("PROVIDER__KIND", &"zitadel")
        .with("PROVIDER__BASE_URL", &base_url)
        .with("PROVIDER__RATE__PER_SECOND", &90)
        .with(&oauth2("TOKEN_URL"), &format!("{base_url}/oauth/v2/token"))
        .with(&oauth2("CLIENT_ID"), &"usher")
        .with(&oauth2("CLIENT_SECRET"), &SECRET)
        .with(&oauth2("SCOPE"), &"openid")
}

fn commands(count: u128) -> String {
    let line = |n| {
        let id = uuid::Uuid::from_u128(n + 1);
        format!(
            "{{\"id\":\"{id}\",\"provider\":\"zitadel\",\"userId\":\"u{n}\",\"update\":{{\"username\":\"n{n}\"}}}}\n"
        )
    };
    (0..count).map(line).collect()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_one_at_a_time_as_they_expire() {
    let provider = provider(Duration::from_secs(2)).await;
    let applied = settings(&provider)
        .with("LOG__LEVEL", &"debug")
        .run(&["apply", "-"], commands(600).as_bytes())
        .await;
    assert_eq!(applied.status.code(), Some(0), "{}", said(&applied));
    let summary = provider.summary();
    assert_eq!((summary.applied, summary.overlapping), (600, 0), "{summary:?}");
    let seconds = provider.calls().last().unwrap().at.as_secs();
    assert!(seconds >= 4, "the tokens of {seconds} s");
    assert!(
        (3..=seconds + 2).contains(&summary.token_requests),
        "{seconds} s, {summary:?}"
    );
    let said = said(&applied);
    assert!(!said.contains(SECRET) && !said.contains("issued-token"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_tokens_were_revoked_a_run_goes_on_with_the_next() {
    let provider = provider(Duration::from_secs(600)).await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &commands(300));
    let outcomes = folder.path("outcomes.jsonl");
    let run = settings(&provider).start(&["apply", &file, "--outcomes", &outcomes]);
    eventually("some writes", async || {
        (provider.summary().applied >= 100).then_some(())
    })
    .await;
    provider.revoke_tokens();
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
    let summary = provider.summary();
    assert_eq!((summary.applied, summary.token_requests), (300, 2), "{summary:?}");
    let terminal = folder.read("outcomes.jsonl");
    let terminal = terminal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["type"] == "USER_UPDATE_SUCCESS");
    assert!(
        terminal.into_iter().all(|event| event["data"]["attempts"] == 1),
        "no attempt is spent"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_spends_no_attempt_and_a_corrected_secret_is_used() {
    let provider = provider(Duration::from_secs(600)).await;
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &commands(20));
    let secret = folder.write("secret", "wrong");
    let outcomes = folder.path("outcomes.jsonl");
    let settings = settings(&provider)
        .without("PROVIDER__AUTH__OAUTH2__CLIENT_SECRET")
        .with("PROVIDER__AUTH__OAUTH2__CLIENT_SECRET_FILE", &secret);
    let run = settings.start(&["apply", &file, "--outcomes", &outcomes]);
    eventually("some refused requests for a token", async || {
        (provider.summary().statuses.get(&401).copied() >= Some(3)).then_some(())
    })
    .await;
    folder.write("secret", SECRET);
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(said.matches("token: none can be fetched").count(), 1, "{said}");
    assert!(said.contains("invalid_client"), "{said}");
    let calls = provider.calls();
    let refused = calls.iter().filter(|call| call.end == CallEnd::Answered(401));
    assert!(refused.clone().all(|call| call.op == Op::Token));
    assert!(
        refused.count() < 20,
        "one probe at a time, and not one for each command"
    );
}

#[tokio::test]
async fn a_check_fetches_a_token_and_says_what_is_wrong() {
    let provider = provider(Duration::from_secs(600)).await;
    let away = settings(&provider).with("BROKER__URL", &"amqp://guest:guest@127.0.0.1:1/%2f");
    let findings = async |settings: &Settings| {
        let checked = settings.run(&["check", "--json"], b"").await;
        let findings: Vec<Value> = serde_json::from_slice(&checked.stdout).unwrap();
        let of_token = |finding: &Value| finding["what"] == "token";
        findings.into_iter().filter(of_token).collect::<Vec<_>>()
    };
    let well = findings(&away).await;
    assert!(
        well.len() == 2 && well.iter().all(|finding| finding["ok"] == true),
        "{well:?}"
    );
    let wrong = away.with("PROVIDER__AUTH__OAUTH2__CLIENT_SECRET", &"s3cret");
    let wrong = findings(&wrong).await;
    let detail = wrong[0]["detail"].as_str().unwrap();
    assert_eq!(wrong[0]["number"], "U028");
    assert!(
        detail.contains("client_id") && detail.ends_with("(invalid_client)"),
        "{wrong:?}"
    );
    assert!(wrong.len() == 1 && !detail.contains("s3cret"), "{wrong:?}");
}
