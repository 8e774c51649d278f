//! The pace alone, on paused time: what it takes, and what stops it.

use std::num::NonZeroU32;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::{advance, sleep_until};

use super::*;

const GAP_MAX: Duration = Duration::from_secs(600);

fn rates(written: &serde_json::Value) -> Rates {
    serde_json::from_value(written.clone()).unwrap()
}

fn pace_of(rates: Rates, share: f64) -> Pace {
    Pace::new(&Settings {
        rates,
        share,
        gap_max: GAP_MAX,
        clock: Clock::anchored(Timestamp::UNIX_EPOCH),
    })
}

fn pace(per_second: u32) -> Pace {
    pace_of(Rate::per_second(NonZeroU32::new(per_second).unwrap()).into(), 1.0)
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

/// Takes as fast as it may for `seconds`: the moments.
async fn taken_in(pace: &mut Pace, seconds: u64) -> Vec<Instant> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut taken = Vec::new();
    while Instant::now() < end {
        match pace.take(Instant::now()) {
            Ok(_) => taken.push(Instant::now()),
            Err(at) => sleep_until(at.min(end)).await,
        }
    }
    taken
}

fn most_within(taken: &[Instant], window: Duration) -> usize {
    let within = |from: &Instant| {
        taken
            .iter()
            .filter(|at| *at >= from && **at < *from + window)
            .count()
    };
    taken.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn the_quota_is_used_and_not_exceeded() {
    for per_second in [5, 50, 130, 500] {
        let taken = taken_in(&mut pace(per_second), 20).await;
        let used = taken.len() as f64 / f64::from(per_second * 20);
        assert!((0.97..1.0).contains(&used), "{used} of {per_second}");
        assert!(most_within(&taken, Duration::from_secs(1)) <= per_second as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_quotas_each_is_kept_and_the_tightest_is_used() {
    let both = rates(&json!([{"per_second": 10, "burst": 3}, {"per_minute": 120}]));
    let taken = taken_in(&mut pace_of(both, 1.0), 600).await;
    assert!((1164..=1200).contains(&taken.len()), "{}", taken.len());
    assert!(most_within(&taken, Duration::from_secs(60)) <= 120);
    let a_day = rates(&json!({"per_day": 86_400}));
    let taken = taken_in(&mut pace_of(a_day, 1.0), 600).await;
    assert!((582..=600).contains(&taken.len()), "{}", taken.len());
}

#[tokio::test(start_paused = true)]
async fn a_share_is_reserved_for_others() {
    let taken = taken_in(&mut pace_of(rates(&json!({"per_second": 100})), 0.8), 10).await;
    assert!((776..=800).contains(&taken.len()), "{}", taken.len());
}

#[tokio::test(start_paused = true)]
async fn a_configured_burst_may_go_out_at_once_but_not_after_a_pause() {
    let mut pace = pace_of(rates(&json!({"per_second": 10, "burst": 5})), 1.0);
    let now = Instant::now();
    let at_once = (0..20).filter(|_| pace.take(now).is_ok()).count();
    assert_eq!(at_once, 5);
    let granted = Granted { at: now, age: 1.0 };
    pace.throttled(granted, Some(Duration::from_secs(60)), now, &mut rng());
    advance(Duration::from_secs(61)).await;
    let now = Instant::now();
    let at_once = (0..20).filter(|_| pace.take(now).is_ok()).count();
    assert!(at_once <= 1, "{at_once}");
}

#[tokio::test(start_paused = true)]
async fn nobody_calls_before_retry_after_is_over() {
    let mut pace = pace(50);
    let now = Instant::now();
    let granted = pace.take(now).unwrap();
    let hours = Duration::from_secs(26 * 3600);
    pace.throttled(granted, Some(hours), now, &mut rng());
    pace.throttled(granted, Some(Duration::from_secs(2)), now, &mut rng());
    let at = pace.take(now).unwrap_err();
    assert!(at >= now + hours && at <= now + hours + Duration::from_secs(1));
    sleep_until(at).await;
    while let Err(at) = pace.take(Instant::now()) {
        sleep_until(at).await;
    }
    assert!(now.elapsed() < hours + Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn while_no_call_passes_pauses_grow_beyond_retry_after() {
    for said in [None, Some(Duration::from_secs(1))] {
        let mut pace = pace(100);
        let mut gaps = Vec::new();
        for _ in 0..12 {
            let granted = loop {
                match pace.take(Instant::now()) {
                    Ok(granted) => break granted,
                    Err(at) => sleep_until(at).await,
                }
            };
            let now = Instant::now();
            for _ in 0..64 {
                pace.throttled(granted, said, now, &mut rng());
            }
            gaps.push(pace.paused_until(now).unwrap() - now);
        }
        assert!(gaps[0] < Duration::from_millis(1300), "{gaps:?}");
        assert!(gaps.is_sorted() && gaps[11] >= GAP_MAX, "{gaps:?}");
        assert!(gaps[11] <= GAP_MAX + JITTER_MAX, "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_absurd_retry_after_does_not_overflow() {
    let mut pace = pace(1);
    let now = Instant::now();
    let granted = pace.take(now).unwrap();
    pace.throttled(granted, Some(Duration::MAX), now, &mut rng());
    assert!(pace.take(now).is_err());
    pace.end_pause();
    assert!(pace.paused_until(now).is_none());
}

#[test]
fn a_rate_is_one_quota_or_a_list_and_each_names_one_window() {
    assert_eq!(
        rates(&json!({"per_second": 5})),
        rates(&json!([{"per_second": 5}]))
    );
    for (bad, remedy) in [
        (json!({}), "expected one of per_second"),
        (json!({"per_second": 5, "per_day": 9}), "in each table"),
        (json!([]), "expected at least one quota"),
        (json!({"per_second": 0}), "nonzero"),
        (json!({"persecond": 5}), "per_second"),
        (json!("50/s"), "a quota such as"),
    ] {
        let error = serde_json::from_value::<Rates>(bad).unwrap_err().to_string();
        assert!(error.contains(remedy), "{error}");
    }
}

/// Calls for `seconds`, and is told this with each answer: how many in the last ten.
async fn led_by(pace: &mut Pace, seconds: u64, hint: RateLimitHint) -> usize {
    let end = Instant::now() + Duration::from_secs(seconds);
    let late = end - Duration::from_secs(10);
    let mut taken = 0;
    while Instant::now() < end {
        match pace.take(Instant::now()) {
            Ok(granted) => {
                taken += usize::from(Instant::now() >= late);
                pace.on_rate_limit_hint(hint, Instant::now());
                pace.passed(granted);
            }
            Err(at) => sleep_until(at).await,
        }
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn headers_with_the_quota_lead_to_it_without_a_throttled_call() {
    let hint = RateLimitHint {
        limit: Some((3000, Duration::from_secs(60))),
        ..RateLimitHint::default()
    };
    let found = led_by(&mut pace_of(Rates::default(), 1.0), 40, hint).await;
    assert!((450..=500).contains(&found), "{found}");
    let slowed = led_by(&mut pace(100), 40, hint).await;
    assert!((450..=500).contains(&slowed), "{slowed}");
    let shared = led_by(&mut pace_of(Rates::default(), 0.5), 40, hint).await;
    assert!((225..=250).contains(&shared), "{shared}");
}

#[tokio::test(start_paused = true)]
async fn the_remaining_calls_of_a_long_window_are_spread_over_it() {
    let hint = RateLimitHint {
        remaining: Some(600),
        reset: Some(Duration::from_secs(30)),
        ..RateLimitHint::default()
    };
    let taken = led_by(&mut pace(50), 20, hint).await;
    assert!((195..=205).contains(&taken), "{taken}");
}

#[tokio::test(start_paused = true)]
async fn wrong_rate_limit_headers_neither_stop_nor_flood_the_calls() {
    let hint = |calls, window, remaining, reset| RateLimitHint {
        limit: Some((calls, Duration::from_secs(window))),
        remaining: Some(remaining),
        reset: Some(Duration::from_secs(reset)),
    };
    for wrong in [
        hint(0, 1, 0, 604_800),
        hint(10_000_000, 1, 10_000_000, 1),
        hint(1, 604_800, 0, 3600),
        hint(1, 0, 0, 0),
    ] {
        let taken = led_by(&mut pace(50), 300, wrong).await;
        assert!((1..=500).contains(&taken), "{taken} in ten seconds");
    }
}

#[tokio::test(start_paused = true)]
async fn the_many_answers_of_calls_that_were_granted_before_a_slowdown_count_once() {
    let mut pace = pace(100);
    taken_in(&mut pace, 10).await;
    advance(Duration::from_millis(20)).await;
    let granted = pace.take(Instant::now()).unwrap();
    for _ in 0..64 {
        pace.throttled(granted, None, granted.at(), &mut rng());
    }
    assert_eq!(pace.learned(Instant::now()).slowdowns, 1);
    // Or before another worker reported it.
    let mut other = pace_of(Rates::default(), 1.0);
    let granted = other.take(Instant::now()).unwrap();
    other.merge(pace.learned(Instant::now()), Instant::now());
    other.throttled(granted, None, Instant::now(), &mut rng());
    assert_eq!(other.learned(Instant::now()).slowdowns, 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_counts_once_and_for_at_most_a_second() {
    let mut pace = pace(1);
    pace.take(Instant::now()).unwrap();
    pace.take(Instant::now()).unwrap_err();
    let known = pace.learned(Instant::now());
    for _ in 0..100 {
        advance(Duration::from_millis(100)).await;
        let learned = pace.learned(Instant::now());
        pace.merge(known, Instant::now());
        let age = pace.learned(Instant::now()).age;
        assert!((learned.age - age).abs() < 1e-6, "{learned:?} {age}");
    }
    let waited = pace.learned(Instant::now()).age - known.age;
    assert!((waited - LOOK_AGAIN.as_secs_f64()).abs() < 1e-6, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn workers_with_shares_of_a_small_quota_use_it_evenly() {
    let mut workers = [vec![0], vec![1], vec![2, 3]].map(|held| {
        let mut pace = pace(5);
        pace.set_quota_share(&held, 4);
        pace
    });
    let mut taken = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        for pace in &mut workers {
            taken.extend(pace.take(Instant::now()).is_ok().then(Instant::now));
        }
        advance(Duration::from_millis(1)).await;
    }
    assert!(taken.len() >= 288, "{}", taken.len());
    assert!(most_within(&taken, Duration::from_secs(1)) <= 5);
}
