//! Every metric: its name, its unit and its labels.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::contract::{Outcome, TrafficClass};

const COMMANDS: &str = "usher_commands_total";
const COMMAND_SECONDS: &str = "usher_command_seconds";
const CALLS: &str = "usher_provider_calls_total";
const CALL_SECONDS: &str = "usher_provider_call_seconds";
const MERGED: &str = "usher_commands_merged_total";
const REDELIVERIES: &str = "usher_redeliveries_total";
const STALE: &str = "usher_stale_deliveries_total";
const REPUBLISHES: &str = "usher_publish_repeats_total";
const PANICS: &str = "usher_panics_total";
const UNSETTLED: &str = "usher_commands_in_hand";
const WINDOW: &str = "usher_window_commands";
const PAUSED: &str = "usher_paused";
const LEASES: &str = "usher_leases";
const PARTITIONS: &str = "usher_partitions";
const PACE: &str = "usher_pace_per_second";
const UNROUTABLE: &str = "usher_unroutable";
const ORDERED_PAUSE: &str = "usher_ordered_pause";
const ORDERED_PACE: &str = "usher_ordered_pace_per_second";
const BATCHES_UNDER_ORDERS: &str = "usher_batches_under_orders";
const WAITING: &str = "usher_commands_waiting";
const STANDING_STILL: &str = "usher_standing_still";
const HELD_BACK: &str = "usher_commands_held_back";
const NOTICES_IGNORED: &str = "usher_fleet_notices_ignored_total";

/// Histograms, with the exporter's buckets, in seconds.
pub const HISTOGRAMS: [(&str, &[f64]); 2] = [
    (
        COMMAND_SECONDS,
        &[
            0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
        ],
    ),
    (
        CALL_SECONDS,
        &[
            0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ],
    ),
];

/// Registers the help texts of the scrape.
pub fn describe() {
    describe_counts();
    describe_gauges();
}

fn describe_counts() {
    describe_counter!(
        COMMANDS,
        "Commands by outcome (success, or the reason of the dead letter) and traffic class"
    );
    describe_histogram!(
        COMMAND_SECONDS,
        "From the start of a command's run to its confirmed outcome, in seconds"
    );
    describe_counter!(CALLS, "Calls to the provider by kind of call and answer");
    describe_histogram!(CALL_SECONDS, "Duration of a call to the provider, in seconds");
    describe_counter!(
        MERGED,
        "Commands merged into the call of another command of their user"
    );
    describe_counter!(REDELIVERIES, "Deliveries that the broker had delivered before");
    describe_counter!(
        STALE,
        "Deliveries that were lost with their connection and are redelivered"
    );
    describe_counter!(
        REPUBLISHES,
        "Publishes repeated because the broker had not confirmed them"
    );
    describe_counter!(PANICS, "Commands whose run panicked: a defect");
    describe_counter!(
        NOTICES_IGNORED,
        "Notices on the fleet's exchange that no worker would send, by what is wrong with them"
    );
}

fn describe_gauges() {
    describe_gauge!(
        UNSETTLED,
        "Commands delivered and not settled, by place (running, parked)"
    );
    describe_gauge!(
        WINDOW,
        "The most unsettled commands: at that number the broker delivers no more"
    );
    describe_gauge!(
        PAUSED,
        "1 while calls to the provider are paused, by cause (throttled, outage, credentials, configuration, worker, dead_letters, operator)"
    );
    describe_gauge!(
        WAITING,
        "Commands in flight by what they wait for (order, log, batch, alone, slot, confirm, permit, pause, retry, answer, guard)"
    );
    describe_gauge!(
        STANDING_STILL,
        "1 while /readyz answers 503 for this cause (its state)"
    );
    describe_gauge!(
        HELD_BACK,
        "Commands that would be dead letters and wait until the dead-letter guard opens"
    );
    describe_gauge!(
        LEASES,
        "Partitions that this worker consumes; 0: it is on standby"
    );
    describe_gauge!(PARTITIONS, "Partitions of the provider");
    describe_gauge!(
        PACE,
        "Calls per second that this worker may make now, as configured and learned"
    );
    describe_gauge!(
        ORDERED_PAUSE,
        "1 while an operator's pause is in force, by traffic (all, bulk)"
    );
    describe_gauge!(
        ORDERED_PACE,
        "The pinned pace of the whole fleet, in calls per second; 0: none is pinned"
    );
    describe_gauge!(
        BATCHES_UNDER_ORDERS,
        "Batches that operators have paused or cancelled, by state"
    );
    describe_gauge!(
        UNROUTABLE,
        "Messages in user.unroutable: published, and taken by no queue"
    );
}

/// `None`: no pause is ordered; otherwise whether only bulk traffic is paused.
pub fn ordered_pause(bulk_only: Option<bool>) {
    let on = |yes: bool| f64::from(u8::from(yes));
    gauge!(ORDERED_PAUSE, "traffic" => "all").set(on(bulk_only == Some(false)));
    gauge!(ORDERED_PAUSE, "traffic" => "bulk").set(on(bulk_only == Some(true)));
}

pub fn ordered_pace(per_second: Option<f64>) {
    gauge!(ORDERED_PACE).set(per_second.unwrap_or(0.0));
}

pub fn batches_under_orders(state: &'static str, batches: usize) {
    gauge!(BATCHES_UNDER_ORDERS, "state" => state).set(batches as f64);
}

pub fn notice_ignored(reason: &'static str) {
    counter!(NOTICES_IGNORED, "reason" => reason).increment(1);
}

pub fn command_settled(outcome: &Outcome, class: TrafficClass, took: Duration) {
    let outcome = outcome
        .dead_letter()
        .map_or("success", |failure| failure.reason.as_str());
    counter!(COMMANDS, "outcome" => outcome, "class" => class.as_str()).increment(1);
    histogram!(COMMAND_SECONDS, "class" => class.as_str()).record(took);
}

pub fn call(kind: &'static str, answer: &'static str, took: Duration) {
    counter!(CALLS, "call" => kind, "answer" => answer).increment(1);
    histogram!(CALL_SECONDS, "call" => kind).record(took);
}

pub fn merged(commands: usize) {
    counter!(MERGED).increment(u64::try_from(commands).unwrap_or(u64::MAX));
}

pub fn redelivery() {
    counter!(REDELIVERIES).increment(1);
}

pub fn stale_delivery() {
    counter!(STALE).increment(1);
}

pub fn publish_repeated() {
    counter!(REPUBLISHES).increment(1);
}

pub fn panic() {
    counter!(PANICS).increment(1);
}

pub fn commands_unsettled(running: usize, queued: usize) {
    gauge!(UNSETTLED, "place" => "running").set(running as f64);
    gauge!(UNSETTLED, "place" => "parked").set(queued as f64);
}

pub fn window(commands: usize) {
    gauge!(WINDOW).set(commands as f64);
}

pub fn leases(held: usize, partitions: usize) {
    gauge!(LEASES).set(held as f64);
    gauge!(PARTITIONS).set(partitions as f64);
}

pub fn pace(per_second: f64) {
    gauge!(PACE).set(per_second);
}

pub fn commands_waiting(wait: &'static str, commands: usize) {
    gauge!(WAITING, "for" => wait).set(commands as f64);
}

pub fn standing_still(cause: &'static str, yes: bool) {
    gauge!(STANDING_STILL, "cause" => cause).set(f64::from(u8::from(yes)));
}

pub fn held_back(commands: usize) {
    gauge!(HELD_BACK).set(commands as f64);
}

pub fn unroutable(messages: u64) {
    gauge!(UNROUTABLE).set(messages as f64);
}

pub fn paused(cause: &'static str, yes: bool) {
    gauge!(PAUSED, "cause" => cause).set(f64::from(u8::from(yes)));
}
