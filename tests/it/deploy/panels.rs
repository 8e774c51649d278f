//! The dashboard's seven questions, and the panels that answer each.

use Shape::{Series, Stacked, Stat, Table};

#[derive(Clone, Copy, PartialEq)]
pub enum Shape {
    /// One number.
    Stat,
    Series,
    /// Series that add up.
    Stacked,
    Table,
}

pub struct Panel {
    pub title: &'static str,
    pub shape: Shape,
    /// As Grafana names it.
    pub unit: &'static str,
    /// What to look for.
    pub hint: &'static str,
    pub targets: &'static [Target],
}

pub struct Target {
    pub expr: &'static str,
    pub legend: &'static str,
    /// Whether it has data after any run that applied commands. Otherwise it shows what does not happen in each.
    pub always: bool,
}

const fn always(expr: &'static str, legend: &'static str) -> Target {
    Target {
        expr,
        legend,
        always: true,
    }
}

const fn maybe(expr: &'static str, legend: &'static str) -> Target {
    Target {
        expr,
        legend,
        always: false,
    }
}

const fn panel(
    title: &'static str,
    (shape, unit): (Shape, &'static str),
    hint: &'static str,
    targets: &'static [Target],
) -> Panel {
    Panel {
        title,
        shape,
        unit,
        hint,
        targets,
    }
}

/// A question, and its panels.
pub type Row = (&'static str, &'static [Panel]);

pub const ROWS: [Row; 7] = [
    ("Is it well?", &WELL),
    ("How fast is it against the quota, and why?", &PACE),
    ("What waits for what?", &WAITS),
    ("What fails, and why?", &FAILURES),
    (
        "What is in the queues, and how long until they are empty?",
        &QUEUES,
    ),
    ("Are the broker and the fleet all right?", &FLEET),
    ("What did operators order?", &ORDERS),
];

const WELL: [Panel; 6] = [
    panel(
        "Alerts that fire",
        (Stat, "none"),
        "Each says which command to type.",
        &[always(
            r#"count(ALERTS{alertname=~"Usher.*", alertstate="firing"}) or vector(0)"#,
            "",
        )],
    ),
    panel(
        "Workers",
        (Stat, "none"),
        "",
        &[always(r#"count(usher_build_info{job=~"$job"})"#, "")],
    ),
    panel(
        "Partitions with a worker",
        (Stat, "percentunit"),
        "Less than all for a minute: commands of the others wait.",
        &[always(
            r#"sum by (job) (usher_leases{job=~"$job"}) / max by (job) (usher_partitions{job=~"$job"})"#,
            "{{job}}",
        )],
    ),
    panel(
        "Commands that succeed",
        (Stat, "percentunit"),
        "Of those that ended in the last five minutes.",
        &[always(
            r#"sum by (job) (rate(usher_commands_total{job=~"$job", outcome="success"}[5m])) / sum by (job) (rate(usher_commands_total{job=~"$job"}[5m]))"#,
            "{{job}}",
        )],
    ),
    panel(
        "Standing still, by cause",
        (Series, "none"),
        "As /readyz says. Nothing here: all is well.",
        &[maybe(
            r#"sum by (job, cause) (usher_standing_still{job=~"$job"}) > 0"#,
            "{{job}} {{cause}}",
        )],
    ),
    panel(
        "Commands that end",
        (Stacked, "ops"),
        "",
        &[always(
            r#"sum by (outcome) (rate(usher_commands_total{job=~"$job"}[$__rate_interval]))"#,
            "{{outcome}}",
        )],
    ),
];

const PACE: [Panel; 4] = [
    panel(
        "Calls, pace and quota of the fleet",
        (Series, "ops"),
        "Calls below the pace: see what waits for what. A pace below the quota: the provider slows the fleet down, or an operator pinned it.",
        &[
            always(
                r#"sum by (job) (rate(usher_permits_total{job=~"$job"}[$__rate_interval]))"#,
                "calls {{job}}",
            ),
            always(
                r#"max by (job) (usher_fleet_pace_per_second{job=~"$job"})"#,
                "pace {{job}}",
            ),
            always(
                r#"max by (job) (usher_quota_per_second{job=~"$job"}) > 0"#,
                "quota {{job}}",
            ),
        ],
    ),
    panel(
        "Share of the pace that is used",
        (Series, "percentunit"),
        "Low is right while nothing waits.",
        &[always(
            r#"sum by (job) (rate(usher_permits_total{job=~"$job"}[$__rate_interval])) / max by (job) (usher_fleet_pace_per_second{job=~"$job"})"#,
            "{{job}}",
        )],
    ),
    panel(
        "Calls paused, by cause",
        (Series, "none"),
        "How many workers.",
        &[maybe(
            r#"sum by (job, cause) (usher_paused{job=~"$job"}) > 0"#,
            "{{job}} {{cause}}",
        )],
    ),
    panel(
        "Pace of each worker, and calls by class",
        (Series, "ops"),
        "",
        &[
            always(r#"usher_pace_per_second{job=~"$job"}"#, "pace {{instance}}"),
            always(
                r#"sum by (class) (rate(usher_permits_total{job=~"$job"}[$__rate_interval]))"#,
                "calls {{class}}",
            ),
        ],
    ),
];

const WAITS: [Panel; 5] = [
    panel(
        "Commands that wait, by cause",
        (Stacked, "none"),
        "The causes are in docs/operating.md.",
        &[always(
            r#"sum by (for) (usher_commands_waiting{job=~"$job"})"#,
            "{{for}}",
        )],
    ),
    panel(
        "Longest wait, by cause",
        (Series, "s"),
        "confirm for more than a few seconds: look at RabbitMQ.",
        &[always(
            r#"max by (for) (usher_oldest_wait_seconds{job=~"$job"})"#,
            "{{for}}",
        )],
    ),
    panel(
        "Time spent waiting, by cause",
        (Stacked, "none"),
        "How many commands waited for it on average.",
        &[always(
            r#"sum by (for) (rate(usher_wait_seconds_sum{job=~"$job"}[$__rate_interval]))"#,
            "{{for}}",
        )],
    ),
    panel(
        "Wait of 95 in 100, by cause",
        (Series, "s"),
        "",
        &[always(
            r#"histogram_quantile(0.95, sum by (le, for) (rate(usher_wait_seconds_bucket{job=~"$job"}[$__rate_interval])))"#,
            "{{for}}",
        )],
    ),
    panel(
        "Commands in hand, and the window",
        (Series, "none"),
        "Few users while the window is full: they have it all.",
        &[
            always(
                r#"sum by (instance, place) (usher_commands_in_hand{job=~"$job"})"#,
                "{{instance}} {{place}}",
            ),
            always(r#"usher_window_commands{job=~"$job"}"#, "{{instance}} window"),
            always(r#"usher_window_users{job=~"$job"}"#, "{{instance}} users"),
        ],
    ),
];

const FAILURES: [Panel; 5] = [
    panel(
        "Dead letters, by reason",
        (Stacked, "ops"),
        "usher dead-letters list shows them.",
        &[always(
            r#"sum by (outcome) (rate(usher_commands_total{job=~"$job", outcome!="success"}[$__rate_interval]))"#,
            "{{outcome}}",
        )],
    ),
    panel(
        "Calls, by answer",
        (Stacked, "ops"),
        "usher explain answer says what an answer means.",
        &[always(
            r#"sum by (call, answer) (rate(usher_provider_calls_total{job=~"$job"}[$__rate_interval]))"#,
            "{{call}} {{answer}}",
        )],
    ),
    panel(
        "Duration of 95 in 100 calls",
        (Series, "s"),
        "Near provider.timeout, calls are given up.",
        &[always(
            r#"histogram_quantile(0.95, sum by (le, call, status) (rate(usher_provider_call_seconds_bucket{job=~"$job"}[$__rate_interval])))"#,
            "{{call}} {{status}}",
        )],
    ),
    panel(
        "Retries",
        (Series, "none"),
        "At a budget of 0, further retries wait.",
        &[
            maybe(
                r#"sum by (job) (rate(usher_retries_total{job=~"$job"}[$__rate_interval]))"#,
                "a second {{job}}",
            ),
            always(r#"usher_retry_budget{job=~"$job"}"#, "budget {{instance}}"),
        ],
    ),
    panel(
        "Held back, and panics",
        (Series, "none"),
        "Held back: too many would be dead letters. A panic is a bug.",
        &[
            maybe(
                r#"sum by (job) (usher_commands_held_back{job=~"$job"})"#,
                "held back {{job}}",
            ),
            maybe(
                r#"sum by (instance) (usher_panics_total{job=~"$job"})"#,
                "panics {{instance}}",
            ),
            maybe(
                r#"sum by (instance) (usher_spans_dropped_total{job=~"$job"})"#,
                "spans not sent {{instance}}",
            ),
        ],
    ),
];

const QUEUES: [Panel; 7] = [
    panel(
        "Ready commands, by partition",
        (Stacked, "none"),
        "Each worker sees the same queues.",
        &[always(
            r#"max by (job, partition) (usher_queue_commands{job=~"$job"})"#,
            "{{job}} {{partition}}",
        )],
    ),
    panel(
        "Until they are empty",
        (Series, "s"),
        "At the present pace, and one call a command.",
        &[always(
            r#"max by (job) (usher_seconds_to_drain{job=~"$job"})"#,
            "{{job}}",
        )],
    ),
    panel(
        "Commands taken and ended",
        (Series, "ops"),
        "",
        &[
            always(
                r#"sum by (class) (rate(usher_deliveries_total{job=~"$job"}[$__rate_interval]))"#,
                "taken {{class}}",
            ),
            always(
                r#"sum by (class) (rate(usher_commands_total{job=~"$job"}[$__rate_interval]))"#,
                "ended {{class}}",
            ),
            maybe(
                r#"sum by (job) (rate(usher_commands_merged_total{job=~"$job"}[$__rate_interval]))"#,
                "merged {{job}}",
            ),
        ],
    ),
    panel(
        "Age of 95 in 100 commands at their end",
        (Series, "s"),
        "From when they were issued, and from when a worker began. Interactive: how long users wait.",
        &[
            always(
                r#"histogram_quantile(0.95, sum by (le, class) (rate(usher_command_age_seconds_bucket{job=~"$job"}[$__rate_interval])))"#,
                "issued {{class}}",
            ),
            always(
                r#"histogram_quantile(0.95, sum by (le, class) (rate(usher_command_seconds_bucket{job=~"$job"}[$__rate_interval])))"#,
                "begun {{class}}",
            ),
        ],
    ),
    panel(
        "Dead letters in the queue",
        (Stat, "none"),
        "Of all providers. usher dead-letters list groups them.",
        &[always(r#"max(usher_dead_letters_queued{job=~"$job"})"#, "")],
    ),
    panel(
        "Messages that reached no queue",
        (Stat, "none"),
        "usher check says what to do.",
        &[always(r#"max(usher_unroutable{job=~"$job"})"#, "")],
    ),
    panel(
        "Workers that would be useful",
        (Series, "none"),
        "An autoscaler follows it.",
        &[
            always(
                r#"max by (job) (usher_useful_replicas{job=~"$job"})"#,
                "useful {{job}}",
            ),
            always(
                r#"count by (job) (usher_build_info{job=~"$job"})"#,
                "running {{job}}",
            ),
        ],
    ),
];

const FLEET: [Panel; 6] = [
    panel(
        "Connections that are down",
        (Series, "none"),
        "By role. Nothing here: all are up.",
        &[maybe(
            r#"usher_broker_connected{job=~"$job"} == 0"#,
            "{{instance}} {{role}}",
        )],
    ),
    panel(
        "Connections made in an hour",
        (Series, "none"),
        "One a role at a start. More: connections are lost.",
        &[always(
            r#"sum by (role) (increase(usher_broker_connections_total{job=~"$job"}[1h]))"#,
            "{{role}}",
        )],
    ),
    panel(
        "Unconfirmed publishes",
        (Series, "none"),
        "If they grow, the broker is slow.",
        &[
            always(r#"usher_confirms_outstanding{job=~"$job"}"#, "{{instance}}"),
            maybe(
                r#"sum by (instance) (increase(usher_publish_repeats_total{job=~"$job"}[$__rate_interval]))"#,
                "repeated {{instance}}",
            ),
        ],
    ),
    panel(
        "Deliveries that came again",
        (Series, "ops"),
        "After a restart, or when connections are lost.",
        &[
            maybe(
                r#"sum by (job) (rate(usher_redeliveries_total{job=~"$job"}[$__rate_interval]))"#,
                "redelivered {{job}}",
            ),
            maybe(
                r#"sum by (job) (rate(usher_stale_deliveries_total{job=~"$job"}[$__rate_interval]))"#,
                "lost with a connection {{job}}",
            ),
        ],
    ),
    panel(
        "Partitions of each worker, and notices ignored",
        (Series, "none"),
        "Notices in a form that no worker sends: see who may write to the fleet's exchange.",
        &[
            always(r#"usher_leases{job=~"$job"}"#, "{{instance}}"),
            maybe(
                r#"sum by (reason) (increase(usher_fleet_notices_ignored_total{job=~"$job"}[$__rate_interval]))"#,
                "ignored {{reason}}",
            ),
        ],
    ),
    panel(
        "Versions",
        (Table, "none"),
        "More than one for long: an upgrade has stopped halfway.",
        &[always(
            r#"count by (job, version) (usher_build_info{job=~"$job"})"#,
            "",
        )],
    ),
];

const ORDERS: [Panel; 3] = [
    panel(
        "Pauses",
        (Series, "none"),
        "Of all traffic, or of bulk traffic. usher resume ends them.",
        &[always(
            r#"max by (job, traffic) (usher_ordered_pause{job=~"$job"})"#,
            "{{job}} {{traffic}}",
        )],
    ),
    panel(
        "Pinned pace",
        (Series, "ops"),
        "0: none. usher pace unpin ends it.",
        &[always(
            r#"max by (job) (usher_ordered_pace_per_second{job=~"$job"})"#,
            "{{job}}",
        )],
    ),
    panel(
        "Batches under orders",
        (Series, "none"),
        "usher batch list names them.",
        &[always(
            r#"max by (job, state) (usher_batches_under_orders{job=~"$job"})"#,
            "{{job}} {{state}}",
        )],
    ),
];
