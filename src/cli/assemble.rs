//! Builds what the configuration names.

use std::sync::Arc;
use std::time::Duration;

use usher::clock::Clock;
use usher::config::{self, Config};
use usher::policy::{guard, pace};
use usher::provider::answers::Table;
use usher::provider::http::{self, Http, Witness};
use usher::provider::karmo;
use usher::provider::rehearsal::Rehearsal;
use usher::provider::token::Source;
use usher::provider::{Kind, Provider, SetupError};
use usher::worker::{attempts::Calls, gate};

use super::exit;

/// The configured provider's adapter.
pub fn provider(config: &config::Provider) -> anyhow::Result<Arc<dyn Provider>> {
    Http::new(settings(config))
        .and_then(|http| config.adapter(http))
        .map_err(exit::usage)
}

/// The same, with a witness of what its answers tell beside their meaning.
pub fn witnessed(config: &config::Provider) -> Result<(Arc<dyn Provider>, Arc<Witness>), SetupError> {
    let (http, witness) = Http::witnessed(settings(config))?;
    Ok((config.adapter(http)?, witness))
}

/// The configured provider's adapter, which builds requests without sending them.
pub fn rehearsed(config: &config::Provider) -> anyhow::Result<(Arc<dyn Provider>, Arc<Rehearsal>)> {
    let (http, rehearsal) = Http::rehearsed(settings(config)).map_err(exit::usage)?;
    let provider = config.adapter(http).map_err(exit::usage)?;
    Ok((provider, rehearsal))
}

fn settings(config: &config::Provider) -> http::Settings {
    let auth = &config.auth;
    let token = match (&auth.oauth2, &auth.token, &auth.token_command) {
        (Some(oauth2), ..) => Source::OAuth2(oauth2.clone()),
        (None, Some(token), _) => Source::Value(token.clone()),
        (None, None, Some(command)) => Source::Program {
            command: command.clone(),
            time_max: config.timeout,
        },
        (None, None, None) => Source::File(auth.token_file.clone().unwrap_or_default()),
    };
    http::Settings {
        base_url: config.base_url.clone(),
        timeout: config.timeout,
        token,
        concurrency: config.concurrency.get(),
        answers: config.answers.clone(),
    }
}

/// What the configured provider's answers mean.
pub fn answers(config: &config::Provider) -> Result<Table, SetupError> {
    let own = match config.kind {
        Kind::Karmo => karmo::rules(&config.karmo),
        _ => Vec::new(),
    };
    Table::new(config.answers.clone())?.of(config.kind, own)
}

/// What the gate needs from the configuration.
pub fn gate(config: &Config, provider: &dyn Provider) -> gate::Settings {
    gate::Settings {
        pace: pace::Settings {
            rates: config.provider.rate.clone(),
            share: config.provider.share,
            gap_max: config.retry.probe_gap_max,
            clock: Clock::System,
        },
        concurrency: config.provider.concurrency.get(),
        retry: config.retry.clone(),
        bulk_share_min: config.worker.bulk_share_min,
        guard: guard::Settings {
            share_max: config.worker.dead_letter_share_max,
            window: config.worker.dead_letter_window,
            doubts_configuration: config.worker.dead_letter_share_max < 1.0,
        },
        can_read: provider.reads(),
        seed: fastrand::u64(..),
    }
}

/// What the attempts need from the configuration.
pub fn calls(config: &Config) -> Calls {
    Calls {
        timeout: config.provider.timeout,
        settling_time: config.provider.settling_time,
        read_lag: config.provider.read_lag(),
        skip_unchanged: config.provider.skip_unchanged,
        merge: config.provider.merge,
        on_ignored: config.provider.on_ignored,
    }
}

/// Reads `200ms`, `10s`, `1m 30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "write a duration such as 200ms or 10s".to_owned())?;
    Duration::try_from(span).map_err(|_| "write a duration that is not negative".to_owned())
}
