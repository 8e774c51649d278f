//! A token that was fetched: how long it serves, and what becomes of it when it is refused. No I/O.

use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::time::Instant;

use crate::provider::TokenState;

/// The next token is fetched this long before the present one expires, or a tenth of its lifetime if that is
/// less.
const MARGIN_MAX: Duration = Duration::from_secs(60);

/// After a fetch that failed while the token still served, the next one comes no sooner.
const FETCH_GAP: Duration = Duration::from_secs(5);

/// A token that was accepted and then refused is renewed without a pause once in this time. A provider that
/// accepts each token for one call and refuses it for another would else be asked for tokens without an end.
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
    /// From here on somebody should fetch the next one.
    renew_at: Instant,
    /// The provider answered a call with it.
    accepted: bool,
    /// The provider refused it. It is kept so that each call that went out with it hears the same.
    refused: Option<Verdict>,
}

/// What the refusal of a token means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It served before: another one will do, so the call can be made again.
    Renew,
    /// It never served: the credentials themselves are in doubt.
    Doubt,
}

impl Fetched {
    pub(super) fn state(&self) -> TokenState {
        let now = Instant::now();
        match &self.current {
            Some(current) if !current.serves(now) => TokenState::Missing,
            Some(current) if current.renew_at <= now => TokenState::Expiring,
            Some(_) => TokenState::Ready,
            None => TokenState::Missing,
        }
    }

    pub(super) fn header(&self) -> Option<HeaderValue> {
        let now = Instant::now();
        self.current
            .as_ref()
            .filter(|current| current.serves(now))
            .map(|current| current.header.clone())
    }

    /// `asked_at`: the provider counts the lifetime from before its answer arrived.
    pub(super) fn keep(&mut self, header: HeaderValue, lifetime: Duration, asked_at: Instant) {
        self.current = Some(Current {
            header,
            expires_at: asked_at + lifetime,
            renew_at: asked_at + (lifetime - MARGIN_MAX.min(lifetime / 10)),
            accepted: false,
            refused: None,
        });
    }

    /// A fetch failed. True where the token that is held still serves; the next fetch then waits a little.
    pub(super) fn fetch_failed(&mut self) -> bool {
        let now = Instant::now();
        match &mut self.current {
            Some(current) if current.serves(now) => {
                current.renew_at = now + FETCH_GAP;
                true
            }
            _ => false,
        }
    }

    pub(super) fn forget(&mut self) {
        self.current = None;
    }

    /// The provider answered a call with this token.
    pub(super) fn accepted(&mut self, header: &HeaderValue) {
        if let Some(current) = self.current.as_mut().filter(|current| current.header == header) {
            current.accepted = true;
        }
    }

    /// The provider refused this token. It is dropped, unless a newer one is held by now.
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
    fn serves(&self, now: Instant) -> bool {
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
    async fn there_is_none_until_one_is_fetched() {
        let fetched = Fetched::default();
        assert_eq!((fetched.state(), fetched.header()), (TokenState::Missing, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_a_margin_before_it_expires() {
        for (lifetime, margin) in [(HOUR, 60_000), (Duration::from_secs(100), 10_000)] {
            let margin = Duration::from_millis(margin);
            let fetched = holding("a", lifetime);
            advance(lifetime - margin - Duration::from_millis(1)).await;
            assert_eq!(fetched.state(), TokenState::Ready);
            advance(Duration::from_millis(1)).await;
            assert_eq!(fetched.state(), TokenState::Expiring);
            assert!(fetched.header().is_some(), "it still serves");
            advance(margin).await;
            assert_eq!((fetched.state(), fetched.header()), (TokenState::Missing, None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lifetime_counts_from_the_question() {
        let asked_at = Instant::now();
        advance(Duration::from_secs(9)).await;
        let mut fetched = Fetched::default();
        fetched.keep(token("a"), Duration::from_secs(10), asked_at);
        assert_eq!(fetched.state(), TokenState::Expiring);
        advance(Duration::from_secs(1)).await;
        assert_eq!(fetched.state(), TokenState::Missing);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failed_fetch_the_old_token_serves_and_the_next_fetch_waits() {
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
            "no wait is longer than the token lives"
        );
        assert!(!fetched.fetch_failed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_that_served_is_renewed() {
        let mut fetched = holding("a", HOUR);
        fetched.accepted(&token("a"));
        assert_eq!(fetched.refused(&token("a")), Verdict::Renew);
        assert_eq!((fetched.state(), fetched.header()), (TokenState::Missing, None));
        assert!(!fetched.fetch_failed(), "it serves no more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_that_never_served_puts_the_credentials_in_doubt() {
        let mut fetched = holding("a", HOUR);
        assert_eq!(fetched.refused(&token("a")), Verdict::Doubt);
        assert_eq!(fetched.state(), TokenState::Missing);
    }

    #[tokio::test(start_paused = true)]
    async fn each_call_that_went_out_with_it_hears_the_same() {
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
    async fn a_newer_token_is_not_dropped_for_an_older_ones_refusal() {
        let mut fetched = holding("a", HOUR);
        fetched.keep(token("b"), HOUR, Instant::now());
        assert_eq!(fetched.refused(&token("a")), Verdict::Renew);
        assert_eq!(fetched.header(), Some(token("b")));
        fetched.accepted(&token("a"));
        assert_eq!(
            fetched.refused(&token("b")),
            Verdict::Doubt,
            "the older one's success is not its own"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_without_a_pause_come_no_faster_than_their_gap() {
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
