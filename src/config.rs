//! The configuration: every module's own table, from a file and from the environment.
//!
//! Unknown keys are refused. A refusal names where the value came from, the key, and the mend; it never
//! quotes a value.

mod load;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema};
use secrecy::SecretString;
use serde::Deserialize;

use crate::contract::{ProviderName, schema as published};
use crate::policy::pace::Rate;
use crate::policy::retry;
use crate::provider::{Kind, karmo, mattr, sivo, zitadel};
use crate::telemetry;
use crate::{broker, worker};

pub use load::{ConfigError, load, load_broker};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "usher.toml",
    description = "The configuration: the file, and above it the environment as USHER_PROVIDER__BASE_URL and so on. Durations are written as 200ms, 10s or 1m 30s.",
    extend("$id" = "urn:usher:schemas/config.json")
)]
pub struct Config {
    #[serde(default)]
    pub broker: broker::Config,
    pub provider: Provider,
    #[serde(default)]
    pub retry: retry::Config,
    #[serde(default)]
    pub worker: worker::Config,
    #[serde(default)]
    pub admin: Admin,
    #[serde(default)]
    pub log: telemetry::Config,
}

/// `schemas/config.json`
pub fn schema() -> Schema {
    published::of_read::<Config>()
}

/// `[provider]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Part of queue names and routing keys; commands carry it.
    pub name: ProviderName,
    pub kind: Kind,
    /// Where the provider is: `https://host`, with a path where its API has one.
    pub base_url: String,
    /// What the provider allows. Left out: no ceiling but the provider's own answers.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// Calls in flight. Default: 64.
    #[serde(default = "concurrency")]
    pub concurrency: NonZeroUsize,
    /// How long one call may take. Default: 10s.
    #[serde(
        default = "timeout",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required"
    )]
    #[schemars(with = "String")]
    pub timeout: Duration,
    pub auth: Auth,
    #[serde(default)]
    pub karmo: karmo::Config,
    #[serde(default)]
    pub zitadel: zitadel::Config,
    #[serde(default)]
    pub sivo: sivo::Config,
    #[serde(default)]
    pub mattr: mattr::Config,
}

fn concurrency() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(63)
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

/// `[provider.auth]`: exactly one of the two.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("oneOf" = [{ "required": ["token_file"] }, { "required": ["token"] }]))]
pub struct Auth {
    /// A file with the bearer token; read again when it changes.
    #[schemars(with = "String")]
    pub token_file: Option<PathBuf>,
    /// The bearer token itself: only from the environment, as `USHER_PROVIDER__AUTH__TOKEN`.
    #[schemars(with = "String", extend("x-sensitive" = true))]
    pub token: Option<SecretString>,
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9464).into(),
        }
    }
}
