//! Passes the operators' orders on to the gate.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::gate::{Gate, OrderedPause, Steering};
use super::order_book::OrderBook;
use crate::clock::Clock;
use crate::contract::Orders;
use crate::policy::pace::Pin;

/// Never ends.
pub(super) async fn follow(orders: Arc<OrderBook>, gate: Arc<Gate>, clock: Clock) {
    let mut changes = orders.subscribe();
    orders.known().await;
    let mut resumes = None;
    loop {
        let now = changes.borrow_and_update().clone();
        gate.steer(steering(&now, clock));
        // Those before this worker's start were for others.
        if resumes.is_some_and(|before| now.resumes > before) {
            tracing::info!("worker: an operator resumes");
            gate.resume();
        }
        resumes = Some(now.resumes);
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn steering(orders: &Orders, clock: Clock) -> Steering {
    let (wall, now) = (clock.now(), Instant::now());
    let ahead = |at: Timestamp| Duration::try_from(at.duration_since(wall)).unwrap_or_default();
    let ago = |at: Timestamp| Duration::try_from(wall.duration_since(at)).unwrap_or_default();
    // An end that is too far away to be represented is none.
    let until = |until: Option<Timestamp>| until.and_then(|at| now.checked_add(ahead(at)));
    Steering {
        pause: orders.pause_at(wall).map(|pause| OrderedPause {
            bulk_only: pause.bulk_only,
            since: now.checked_sub(ago(pause.since)).unwrap_or(now),
            until: until(pause.until),
            why: format!("{} paused it: {}", pause.by, pause.reason),
        }),
        pin: orders.pace_at(wall).map(|pace| Pin {
            per_second: pace.per_second,
            until: until(pace.until),
        }),
    }
}
