//! What `usher check` finds at the broker, and how the broker's settings affect the worker.

use std::time::Duration;

use usher::broker::amqp::{self, ConnectError, Greeting, Server, Surveyed, TopologyError};
use usher::broker::{self, SHORT_TEXT_BYTES_MAX};
use usher::clock::Clock;
use usher::config::Config;
use usher::operations::findings::Number;

use super::report::Finding;
use super::{certificates, topology};
use crate::cli::publish::user_id_bytes_max;

pub(super) async fn look(config: &Config, fix: bool) -> Vec<Finding> {
    let mut findings = at_the_broker(config, fix).await;
    findings.push(user_ids(config));
    findings
}

/// The longest user id that fits into a routing key. Most ids are far shorter, with one byte per character.
fn user_ids(config: &Config) -> Finding {
    let most = user_id_bytes_max(config.provider.name.as_str());
    let detail = format!(
        "of up to {most} bytes in UTF-8 can be published: the provider's name and the id share a routing key of \
         {SHORT_TEXT_BYTES_MAX} bytes"
    );
    Finding::ok("user ids", detail)
}

/// What it is that the broker can't be used for this reason.
pub(super) fn number_of(error: &ConnectError) -> Number {
    match error {
        ConnectError::Unreachable { .. } => Number::BrokerUnreachable,
        ConnectError::CertificateExpired { .. } => Number::ExpiredCertificate,
        ConnectError::Topology(
            TopologyError::Differs { .. }
            | TopologyError::OtherPartitions { .. }
            | TopologyError::PartitionsInUse { .. },
        ) => Number::TopologyDiffers,
        ConnectError::Refused { .. } | ConnectError::Topology(_) => Number::BrokerRefuses,
    }
}

async fn at_the_broker(config: &Config, fix: bool) -> Vec<Finding> {
    let surveyed = match amqp::survey(&config.broker).await {
        Ok(surveyed) => surveyed,
        Err(error) => return vec![Finding::of(number_of(&error), "broker", error.to_string())],
    };
    let servers: Vec<_> = surveyed
        .iter()
        .filter_map(|one| one.answer.as_ref().ok())
        .collect();
    let mut findings: Vec<_> = surveyed
        .iter()
        .map(|one| address(one, !servers.is_empty()))
        .collect();
    let ceiling = config.provider.rate.ceiling(config.provider.share);
    let mut warnings: Vec<_> = servers
        .iter()
        .flat_map(|server| advice(server.greeting.as_ref(), &config.broker, ceiling))
        .collect();
    warnings.sort();
    warnings.dedup();
    findings.extend(
        warnings
            .into_iter()
            .map(|(number, detail)| Finding::of(number, "broker", detail)),
    );
    findings.extend(surveyed.iter().filter_map(certificate));
    if let Some(server) = servers.first() {
        findings.push(Finding::ok(
            "message size",
            message_size(server.greeting.as_ref()),
        ));
        findings.extend(topology::look(config, fix).await);
    }
    findings
}

fn address(surveyed: &Surveyed, another: bool) -> Finding {
    let url = &surveyed.url;
    match &surveyed.answer {
        Ok(server) => Finding::ok("broker", format!("{url} accepts the worker: {}", about(server))),
        Err(error) if another && error.is_out_of_reach() => Finding::of(
            Number::AddressUnreachable,
            "broker",
            format!("{url}: {error}; the worker uses another address"),
        ),
        Err(error) => Finding::of(number_of(error), "broker", format!("{url}: {error}")),
    }
}

fn certificate(surveyed: &Surveyed) -> Option<Finding> {
    let certificate = surveyed.answer.as_ref().ok()?.certificate.as_deref()?;
    let whose = format!("the broker's at {}", surveyed.url);
    Some(certificates::look(
        Number::BrokerCertificate,
        &whose,
        certificate,
        Clock::System.now(),
    ))
}

fn about(server: &Server) -> String {
    let heartbeat = server.heartbeat.as_secs();
    match &server.greeting {
        Some(Greeting { product, version }) => format!("{product} {version}, heartbeat {heartbeat} s"),
        None => format!("a broker of unknown version, heartbeat {heartbeat} s"),
    }
}

/// RabbitMQ's default.
const BROKERS_OWN_CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The margin: the broker checks once a minute, and deliveries have to be handed back before that.
const HOLD_MARGIN: Duration = Duration::from_secs(5 * 60);

/// The broker's limit for a message can't be queried, so its default is shown.
fn message_size(greeting: Option<&Greeting>) -> String {
    let by_default = match greeting.and_then(Greeting::rabbitmq) {
        Some(version) if version < (4, 0, 0) => "128 MiB",
        Some(_) => "16 MiB",
        None => "unknown here",
    };
    format!(
        "the largest message is max_message_size in rabbitmq.conf, {by_default} by default; a command has at most \
         256 KiB, and a worker may hold one larger body twice: 1048576 is enough"
    )
}

/// Findings that follow from the version and the configuration. `ceiling` is the quota's, in calls per second.
fn advice(
    greeting: Option<&Greeting>,
    config: &broker::Config,
    ceiling: Option<f64>,
) -> Vec<(Number, String)> {
    let mut advice = Vec::new();
    let version = greeting.and_then(Greeting::rabbitmq);
    let named = greeting.map_or("", |greeting| &greeting.version);
    if version.is_some_and(|version| ((4, 3, 0)..(4, 3, 6)).contains(&version)) {
        advice.push((Number::FaultyRelease, format!(
            "RabbitMQ {named} stops delivering from a queue permanently once all of its consumers ran into the \
             consumer time-out: upgrade it to 4.3.6 or later"
)));
    }
    let is_old = version.is_some_and(|version| version < (4, 0, 0));
    let takes_back_after = match is_old {
        true => BROKERS_OWN_CONSUMER_TIMEOUT,
        false => config.consumer_timeout,
    };
    // Each partition gets its share of the calls.
    let window = f64::from(config.prefetch()) * f64::from(config.partitions.get());
    if let Some(ceiling) = ceiling.filter(|ceiling| window / ceiling > takes_back_after.as_secs_f64()) {
        advice.push((Number::LongWindow, format!(
            "at {ceiling:.2} calls/s the {} commands that a queue's consumer holds take {:.0} minutes, and the broker \
             takes back deliveries held for more than {} minutes{}: set broker.prefetch to {:.0} or less on all \
             workers",
            config.prefetch(),
            window / ceiling / 60.0,
            takes_back_after.as_secs() / 60,
            if is_old { ", unless consumer_timeout is raised in rabbitmq.conf" } else { "" },
            (ceiling * takes_back_after.as_secs_f64() / 2.0 / f64::from(config.partitions.get())).max(1.0),
)));
    }
    let held = config.hold_max.as_secs();
    let too_long = |ceiling: Duration| config.hold_max + HOLD_MARGIN > ceiling;
    if is_old {
        if too_long(BROKERS_OWN_CONSUMER_TIMEOUT) {
            advice.push((Number::LongHold, format!(
                "broker.hold_max is {held} s, and RabbitMQ {named} has one consumer time-out for all queues, 30 \
                 minutes where nobody raised it, which takes back what is held for longer: keep hold_max at 25m or below, or \
                 raise consumer_timeout in rabbitmq.conf well above it"
)));
        }
    } else if too_long(config.consumer_timeout) {
        advice.push((Number::LongHold, format!(
            "broker.hold_max is {held} s, and broker.consumer_timeout is {} s, after which the broker takes deliveries \
             back: keep hold_max five minutes below it",
            config.consumer_timeout.as_secs()
)));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(advice: Vec<(Number, String)>) -> String {
        let each = advice
            .into_iter()
            .map(|(number, detail)| format!("{number} {detail}"));
        each.collect::<Vec<_>>().join("; ")
    }

    fn advice_of(version: &str, hold_max_min: u64, consumer_timeout_min: u64) -> String {
        let greeting = Greeting {
            product: "RabbitMQ".to_owned(),
            version: version.to_owned(),
        };
        let config = broker::Config {
            hold_max: Duration::from_secs(hold_max_min * 60),
            consumer_timeout: Duration::from_secs(consumer_timeout_min * 60),
            ..broker::Config::default()
        };
        joined(advice(Some(&greeting), &config, None))
    }

    #[test]
    fn the_defaults_need_no_advice_on_a_broker_without_faults() {
        for version in ["3.10.8", "4.0.5", "4.2.9", "4.3.6", "5.0.0", "unknown"] {
            assert_eq!(advice_of(version, 10, 720), "", "{version}");
        }
        assert!(advice(None, &broker::Config::default(), None).is_empty());
    }

    #[test]
    fn the_largest_message_is_named_by_version() {
        let of = |version: &str| {
            message_size(Some(&Greeting {
                product: "RabbitMQ".to_owned(),
                version: version.to_owned(),
            }))
        };
        assert!(of("3.10.8").contains("128 MiB by default"));
        assert!(of("4.3.6").contains("16 MiB by default"));
        assert!(message_size(None).contains("max_message_size"));
    }

    #[test]
    fn a_version_that_can_stop_delivering_is_named() {
        for version in ["4.3.0", "4.3.5"] {
            assert!(
                advice_of(version, 10, 720).starts_with("U011")
                    && advice_of(version, 10, 720).contains("4.3.6 or later"),
                "{version}"
            );
        }
    }

    #[test]
    fn a_window_that_outlasts_the_consumer_timeout_is_reported() {
        let of = |version: &str, ceiling| {
            let greeting = Greeting {
                product: "RabbitMQ".to_owned(),
                version: version.to_owned(),
            };
            joined(advice(Some(&greeting), &broker::Config::default(), Some(ceiling)))
        };
        assert_eq!(of("3.10.8", 5.0), "");
        assert!(of("3.10.8", 4.0).starts_with("U006") && of("3.10.8", 4.0).contains("take 34 minutes"));
        assert!(of("3.10.8", 4.0).contains("broker.prefetch to 3600 or less"));
        assert_eq!(of("4.0.5", 1.0), "");
        assert!(of("4.0.5", 0.1).contains("for more than 720 minutes"));
        assert!(of("3.10.8", 0.0001).contains("broker.prefetch to 1 or less"));
    }

    #[test]
    fn a_hold_max_beyond_the_consumer_timeout_is_reported() {
        // An older broker knows only its own.
        assert_eq!(advice_of("3.10.8", 25, 10), "");
        assert!(advice_of("3.10.8", 26, 720).contains("in rabbitmq.conf"));
        assert!(advice_of("3.13.7", 60, 720).contains("in rabbitmq.conf"));
        assert_eq!(advice_of("4.0.5", 60, 720), "");
        assert!(advice_of("4.0.5", 60, 64).starts_with("U007"));
        assert!(advice_of("4.0.5", 60, 64).contains("consumer_timeout is 3840 s"));
    }
}
