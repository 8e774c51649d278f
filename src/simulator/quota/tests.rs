//! Each form of the quota on paused time: it allows what it says and never more, and its waits are exact.

use proptest::prelude::*;
use proptest::test_runner::Config;
use tokio::time::advance;

use super::*;

const MS_100: Duration = Duration::from_millis(100);

fn taken_at_once(quota: &mut Quota) -> usize {
    (0..1000).take_while(|_| quota.take().is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn bucket_allows_a_burst_and_then_its_rate() {
    let mut quota = Quota::new(QuotaKind::Bucket {
        per_second: 10,
        burst: 3,
    });
    assert_eq!(taken_at_once(&mut quota), 3);
    assert_eq!(quota.take(), Err(MS_100));
    advance(MS_100).await;
    assert_eq!(quota.take(), Ok(()));
    assert!(quota.take().is_err());
    advance(Duration::from_secs(60)).await;
    assert_eq!(taken_at_once(&mut quota), 3, "at most the burst is saved up");
}

#[tokio::test(start_paused = true)]
async fn bucket_does_not_drift() {
    let mut quota = Quota::new(QuotaKind::Bucket {
        per_second: 3,
        burst: 1,
    });
    let start = Instant::now();
    for _ in 0..=30_000 {
        while let Err(wait) = quota.take() {
            advance(wait).await;
        }
    }
    let drift = start.elapsed() - Duration::from_secs(10_000);
    assert!(drift <= Duration::from_nanos(30_000), "{drift:?}");
}

#[tokio::test(start_paused = true)]
async fn fixed_quota_is_full_again_in_the_next_window() {
    let mut quota = Quota::new(QuotaKind::Fixed {
        calls: 5,
        window: Duration::from_secs(1),
    });
    advance(MS_100 * 9).await;
    assert_eq!(taken_at_once(&mut quota), 5);
    assert_eq!(quota.take(), Err(MS_100));
    advance(MS_100).await;
    assert_eq!(
        taken_at_once(&mut quota),
        5,
        "twice the calls around the edge of two windows"
    );
    advance(MS_100 * 25).await;
    assert_eq!(taken_at_once(&mut quota), 5);
    assert_eq!(quota.take(), Err(MS_100 * 5), "the windows do not move");
}

#[tokio::test(start_paused = true)]
async fn sliding_window_frees_calls_one_by_one() {
    let mut quota = Quota::new(QuotaKind::Sliding {
        calls: 2,
        window: Duration::from_secs(1),
    });
    assert_eq!(quota.take(), Ok(()));
    advance(MS_100 * 3).await;
    assert_eq!(quota.take(), Ok(()));
    assert_eq!(quota.take(), Err(MS_100 * 7));
    advance(MS_100 * 7).await;
    assert_eq!(quota.take(), Ok(()));
    assert_eq!(quota.take(), Err(MS_100 * 3));
}

#[tokio::test(start_paused = true)]
async fn each_form_reports_its_state() {
    let window = Duration::from_secs(2);
    let bucket = QuotaKind::Bucket {
        per_second: 10,
        burst: 4,
    };
    let (fixed, sliding) = (
        QuotaKind::Fixed { calls: 6, window },
        QuotaKind::Sliding { calls: 6, window },
    );
    for (kind, calls, window, remaining, reset) in [
        (bucket, 10, Duration::from_secs(1), 3, MS_100),
        (fixed, 6, window, 5, MS_100 * 19),
        (sliding, 6, window, 5, window),
    ] {
        let mut quota = Quota::new(kind);
        advance(MS_100).await;
        assert_eq!(quota.take(), Ok(()));
        let expected = QuotaState {
            calls,
            window,
            remaining,
            reset,
        };
        assert_eq!(quota.state(), expected, "{kind:?}");
    }
}

#[test]
fn another_rate_keeps_kind_and_window() {
    let window = Duration::from_secs(60);
    let bucket = |per_second, burst| QuotaKind::Bucket { per_second, burst };
    let fixed = |calls| QuotaKind::Fixed { calls, window };
    let sliding = |calls| QuotaKind::Sliding { calls, window };
    assert_eq!(bucket(1, 1).at_rate(5, 7), bucket(5, 7));
    assert_eq!(fixed(1).at_rate(5, 7), fixed(300));
    assert_eq!(sliding(1).at_rate(5, 7), sliding(300));
    assert_eq!(sliding(1).at_rate(u32::MAX, 7), sliding(u32::MAX));
}

fn any_kind() -> impl Strategy<Value = QuotaKind> {
    let window = (1..5_000_000_000_u64).prop_map(Duration::from_nanos);
    let windowed = (0..20_u32, window);
    prop_oneof![
        (0..1000_u32, 0..20_u32).prop_map(|(per_second, burst)| QuotaKind::Bucket { per_second, burst }),
        windowed
            .clone()
            .prop_map(|(calls, window)| QuotaKind::Fixed { calls, window }),
        windowed.prop_map(|(calls, window)| QuotaKind::Sliding { calls, window }),
    ]
}

/// Calls after each of these gaps; if refused, again one nanosecond before the wait is over and when it is. Returns
/// when each call was accepted, in nanoseconds from the start.
async fn accepted(kind: QuotaKind, gaps: &[u64]) -> Vec<u128> {
    let start = Instant::now();
    let mut quota = Quota::new(kind);
    let mut accepted = Vec::new();
    for gap in gaps {
        advance(Duration::from_nanos(*gap)).await;
        if let Err(wait) = quota.take() {
            assert_eq!(quota.state().remaining, 0);
            advance(wait - Duration::from_nanos(1)).await;
            assert_eq!(quota.take(), Err(Duration::from_nanos(1)), "the wait is exact");
            advance(Duration::from_nanos(1)).await;
            assert_eq!(quota.take(), Ok(()), "a call is available after the wait");
        }
        accepted.push(start.elapsed().as_nanos());
    }
    accepted
}

/// Whether the kind allows the accepted calls, computed independently from its definition.
fn allowed(kind: QuotaKind, accepted: &[u128]) -> bool {
    let at_most = |calls: u32, fits: &dyn Fn(u128, u128) -> bool| {
        let mut beyond = accepted.iter().zip(accepted.iter().skip(calls.max(1) as usize));
        beyond.all(|(first, next)| fits(*first, *next))
    };
    match kind {
        QuotaKind::Bucket { per_second, burst } => (0..accepted.len()).all(|from| {
            (from..accepted.len()).all(|to| {
                let elapsed = accepted[to] - accepted[from];
                let filled = elapsed * u128::from(per_second.max(1));
                (to - from + 1) as u128 * SECOND <= u128::from(burst.max(1)) * SECOND + filled
            })
        }),
        QuotaKind::Fixed { calls, window } => {
            let window = window.as_nanos();
            at_most(calls, &|first, next| first / window != next / window)
        }
        QuotaKind::Sliding { calls, window } => {
            at_most(calls, &|first, next| next - first >= window.as_nanos())
        }
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]
    #[test]
    fn quota_never_allows_more_than_it_says(
        kind in any_kind(),
        gaps in proptest::collection::vec(prop_oneof![Just(0), 0..1_000_000_u64, 0..3_000_000_000_u64], 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let accepted = runtime.unwrap().block_on(accepted(kind, &gaps));
        prop_assert!(allowed(kind, &accepted), "{accepted:?}");
    }
}
