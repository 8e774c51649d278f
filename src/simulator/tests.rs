//! What tests rely on: quota, faults, tokens, the call log, and reproducible seeds.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::json;

use super::*;
use crate::provider::http::{Http, Settings as HttpSettings};
use crate::provider::testbed::{simulated, simulated_with};
use crate::provider::token::Source;

/// A plain client. An adapter's client is built first, because it installs the TLS provider.
fn client() -> Client {
    let _ = Http::new(HttpSettings {
        base_url: "http://unused.example".into(),
        timeout: Duration::from_secs(1),
        token: Source::Value("t".into()),
        concurrency: 1,
        answers: Vec::new(),
    });
    Client::new()
}

struct Bench {
    simulated: Simulated,
    client: Client,
}

impl Bench {
    async fn new(settings: Settings) -> Self {
        Self {
            simulated: simulated_with(settings).await,
            client: client(),
        }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.simulated.base_url());
        self.client.request(method, url).bearer_auth("t")
    }

    async fn write(&self, user: &str, body: &Value) -> Option<u16> {
        let request = self
            .call(Method::PUT, &format!("/v2/users/human/{user}"))
            .json(body);
        request.send().await.ok().map(|answer| answer.status().as_u16())
    }

    async fn json(&self, path: &str) -> Value {
        self.call(Method::GET, path)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

fn zitadel() -> Settings {
    Settings::new(Kind::Zitadel)
}

#[tokio::test]
async fn calls_users_and_counts_are_readable() {
    let bench = Bench::new(zitadel()).await;
    assert_eq!(bench.write("u1", &json!({"username": "x"})).await, Some(200));
    bench.json("/v2/users/u2").await;
    let calls = bench.json("/__calls").await;
    assert_eq!(calls[0]["user"], "u1");
    assert_eq!(calls[0]["body"], json!({"username": "x"}));
    assert_eq!(
        (&calls[0]["op"], &calls[0]["applied"], &calls[0]["status"]),
        (&json!("write"), &json!(true), &json!(200))
    );
    let at_us = calls[1]["at_us"].as_u64().unwrap();
    assert_eq!(Some(at_us / 1000), calls[1]["at_ms"].as_u64());
    assert!(at_us > calls[0]["at_us"].as_u64().unwrap());
    assert_eq!(
        (&calls[1]["op"], &calls[1]["applied"], &calls[1]["seq"]),
        (&json!("read"), &json!(false), &json!(1))
    );
    assert_eq!(bench.json("/__users").await["u1"]["fields"]["username"], "x");
    assert_eq!(bench.json("/__users/u2").await["writes"], 0);
    assert_eq!(
        bench
            .call(Method::GET, "/__users/u3")
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::NOT_FOUND
    );
    let summary = bench.json("/__summary").await;
    assert_eq!(
        (
            &summary["calls"],
            &summary["applied"],
            &summary["statuses"]["200"]
        ),
        (&json!(2), &json!(1), &json!(2))
    );
    bench.call(Method::DELETE, "/__calls").send().await.unwrap();
    assert_eq!(bench.json("/__calls").await, json!([]));
}

#[tokio::test]
async fn call_log_drops_the_oldest_calls() {
    let bench = Bench::new(Settings {
        calls_max: 2,
        ..zitadel()
    })
    .await;
    for user in ["a", "b", "c"] {
        bench.write(user, &json!({})).await;
    }
    let users: Vec<_> = bench
        .simulated
        .calls()
        .into_iter()
        .map(|call| call.user)
        .collect();
    assert_eq!(users, ["b", "c"]);
    assert!(
        bench
            .simulated
            .calls()
            .iter()
            .all(|call| call.end == CallEnd::Answered(200))
    );
}

#[tokio::test]
async fn calls_beyond_the_quota_get_429_in_the_configured_style() {
    for style in [
        RetryAfterStyle::Seconds,
        RetryAfterStyle::Date,
        RetryAfterStyle::Ms,
        RetryAfterStyle::None,
    ] {
        let bench = Bench::new(Settings {
            quota: Some(QuotaKind::Bucket {
                per_second: 1,
                burst: 2,
            }),
            retry_after: style,
            ..zitadel()
        })
        .await;
        for _ in 0..2 {
            assert_eq!(bench.write("u", &json!({})).await, Some(200));
        }
        let answer = bench.call(Method::GET, "/v2/users/u").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
        match (style, header("retry-after"), header("retry-after-ms")) {
            (RetryAfterStyle::Seconds, Some("1"), None) | (RetryAfterStyle::None, None, None) => {}
            (RetryAfterStyle::Date, Some(date), None) if date.ends_with(" GMT") => {}
            (RetryAfterStyle::Ms, None, Some(ms)) if (1..=1000).contains(&ms.parse().unwrap()) => {}
            wrong => panic!("{wrong:?}"),
        }
        assert_eq!(answer.text().await.unwrap(), "Too many requests");
        bench.simulated.set_rate(None, 1);
        assert_eq!(bench.write("u", &json!({})).await, Some(200));
    }
}

#[tokio::test]
async fn each_fault_acts_as_named() {
    let bench = Bench::new(zitadel()).await;
    let all = |change: fn(&mut Faults)| {
        let mut faults = Faults::default();
        change(&mut faults);
        faults
    };
    for (user, faults, status, applied) in [
        ("a", all(|f| f.broken = 1.0), Some(500), false),
        ("b", all(|f| f.drop_before = 1.0), None, false),
        ("c", all(|f| f.drop_after = 1.0), None, true),
        ("d", all(|f| f.garbage = 1.0), Some(200), true),
        ("e", all(|f| f.throttle_after = 1.0), Some(429), true),
        ("g", all(|f| f.broken_after = 1.0), Some(503), true),
        ("f", all(|f| (f.slow, f.slow_ms) = (1.0, 1)), Some(200), true),
    ] {
        bench.simulated.set_faults(faults);
        assert_eq!(
            bench.write(user, &json!({"username": "x"})).await,
            status,
            "{faults:?}"
        );
        let calls = bench.simulated.calls();
        let call = calls.iter().rfind(|call| call.user == user).unwrap();
        assert_eq!((call.applied, &*call.token), (applied, "t"), "{faults:?}");
        assert!(call.trouble.is_some() && call.ended > Some(call.at));
        assert_eq!(
            call.end,
            status.map_or(CallEnd::Dropped, CallEnd::Answered),
            "{faults:?}"
        );
    }
}

#[tokio::test]
async fn same_seed_gives_the_same_faults() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let bench = Bench::new(Settings {
            seed,
            faults: Faults {
                broken: 0.3,
                drop_after: 0.3,
                ..Faults::default()
            },
            ..zitadel()
        })
        .await;
        let mut ends = Vec::new();
        for _ in 0..40 {
            ends.push(bench.write("u", &json!({})).await);
        }
        runs.push(ends);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn conditions_can_be_changed_at_run_time() {
    let bench = Bench::new(zitadel()).await;
    let post = |path: &'static str, body: Value| bench.call(Method::POST, path).json(&body).send();
    post("/__faults", json!({"broken": 1.0})).await.unwrap();
    assert_eq!(bench.write("u", &json!({})).await, Some(500));
    post("/__faults", json!({"rate_per_second": 1, "burst": 1}))
        .await
        .unwrap();
    assert_eq!(bench.write("u", &json!({})).await, Some(200));
    assert_eq!(bench.write("u", &json!({})).await, Some(429));
    post("/__faults", json!({"rate_per_second": null})).await.unwrap();
    post("/__token", json!({"token": "other"})).await.unwrap();
    assert_eq!(bench.write("u", &json!({})).await, Some(401));
    post("/__token", json!({"token": "t"})).await.unwrap();
    assert_eq!(bench.write("u", &json!({})).await, Some(200));
    let refused = post("/__faults", json!({"brokn": 1.0})).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn another_rate_applies_within_the_current_window() {
    let hour = Duration::from_secs(3600);
    for quota in [
        QuotaKind::Fixed {
            calls: 1,
            window: hour,
        },
        QuotaKind::Sliding {
            calls: 1,
            window: hour,
        },
    ] {
        let bench = Bench::new(Settings {
            quota: Some(quota),
            ..zitadel()
        })
        .await;
        let set = json!({"rate_per_second": 1, "burst": 7});
        assert_eq!(bench.write("u", &json!({})).await, Some(200));
        let refused = bench.call(Method::GET, "/v2/users/u").send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = refused.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((3500..=3600).contains(&wait), "{wait}");
        bench
            .call(Method::POST, "/__faults")
            .json(&set)
            .send()
            .await
            .unwrap();
        for _ in 0..20 {
            assert_eq!(bench.write("u", &json!({})).await, Some(200), "3,600 in the hour");
        }
        let summary = bench.simulated.summary();
        assert_eq!((summary.calls, summary.accepted, summary.throttled), (22, 21, 1));
    }
}

#[tokio::test]
async fn tokens_are_issued_counted_and_revoked() {
    let bench = Bench::new(Settings {
        client: Some(super::Client {
            id: "usher".into(),
            secret: "s3cret".into(),
        }),
        ..zitadel()
    })
    .await;
    let url = |path: &str| format!("{}{path}", bench.simulated.base_url());
    let ask = || {
        let members = [("grant_type", "client_credentials")];
        let request = bench.client.post(url("/oauth/v2/token")).form(&members);
        request.basic_auth("usher", Some("s3cret")).send()
    };
    let answer: Value = ask().await.unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap();
    let read = || bench.client.get(url("/v2/users/u")).bearer_auth(token).send();
    assert_eq!(read().await.unwrap().status(), StatusCode::OK);
    assert_eq!(
        bench.write("u", &json!({})).await,
        Some(401),
        "any other token is refused"
    );
    bench.call(Method::DELETE, "/__token").send().await.unwrap();
    assert_eq!(read().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    bench.simulated.set_rate(Some(1), 1);
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
    assert_eq!(
        ask().await.unwrap().status(),
        StatusCode::TOO_MANY_REQUESTS,
        "a token costs as much of the quota as a call"
    );
    let calls = bench.json("/__calls").await;
    assert_eq!(
        (&calls[0]["op"], &calls[0]["user"], &calls[0]["body"]),
        (&json!("token"), &json!(""), &Value::Null)
    );
    let summary = bench.simulated.summary();
    assert_eq!((summary.calls, summary.token_requests), (6, 3));
}

#[tokio::test]
async fn overlapping_calls_of_a_user_are_counted() {
    let bench = Bench::new(Settings {
        latency: Duration::from_millis(200),
        ..zitadel()
    })
    .await;
    let body = json!({});
    tokio::join!(
        bench.write("u", &body),
        bench.write("u", &body),
        bench.write("v", &body)
    );
    assert_eq!(bench.simulated.summary().overlapping, 1);
}

#[tokio::test]
async fn call_without_a_token_is_refused() {
    let simulated = simulated(Kind::Zitadel).await;
    let url = format!("{}/v2/users/u", simulated.base_url());
    let answer = client().get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn stopping_cuts_waiting_calls_and_frees_the_port() {
    let bench = Bench::new(Settings {
        latency: Duration::from_secs(600),
        ..zitadel()
    })
    .await;
    let addr = bench.simulated.addr();
    let waiting = bench.call(Method::GET, "/v2/users/u").send();
    let waiting = tokio::spawn(waiting);
    while bench.simulated.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    bench.simulated.stop().await;
    assert!(waiting.await.unwrap().is_err());
    start(zitadel(), addr).await.unwrap();
}

#[tokio::test]
async fn malformed_writes_get_zitadels_refusals() {
    let bench = Bench::new(zitadel()).await;
    for body in [
        json!({"profile": {"givenName": "x"}}),
        json!({"profile": {"givenName": "", "familyName": "x"}}),
        json!({"email": {"email": "x@y.example", "sendCode": {}, "returnCode": {}}}),
        json!({"email": {"email": "nobody"}}),
        json!({"phone": {"phone": "0412"}}),
        json!({"phone": {"phone": "+61412345678", "isVerified": false}}),
        json!({"phone": {"phone": ""}}),
        json!({"password": {}}),
        json!({"password": {"password": {"password": "a"}, "hashedPassword": {"hash": "$a"}}}),
        json!({"username": 5}),
    ] {
        assert_eq!(bench.write("u", &body).await, Some(400), "{body}");
    }
    assert_eq!(
        bench.write("u", &json!({"usernme": "x", "username": null})).await,
        Some(200)
    );
    assert_eq!(
        bench.simulated.user("u").unwrap()["version"],
        0,
        "unknown members are silently dropped"
    );
}
