//! Breaking things, each at its moment, and the record of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use usher::simulator::Simulated;

use super::brokers::Brokers;
use super::fleet::Fleet;
use super::moods::Moods;
use super::plan::{Break, Planned};
use crate::support::{eventually, moment};

/// What was broken, on the provider's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub what: Break,
    /// Where it was one.
    pub worker: Option<u32>,
    pub from: Duration,
    /// When it was whole again, or another was in its place.
    pub to: Duration,
}

pub struct Breaker<'a> {
    pub brokers: &'a Brokers,
    pub fleet: &'a Fleet,
    pub provider: &'a Simulated,
    pub moods: Moods,
    pub began: Instant,
    pub record: Mutex<Vec<Broken>>,
}

impl Breaker<'_> {
    /// All of the plan from its start on, and the mending.
    pub async fn carry_out(&self, plan: &[Planned], start: Duration) {
        let at_its_moment = async |planned: &Planned| {
            moment(self.began + start + planned.at).await;
            self.carry_out_one(planned).await;
        };
        join_all(plan.iter().map(at_its_moment)).await;
    }

    async fn carry_out_one(&self, planned: &Planned) {
        match planned.what {
            Break::Kill | Break::Drain | Break::ShortFreeze | Break::LongFreeze => {
                self.a_worker(planned).await;
            }
            Break::BrokerKill => self.nodes(planned, 1).await,
            Break::OneNode => self.nodes(planned, 1).await,
            Break::Majority => self.nodes(planned, self.brokers.count() - 1).await,
            Break::MemoryAlarm | Break::CloseConnections => self.by_ctl(planned).await,
            _ => {
                let from = self.now();
                self.moods.begin(self.provider, planned.what, planned.dice);
                moment(self.began + from + planned.lasts).await;
                self.moods.end(self.provider, planned.what, planned.dice);
                self.note(planned.what, None, from);
            }
        }
    }

    /// Where all are being broken already, nothing more happens.
    async fn a_worker(&self, planned: &Planned) {
        let Some(mut place) = self.fleet.any(planned.dice) else {
            return;
        };
        let worker = place.take().unwrap();
        let (number, from) = (worker.number, self.now());
        let whole_again = self.began + from + planned.lasts;
        match planned.what {
            Break::Kill => self.fleet.kill(worker).await,
            Break::Drain => self.fleet.drain(worker).await,
            _ => {
                worker.freeze().await;
                moment(whole_again).await;
                worker.thaw().await;
                *place = Some(worker);
                return self.note(planned.what, Some(number), from);
            }
        }
        moment(whole_again).await;
        *place = Some(self.fleet.start());
        self.note(planned.what, Some(number), from);
    }

    async fn nodes(&self, planned: &Planned, count: usize) {
        let all = self.brokers.count();
        let first = usize::try_from(planned.dice % all as u64).unwrap();
        let mut broken: Vec<_> = (0..count).map(|step| (first + step) % all).collect();
        // Always in one order, so that two who each want several don't wait for each other.
        broken.sort_unstable();
        let mut held = Vec::new();
        for node in &broken {
            held.push(self.brokers.hold(*node).await);
        }
        let from = self.now();
        join_all(broken.iter().map(|node| self.brokers.kill(*node))).await;
        moment(self.began + from + planned.lasts).await;
        join_all(broken.iter().map(|node| self.brokers.start(*node))).await;
        self.note(planned.what, None, from);
    }

    /// A node that is down, or that waits for the others of its cluster, has neither memory nor connections.
    async fn by_ctl(&self, planned: &Planned) {
        let node = usize::try_from(planned.dice % self.brokers.count() as u64).unwrap();
        let _held = self.brokers.hold(node).await;
        let from = self.now();
        let watermark = async |share| {
            self.brokers
                .ctl(node, &["set_vm_memory_high_watermark", share])
                .await
        };
        let done = match planned.what {
            Break::CloseConnections => self.brokers.ctl(node, &["close_all_connections", "chaos"]).await,
            _ => watermark("0.00001").await,
        };
        if let Err(why) = done {
            assert!(self.brokers.count() > 1, "{why}");
            return;
        }
        if planned.what == Break::MemoryAlarm {
            moment(self.began + from + planned.lasts).await;
            eventually("the alarm ends", async || watermark("0.4").await.ok()).await;
        }
        self.note(planned.what, None, from);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn note(&self, what: Break, worker: Option<u32>, from: Duration) {
        let to = self.now();
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.push(Broken {
            what,
            worker,
            from,
            to,
        });
    }
}
