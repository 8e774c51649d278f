//! Answers what operators ask about the commands in hand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::{Fleet, lock};
use crate::broker::{Message, Properties};
use crate::contract::inquiry::{Answer, COMMANDS_MAX, Inquiry, PausedNow, Question};
use crate::worker::gate::Pause;

/// The most inquiries that wait for their answer; further ones are not answered.
const INQUIRIES_MAX: usize = 16;

/// Nobody waits longer for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Inquiries that are not answered yet.
#[derive(Default)]
pub(super) struct Inquiries {
    queue: Mutex<VecDeque<Inquiry>>,
    arrived: Notify,
}

impl Inquiries {
    pub(super) fn ask(&self, inquiry: Inquiry) {
        let mut queue = lock(&self.queue);
        if queue.len() < INQUIRIES_MAX {
            queue.push_back(inquiry);
            self.arrived.notify_one();
        }
    }

    async fn next(&self) -> Inquiry {
        loop {
            if let Some(inquiry) = lock(&self.queue).pop_front() {
                return inquiry;
            }
            self.arrived.notified().await;
        }
    }
}

impl Fleet {
    /// Never ends.
    pub(in crate::worker) async fn answer_inquiries(self: Arc<Self>) {
        loop {
            let inquiry = self.inquiries.next().await;
            let message = Message {
                exchange: String::new(),
                routing_key: inquiry.reply_to.clone(),
                properties: Properties::transient("application/json"),
                // It holds strings, numbers and times.
                body: Bytes::from(serde_json::to_vec(&self.answer(&inquiry.ask)).unwrap_or_default()),
                mandatory: false,
            };
            // Who asks and gets no answer asks again.
            let _ = timeout(ANSWER_WITHIN, self.publisher.publish(&message)).await;
        }
    }

    fn answer(&self, question: &Question) -> Answer {
        let (leases, since) = {
            let own = lock(&self.own);
            let since: Vec<_> = own
                .leases
                .iter()
                .filter_map(|lease| own.since.get(lease).copied())
                .collect();
            (own.leases.clone(), since)
        };
        let (clock, now) = (self.clock, Instant::now());
        let wall = clock.now();
        let pause = self.gate.pause();
        let (paused, in_hand) = (pause.is_some(), &self.in_hand);
        let is_overview = *question == Question::Waiting;
        Answer {
            worker: self.me.clone(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            window: self.settings.window * leases.len(),
            leases,
            leased_since: since.into_iter().map(|at| wall_of(at, (now, wall))).collect(),
            pause: pause.map(|pause| paused_now(pause, (now, wall))),
            pace: self.gate.pace_per_second(),
            in_hand: in_hand.count(),
            commands: in_hand.find(question, COMMANDS_MAX, paused, clock),
            causes: match is_overview {
                true => in_hand.causes(paused, clock),
                false => Vec::new(),
            },
            users: match is_overview {
                true => in_hand.users(),
                false => Vec::new(),
            },
        }
    }
}

fn span(span: Duration) -> SignedDuration {
    SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)
}

/// The wall's time of a past instant.
fn wall_of(at: Instant, (now, wall): (Instant, Timestamp)) -> Timestamp {
    wall - span(now.saturating_duration_since(at))
}

fn paused_now(pause: Pause, (now, wall): (Instant, Timestamp)) -> PausedNow {
    let until = |at: Instant| {
        let ahead = span(at.saturating_duration_since(now));
        wall.checked_add(ahead).unwrap_or(Timestamp::MAX)
    };
    PausedNow {
        cause: pause.cause.to_owned(),
        since: wall_of(pause.since, (now, wall)),
        until: pause.until.map(until),
        why: pause.why.map(|why| why.into_owned()),
    }
}
