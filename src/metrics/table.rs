//! The list of metrics: names, labels, texts. The table in the documents and the help of a scrape are made of it.

use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    /// In seconds.
    Histogram,
}

/// A metric. Its labels have few values each, and never a user, a command or a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub meaning: &'static str,
    /// What a person looks at it for; empty: nothing by itself.
    pub look_when: &'static str,
    /// The upper bounds of a histogram's buckets, in seconds.
    pub buckets: &'static [f64],
}

impl Metric {
    const fn new(
        kind: Kind,
        name: &'static str,
        labels: &'static [&'static str],
        meaning: &'static str,
        look_when: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            labels,
            meaning,
            look_when,
            buckets: &[],
        }
    }

    const fn in_buckets(self, buckets: &'static [f64]) -> Self {
        Self { buckets, ..self }
    }
}

use Kind::{Counter, Gauge, Histogram};

pub const DELIVERIES: Metric = Metric::new(
    Counter,
    "usher_deliveries_total",
    &["class"],
    "deliveries that were taken from the broker",
    "",
);
pub const COMMANDS: Metric = Metric::new(
    Counter,
    "usher_commands_total",
    &["outcome", "class"],
    "commands that ended: `success`, or the reason of the dead letter",
    "a reason becomes more frequent",
);
pub const COMMAND_SECONDS: Metric = Metric::new(
    Histogram,
    "usher_command_seconds",
    &["class"],
    "from a command's run to its confirmed outcome",
    "",
)
.in_buckets(&[
    0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
]);
pub const COMMAND_AGE: Metric = Metric::new(
    Histogram,
    "usher_command_age_seconds",
    &["class"],
    "from a command's `issuedAt`, else from the whole second of its AMQP `timestamp`, to its confirmed outcome; commands with neither are not counted",
    "interactive commands take longer than their users wait",
)
.in_buckets(&[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 172_800.0,
]);
pub const WAIT_SECONDS: Metric = Metric::new(
    Histogram,
    "usher_wait_seconds",
    &["for"],
    "how long commands waited, each time, by [cause](#stalled-and-window_full); `permit` includes pauses",
    "a cause takes more of the time than it did",
)
.in_buckets(&[
    0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0,
]);
pub const CALLS: Metric = Metric::new(
    Counter,
    "usher_provider_calls_total",
    &["call", "answer"],
    "calls by kind of call and answer; those that the provider throttles have the answer `throttled`",
    "answers other than `ok` rise",
);
pub const CALL_SECONDS: Metric = Metric::new(
    Histogram,
    "usher_provider_call_seconds",
    &["call", "status"],
    "duration of a call, by kind and class of the status: `2xx` to `5xx`, or `none`",
    "it nears `provider.timeout`",
)
.in_buckets(&[
    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);
pub const RETRIES: Metric = Metric::new(
    Counter,
    "usher_retries_total",
    &[],
    "calls that repeat one of the same command",
    "it rises against `usher_provider_calls_total`",
);
pub const RETRY_BUDGET: Metric = Metric::new(
    Gauge,
    "usher_retry_budget",
    &[],
    "retries that may be made at once; each call adds `retry.budget`, and each second some",
    "it is 0: further retries wait",
);
pub const MERGED: Metric = Metric::new(
    Counter,
    "usher_commands_merged_total",
    &[],
    "commands that were applied by another command's call",
    "",
);
pub const REDELIVERIES: Metric = Metric::new(
    Counter,
    "usher_redeliveries_total",
    &[],
    "deliveries that the broker had delivered before",
    "it rises without a restart",
);
pub const STALE: Metric = Metric::new(
    Counter,
    "usher_stale_deliveries_total",
    &[],
    "deliveries that were lost with their connection and come again",
    "connections are lost",
);
pub const REPUBLISHES: Metric = Metric::new(
    Counter,
    "usher_publish_repeats_total",
    &[],
    "publishes that were repeated because the broker had not confirmed them",
    "the broker is slow",
);
pub const PANICS: Metric = Metric::new(
    Counter,
    "usher_panics_total",
    &[],
    "commands whose handling panicked",
    "it is not 0: this is a bug, report it",
);
pub const NOTICES_IGNORED: Metric = Metric::new(
    Counter,
    "usher_fleet_notices_ignored_total",
    &["reason"],
    "notices on the fleet's exchange in a form that no worker sends",
    "it rises: see who may write there",
);
pub const SPANS_DROPPED: Metric = Metric::new(
    Counter,
    "usher_spans_dropped_total",
    &[],
    "spans of [traces](#traces) that the collector did not take in time",
    "it rises: see the log for why",
);
pub const UNSETTLED: Metric = Metric::new(
    Gauge,
    "usher_commands_in_hand",
    &["place"],
    "unsettled commands: `running`, or `parked` (queued in a lane)",
    "",
);
pub const WINDOW: Metric = Metric::new(
    Gauge,
    "usher_window_commands",
    &[],
    "the largest number of unsettled commands",
    "`usher_commands_in_hand` nears it",
);
pub const WINDOW_USERS: Metric = Metric::new(
    Gauge,
    "usher_window_users",
    &[],
    "the users that the unsettled commands are of",
    "it is small while the window is full: few users have it all",
);
pub const WAITING: Metric = Metric::new(
    Gauge,
    "usher_commands_waiting",
    &["for"],
    "unsettled commands by what they wait for",
    "",
);
pub const OLDEST_WAIT: Metric = Metric::new(
    Gauge,
    "usher_oldest_wait_seconds",
    &["for"],
    "how long the command that has waited longest for this cause has waited; 0: none waits",
    "`confirm` is more than a few seconds, or any other is more than it should be",
);
pub const HELD_BACK: Metric = Metric::new(
    Gauge,
    "usher_commands_held_back",
    &[],
    "commands that would be dead letters and wait",
    "it is not 0",
);
pub const PAUSED: Metric = Metric::new(
    Gauge,
    "usher_paused",
    &["cause"],
    "1 while no calls go out",
    "`outage`, `credentials` or `configuration` for minutes",
);
pub const STANDING_STILL: Metric = Metric::new(
    Gauge,
    "usher_standing_still",
    &["cause"],
    "1 while `/readyz` says 503 for this cause",
    "it is 1 for minutes",
);
pub const CONNECTED: Metric = Metric::new(
    Gauge,
    "usher_broker_connected",
    &["role"],
    "1 while the connection of this role is up and the broker takes messages",
    "it is 0 for minutes",
);
pub const CONNECTIONS: Metric = Metric::new(
    Counter,
    "usher_broker_connections_total",
    &["role"],
    "how often the connection of this role came up",
    "it rises: connections are lost",
);
pub const UNCONFIRMED: Metric = Metric::new(
    Gauge,
    "usher_confirms_outstanding",
    &[],
    "publishes that the broker has not confirmed yet",
    "it grows, and `usher_oldest_wait_seconds{for=\"confirm\"}` with it",
);
pub const LEASES: Metric = Metric::new(
    Gauge,
    "usher_leases",
    &[],
    "partitions that this worker consumes",
    "the sum over the fleet is not `usher_partitions`",
);
pub const PARTITIONS: Metric = Metric::new(Gauge, "usher_partitions", &[], "partitions of the provider", "");
pub const QUEUED: Metric = Metric::new(
    Gauge,
    "usher_queue_commands",
    &["partition"],
    "commands that are ready in the partition's queues, as seen every few seconds; the same on each worker",
    "it grows",
);
pub const UNROUTABLE: Metric = Metric::new(
    Gauge,
    "usher_unroutable",
    &[],
    "messages in [`user.unroutable`](topology.md#userunroutable)",
    "it is not 0",
);
pub const DEAD_LETTERS_QUEUED: Metric = Metric::new(
    Gauge,
    "usher_dead_letters_queued",
    &[],
    "dead letters of all providers in `user.dead-letters`, as seen every few seconds; the same on each worker",
    "it grows, or stays: nobody looks at them",
);
pub const QUOTA: Metric = Metric::new(
    Gauge,
    "usher_quota_per_second",
    &[],
    "the configured quota that holds now (`provider.rate`), in calls per second of the whole fleet; 0: none",
    "",
);
pub const FLEET_PACE: Metric = Metric::new(
    Gauge,
    "usher_fleet_pace_per_second",
    &[],
    "calls per second that the whole fleet may make now, as configured, learned or pinned",
    "it stays far below the quota",
);
pub const PACE: Metric = Metric::new(
    Gauge,
    "usher_pace_per_second",
    &[],
    "calls per second of this worker that may go out now",
    "it stays far below the configured rate",
);
pub const PERMITS: Metric = Metric::new(
    Counter,
    "usher_permits_total",
    &["class"],
    "calls that the pace has let through; their rate over `usher_fleet_pace_per_second` is how well it is used",
    "it is low while commands wait for `permit`",
);
pub const ORDERED_PAUSE: Metric = Metric::new(
    Gauge,
    "usher_ordered_pause",
    &["traffic"],
    "1 while an operator's pause is in force, for `all` traffic or `bulk` traffic",
    "somebody forgot it",
);
pub const ORDERED_PACE: Metric = Metric::new(
    Gauge,
    "usher_ordered_pace_per_second",
    &[],
    "the pinned pace of the whole fleet; 0: none",
    "somebody forgot it",
);
pub const BATCHES_UNDER_ORDERS: Metric = Metric::new(
    Gauge,
    "usher_batches_under_orders",
    &["state"],
    "batches that are `paused` or `cancelled`",
    "",
);
pub const SECONDS_TO_DRAIN: Metric = Metric::new(
    Gauge,
    "usher_seconds_to_drain",
    &[],
    "how long the fleet needs for what is queued and in this worker's hands, at one call a command and the present pace",
    "it is longer than is acceptable",
);
pub const USEFUL_REPLICAS: Metric = Metric::new(
    Gauge,
    "usher_useful_replicas",
    &[],
    "how many workers the present pace can keep busy: 1 while nothing waits or all is paused, and never more than partitions",
    "an autoscaler follows the largest of the fleet",
);
pub const BUILD: Metric = Metric::new(
    Gauge,
    "usher_build_info",
    &["version"],
    "1, with the version of usher",
    "workers have different versions for long",
);

/// All, in the order of the documents.
pub const ALL: [Metric; 42] = [
    DELIVERIES,
    COMMANDS,
    COMMAND_SECONDS,
    COMMAND_AGE,
    WAIT_SECONDS,
    WAITING,
    OLDEST_WAIT,
    UNSETTLED,
    WINDOW,
    WINDOW_USERS,
    HELD_BACK,
    MERGED,
    CALLS,
    CALL_SECONDS,
    RETRIES,
    RETRY_BUDGET,
    QUOTA,
    FLEET_PACE,
    PACE,
    PERMITS,
    PAUSED,
    STANDING_STILL,
    ORDERED_PAUSE,
    ORDERED_PACE,
    BATCHES_UNDER_ORDERS,
    LEASES,
    PARTITIONS,
    QUEUED,
    UNROUTABLE,
    DEAD_LETTERS_QUEUED,
    SECONDS_TO_DRAIN,
    USEFUL_REPLICAS,
    CONNECTED,
    CONNECTIONS,
    UNCONFIRMED,
    REPUBLISHES,
    REDELIVERIES,
    STALE,
    NOTICES_IGNORED,
    PANICS,
    SPANS_DROPPED,
    BUILD,
];

/// The table of the documents.
pub fn table() -> String {
    let mut text = String::from("| metric | labels | meaning | look when |\n| --- | --- | --- | --- |\n");
    for metric in &ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _infallible = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            metric.name,
            labels.join(", "),
            metric.meaning,
            metric.look_when
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_end_as_their_kind_asks() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in &ALL {
            assert!(metric.name.starts_with("usher_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Counter,
                "{}",
                metric.name
            );
            assert_eq!(
                metric.buckets.is_empty(),
                metric.kind != Histogram,
                "{}",
                metric.name
            );
            if metric.kind == Histogram {
                assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
            }
            assert!(metric.buckets.is_sorted(), "{}", metric.name);
        }
    }

    #[test]
    fn no_label_names_a_user_a_command_or_a_batch() {
        for label in ALL.iter().flat_map(|metric| metric.labels) {
            let bounded = [
                "class",
                "outcome",
                "for",
                "place",
                "call",
                "answer",
                "status",
                "cause",
                "traffic",
                "state",
                "partition",
                "role",
                "reason",
                "version",
            ];
            assert!(bounded.contains(label), "{label}");
        }
    }
}
