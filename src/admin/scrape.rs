//! The gauges that are looked up at each scrape.

use std::time::Duration;

use super::Worker;
use super::readiness::{NOT_READY, Readiness};
use crate::broker::Link;
use crate::clock::Clock;
use crate::contract::BatchState;
use crate::metrics::now;

pub(super) fn look(worker: &Worker) {
    let seen = worker.seen();
    let progress = &seen.progress;
    let users = worker.in_hand.users_count();
    now::unsettled(progress.running, progress.queued, users, progress.window());
    let paused = seen.pause.is_some();
    let longest = worker.in_hand.longest_waits(paused);
    for (wait, count) in seen.waiting {
        let longest = longest.get(wait.as_str()).copied().unwrap_or(Duration::ZERO);
        now::waiting(wait.as_str(), count, longest);
    }
    let (unsettled, partitions) = (progress.running + progress.queued, progress.partitions);
    let readiness = Readiness::of(seen);
    for cause in NOT_READY {
        now::standing_still(cause, !readiness.ready && readiness.state == cause);
    }
    for (role, link) in [("consumer", &worker.consuming), ("publisher", &worker.publishing)] {
        now::connected(role, *link.borrow() == Link::Up);
    }
    now::unconfirmed(worker.publisher.unconfirmed());
    let figures = worker.gate.figures();
    let (own, fleet, quota) = (
        figures.own_per_second,
        figures.fleet_per_second,
        figures.quota_per_second,
    );
    now::pace(own, fleet, quota);
    now::retry_budget(figures.retry_budget);
    let mut waiting = unsettled as u64;
    if let Some(fleet) = &worker.fleet {
        now::connected("listener", fleet.link() == Link::Up);
        for (partition, ready) in fleet.ready()().into_iter().enumerate() {
            now::queued(partition, ready);
            waiting += ready;
        }
        if let Some(messages) = fleet.dead_letters() {
            now::dead_letters_queued(messages);
        }
        let orders = fleet.orders().in_force(Clock::System.now());
        now::ordered_pause(orders.pause.as_ref().map(|pause| pause.bulk_only));
        now::ordered_pace(orders.pace.as_ref().map(|pace| pace.per_second));
        for state in [BatchState::Paused, BatchState::Cancelled] {
            now::batches_under_orders(state.as_str(), orders.batches_that_are(state));
        }
    }
    let load = Load {
        waiting,
        paused,
        fleet_per_second: fleet,
        call_seconds: figures.call_seconds,
        calls_at_once: figures.calls_at_once,
        partitions,
    };
    now::load(load.seconds_to_drain(), load.useful_replicas());
}

/// What there is to do, and what limits it.
struct Load {
    /// Commands that are queued, or in this worker's hands.
    waiting: u64,
    paused: bool,
    fleet_per_second: f64,
    call_seconds: Option<f64>,
    /// The most calls in flight of one worker.
    calls_at_once: usize,
    partitions: usize,
}

impl Load {
    fn seconds_to_drain(&self) -> f64 {
        match self.waiting {
            0 => 0.0,
            // Without a pace, it never ends: the division says so.
            waiting => waiting as f64 / self.fleet_per_second,
        }
    }

    /// More workers than partitions stand by, and more than the pace needs wait for permits.
    fn useful_replicas(&self) -> u16 {
        let partitions = u16::try_from(self.partitions).unwrap_or(u16::MAX).max(1);
        if self.waiting == 0 || self.paused {
            return 1;
        }
        // Of one worker, if nothing but the provider's answers limits it.
        let Some(seconds) = self.call_seconds.filter(|seconds| *seconds > 0.0) else {
            return 1;
        };
        let own_per_second = self.calls_at_once as f64 / seconds;
        let workers = (self.fleet_per_second / own_per_second).ceil();
        (1..partitions)
            .find(|count| f64::from(*count) >= workers)
            .unwrap_or(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load {
            waiting: 12_000,
            paused: false,
            fleet_per_second: 200.0,
            call_seconds: Some(0.5),
            calls_at_once: 32,
            partitions: 8,
        }
    }

    #[test]
    fn as_many_workers_are_useful_as_the_pace_keeps_busy() {
        // One makes 64 calls per second.
        assert_eq!(load().useful_replicas(), 4);
        assert_eq!(load().seconds_to_drain(), 60.0);
        let quick = Load {
            call_seconds: Some(0.05),
            ..load()
        };
        assert_eq!(quick.useful_replicas(), 1);
        let slow = Load {
            call_seconds: Some(5.0),
            ..load()
        };
        assert_eq!(slow.useful_replicas(), 8, "no more than partitions");
    }

    #[test]
    fn one_worker_is_useful_while_nothing_waits_or_no_call_may_be_made() {
        for load in [
            Load { waiting: 0, ..load() },
            Load {
                paused: true,
                ..load()
            },
            Load {
                call_seconds: None,
                ..load()
            },
        ] {
            assert_eq!(load.useful_replicas(), 1);
        }
        let stopped = Load {
            fleet_per_second: 0.0,
            ..load()
        };
        assert_eq!(stopped.seconds_to_drain(), f64::INFINITY);
    }
}
