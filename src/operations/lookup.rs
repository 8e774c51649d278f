//! Looks users up at the provider, by keys or by their ids: each lookup is one call, at a pace of its own within the provider's
//! quota.
//!
//! A lookup changes nothing, so a lost answer is asked for again. What fails for one user while others pass is that user's
//! failure; what fails for all of them ends the run, after a bounded time.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Backoff;
use crate::contract::{Fault, Reason, UserId};
use crate::policy::pace::{self, Granted, Pace};
use crate::policy::retry;
use crate::provider::{FindBy, Found, Provider, ProviderError, TokenState, User};

/// A provider that never answered is out of reach after this.
const REACHED_WITHIN: Duration = Duration::from_secs(10);

/// A provider that throttles every call for longer is not waited for: a later run goes on.
const THROTTLED_MAX: Duration = Duration::from_secs(3600);

/// A call may be repeated with new credentials so often.
const RENEWALS_MAX: u32 = 3;

/// What goes wrong is said this often at most.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// How much may be caught up after a wait: timers are not exact to less than this.
const CATCH_UP: Duration = Duration::from_millis(20);

pub struct Settings {
    /// The provider's quota, which bounds the pace.
    pub pace: pace::Settings,
    /// The most lookups a second.
    pub per_second: f64,
    pub retry: retry::Config,
    /// The seed of the jitter.
    pub seed: u64,
}

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Found(UserId),
    Missing,
    Ambiguous,
    /// The provider refuses this key, or fails for it alone.
    Failed(Cow<'static, str>),
}

/// What a user's id leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    User(User),
    Missing,
    /// The provider refuses to show this user, or fails for it alone.
    Failed(Cow<'static, str>),
}

/// Why no key can be looked up any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The credentials or the configuration are wrong.
    #[error("{0}")]
    Refused(ProviderError),
    #[error("{0}")]
    OutOfReach(ProviderError),
}

pub struct Lookup {
    provider: Arc<dyn Provider>,
    retry: retry::Config,
    shared: Mutex<Shared>,
    /// Its owner takes the next permit. It is handed on in order, so that a key that is tried again is not overtaken for ever.
    turn: tokio::sync::Mutex<()>,
    /// Its owner fetches the token.
    fetching: tokio::sync::Mutex<()>,
}

struct Shared {
    pace: Pace,
    gap: Duration,
    next: Instant,
    rng: fastrand::Rng,
    /// When a lookup last succeeded.
    passed: Option<Instant>,
    /// Whether the provider ever answered.
    reached: bool,
    failing_since: Option<Instant>,
    throttled_since: Option<Instant>,
    said: Option<Instant>,
}

/// The calls for one user so far.
struct Tries {
    failed: u32,
    first_failed: Option<Instant>,
    renewed: u32,
    repeated: bool,
    backoff: Backoff,
}

/// What follows a failed call.
enum Next {
    After(Duration),
    Failed(ProviderError),
}

impl Lookup {
    pub fn new(provider: Arc<dyn Provider>, settings: Settings) -> Self {
        let gap = Duration::try_from_secs_f64(1.0 / settings.per_second).unwrap_or(Duration::MAX);
        Self {
            provider,
            retry: settings.retry,
            shared: Mutex::new(Shared {
                pace: Pace::new(&settings.pace),
                gap,
                next: Instant::now(),
                rng: fastrand::Rng::with_seed(settings.seed),
                passed: None,
                reached: false,
                failing_since: None,
                throttled_since: None,
                said: None,
            }),
            turn: tokio::sync::Mutex::new(()),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn find(&self, by: FindBy, key: &str) -> Result<Outcome, Stopped> {
        Ok(match self.asked(|| self.provider.find(by, key)).await? {
            Ok(Found::One(id)) => Outcome::Found(id),
            Ok(Found::Nobody) => Outcome::Missing,
            Ok(Found::Several) => Outcome::Ambiguous,
            Err(error) => Outcome::Failed(error.detail),
        })
    }

    pub async fn read(&self, user_id: &UserId) -> Result<Shown, Stopped> {
        Ok(match self.asked(|| self.provider.read(user_id)).await? {
            Ok(user) => Shown::User(user),
            Err(error) if error.fault == Fault::Command(Reason::NotFound) => Shown::Missing,
            Err(error) => Shown::Failed(error.detail),
        })
    }

    /// Calls until there is an answer, or an error of this user alone.
    async fn asked<T, F>(&self, call: impl Fn() -> F) -> Result<Result<T, ProviderError>, Stopped>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let mut tries = self.tries();
        loop {
            self.token_at_hand().await?;
            let granted = self.permit().await;
            let answer = call().await;
            self.read_headers();
            let error = match answer {
                Ok(answer) => {
                    self.lock().passed(granted, Instant::now());
                    return Ok(Ok(answer));
                }
                Err(error) => error,
            };
            match self.failed(granted, error, &mut tries)? {
                Next::After(delay) => sleep(delay).await,
                Next::Failed(error) => return Ok(Err(error)),
            }
        }
    }

    fn tries(&self) -> Tries {
        Tries {
            failed: 0,
            first_failed: None,
            renewed: 0,
            repeated: false,
            backoff: self.retry.backoff(),
        }
    }

    /// The right to make one call, at the moment of the call.
    async fn permit(&self) -> Granted {
        let _turn = self.turn.lock().await;
        loop {
            let asked = self.lock().take(Instant::now());
            match asked {
                Ok(granted) => return granted,
                Err(at) => sleep_until(at).await,
            }
        }
    }

    /// Fetches a token if one is needed, at the cost of one permit. One lookup fetches, and the others wait for it.
    async fn token_at_hand(&self) -> Result<(), Stopped> {
        let access = self.provider.access();
        let mut tries = self.tries();
        loop {
            let _fetching = match access.token() {
                TokenState::Ready => return Ok(()),
                TokenState::Expiring => match self.fetching.try_lock() {
                    Ok(fetching) => fetching,
                    Err(_) => return Ok(()),
                },
                TokenState::Missing => self.fetching.lock().await,
            };
            if access.token() == TokenState::Ready {
                return Ok(());
            }
            let granted = self.permit().await;
            let fetched = access.fetch_token().await;
            match fetched {
                Err(error) if access.token() == TokenState::Missing => {
                    match self.failed(granted, error.clone(), &mut tries)? {
                        Next::After(delay) => sleep(delay).await,
                        Next::Failed(_) => return Err(Stopped::Refused(error)),
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn read_headers(&self) {
        if let Some(hint) = self.provider.access().rate_limit_hint() {
            self.lock().pace.on_rate_limit_hint(hint, Instant::now());
        }
    }

    fn failed(&self, granted: Granted, error: ProviderError, tries: &mut Tries) -> Result<Next, Stopped> {
        let (mut shared, now) = (self.lock(), Instant::now());
        match error.fault {
            Fault::Command(_) => {
                shared.answered(granted);
                Ok(Next::Failed(error))
            }
            // If other keys pass, it is about this one.
            Fault::Denied | Fault::Configuration if shared.passed.is_some() => {
                shared.answered(granted);
                Ok(Next::Failed(error))
            }
            Fault::Credentials | Fault::Denied | Fault::Configuration => Err(Stopped::Refused(error)),
            Fault::CredentialsRenewed => {
                tries.renewed += 1;
                match tries.renewed > RENEWALS_MAX {
                    true => Err(Stopped::Refused(error)),
                    false => Ok(Next::After(Duration::ZERO)),
                }
            }
            Fault::Throttled { retry_after } => shared.throttled(granted, retry_after, error, now),
            Fault::Again | Fault::Unprocessed | Fault::ReadFirst if !tries.repeated => {
                tries.repeated = true;
                Ok(Next::After(self.retry.delay_min))
            }
            _ => shared.unanswered(granted, error, tries, &self.retry, now),
        }
    }
}

impl Shared {
    fn take(&mut self, now: Instant) -> Result<Granted, Instant> {
        if self.next > now {
            return Err(self.next);
        }
        let granted = self.pace.take(now)?;
        let due = self.next.max(now.checked_sub(CATCH_UP).unwrap_or(now));
        self.next = due.checked_add(self.gap).unwrap_or(due);
        Ok(granted)
    }

    /// The provider judged a call.
    fn answered(&mut self, granted: Granted) {
        self.pace.passed(granted);
        self.reached = true;
        self.throttled_since = None;
        if self.failing_since.take().is_some() && self.said.take().is_some() {
            self.pace.resume_gently();
            tracing::info!("provider: it answers lookups again");
        }
    }

    fn passed(&mut self, granted: Granted, now: Instant) {
        self.passed = Some(now);
        self.answered(granted);
    }

    fn throttled(
        &mut self,
        granted: Granted,
        retry_after: Option<Duration>,
        error: ProviderError,
        now: Instant,
    ) -> Result<Next, Stopped> {
        self.reached = true;
        self.pace.throttled(granted, retry_after, now, &mut self.rng);
        let since = *self.throttled_since.get_or_insert(now);
        let until = self.pace.paused_until(now).unwrap_or(now);
        if until - since > THROTTLED_MAX {
            return Err(Stopped::OutOfReach(error));
        }
        self.say(&error, until - now, now);
        Ok(Next::After(Duration::ZERO))
    }

    /// The provider is down, unless it answers other lookups.
    fn unanswered(
        &mut self,
        granted: Granted,
        error: ProviderError,
        tries: &mut Tries,
        retry: &retry::Config,
        now: Instant,
    ) -> Result<Next, Stopped> {
        tries.failed += 1;
        let first = *tries.first_failed.get_or_insert(granted.at());
        if tries.failed >= retry.attempts && self.passed.is_some_and(|passed| passed > first) {
            return Ok(Next::Failed(error));
        }
        let since = *self.failing_since.get_or_insert(granted.at());
        let delay = tries.backoff.next_at_least_half(&mut self.rng);
        let ends = match self.reached {
            true => retry.elapsed_max,
            // The next call may take as long as this one.
            false => REACHED_WITHIN.saturating_sub(now - granted.at()),
        };
        if now - since + delay > ends {
            return Err(Stopped::OutOfReach(error));
        }
        self.say(&error, delay, now);
        Ok(Next::After(delay))
    }

    /// Says what is waited for, and how long. It contains no key.
    fn say(&mut self, error: &ProviderError, wait: Duration, now: Instant) {
        if self.said.is_none_or(|said| now - said >= SAID_EVERY) {
            self.said = Some(now);
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                provider.status = error.status,
                lookup.wait_ms = wait_ms,
                "provider: a lookup did not succeed and is made again: {error}"
            );
        }
    }
}
