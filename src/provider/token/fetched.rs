//! A token that was fetched: how long it is valid, and what its refusal means. No I/O.

use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::time::Instant;

use crate::provider::TokenState;

/// The next token is fetched this long before the current one expires, or a tenth of its lifetime if that is shorter.
const MARGIN_MAX: Duration = Duration::from_secs(60);

/// The minimum time to the next fetch, after one that failed while the token was still valid.
const FETCH_GAP: Duration = Duration::from_secs(5);

/// A token that was accepted and then refused is renewed without a pause at most once in this time. Otherwise, a
/// provider that accepts each token for one call only would be asked for tokens endlessly.
const FREE_RENEWAL_GAP: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Fetched {
    current: Option<Current>,
    /// When a refused token was last renewed without a pause.
    renewed_at: Option<Instant>,
}

struct Current {
    header: HeaderValue,
    expires_at: Instant,
    /// The next token should be fetched from here on.
    renew_at: Instant,
    /// The provider accepted it in a call.
    accepted: bool,
    /// The provider refused it. It is kept so that every call that used it gets the same verdict.
    refused: Option<Verdict>,
}

/// What the refusal of a token means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was accepted before: a new token should work, so the call can be repeated.
    Renew,
    /// It was never accepted: the credentials themselves may be wrong.
    Doubt,
}

impl Fetched {
    pub(super) fn state(&self) -> TokenState {
        let now = Instant::now();
        match &self.current {
            Some(current) if !current.is_valid(now) => TokenState::Missing,
            Some(current) if current.renew_at <= now => TokenState::Expiring,
            Some(_) => TokenState::Ready,
            None => TokenState::Missing,
        }
    }

    pub(super) fn header(&self) -> Option<HeaderValue> {
        let now = Instant::now();
        self.current
            .as_ref()
            .filter(|current| current.is_valid(now))
            .map(|current| current.header.clone())
    }

    /// The provider counts the lifetime from a time before its answer arrived, so it starts at `asked_at`.
    pub(super) fn keep(&mut self, header: HeaderValue, lifetime: Duration, asked_at: Instant) {
        self.current = Some(Current {
            header,
            expires_at: asked_at + lifetime,
            renew_at: asked_at + (lifetime - MARGIN_MAX.min(lifetime / 10)),
            accepted: false,
            refused: None,
        });
    }

    /// A fetch failed. Returns whether the current token is still valid; the next fetch then waits a little.
    pub(super) fn fetch_failed(&mut self) -> bool {
        let now = Instant::now();
        match &mut self.current {
            Some(current) if current.is_valid(now) => {
                current.renew_at = now + FETCH_GAP;
                true
            }
            _ => false,
        }
    }

    pub(super) fn forget(&mut self) {
        self.current = None;
    }

    /// The provider accepted this token in a call.
    pub(super) fn accepted(&mut self, header: &HeaderValue) {
        if let Some(current) = self.current.as_mut().filter(|current| current.header == header) {
            current.accepted = true;
        }
    }

    /// The provider refused this token. It is dropped, unless there is a newer one.
    pub(super) fn refused(&mut self, header: &HeaderValue) -> Verdict {
        let now = Instant::now();
        let Some(current) = self.current.as_mut().filter(|current| current.header == header) else {
            return Verdict::Renew;
        };
        if let Some(verdict) = current.refused {
            return verdict;
        }
        let lately = self.renewed_at.is_some_and(|at| now < at + FREE_RENEWAL_GAP);
        let verdict = match current.accepted && !lately {
            true => Verdict::Renew,
            false => Verdict::Doubt,
        };
        if verdict == Verdict::Renew {
            self.renewed_at = Some(now);
        }
        current.refused = Some(verdict);
        verdict
    }
}

impl Current {
    fn is_valid(&self, now: Instant) -> bool {
        self.refused.is_none() && now < self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn token(name: &'static str) -> HeaderValue {
        HeaderValue::from_static(name)
    }

    fn holding(name: &'static str, lifetime: Duration) -> Fetched {
        let mut fetched = Fetched::default();
        fetched.keep(token(name), lifetime, Instant::now());
        fetched
    }

    #[tokio::test(start_paused = true)]
    async fn token_is_missing_until_it_is_fetched() {
        let fetched = Fetched::default();
        assert_eq!((fetched.state(), fetched.header()), (TokenState::Missing, None));
    }

    #[tokio::test(start_paused = true)]
    async fn token_is_renewed_a_margin_before_it_expires() {
        for (lifetime, margin) in [(HOUR, 60_000), (Duration::from_secs(100), 10_000)] {
            let margin = Duration::from_millis(margin);
            let fetched = holding("a", lifetime);
            advance(lifetime - margin - Duration::from_millis(1)).await;
            assert_eq!(fetched.state(), TokenState::Ready);
            advance(Duration::from_millis(1)).await;
            assert_eq!(fetched.state(), TokenState::Expiring);
            assert!(fetched.header().is_some(), "it is still valid");
            advance(margin).await;
            assert_eq!((fetched.state(), fetched.header()), (TokenState::Missing, None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lifetime_starts_at_the_request() {
        let asked_at = Instant::now();
        advance(Duration::from_secs(9)).await;
        let mut fetched = Fetched::default();
        fetched.keep(token("a"), Duration::from_secs(10), asked_at);
        assert_eq!(fetched.state(), TokenState::Expiring);
        advance(Duration::from_secs(1)).await;
        assert_eq!(fetched.state(), TokenState::Missing);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failed_fetch_the_old_token_is_used_and_the_next_fetch_waits() {
        let mut fetched = holding("a", Duration::from_secs(100));
        advance(Duration::from_secs(90)).await;
        assert!(fetched.fetch_failed());
        assert_eq!(fetched.state(), TokenState::Ready);
        advance(FETCH_GAP).await;
        assert_eq!(fetched.state(), TokenState::Expiring);
        advance(Duration::from_secs(3)).await;
        assert!(fetched.fetch_failed());
        advance(Duration::from_secs(2)).await;
        assert_eq!(
            fetched.state(),
            TokenState::Missing,
            "no wait is longer than the token's lifetime"
        );
        assert!(!fetched.fetch_failed());
    }

    #[tokio::test(start_paused = true)]
    async fn refused_token_that_was_accepted_before_is_renewed() {
        let mut fetched = holding("a", HOUR);
        fetched.accepted(&token("a"));
        assert_eq!(fetched.refused(&token("a")), Verdict::Renew);
        assert_eq!((fetched.state(), fetched.header()), (TokenState::Missing, None));
        assert!(!fetched.fetch_failed(), "it is no longer valid");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_token_that_was_never_accepted_puts_the_credentials_in_doubt() {
        let mut fetched = holding("a", HOUR);
        assert_eq!(fetched.refused(&token("a")), Verdict::Doubt);
        assert_eq!(fetched.state(), TokenState::Missing);
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_that_used_a_token_gets_the_same_verdict() {
        for (accepted, verdict) in [(true, Verdict::Renew), (false, Verdict::Doubt)] {
            let mut fetched = holding("a", HOUR);
            if accepted {
                fetched.accepted(&token("a"));
            }
            for _ in 0..3 {
                assert_eq!(fetched.refused(&token("a")), verdict);
                fetched.accepted(&token("a"));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusal_of_an_older_token_keeps_the_newer_one() {
        let mut fetched = holding("a", HOUR);
        fetched.keep(token("b"), HOUR, Instant::now());
        assert_eq!(fetched.refused(&token("a")), Verdict::Renew);
        assert_eq!(fetched.header(), Some(token("b")));
        fetched.accepted(&token("a"));
        assert_eq!(
            fetched.refused(&token("b")),
            Verdict::Doubt,
            "the older token's success does not count for it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_without_a_pause_keep_their_gap() {
        let mut fetched = Fetched::default();
        for (name, verdict) in [
            ("a", Verdict::Renew),
            ("b", Verdict::Doubt),
            ("c", Verdict::Renew),
        ] {
            fetched.keep(token(name), HOUR, Instant::now());
            fetched.accepted(&token(name));
            assert_eq!(fetched.refused(&token(name)), verdict, "{name}");
            advance(FREE_RENEWAL_GAP / 2).await;
        }
    }
}
