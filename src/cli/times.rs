//! Times as operators write them: a moment, or a span from now.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Unit};
use usher::clock::Clock;

/// To the millisecond, as all times that are published.
pub fn now() -> Timestamp {
    let now = Clock::System.now();
    now.round(Unit::Millisecond).unwrap_or(now)
}

/// A time to come, as RFC 3339, or as a span from now on such as `2h`.
pub fn ahead(text: &str) -> Result<Timestamp, String> {
    let now = Clock::System.now();
    let after = |span: Span| now.to_zoned(TimeZone::UTC).checked_add(span).ok();
    let at = match text.parse() {
        Ok(span) => after(span).map(|at| at.timestamp()),
        Err(_) => text.parse().ok(),
    };
    at.filter(|at| *at > now)
        .ok_or_else(|| "write a time to come, such as 2026-12-01T08:00:00Z, or a span such as 2h".to_owned())
}

/// A time gone by, as RFC 3339, or as a span until now such as `2h`.
pub fn back(text: &str) -> Result<Timestamp, String> {
    let now = Clock::System.now();
    let before = |span: Span| now.to_zoned(TimeZone::UTC).checked_sub(span.abs()).ok();
    let at = match text.parse() {
        Ok(span) => before(span).map(|at| at.timestamp()),
        Err(_) => text.parse().ok(),
    };
    at.filter(|at| *at <= now)
        .ok_or_else(|| "write a time, such as 2026-11-21T10:00:00Z, or how long ago, such as 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_is_a_moment_or_a_span() {
        let now = Clock::System.now();
        let hour = ahead("1h").unwrap().duration_since(now).as_secs();
        assert!((3599..=3601).contains(&hour));
        assert!(ahead("2126-01-01T00:00:00Z").is_ok());
        for text in ["2006-01-01T00:00:00Z", "-1h", "tomorrow", ""] {
            assert!(ahead(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_gone_by_is_a_moment_or_how_long_ago() {
        let moment: Timestamp = "2025-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(back("2025-11-21T11:00:00+01:00"), Ok(moment));
        let now = Clock::System.now();
        for (text, seconds) in [("2h", 7200), ("1d", 86_400), ("90 minutes", 5400), ("PT5M", 300)] {
            let ago = now.duration_since(back(text).unwrap()).as_secs();
            assert!((seconds - 60..=seconds).contains(&ago), "{text}: {ago}");
        }
        for text in ["yesterday", "", "10:00", "2026-11-21", "2126-01-01T00:00:00Z"] {
            assert!(back(text).is_err(), "{text}");
        }
    }
}
