//! What the simulation's answers say of its quota: the wait of a 429, and where the quota stands.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::quota::Standing;
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
    /// Not at all.
    None,
}

impl RetryAfterStyle {
    /// Rounded up: who comes back when it says so finds a call.
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

/// How every answer says where the quota stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaHeaders {
    None,
    /// The IETF draft's `RateLimit` and `RateLimit-Policy`.
    RateLimit,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, which is in seconds from now.
    XRateLimit,
    /// The same; the reset is a moment in seconds since 1970.
    XRateLimitEpoch,
    /// The same; the reset is a moment in milliseconds since 1970.
    XRateLimitMs,
    /// Values that nobody can mean, with a quota and without one.
    Wrong,
}

impl QuotaHeaders {
    /// `turn` goes through the wrong ones.
    pub(super) fn headers(self, standing: Option<Standing>, turn: u64) -> Vec<Header> {
        let told = match (self, standing) {
            (Self::Wrong, _) => return wrong(turn),
            (_, None) | (Self::None, _) => return Vec::new(),
            (_, Some(standing)) => standing,
        };
        let reset_at = || {
            let at = now() + told.reset;
            at.duration_since(UNIX_EPOCH).unwrap_or_default()
        };
        let reset = match self {
            Self::RateLimit => return lists(&told),
            Self::XRateLimitEpoch => whole_seconds(reset_at()),
            Self::XRateLimitMs => whole_ms(reset_at()),
            Self::XRateLimit | Self::None | Self::Wrong => whole_seconds(told.reset),
        };
        vec![
            ("x-ratelimit-limit", told.calls.to_string()),
            ("x-ratelimit-remaining", told.remaining.to_string()),
            ("x-ratelimit-reset", reset.to_string()),
        ]
    }
}

fn lists(told: &Standing) -> Vec<Header> {
    let left = format!(
        r#""default";r={};t={}"#,
        told.remaining,
        whole_seconds(told.reset)
    );
    let mut headers = vec![("ratelimit", left)];
    // The draft knows whole seconds only: of another window it can't speak.
    if told.window.subsec_nanos() == 0 {
        let policy = format!(r#""default";q={};w={}"#, told.calls, told.window.as_secs());
        headers.push(("ratelimit-policy", policy));
    }
    headers
}

fn wrong(turn: u64) -> Vec<Header> {
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
    let turn = usize::try_from(turn).unwrap_or_default() % WRONG.len();
    let headers = WRONG.get(turn).into_iter().copied().flatten();
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
    fn a_window_that_the_draft_cannot_say_is_left_out() {
        let standing = |window| Standing {
            calls: 10,
            window,
            remaining: 4,
            reset: MS_20,
        };
        let lists = |window| QuotaHeaders::RateLimit.headers(Some(standing(window)), 0);
        let left = ("ratelimit", r#""default";r=4;t=1"#.to_owned());
        let policy = ("ratelimit-policy", r#""default";q=10;w=60"#.to_owned());
        assert_eq!(lists(Duration::from_secs(60)), [left.clone(), policy]);
        assert_eq!(lists(Duration::from_millis(1500)), [left]);
    }

    #[test]
    fn without_a_quota_there_is_nothing_to_say_but_what_is_wrong() {
        assert_eq!(QuotaHeaders::XRateLimitMs.headers(None, 0), []);
        assert!(!QuotaHeaders::Wrong.headers(None, u64::MAX).is_empty());
    }
}
