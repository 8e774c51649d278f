//! Every metric, as a small typed function. `table` has their names, labels and texts.

pub mod table;

use std::fmt;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use self::table::{ALL, Kind, Metric};
use crate::contract::{Outcome, TrafficClass};

/// Histograms, with the exporter's buckets, in seconds.
pub fn histograms() -> impl Iterator<Item = &'static Metric> {
    ALL.iter().filter(|metric| metric.kind == Kind::Histogram)
}

/// Registers the help texts of the scrape.
pub fn describe() {
    for metric in &ALL {
        let help = metric.meaning.replace('`', "");
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, help),
            Kind::Gauge => describe_gauge!(metric.name, help),
            Kind::Histogram => describe_histogram!(metric.name, help),
        }
    }
    gauge!(table::BUILD.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

fn switch(on: bool) -> f64 {
    f64::from(u8::from(on))
}

/// How long commands wait for one cause. Made once for each cause: a command waits several times.
pub struct WaitSeconds(metrics::Histogram);

impl WaitSeconds {
    pub fn of(cause: &'static str) -> Self {
        Self(histogram!(table::WAIT_SECONDS.name, "for" => cause))
    }

    pub fn record(&self, waited: Duration) {
        self.0.record(waited);
    }
}

impl fmt::Debug for WaitSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WaitSeconds")
    }
}

pub fn delivery(class: TrafficClass) {
    counter!(table::DELIVERIES.name, "class" => class.as_str()).increment(1);
}

pub fn redelivery() {
    counter!(table::REDELIVERIES.name).increment(1);
}

pub fn stale_delivery() {
    counter!(table::STALE.name).increment(1);
}

/// `age`: since it was published, if that is known.
pub fn command_settled(outcome: &Outcome, class: TrafficClass, took: Duration, age: Option<Duration>) {
    let outcome = outcome
        .dead_letter()
        .map_or("success", |failure| failure.reason.as_str());
    let class = class.as_str();
    counter!(table::COMMANDS.name, "outcome" => outcome, "class" => class).increment(1);
    histogram!(table::COMMAND_SECONDS.name, "class" => class).record(took);
    if let Some(age) = age {
        histogram!(table::COMMAND_AGE.name, "class" => class).record(age);
    }
}

/// `status`: the answer's HTTP status, if there was an answer.
pub fn call(kind: &'static str, answer: &'static str, status: Option<u16>, took: Duration) {
    let status = match status.map(|status| status / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(5) => "5xx",
        _ => "none",
    };
    counter!(table::CALLS.name, "call" => kind, "answer" => answer).increment(1);
    histogram!(table::CALL_SECONDS.name, "call" => kind, "status" => status).record(took);
}

pub fn permit(class: TrafficClass) {
    counter!(table::PERMITS.name, "class" => class.as_str()).increment(1);
}

pub fn retry() {
    counter!(table::RETRIES.name).increment(1);
}

pub fn merged(commands: usize) {
    counter!(table::MERGED.name).increment(u64::try_from(commands).unwrap_or(u64::MAX));
}

pub fn publish_repeated() {
    counter!(table::REPUBLISHES.name).increment(1);
}

pub fn connected(role: &'static str) {
    counter!(table::CONNECTIONS.name, "role" => role).increment(1);
}

pub fn notice_ignored(reason: &'static str) {
    counter!(table::NOTICES_IGNORED.name, "reason" => reason).increment(1);
}

pub fn panic() {
    counter!(table::PANICS.name).increment(1);
}

pub fn spans_dropped(spans: usize) {
    counter!(table::SPANS_DROPPED.name).increment(u64::try_from(spans).unwrap_or(u64::MAX));
}

pub fn leases(held: usize, partitions: usize) {
    gauge!(table::LEASES.name).set(held as f64);
    gauge!(table::PARTITIONS.name).set(partitions as f64);
}

pub fn held_back(commands: usize) {
    gauge!(table::HELD_BACK.name).set(commands as f64);
}

pub fn unroutable(messages: u64) {
    gauge!(table::UNROUTABLE.name).set(messages as f64);
}

pub fn paused(cause: &'static str, yes: bool) {
    gauge!(table::PAUSED.name, "cause" => cause).set(switch(yes));
}

/// What is looked up at each scrape.
pub mod now {
    use std::time::Duration;

    use metrics::gauge;

    use super::{switch, table};

    /// `window`: the most that the broker delivers; `users`: whose the unsettled commands are.
    pub fn unsettled(running: usize, queued: usize, users: usize, window: usize) {
        gauge!(table::UNSETTLED.name, "place" => "running").set(running as f64);
        gauge!(table::UNSETTLED.name, "place" => "parked").set(queued as f64);
        gauge!(table::WINDOW_USERS.name).set(users as f64);
        gauge!(table::WINDOW.name).set(window as f64);
    }

    pub fn waiting(wait: &'static str, commands: usize, longest: Duration) {
        gauge!(table::WAITING.name, "for" => wait).set(commands as f64);
        gauge!(table::OLDEST_WAIT.name, "for" => wait).set(longest);
    }

    pub fn standing_still(cause: &'static str, yes: bool) {
        gauge!(table::STANDING_STILL.name, "cause" => cause).set(switch(yes));
    }

    pub fn connected(role: &'static str, yes: bool) {
        gauge!(table::CONNECTED.name, "role" => role).set(switch(yes));
    }

    pub fn unconfirmed(publishes: usize) {
        gauge!(table::UNCONFIRMED.name).set(publishes as f64);
    }

    pub fn queued(partition: usize, commands: u64) {
        gauge!(table::QUEUED.name, "partition" => partition.to_string()).set(commands as f64);
    }

    pub fn dead_letters_queued(messages: u64) {
        gauge!(table::DEAD_LETTERS_QUEUED.name).set(messages as f64);
    }

    /// Calls per second: of this worker, of the fleet, and as configured.
    pub fn pace(own: f64, fleet: f64, quota: Option<f64>) {
        gauge!(table::PACE.name).set(own);
        gauge!(table::FLEET_PACE.name).set(fleet);
        gauge!(table::QUOTA.name).set(quota.unwrap_or(0.0));
    }

    pub fn retry_budget(retries: f64) {
        gauge!(table::RETRY_BUDGET.name).set(retries);
    }

    /// For autoscalers.
    pub fn load(seconds_to_drain: f64, useful_replicas: u16) {
        gauge!(table::SECONDS_TO_DRAIN.name).set(seconds_to_drain);
        gauge!(table::USEFUL_REPLICAS.name).set(f64::from(useful_replicas));
    }

    /// `None`: no pause is ordered; otherwise whether only bulk traffic is paused.
    pub fn ordered_pause(bulk_only: Option<bool>) {
        gauge!(table::ORDERED_PAUSE.name, "traffic" => "all").set(switch(bulk_only == Some(false)));
        gauge!(table::ORDERED_PAUSE.name, "traffic" => "bulk").set(switch(bulk_only == Some(true)));
    }

    pub fn ordered_pace(per_second: Option<f64>) {
        gauge!(table::ORDERED_PACE.name).set(per_second.unwrap_or(0.0));
    }

    pub fn batches_under_orders(state: &'static str, batches: usize) {
        gauge!(table::BATCHES_UNDER_ORDERS.name, "state" => state).set(batches as f64);
    }
}
