//! The latest writes: whether many users fail although some calls pass.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::FEW_USERS;
use crate::contract::UserId;

/// How many of the latest calls are considered, and how old they may be.
const WINDOW_CALLS: usize = 40;
const WINDOW: Duration = Duration::from_secs(60);

/// An outage although some calls pass: at least this share of at least half a window fails, for `FEW_USERS` or more.
const SHARE_FAILING: f64 = 0.5;

/// When the latest writes ended, with the user of each failed one.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<(Instant, Option<UserId>)>);

impl Window {
    pub(super) fn add(&mut self, now: Instant, failed: Option<UserId>) {
        self.0.push_back((now, failed));
        while self.0.len() > WINDOW_CALLS
            || self
                .0
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.0.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn fails_for_many(&self) -> bool {
        let mut users: Vec<_> = self.0.iter().filter_map(|(_, failed)| failed.as_ref()).collect();
        let many =
            users.len() as f64 >= SHARE_FAILING * self.0.len() as f64 && self.0.len() >= WINDOW_CALLS / 2;
        users.sort();
        users.dedup();
        many && users.len() >= FEW_USERS
    }
}
