//! Tests of the pace of lookups, and of what ends them.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use async_trait::async_trait;

use super::*;
use crate::clock::Clock;
use crate::contract::{Failure, RateLimitHint, Reason, UpdateUser};
use crate::policy::pace::{Rate, Rates};
use crate::provider::{Access, Comparison, Updated, User};

/// Answers lookups with these faults, one after the other, and then with a user.
struct Scripted {
    faults: Mutex<VecDeque<Fault>>,
    calls: Mutex<Vec<Instant>>,
    /// Keys that begin so always fail.
    broken: &'static str,
}

#[async_trait]
impl Access for Scripted {
    fn token(&self) -> TokenState {
        TokenState::Ready
    }

    async fn fetch_token(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn credentials_changed(&self) {
        std::future::pending::<()>().await;
    }

    fn rate_limit_hint(&self) -> Option<RateLimitHint> {
        None
    }
}

#[async_trait]
impl Provider for Scripted {
    fn check(&self, _: &UpdateUser) -> Result<(), Failure> {
        Ok(())
    }

    fn reads(&self) -> bool {
        false
    }

    fn reads_before_write(&self, _: &UpdateUser) -> bool {
        false
    }

    fn is_idempotent(&self, _: &UpdateUser) -> bool {
        true
    }

    fn merges_updates(&self) -> bool {
        false
    }

    fn compare(&self, _: &UpdateUser, _: &User) -> Comparison {
        Comparison::Matches
    }

    fn is_unchanged(&self, _: &User, _: &User) -> bool {
        false
    }

    async fn read(&self, _: &UserId) -> Result<User, ProviderError> {
        match self.faults.lock().unwrap().pop_front() {
            Some(fault) => Err(ProviderError::new(fault, "as scripted")),
            None => Ok(User("as read".into())),
        }
    }

    async fn update(&self, _: &UpdateUser, _: Option<&User>) -> Result<Updated, ProviderError> {
        Err(ProviderError::new(Fault::Broken, "not written"))
    }

    async fn find(&self, _: FindBy, key: &str) -> Result<Found, ProviderError> {
        self.calls.lock().unwrap().push(Instant::now());
        let fault = match key.starts_with(self.broken) {
            true => Some(Fault::Broken),
            false => self.faults.lock().unwrap().pop_front(),
        };
        match fault {
            Some(fault) => Err(ProviderError::new(fault, "as scripted")),
            None => Ok(Found::One(UserId::parse("u1").unwrap())),
        }
    }

    fn access(&self) -> &dyn Access {
        self
    }
}

fn scripted(faults: impl IntoIterator<Item = Fault>, per_second: f64) -> (Arc<Scripted>, Arc<Lookup>) {
    let provider = Arc::new(Scripted {
        faults: Mutex::new(faults.into_iter().collect()),
        calls: Mutex::default(),
        broken: "broken",
    });
    let settings = Settings {
        pace: pace::Settings {
            rates: Rates::from(Rate::per_second(NonZeroU32::new(50).unwrap())),
            share: 1.0,
            gap_max: Duration::from_secs(600),
            clock: Clock::System,
        },
        per_second,
        retry: retry::Config::default(),
        seed: 7,
    };
    (provider.clone(), Arc::new(Lookup::new(provider, settings)))
}

async fn looked_up(faults: impl IntoIterator<Item = Fault>) -> (Result<Outcome, Stopped>, Duration, usize) {
    let (provider, lookup) = scripted(faults, 5.0);
    let begun = Instant::now();
    let outcome = lookup.find(FindBy::Email, "a@example.com").await;
    let calls = provider.calls.lock().unwrap().len();
    (outcome, begun.elapsed(), calls)
}

fn found() -> Result<Outcome, Stopped> {
    Ok(Outcome::Found(UserId::parse("u1").unwrap()))
}

#[tokio::test(start_paused = true)]
async fn many_lookups_at_once_keep_the_pace_and_never_exceed_the_quota() {
    for (per_second, least, most) in [(5.0, 19.0, 21.0), (1000.0, 1.9, 2.6)] {
        let (_, lookup) = scripted([], per_second);
        let begun = Instant::now();
        let all = (0..100).map(|n| {
            let lookup = lookup.clone();
            tokio::spawn(async move { lookup.find(FindBy::Email, &format!("{n}")).await })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), found());
        }
        let took = begun.elapsed().as_secs_f64();
        assert!((least..most).contains(&took), "{per_second}: {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn throttled_lookup_waits_out_retry_after_and_costs_no_row() {
    let retry_after = Some(Duration::from_secs(30));
    let (outcome, took, calls) = looked_up([Fault::Throttled { retry_after }; 2]).await;
    assert_eq!((outcome, calls), (found(), 3));
    assert!(
        took >= Duration::from_secs(60) && took < Duration::from_secs(70),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn provider_that_throttles_everything_for_an_hour_is_left() {
    let retry_after = Some(Duration::from_secs(24 * 3600));
    let (outcome, took, calls) = looked_up([Fault::Throttled { retry_after }; 9]).await;
    assert!(matches!(outcome, Err(Stopped::OutOfReach(_))), "{outcome:?}");
    assert!(calls == 1 && took < Duration::from_secs(1), "{calls} {took:?}");
    let unsaid = vec![Fault::Throttled { retry_after: None }; 1000];
    let (outcome, took, _) = looked_up(unsaid).await;
    assert!(matches!(outcome, Err(Stopped::OutOfReach(_))), "{outcome:?}");
    assert!(took <= Duration::from_secs(3700), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn outage_is_asked_again_with_growing_delays() {
    let (outcome, took, calls) =
        looked_up([Fault::Broken, Fault::Unknown, Fault::Unreachable, Fault::Again]).await;
    assert_eq!((outcome, calls), (found(), 5));
    assert!(
        took >= Duration::from_millis(500) && took < Duration::from_secs(10),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn provider_that_never_answers_is_out_of_reach_within_ten_seconds() {
    let (outcome, took, _) = looked_up(vec![Fault::Unreachable; 1000]).await;
    assert!(matches!(outcome, Err(Stopped::OutOfReach(_))), "{outcome:?}");
    assert!(took <= Duration::from_secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn outage_in_the_middle_is_waited_out_as_long_as_a_commands_attempts() {
    let (provider, lookup) = scripted([], 5.0);
    assert_eq!(lookup.find(FindBy::Email, "a").await, found());
    provider.faults.lock().unwrap().extend([Fault::Broken; 1000]);
    let begun = Instant::now();
    let outcome = lookup.find(FindBy::Email, "b").await;
    assert!(matches!(outcome, Err(Stopped::OutOfReach(_))), "{outcome:?}");
    let took = begun.elapsed();
    assert!((200..=300).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn key_that_fails_while_others_pass_fails_alone() {
    let (_, lookup) = scripted([], 5.0);
    let broken = lookup.clone();
    let broken = tokio::spawn(async move { broken.find(FindBy::Email, "broken@example.com").await });
    for _ in 0..100 {
        assert_eq!(lookup.find(FindBy::Email, "a").await, found());
    }
    assert_eq!(broken.await.unwrap(), Ok(Outcome::Failed("as scripted".into())));
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_end_the_run_and_a_refused_key_does_not() {
    for fault in [Fault::Credentials, Fault::Denied, Fault::Configuration] {
        let (outcome, _, calls) = looked_up([fault]).await;
        assert!(
            matches!(outcome, Err(Stopped::Refused(_))),
            "{fault:?} {outcome:?}"
        );
        assert_eq!(calls, 1);
    }
    let (outcome, _, calls) = looked_up([Fault::Command(Reason::Rejected)]).await;
    assert_eq!((outcome, calls), (Ok(Outcome::Failed("as scripted".into())), 1));
    let (provider, lookup) = scripted([], 5.0);
    assert_eq!(lookup.find(FindBy::Email, "a").await, found());
    provider.faults.lock().unwrap().push_back(Fault::Denied);
    assert_eq!(
        lookup.find(FindBy::Email, "b").await,
        Ok(Outcome::Failed("as scripted".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_user_is_read_by_its_id_in_the_same_way_and_one_that_is_gone_is_told_from_a_failure() {
    let user = Ok(Shown::User(User("as read".into())));
    let throttled = Fault::Throttled { retry_after: None };
    let failed = Ok(Shown::Failed("as scripted".into()));
    for (faults, expected) in [
        (vec![], user.clone()),
        (vec![throttled, Fault::Broken, Fault::Unknown], user),
        (vec![Fault::Command(Reason::NotFound)], Ok(Shown::Missing)),
        (vec![Fault::Command(Reason::Rejected)], failed),
    ] {
        let (_, lookup) = scripted(faults.clone(), 5.0);
        let shown = lookup.read(&UserId::parse("u1").unwrap()).await;
        assert_eq!(shown, expected, "{faults:?}");
    }
    let (_, lookup) = scripted([Fault::Denied], 5.0);
    let shown = lookup.read(&UserId::parse("u1").unwrap()).await;
    assert!(matches!(shown, Err(Stopped::Refused(_))), "{shown:?}");
}
