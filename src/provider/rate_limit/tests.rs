//! Headers as vendors and drafts write them, and invalid ones.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;
use reqwest::header::{HeaderName, HeaderValue};

use super::*;

const NOW: &str = "2026-11-21T10:00:00Z";
const DATE_NOW: (&str, &str) = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");

fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
    // `collect` would keep only the last header of each name.
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    map
}

fn clock() -> Clock {
    Clock::anchored(NOW.parse().unwrap())
}

fn wait(headers: &[(&'static str, &str)]) -> Option<Duration> {
    requested_wait(&map(headers), &clock())
}

fn hint(headers: &[(&'static str, &str)]) -> RateLimitHint {
    let (headers, clock) = (&map(headers), &clock());
    Headers { headers, clock }.quota()
}

/// A quota's limit as calls and seconds, its remaining calls, and the seconds until its reset.
fn quota(limit: Option<(u64, u64)>, remaining: Option<u64>, reset: Option<u64>) -> RateLimitHint {
    RateLimitHint {
        limit: limit.map(|(calls, window)| (calls, Duration::from_secs(window))),
        remaining,
        reset: reset.map(Duration::from_secs),
    }
}

fn seconds(s: u64) -> Option<Duration> {
    Some(Duration::from_secs(s))
}

fn ms(ms: u64) -> Option<Duration> {
    Some(Duration::from_millis(ms))
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_seconds_or_a_date() {
    assert_eq!(wait(&[("retry-after", "7")]), seconds(7));
    assert_eq!(wait(&[("retry-after", "0")]), seconds(0));
    assert_eq!(wait(&[("retry-after", "1.5")]), ms(1500));
    assert_eq!(wait(&[("retry-after", "604800")]), seconds(604_800));
    for date in [
        "Sat, 21 Nov 2026 10:00:30 GMT",
        "Saturday, 21-Nov-26 10:00:30 GMT",
        "Sat Nov 21 10:00:30 2026",
    ] {
        let date = ("retry-after", date);
        assert_eq!(wait(&[date]), seconds(30), "{date:?}");
        assert_eq!(
            wait(&[date, ("date", "Sat, 21 Nov 2026 10:00:20 GMT")]),
            seconds(10),
            "the provider's own clock comes first"
        );
    }
    assert_eq!(
        wait(&[("retry-after", "Sat, 21 Nov 2026 09:00:00 GMT")]),
        seconds(0)
    );
}

#[tokio::test(start_paused = true)]
async fn most_precise_wait_takes_precedence() {
    for name in ["retry-after-ms", "x-ms-retry-after-ms"] {
        assert_eq!(wait(&[("retry-after", "2"), (name, "1250")]), ms(1250), "{name}");
        assert_eq!(
            wait(&[("retry-after", "2"), (name, "soon")]),
            seconds(2),
            "{name}"
        );
        assert_eq!(wait(&[(name, "0.5")]), Some(Duration::from_micros(500)), "{name}");
    }
    assert_eq!(
        wait(&[("retry-after", "2"), ("x-ratelimit-reset", "9")]),
        seconds(2)
    );
}

#[tokio::test(start_paused = true)]
async fn implausible_wait_is_ignored() {
    for absurd in [
        "",
        "soon",
        "-1",
        "+1",
        "1e3",
        ".5",
        "5.",
        "1.2.3",
        "inf",
        "604801",
        "604800.000000001",
        "99999999999999999999",
        "Sat, 21 Nov 2099 10:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        assert_eq!(wait(&[("retry-after", absurd)]), None, "{absurd}");
        assert_eq!(
            wait(&[("retry-after", absurd), ("ratelimit-reset", "9")]),
            seconds(9),
            "{absurd}"
        );
    }
    assert_eq!(wait(&[]), None);
}

#[tokio::test(start_paused = true)]
async fn reset_replaces_a_missing_retry_after() {
    assert_eq!(wait(&[("ratelimit-reset", "9")]), seconds(9));
    assert_eq!(wait(&[("x-rate-limit-reset", "1795255205")]), seconds(5));
    assert_eq!(wait(&[("ratelimit", r#""default";r=0;t=4"#)]), seconds(4));
    assert_eq!(wait(&[("x-ratelimit-reset", &u64::MAX.to_string())]), None);
}

#[tokio::test(start_paused = true)]
async fn tightest_policy_of_the_drafts_lists_is_used() {
    let default = ("ratelimit", r#""default";r=50;t=30"#);
    assert_eq!(hint(&[default]), quota(None, Some(50), Some(30)));
    assert_eq!(
        hint(&[default, ("ratelimit-policy", r#""default";q=100;w=60"#)]),
        quota(Some((100, 60)), Some(50), Some(30))
    );
    let policies = ("ratelimit-policy", r#""burst";q=10;w=1, "daily";q=5000;w=86400"#);
    assert_eq!(
        hint(&[("ratelimit", r#""burst";r=9;t=1, "daily";r=20;t=3600"#), policies]),
        quota(Some((5000, 86_400)), Some(20), Some(3600))
    );
    assert_eq!(
        hint(&[
            ("ratelimit", r#""burst";r=0;t=1"#),
            ("ratelimit", r#""daily";r=0;t=3600"#),
            policies
        ]),
        quota(Some((5000, 86_400)), Some(0), Some(3600)),
        "two headers are one list; if two policies are exhausted, the longer wait applies"
    );
    assert_eq!(
        hint(&[policies]),
        quota(Some((5000, 86_400)), None, None),
        "policies count without the list of what is left"
    );
}

#[tokio::test(start_paused = true)]
async fn quotas_of_bytes_are_ignored() {
    let headers = [
        ("ratelimit", r#""bytes";r=1;t=60, "calls";r=8;t=1"#),
        (
            "ratelimit-policy",
            r#""bytes";q=2;w=60;qu="content-bytes", "calls";q=10;w=1"#,
        ),
    ];
    assert_eq!(hint(&headers), quota(Some((10, 1)), Some(8), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn older_drafts_use_three_headers_or_one() {
    let triple = |limit| {
        [
            ("ratelimit-limit", limit),
            ("ratelimit-remaining", "7"),
            ("ratelimit-reset", "20"),
        ]
    };
    assert_eq!(hint(&triple("100")), quota(None, Some(7), Some(20)));
    for limit in ["100;w=60", "100, 100;w=60", "100, 10;w=1, 100;w=60, 1000;w=3600"] {
        assert_eq!(
            hint(&triple(limit)),
            quota(Some((100, 60)), Some(7), Some(20)),
            "{limit}"
        );
    }
    assert_eq!(
        hint(&[
            ("ratelimit", "limit=100, remaining=7, reset=20"),
            ("ratelimit-policy", "100;w=60"),
        ]),
        quota(Some((100, 60)), Some(7), Some(20))
    );
}

#[tokio::test(start_paused = true)]
async fn resets_are_seconds_or_timestamps_by_size() {
    for [limit, remaining, reset] in [TRIPLES[1], TRIPLES[2]] {
        for value in ["5", "1795255205", "1795255205.0", "1795255205000"] {
            let headers = [DATE_NOW, (limit, "100"), (remaining, "99"), (reset, value)];
            assert_eq!(hint(&headers), quota(None, Some(99), Some(5)), "{reset}: {value}");
        }
    }
    let skewed = [
        ("date", "Sat, 21 Nov 2026 11:00:00 GMT"),
        ("x-ratelimit-reset", "1795258805"),
    ];
    assert_eq!(
        hint(&skewed),
        quota(None, None, Some(5)),
        "timestamps are in the provider's clock"
    );
    assert_eq!(
        hint(&[("x-ratelimit-reset", "999999999")]),
        RateLimitHint::default()
    );
    assert_eq!(hint(&[("x-ratelimit-reset", "1795255199")]).reset, seconds(0));
    assert_eq!(
        hint(&[("x-ratelimit-reset", "1000000000")]).reset,
        None,
        "25 years ago"
    );
}

#[tokio::test(start_paused = true)]
async fn implausible_values_do_not_affect_the_others() {
    let present = [
        ("x-ratelimit-limit", "100;w=60"),
        ("x-ratelimit-remaining", "9"),
        ("x-ratelimit-reset", "3"),
    ];
    let whole = quota(Some((100, 60)), Some(9), Some(3));
    for absurd in [
        ("x-ratelimit-limit", "0;w=60"),
        ("x-ratelimit-limit", "100;w=0"),
        ("x-ratelimit-limit", "-1;w=60"),
        ("x-ratelimit-limit", "100;w=604801"),
        ("x-ratelimit-limit", "10000001;w=1"),
    ] {
        assert_eq!(
            hint(&[absurd, present[1], present[2]]),
            RateLimitHint { limit: None, ..whole },
            "{absurd:?}"
        );
    }
    for absurd in ["-1", "10000001", "nine", "9.5", "", "18446744073709551616"] {
        assert_eq!(
            hint(&[present[0], ("x-ratelimit-remaining", absurd), present[2]]),
            RateLimitHint {
                remaining: None,
                ..whole
            },
            "{absurd}"
        );
    }
    assert_eq!(
        hint(&[
            ("ratelimit", r#""a";r=-1;t=5, "b";t=5, "c";r=4;t=604801"#),
            ("ratelimit-policy", r#""c";q=0;w=0, "d";q=8;w=2"#),
        ]),
        quota(Some((8, 2)), Some(4), None)
    );
}

#[tokio::test(start_paused = true)]
async fn hint_is_returned_once_and_its_reset_counts_down() {
    let hints = RateLimitHints::default();
    assert_eq!(hints.take(), None);
    hints.record(&map(&[("ratelimit", r#""d";r=8;t=30"#)]), &clock());
    hints.record(&map(&[("ratelimit", r#""d";r=7;t=20"#)]), &clock());
    hints.record(&map(&[("content-type", "text/html")]), &clock());
    tokio::time::advance(Duration::from_secs(15)).await;
    assert_eq!(hints.take(), Some(quota(None, Some(7), Some(5))));
    assert_eq!(hints.take(), None);
}

fn any_value() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<u64>().prop_map(|n| n.to_string()),
        any::<i32>().prop_map(|n| n.to_string()),
        (0..2_000_000_000_000_u64).prop_map(|n| n.to_string()),
        (0..200_u64).prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
    ];
    let item = (
        select(vec![r#""a""#, r#""b"#, "a", "", "100", "remaining=7"]),
        proptest::collection::vec((select(vec!["r", "t", "q", "w", "qu"]), number.clone()), 0..4),
    )
        .prop_map(|(head, parameters)| {
            let parameter = |(key, value): (&str, String)| format!(";{key}={value}");
            head.to_owned() + &parameters.into_iter().map(parameter).collect::<String>()
        });
    prop_oneof![
        number,
        proptest::collection::vec(item, 0..4).prop_map(|items| items.join(", ")),
        "[ -~]{0,40}",
        select(vec![
            "Sat, 21 Nov 2026 10:00:30 GMT".to_owned(),
            "Fri, 31 Dec 9999 23:59:59 GMT".to_owned(),
        ]),
    ]
}

fn any_name() -> impl Strategy<Value = &'static str> {
    let mut names = vec![REMAINING, POLICIES, "retry-after", "date"];
    names.extend(WAITS_IN_MS);
    names.extend(TRIPLES.into_iter().flatten());
    select(names)
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]
    #[test]
    fn hints_are_plausible_for_any_headers(
        headers in proptest::collection::vec((any_name(), any_value()), 0..12),
    ) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let clock = Clock::System;
        let map = map(&headers);
        let hints = Headers { headers: &map, clock: &clock }.quota();
        prop_assert!(requested_wait(&map, &clock).is_none_or(|wait| wait <= TIME_MAX));
        prop_assert!(hints.reset.is_none_or(|reset| reset <= TIME_MAX));
        prop_assert!(hints.remaining.is_none_or(|calls| calls <= CALLS_MAX));
        if let Some((calls, window)) = hints.limit {
            prop_assert!((1..=CALLS_MAX).contains(&calls));
            prop_assert!(!window.is_zero() && window <= TIME_MAX);
        }
    }
}
