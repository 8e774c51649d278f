//! The latest writes: whether many users fail, though some calls pass.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::FEW_USERS;
use crate::contract::UserId;

/// So many of the latest calls are looked at together, if they are not older than that.
const WINDOW_CALLS: usize = 40;
const WINDOW: Duration = Duration::from_secs(60);

/// An outage, though some pass: this share of at least half a window, with this many users in trouble.
const SHARE_FAILING: f64 = 0.5;

/// When writes ended, and whom they failed.
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
