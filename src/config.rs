//! The configuration: every module's own table, from a file and from the environment.
//!
//! The JSON schema that the types generate is the one source of what is right: names, types, bounds. `load` reads
//! file and environment into one tree, `check` and `rules` hold it against the schema, and only what is right becomes a
//! `Config`. Everything that is wrong is told at once: where it stands, the key, and how to fix it; never a value.

mod check;
mod clear_text;
mod load;
mod rules;
mod shape;
#[cfg(test)]
mod tests;
mod tree;
mod variables;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema};
use secrecy::SecretString;
use serde::Deserialize;

use crate::contract::{ProviderName, schema as published};
use crate::policy::pace::Rates;
use crate::policy::retry;
use crate::provider::answers::Rule;
use crate::provider::token::oauth2;
use crate::provider::{Kind, karmo, mattr, rest, scim, sivo, zitadel};
use crate::telemetry;
use crate::worker::Merge;
use crate::worker::attempts::OnIgnored;
use crate::{broker, worker};

pub use load::{ConfigError, load, load_broker};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "usher.toml",
    description = "The configuration: the file, and above it the environment as USHER_PROVIDER__BASE_URL and so on. Durations are written as 200ms, 10s or 1m 30s; `x-duration` and `x-age` give their bounds.",
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
    #[schemars(extend("examples" = ["zitadel-eu"]))]
    pub name: ProviderName,
    pub kind: Kind,
    /// Where the provider is: `https://host`, with a path where its API has one.
    #[schemars(extend("examples" = ["https://acme.zitadel.cloud"]))]
    pub base_url: String,
    /// Whether `base_url` and `token_url` may be http:// beyond this machine, where anyone on the network path reads the
    /// token and the users' data. Default: false.
    #[serde(default)]
    pub insecure: bool,
    /// What the provider allows the whole fleet: one quota, or a list of several (per second, minute, hour, day).
    /// Left out: the pace is learned from the provider's answers alone.
    #[serde(default)]
    pub rate: Rates,
    /// The share of the quota that is used; the rest is left to the provider's other clients. Default: 1.
    #[serde(default = "whole")]
    #[schemars(range(min = 0.01, max = 1))]
    pub share: f64,
    /// Calls in flight. Default: 64.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: NonZeroUsize,
    /// How long one call may take. Default: 10s.
    #[serde(
        default = "timeout",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required"
    )]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "10ms", "maximum": "10m" }))]
    pub timeout: Duration,
    /// Whether to read a user first, and to write only what is not yet as asked: a batch that is run again then
    /// costs one read for each user. Default: false.
    #[serde(default)]
    pub skip_unchanged: bool,
    /// Which waiting updates of a user may share one call with the last value of each field: none (off), those of bulk
    /// traffic (bulk), or all (all). Each command keeps its START and its SUCCESS, which names the command whose call
    /// applied it. Passwords, codes, what only one kind of provider has, and commands with an expectedVersion or
    /// expiresAt never do. Default: off.
    #[serde(default)]
    pub merge: Merge,
    /// What becomes of a command that the provider answers with a success, and with the user without what was asked:
    /// fail (the user is read where that is possible, and the command rejected where it still is not as asked) or warn (it
    /// succeeds, and the log says so). Answers of SCIM and of Karmo are compared; at Karmo not the e-mail address, since its
    /// answer has the verified one. Default: fail.
    #[serde(default)]
    pub on_ignored: OnIgnored,
    /// How long a call that was given up may still take effect: the user's next call waits for it. Default: 2s.
    #[serde(
        default = "settling_time",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required"
    )]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "0s", "maximum": "10m" }))]
    pub settling_time: Duration,
    /// How long after a write a read may still show the user from before. A user that is not as asked after a write
    /// that may have been applied is read again then, before anything is concluded. Default: 2s; of the kind zitadel,
    /// whose reads follow its writes, 5s.
    #[serde(
        default,
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional"
    )]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "0s", "maximum": "10m" }))]
    pub read_lag: Option<Duration>,
    /// What the provider's answers mean, where they mean something else than the table of its kind and HTTP say: the first
    /// rule that fits decides. `usher explain answer` shows which one does. Default: none.
    #[serde(default)]
    pub answers: Vec<Rule>,
    pub auth: Auth,
    #[serde(default)]
    pub karmo: karmo::Config,
    #[serde(default)]
    pub zitadel: zitadel::Config,
    #[serde(default)]
    pub sivo: sivo::Config,
    #[serde(default)]
    pub mattr: mattr::Config,
    #[serde(default)]
    pub scim: scim::Config,
    #[serde(default)]
    pub rest: rest::Config,
}

impl Provider {
    /// How long a read may lag behind a write.
    pub fn read_lag(&self) -> Duration {
        self.read_lag.unwrap_or_else(|| match self.kind {
            Kind::Zitadel => Duration::from_secs(5),
            _ => Duration::from_secs(2),
        })
    }
}

fn concurrency() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(63)
}

fn whole() -> f64 {
    1.0
}

fn settling_time() -> Duration {
    Duration::from_secs(2)
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

/// `[provider.auth]`: exactly one of the four.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("oneOf" = [
    { "required": ["token_file"] }, { "required": ["token"] }, { "required": ["oauth2"] }, { "required": ["token_command"] }
]))]
pub struct Auth {
    /// A file with the bearer token; read again when it changes.
    #[schemars(with = "String", extend("examples" = ["/run/secrets/zitadel"]))]
    pub token_file: Option<PathBuf>,
    /// The bearer token itself: only from the environment, as `USHER_PROVIDER__AUTH__TOKEN`.
    #[schemars(with = "String", extend("x-sensitive" = true))]
    pub token: Option<SecretString>,
    /// A token that the worker fetches itself, by OAuth 2.0 client credentials.
    #[schemars(with = "oauth2::Config")]
    pub oauth2: Option<oauth2::Config>,
    /// A program and its arguments, run without a shell and with the worker's environment. It prints JSON with a bearer
    /// token and the seconds that it serves, `{"token": "...", "expires_in": 900}` (`access_token` will do; without
    /// `expires_in` one hour is assumed), at most 64 KiB, within `provider.timeout`, and ends with status 0. It is run
    /// again before the token expires, and when the token is refused. Nothing else that it prints is told.
    #[schemars(
        with = "Vec<String>",
        length(min = 1),
        extend("examples" = [["/usr/local/bin/karmo-token", "--audience", "pouch-services"]])
    )]
    pub token_command: Option<Vec<String>>,
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("not" = { "required": ["token", "token_file"] }))]
pub struct Admin {
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// A file with the token that actions (`usher resume`) need; read again each time. Without a token, actions are
    /// refused where the address is no loopback address.
    #[schemars(with = "String")]
    pub token_file: Option<PathBuf>,
    /// The token itself: only from the environment, as `USHER_ADMIN__TOKEN`.
    #[schemars(with = "String", extend("x-sensitive" = true))]
    pub token: Option<SecretString>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9464).into(),
            token_file: None,
            token: None,
        }
    }
}
