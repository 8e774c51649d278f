//! One look for all who ask: it is made once at a time, kept for a while, and given to everybody with its age.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::link::Trouble;

/// A look that failed is not made again before this.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// A look that takes longer is given up.
const MADE_WITHIN: Duration = Duration::from_secs(60);

/// What was seen, and when.
#[derive(Debug)]
pub struct Seen<T> {
    pub value: Arc<T>,
    pub made: Instant,
    pub at: Timestamp,
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            ..*self
        }
    }
}

struct State<T> {
    latest: Option<Seen<T>>,
    failed: Option<(Instant, Trouble)>,
    running: bool,
}

pub struct Shared<T>(watch::Sender<State<T>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(watch::Sender::new(State {
            latest: None,
            failed: None,
            running: false,
        }))
    }
}

/// How old it may be, and how long to wait for another one.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub age: Duration,
    pub wait: Duration,
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// What was seen no longer ago than that, or is seen now. Whoever leaves meanwhile does not end the look.
    pub async fn get<F>(
        self: &Arc<Self>,
        patience: Patience,
        clock: crate::clock::Clock,
        make: impl FnOnce() -> F,
    ) -> Result<Seen<T>, Trouble>
    where
        F: Future<Output = Result<T, Trouble>> + Send + 'static,
    {
        let fresh = |state: &State<T>| {
            let latest = state.latest.as_ref();
            latest.filter(|seen| seen.made.elapsed() <= patience.age).cloned()
        };
        let mut changes = self.0.subscribe();
        let mut begins = false;
        self.0.send_if_modified(|state| {
            let failed_lately = state.failed.as_ref();
            let failed_lately = failed_lately.is_some_and(|(at, _)| at.elapsed() < FAILED_FOR);
            begins = fresh(state).is_none() && !state.running && !failed_lately;
            state.running |= begins;
            false
        });
        if begins {
            let (shared, making) = (self.clone(), make());
            tokio::spawn(async move {
                // A look that panics ends as one that failed: nobody waits for it.
                let made = tokio::spawn(timeout(MADE_WITHIN, making)).await;
                let made = match made {
                    Ok(Ok(made)) => made,
                    Ok(Err(_)) => Err(Trouble::Away("it did not answer in time".to_owned())),
                    Err(_) => Err(Trouble::Refused(
                        "the console failed at it; its log says where".to_owned(),
                    )),
                };
                shared.0.send_modify(|state| state.take(made, clock.now()));
            });
        }
        let ended = changes.wait_for(|state| !state.running);
        let _ended = timeout(patience.wait, ended).await.is_ok();
        let state = self.0.borrow();
        match (fresh(&state), &state.failed) {
            (Some(seen), _) => Ok(seen),
            (None, _) if state.running => state.latest.clone().ok_or(Trouble::Slow),
            (None, Some((_, trouble))) => Err(trouble.clone()),
            // It was made, and took longer than it may be old.
            (None, None) => state.latest.clone().ok_or(Trouble::Slow),
        }
    }
}

impl<T> State<T> {
    fn take(&mut self, made: Result<T, Trouble>, at: Timestamp) {
        self.running = false;
        match made {
            Ok(value) => {
                self.failed = None;
                self.latest = Some(Seen {
                    value: Arc::new(value),
                    made: Instant::now(),
                    at,
                });
            }
            Err(trouble) => {
                self.latest = None;
                self.failed = Some((Instant::now(), trouble));
            }
        }
    }
}

/// The most things of one kind that are kept.
const KEPT_MAX: usize = 16;

/// A look for each name, the latest ones.
pub struct Each<T>(Mutex<VecDeque<(String, Arc<Shared<T>>)>>);

impl<T> Default for Each<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Each<T> {
    pub fn of(&self, name: &str) -> Arc<Shared<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = kept.iter().find(|(known, _)| known == name) {
            return known.clone();
        }
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        let shared = Arc::<Shared<T>>::default();
        kept.push_back((name.to_owned(), shared.clone()));
        shared
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::sleep;

    use super::*;
    use crate::clock::Clock;

    const PATIENCE: Patience = Patience {
        age: Duration::from_secs(15),
        wait: Duration::from_secs(3),
    };

    async fn counted(count: Arc<AtomicU32>, takes: u64) -> Result<u32, Trouble> {
        let nth = count.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(takes)).await;
        Ok(nth)
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_at_once_share_one_look_and_it_is_kept_for_a_while() {
        let (shared, count) = (Arc::<Shared<u32>>::default(), Arc::<AtomicU32>::default());
        let ask = || shared.get(PATIENCE, Clock::System, || counted(count.clone(), 1));
        let (one, other) = tokio::join!(ask(), ask());
        assert_eq!((*one.unwrap().value, *other.unwrap().value), (0, 0));
        sleep(PATIENCE.age).await;
        assert_eq!(*ask().await.unwrap().value, 0);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(*ask().await.unwrap().value, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_never_ends_keeps_nobody_waiting_and_is_given_up() {
        let shared = Arc::<Shared<u32>>::default();
        let ask = || shared.get(PATIENCE, Clock::System, std::future::pending);
        let begun = Instant::now();
        assert_eq!(ask().await.unwrap_err(), Trouble::Slow);
        assert_eq!(begun.elapsed(), PATIENCE.wait);
        sleep(MADE_WITHIN).await;
        let again = shared.get(PATIENCE, Clock::System, || async { Ok(7) }).await;
        assert_eq!(*again.unwrap().value, 7);
    }

    #[test]
    fn only_the_latest_names_are_kept() {
        let each = Each::<u32>::default();
        let first = each.of("0");
        assert!(Arc::ptr_eq(&first, &each.of("0")));
        for n in 1..=KEPT_MAX {
            each.of(&n.to_string());
        }
        assert!(!Arc::ptr_eq(&first, &each.of("0")));
    }
}
