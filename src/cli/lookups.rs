//! How fast a verb asks the provider about users beside its workers, and what it means if that ends.

use std::sync::Arc;

use usher::clock::Clock;
use usher::config::Config;
use usher::operations::lookup::{Lookup, Settings, Stopped};
use usher::policy::pace;
use usher::provider::Provider;

use super::exit::{self, Exit};

/// The most lookups in flight.
const IN_FLIGHT_MAX: usize = 16;

/// The share of the configured rate that is used where no other is asked for: workers have the rest.
const SHARE: f64 = 0.1;

/// Lookups a second where no rate is configured.
const RATE_UNKNOWN: f64 = 5.0;

/// Lookups at this rate, or at a tenth of the configured one, and the pace in words.
pub fn at_pace(config: &Config, provider: Arc<dyn Provider>, rate: Option<f64>) -> (Arc<Lookup>, String) {
    let (rates, share) = (config.provider.rate.clone(), config.provider.share);
    let (per_second, why) = match (rate, rates.ceiling(share)) {
        (Some(rate), _) => (rate, "--rate"),
        (None, Some(ceiling)) => (ceiling * SHARE, "a tenth of provider.rate; --rate sets another"),
        (None, None) => (
            RATE_UNKNOWN,
            "no provider.rate is configured; --rate sets another",
        ),
    };
    let settings = Settings {
        pace: pace::Settings {
            rates,
            share,
            gap_max: config.retry.probe_gap_max,
            clock: Clock::System,
        },
        per_second,
        retry: config.retry.clone(),
        seed: fastrand::u64(..),
    };
    let rounded = (per_second * 1000.0).round() / 1000.0;
    let in_words = format!("{rounded} a second at most ({why})");
    (Arc::new(Lookup::new(provider, settings)), in_words)
}

/// How many may be in flight.
pub fn window(config: &Config) -> usize {
    config.provider.concurrency.get().min(IN_FLIGHT_MAX)
}

/// `after`: what to do then.
pub fn stopped(stopped: &Stopped, base_url: &str, after: &str) -> anyhow::Error {
    match stopped {
        Stopped::Refused(error) => exit::usage(format_args!("{error}{after}")),
        Stopped::OutOfReach(error) => exit::with(
            Exit::OutOfReach,
            format_args!("the provider at {base_url}: {error}{after}"),
        ),
    }
}
