//! Headers of the simulation's answers: how long a 429 asks to wait, and the state of the quota.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::quota::QuotaState;
use crate::clock::Clock;

pub(super) type Header = (&'static str, String);

/// How a 429 says how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfterStyle {
    Seconds,
    /// An HTTP date.
    Date,
    /// Milliseconds, under `retry-after-ms`.
    Ms,
    /// No header.
    None,
}

impl RetryAfterStyle {
    /// Rounded up, so that a client that waits exactly this long gets a call.
    pub(super) fn header(self, wait: Duration) -> Option<Header> {
        match self {
            Self::Seconds => Some(("retry-after", whole_seconds(wait).to_string())),
            Self::Date => {
                // One second more: a date has no fractions, and `now` loses its own.
                let at = now() + Duration::from_secs(whole_seconds(wait) + 1);
                Some(("retry-after", httpdate::fmt_http_date(at)))
            }
            Self::Ms => Some(("retry-after-ms", whole_ms(wait).to_string())),
            Self::None => None,
        }
    }
}

/// How every answer reports the state of the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaHeaders {
    None,
    /// The IETF draft's `RateLimit` and `RateLimit-Policy`.
    RateLimit,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, which is in seconds from now.
    XRateLimit,
    /// The same; the reset is a time in seconds since 1970.
    XRateLimitEpoch,
    /// The same; the reset is a time in milliseconds since 1970.
    XRateLimitMs,
    /// Invalid values, with a quota and without one.
    Wrong,
}

impl QuotaHeaders {
    /// `index` selects one of the wrong ones.
    pub(super) fn headers(self, quota: Option<QuotaState>, index: u64) -> Vec<Header> {
        let quota = match (self, quota) {
            (Self::Wrong, _) => return wrong(index),
            (_, None) | (Self::None, _) => return Vec::new(),
            (_, Some(quota)) => quota,
        };
        let reset_at = || {
            let at = now() + quota.reset;
            at.duration_since(UNIX_EPOCH).unwrap_or_default()
        };
        let reset = match self {
            Self::RateLimit => return lists(&quota),
            Self::XRateLimitEpoch => whole_seconds(reset_at()),
            Self::XRateLimitMs => whole_ms(reset_at()),
            Self::XRateLimit | Self::None | Self::Wrong => whole_seconds(quota.reset),
        };
        vec![
            ("x-ratelimit-limit", quota.calls.to_string()),
            ("x-ratelimit-remaining", quota.remaining.to_string()),
            ("x-ratelimit-reset", reset.to_string()),
        ]
    }
}

fn lists(quota: &QuotaState) -> Vec<Header> {
    let left = format!(
        r#""default";r={};t={}"#,
        quota.remaining,
        whole_seconds(quota.reset)
    );
    let mut headers = vec![("ratelimit", left)];
    // The draft has whole seconds only, so it can't express other windows.
    if quota.window.subsec_nanos() == 0 {
        let policy = format!(r#""default";q={};w={}"#, quota.calls, quota.window.as_secs());
        headers.push(("ratelimit-policy", policy));
    }
    headers
}

fn wrong(index: u64) -> Vec<Header> {
    const WRONG: [&[(&str, &str)]; 4] = [
        &[
            ("ratelimit", r#""default";r=-1;t=-30"#),
            ("ratelimit-policy", r#""default";q=0;w=0"#),
        ],
        &[
            (
                "ratelimit",
                r#""default";r=99999999999999999999;t=99999999999999999999"#,
            ),
            ("ratelimit-policy", r#""default;q=;w=NaN, ;;;=,"#),
        ],
        &[
            ("x-ratelimit-limit", "-100"),
            ("x-ratelimit-remaining", "Infinity"),
            ("x-ratelimit-reset", "18446744073709551615"),
        ],
        &[
            ("ratelimit-limit", "0, 0;w=0"),
            ("ratelimit-remaining", "none"),
            ("ratelimit-reset", "1e309"),
            ("x-rate-limit-reset", "0x10"),
        ],
    ];
    let index = usize::try_from(index).unwrap_or_default() % WRONG.len();
    let headers = WRONG.get(index).into_iter().copied().flatten();
    headers
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect()
}

fn now() -> SystemTime {
    Clock::System.now().into()
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS_20: Duration = Duration::from_millis(20);

    #[test]
    fn waits_are_rounded_up() {
        let value = |style: RetryAfterStyle, wait| style.header(wait).map(|(_, value)| value);
        let over = Duration::from_micros(1_000_001);
        assert_eq!(value(RetryAfterStyle::Seconds, MS_20).as_deref(), Some("1"));
        assert_eq!(value(RetryAfterStyle::Seconds, over).as_deref(), Some("2"));
        assert_eq!(value(RetryAfterStyle::Ms, over).as_deref(), Some("1001"));
        assert_eq!(value(RetryAfterStyle::None, MS_20), None);
        assert!(value(RetryAfterStyle::Date, MS_20).unwrap().ends_with(" GMT"));
    }

    #[test]
    fn window_that_the_draft_cannot_express_is_left_out() {
        let quota = |window| QuotaState {
            calls: 10,
            window,
            remaining: 4,
            reset: MS_20,
        };
        let lists = |window| QuotaHeaders::RateLimit.headers(Some(quota(window)), 0);
        let left = ("ratelimit", r#""default";r=4;t=1"#.to_owned());
        let policy = ("ratelimit-policy", r#""default";q=10;w=60"#.to_owned());
        assert_eq!(lists(Duration::from_secs(60)), [left.clone(), policy]);
        assert_eq!(lists(Duration::from_millis(1500)), [left]);
    }

    #[test]
    fn without_a_quota_only_wrong_headers_are_sent() {
        assert_eq!(QuotaHeaders::XRateLimitMs.headers(None, 0), []);
        assert!(!QuotaHeaders::Wrong.headers(None, u64::MAX).is_empty());
    }
}
