//! The provider's troubles, met by the whole program: answers that are lost after the deed, a token that is
//! revoked, a tenant that knows nobody.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use usher::provider::Kind;
use usher::simulator::{self, Faults, Simulated};

use crate::node::Node;
use crate::process::{Folder, Settings};
use crate::scene::Scene;
use crate::support::{eventually, readiness};

const TOKEN: &str = "the-first-token";

async fn provider(faults: Faults) -> Simulated {
    let settings = simulator::Settings {
        latency: Duration::from_millis(5),
        faults,
        seed: 3,
        ..simulator::Settings::new(Kind::Zitadel)
    };
    let addr = (Ipv4Addr::LOCALHOST, 0).into();
    simulator::start(settings, addr).await.unwrap()
}

fn settings(provider: &Simulated) -> Settings {
    Settings::default()
        .with("PROVIDER__NAME", &"zitadel")
        .with("PROVIDER__KIND", &"zitadel")
        .with("PROVIDER__BASE_URL", &provider.base_url())
        .with("PROVIDER__RATE__PER_SECOND", &200)
        .with("PROVIDER__SETTLING_TIME", &"50ms")
        .with("RETRY__ATTEMPTS", &20)
}

/// The n-th command goes to user n modulo `users`, and asks for a mail to the new address.
pub fn commands(count: u64, users: u64) -> String {
    let line = |n: u64| {
        let command = json!({
            "id": uuid::Uuid::from_u128(u128::from(n) + 1), "provider": "zitadel",
            "userId": format!("u{}", n % users),
            "update": {
                "email": format!("n{n}@example.com"),
                "zitadel": { "emailVerification": { "sendCode": {} } },
            },
        });
        format!("{command}\n")
    };
    (0..count).map(line).collect()
}

async fn every_answer_may_be_lost(faults: Faults, count: u64, users: u64) {
    let provider = provider(faults).await;
    let applied = settings(&provider)
        .with("PROVIDER__AUTH__TOKEN", &TOKEN)
        .run(&["apply", "-"], commands(count, users).as_bytes())
        .await;
    let said = String::from_utf8_lossy(&applied.stderr);
    assert_eq!(applied.status.code(), Some(0), "{said}");
    let events: Vec<Value> = String::from_utf8_lossy(&applied.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids = |kind: &str| -> BTreeSet<&str> {
        let of_kind = events.iter().filter(|event| event["type"] == kind);
        of_kind
            .map(|event| event["data"]["commandId"].as_str().unwrap())
            .collect()
    };
    assert_eq!(ids("USER_UPDATE_SUCCESS").len() as u64, count);
    assert_eq!(ids("USER_UPDATE_START"), ids("USER_UPDATE_SUCCESS"));
    for n in count - users..count {
        let user = provider.user(&format!("u{}", n % users)).unwrap().to_string();
        assert!(user.contains(&format!("\"n{n}@example.com\"")), "{user}");
    }
    let summary = provider.summary();
    assert_eq!(summary.mails, count, "one mail for each command: {summary:?}");
    assert_eq!(summary.overlapping, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_after_the_deed_sends_no_mail_twice() {
    let faults = Faults {
        drop_after: 0.2,
        ..Faults::default()
    };
    every_answer_may_be_lost(faults, 500, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_503_after_the_deed_sends_no_mail_twice() {
    let faults = Faults {
        broken_after: 0.2,
        ..Faults::default()
    };
    every_answer_may_be_lost(faults, 500, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_after_the_deed_sends_no_mail_twice() {
    let faults = Faults {
        throttle_after: 0.2,
        ..Faults::default()
    };
    every_answer_may_be_lost(faults, 60, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_flow_again_within_five_seconds_of_a_tokens_rotation() {
    let provider = provider(Faults::default()).await;
    provider.set_token(Some(TOKEN.to_owned()));
    let folder = Folder::new();
    let token = folder.write("token", TOKEN);
    let file = folder.write("commands.jsonl", &commands(1000, 1000));
    let outcomes = folder.path("outcomes.jsonl");
    let run = settings(&provider)
        .with("PROVIDER__AUTH__TOKEN_FILE", &token)
        .start(&["apply", &file, "--outcomes", &outcomes]);
    eventually("some writes", async || {
        (provider.summary().applied >= 100).then_some(())
    })
    .await;
    provider.set_token(Some("the-second".to_owned()));
    eventually("some probes", async || {
        (provider.summary().statuses.get(&401).copied() >= Some(7)).then_some(())
    })
    .await;
    let (applied, rotated) = (provider.summary().applied, Instant::now());
    let refused = provider.summary().statuses[&401];
    assert!(refused < 100, "{refused} calls with a revoked token");
    folder.write("token", "the-second");
    eventually("further writes", async || {
        (provider.summary().applied > applied).then_some(())
    })
    .await;
    assert!(
        rotated.elapsed() < Duration::from_secs(5),
        "{:?}",
        rotated.elapsed()
    );
    let (status, said) = run.ended().await;
    assert_eq!(status.code(), Some(0), "no dead letter: {said}");
    assert_eq!(provider.summary().applied, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_tenant_does_not_drain_the_queue_and_an_operator_goes_on() {
    let url = Node::shared().await.vhost("guarded").await;
    let scene = Scene::new(Kind::Zitadel, url, 0, 1).await;
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = scene.settings().with("ADMIN__LISTEN", &admin);
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success());
    scene
        .publish_lines(&commands(60, 60).replace("\"userId\":\"u", "\"userId\":\"missing-u"))
        .await;
    let worker = settings.start(&["run"]);
    let state = async || readiness(admin).await.map(|(_, said)| said);
    let paused = async || state().await.filter(|state| state["state"] == "dead_letters");
    // Those that were let through when it shut may still be on their way.
    let shut_after = async |dead_letters: u64| {
        let shut = async || {
            paused()
                .await
                .filter(|state| state["commands"]["dead_lettered"] == dead_letters)
        };
        eventually("the guard", shut).await
    };
    // No write has passed yet.
    let said = shut_after(9).await;
    let detail = said["detail"].as_str().unwrap();
    assert!(
        detail.contains("base_url") && detail.contains("usher resume"),
        "{said}"
    );
    // The operator vouches for the configuration; from here on it is a matter of shares.
    for dead_letters in [9 + 25, 9 + 50] {
        let resumed = settings.run(&["resume"], b"").await;
        assert!(resumed.status.success(), "{resumed:?}");
        assert!(String::from_utf8_lossy(&resumed.stdout).contains("1 worker runs and follows"));
        shut_after(dead_letters).await;
    }
    assert!(settings.run(&["resume"], b"").await.status.success());
    let done = async || {
        state()
            .await
            .filter(|state| state["commands"]["dead_lettered"] == 60)
    };
    eventually("the rest", done).await;
    worker.drained().await;
    let nobody = settings.run(&["resume"], b"").await;
    assert!(String::from_utf8_lossy(&nobody.stdout).contains("no worker is running"));
}
