//! The `[broker]` table of the configuration.

mod url;

use std::num::NonZeroU16;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use url::{BrokerUrl, BrokerUrls, InvalidUrls};

/// The broker's address, and settings of the topology and the connections.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "BrokerConfig")]
pub struct Config {
    /// The broker's address: `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. The nodes of a cluster
    /// are given as a list, or separated by commas: when a connection is lost or can't be made, the next one
    /// is tried.
    #[schemars(extend("examples" = ["amqp://guest:guest@127.0.0.1:5672/%2f"]))]
    pub url: BrokerUrls,
    /// The number of command queues for each traffic class. Only `usher topology declare` changes it, while
    /// no command is queued and no worker runs. More than one spreads the provider over several active
    /// workers, and needs the exchange type x-modulus-hash.
    #[schemars(range(min = 1, max = 256))]
    pub partitions: NonZeroU16,
    /// Unsettled deliveries for each queue, of which a partition has two. The same on every worker: a smaller one
    /// reorders requeued commands. If left out: 16,384 for all queues together, but at least 256 for each.
    #[schemars(with = "NonZeroU16", range(min = 1, max = 65_535))]
    pub prefetch: Option<NonZeroU16>,
    /// The longest wait for the broker to confirm a message, the wait for a connection included.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "100ms", "maximum": "10m" }))]
    pub confirm_timeout: Duration,
    /// The longest wait for a connection to be established.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "100ms", "maximum": "5m" }))]
    pub connect_timeout: Duration,
    /// The longest wait for the broker's reply when a connection is closed.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "100ms", "maximum": "1m" }))]
    pub close_timeout: Duration,
    /// The AMQP heartbeat interval, in whole seconds. A frozen worker is replaced after
    /// about 2.8 times this.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "1s", "maximum": "5m" }))]
    pub heartbeat: Duration,
    /// The first wait before reconnecting; it doubles with each attempt.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "10ms", "maximum": "1m" }))]
    pub reconnect_delay_min: Duration,
    /// The longest wait before reconnecting.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "10ms", "maximum": "10m" }))]
    pub reconnect_delay_max: Duration,
    /// How long a delivery may stay unsettled before the broker takes it back: at least four heartbeats,
    /// since RabbitMQ 4.3 takes back one delivery at a time, and a frozen worker's later ones stay with it.
    /// Fixed when the topology is first declared; RabbitMQ 3.10 knows only its own `consumer_timeout`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "4s", "maximum": "720h" }))]
    pub consumer_timeout: Duration,
    /// How long deliveries are held while the provider is paused: a longer pause hands them back, in
    /// order, and takes none until it ends. Below the broker's consumer timeout, which is 30 minutes by
    /// default.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "1s", "maximum": "24h" }))]
    pub hold_max: Duration,
    /// How far back a starting worker reads the outcome log: a command that was settled within this time and is
    /// redelivered is not applied again.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "0s", "maximum": "168h" }))]
    pub ledger_window: Duration,
    /// How long the outcome log keeps events: a number and one of Y, M, D, h, m, s. Fixed when the
    /// topology is first declared.
    pub outcome_log_max_age: MaxAge,
    /// How large the outcome log may grow, in bytes. Fixed when the topology is first declared.
    #[schemars(range(min = 1_000_000, max = 100_000_000_000_000_u64))]
    pub outcome_log_bytes_max: u64,
}

const ONE: NonZeroU16 = NonZeroU16::MIN;

/// The most unsettled commands of a worker that holds every lease. Below that, one user's backlog and retried commands
/// do not hold up other users. Each takes about 10 KB until it is settled.
const WINDOW: u16 = 16_384;
const PREFETCH_MIN: u16 = 256;

impl Config {
    /// Unsettled deliveries for each queue. It depends only on the number of partitions, which is the same for all
    /// workers: a consumer with a smaller prefetch than the one before it receives only a part of the requeued
    /// deliveries, and when that part is requeued again, the broker puts it behind the rest.
    pub fn prefetch(&self) -> u16 {
        let of_each = WINDOW / self.partitions.get().saturating_mul(2);
        self.prefetch.map_or(of_each.max(PREFETCH_MIN), NonZeroU16::get)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: BrokerUrls::default(),
            partitions: ONE,
            prefetch: None,
            confirm_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            reconnect_delay_min: Duration::from_millis(200),
            reconnect_delay_max: Duration::from_secs(30),
            consumer_timeout: Duration::from_secs(12 * 3600),
            hold_max: Duration::from_secs(10 * 60),
            ledger_window: Duration::from_secs(15 * 60),
            outcome_log_max_age: MaxAge("7D".to_owned()),
            outcome_log_bytes_max: 5_000_000_000,
        }
    }
}

/// A stream's age, in the broker's notation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(
    with = "String",
    extend("pattern" = "^[1-9][0-9]{0,8}[YMDhms]$", "x-age" = { "minimum": "60s", "maximum": "10Y" })
)]
pub struct MaxAge(String);

impl MaxAge {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the broker computes it: a month has 30 days, a year 365.
    pub fn duration(&self) -> Duration {
        const DAY: u64 = 24 * 3600;
        let (number, unit) = self.0.split_at(self.0.len() - 1);
        let unit = match unit {
            "Y" => 365 * DAY,
            "M" => 30 * DAY,
            "D" => DAY,
            "h" => 3600,
            "m" => 60,
            _ => 1,
        };
        // At most nine digits, so it does not overflow.
        Duration::from_secs(number.parse::<u64>().unwrap_or_default() * unit)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an age: write a number and one of Y, M, D, h, m, s, for example 7D")]
pub struct InvalidAge;

impl TryFrom<String> for MaxAge {
    type Error = InvalidAge;

    fn try_from(text: String) -> Result<Self, InvalidAge> {
        let number = text
            .strip_suffix(['Y', 'M', 'D', 'h', 'm', 's'])
            .ok_or(InvalidAge)?;
        let plain = (1..=9).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        if plain && !number.starts_with('0') {
            Ok(Self(text))
        } else {
            Err(InvalidAge)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_may_be_empty_and_unknown_keys_are_refused() {
        let config: Config = serde_json::from_str("{}").unwrap();
        assert_eq!(config.prefetch(), 8192);
        let config: Config =
            serde_json::from_str(r#"{"confirm_timeout": "1m 30s", "partitions": 4}"#).unwrap();
        assert_eq!(
            (config.confirm_timeout, config.partitions.get()),
            (Duration::from_secs(90), 4)
        );
        for refused in [
            r#"{"prefech": 5}"#,
            r#"{"partitions": 0}"#,
            r#"{"url": "localhost"}"#,
            r#"{"outcome_log_max_age": "7 days"}"#,
            r#"{"outcome_log_max_age": "0D"}"#,
        ] {
            assert!(serde_json::from_str::<Config>(refused).is_err(), "{refused}");
        }
    }
}
