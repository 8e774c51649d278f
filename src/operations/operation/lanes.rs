//! Publishes in flight: a user's next one begins when the one before is confirmed, so that the order of each user is kept
//! and little is done twice after a crash.

use std::collections::HashSet;

use tokio::task::JoinSet;

use super::OperationError;

/// The most publishes in flight, and so the most dead letters that are copied or sent twice after a crash.
pub(super) const IN_FLIGHT_MAX: usize = 32;

pub(super) struct Lanes<T> {
    running: JoinSet<(String, Result<T, OperationError>)>,
    users: HashSet<String>,
}

impl<T: Send + 'static> Lanes<T> {
    pub(super) fn new() -> Self {
        Self {
            running: JoinSet::new(),
            users: HashSet::new(),
        }
    }

    /// `None`: this user's next may begin.
    pub(super) async fn make_room(&mut self, user: &str) -> Option<Result<T, OperationError>> {
        match self.running.len() >= IN_FLIGHT_MAX || self.users.contains(user) {
            true => self.next().await,
            false => None,
        }
    }

    pub(super) fn begin(
        &mut self,
        user: String,
        work: impl Future<Output = Result<T, OperationError>> + Send + 'static,
    ) {
        self.users.insert(user.clone());
        self.running.spawn(async move { (user, work.await) });
    }

    /// `None`: nothing is in flight.
    pub(super) async fn next(&mut self) -> Option<Result<T, OperationError>> {
        match self.running.join_next().await? {
            Ok((user, done)) => {
                self.users.remove(&user);
                Some(done)
            }
            // It panicked: whether the broker has the copy is not known.
            Err(_) => Some(Err(OperationError::Stale)),
        }
    }

    /// The next one that is done already.
    pub(super) fn done_already(&mut self) -> Option<Result<T, OperationError>> {
        match self.running.try_join_next()? {
            Ok((user, done)) => {
                self.users.remove(&user);
                Some(done)
            }
            Err(_) => Some(Err(OperationError::Stale)),
        }
    }
}
