//! Counts how often each connection to the broker comes up.

use std::future::pending;

use tokio::sync::watch;

use crate::broker::Link;
use crate::metrics;

/// Never ends.
pub(super) async fn count(consumer: watch::Receiver<Link>, publisher: watch::Receiver<Link>) {
    tokio::join!(count_one("consumer", consumer), count_one("publisher", publisher));
}

/// Never ends.
pub(super) async fn count_one(role: &'static str, mut link: watch::Receiver<Link>) {
    let mut was_down = true;
    loop {
        let is_down = matches!(*link.borrow_and_update(), Link::Down { .. });
        if was_down && !is_down {
            metrics::connected(role);
        }
        was_down = is_down;
        if link.changed().await.is_err() {
            // The connection is closed for good.
            return pending().await;
        }
    }
}
