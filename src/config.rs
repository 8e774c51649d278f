//! The configuration: every module's own table, from a file and from the environment.
//!
//! The JSON schema that the types generate is the single source of names, types and bounds. `load` reads file and
//! environment into one tree, `check` and `rules` validate it, and only a valid tree becomes a `Config`. All problems
//! are reported at once: the place, the key, and how to fix it; never a value.

mod changes;
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
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use schemars::{JsonSchema, Schema};
use secrecy::SecretString;
use serde::Deserialize;

use crate::contract::{ProviderName, schema as published};
use crate::policy::pace::Rates;
use crate::policy::retry;
use crate::provider::answers::Rule;
use crate::provider::http::Http;
use crate::provider::token::oauth2;
use crate::provider::{self, Kind, SetupError, karmo, mattr, rest, scim, sivo, zitadel};
use crate::telemetry::{self, otlp};
use crate::worker::Merge;
use crate::worker::attempts::OnIgnored;
use crate::{broker, worker};

pub use changes::{Changes, Tree};
pub use load::{
    ConfigError, ForConsole, load, load_admin, load_broker, load_console, load_names, load_with_tree,
};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "usher.toml",
    description = "The configuration: the file, overridden by environment variables such as USHER_PROVIDER__BASE_URL. Durations are written as 200ms, 10s or 1m 30s; `x-duration` and `x-age` give their bounds.",
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
    pub console: Console,
    #[serde(default)]
    pub log: telemetry::Config,
    #[serde(default)]
    pub telemetry: otlp::Config,
}

/// `schemas/config.json`
pub fn schema() -> Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(published::of_read::<Config>);
    SCHEMA.clone()
}

/// `[provider]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The provider's name: part of queue names and routing keys, and a member of each command.
    #[schemars(extend("examples" = ["zitadel-eu"]))]
    pub name: ProviderName,
    pub kind: Kind,
    /// The provider's address: `https://host`, with a path if its API has one.
    #[schemars(extend("examples" = ["https://acme.zitadel.cloud"]))]
    pub base_url: String,
    /// Whether `base_url` and `token_url` may be http:// beyond this machine, where anyone on the network path reads
    /// the token and the users' data. Default: false.
    #[serde(default)]
    pub insecure: bool,
    /// The provider's quota for the whole fleet: one, or a list of several (per second, minute, hour, day).
    /// If left out, the pace is learned from the provider's answers.
    #[serde(default)]
    pub rate: Rates,
    /// The share of the quota that is used; the rest is for the provider's other clients. Default: 1.
    #[serde(default = "whole")]
    #[schemars(range(min = 0.01, max = 1))]
    pub share: f64,
    /// The most calls in flight. Default: 64.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: NonZeroUsize,
    /// The time limit of a call. Default: 10s.
    #[serde(
        default = "timeout",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required"
    )]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "10ms", "maximum": "10m" }))]
    pub timeout: Duration,
    /// Whether to read a user first, and to write only if it differs from the command: a batch that is run again then
    /// costs one read for each user. Default: false.
    #[serde(default)]
    pub skip_unchanged: bool,
    /// Which waiting updates of a user may share one call with the last value of each field: none (off), those of bulk
    /// traffic (bulk), or all (all). Each command keeps its START and its SUCCESS, which names the command whose call
    /// applied it. Passwords, codes, other fields of a single provider kind, and commands with an expectedVersion or
    /// expiresAt never do. Default: off.
    #[serde(default)]
    pub merge: Merge,
    /// What to do with a command that the provider answers with a success and a user that lacks the requested change:
    /// fail (the user is read if possible, and the command is rejected if the change is still missing) or warn (it
    /// succeeds, and a warning is logged). Answers of SCIM and of Karmo are compared; for Karmo without the e-mail
    /// address, since its answer has the verified one. Default: fail.
    #[serde(default)]
    pub on_ignored: OnIgnored,
    /// How long an abandoned call may still take effect: the user's next call waits for that. Default: 2s.
    #[serde(
        default = "settling_time",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required"
    )]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "0s", "maximum": "10m" }))]
    pub settling_time: Duration,
    /// How long after a write a read may still show the earlier user. If a write may have been applied and the user
    /// does not show it, the user is read again after this time before anything is concluded. Default: 2s; for the
    /// kind zitadel, whose reads lag behind its writes, 5s.
    #[serde(
        default,
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional"
    )]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "0s", "maximum": "10m" }))]
    pub read_lag: Option<Duration>,
    /// Rules for the provider's answers that differ from the tables of its kind and of HTTP: the first matching rule
    /// decides. `usher explain answer` shows which one does. Default: none.
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
    /// The adapter for the kind.
    pub fn adapter(&self, http: Http) -> Result<Arc<dyn provider::Provider>, SetupError> {
        Ok(match self.kind {
            Kind::Karmo => Arc::new(karmo::adapter(&self.karmo, http)?),
            Kind::Zitadel => Arc::new(zitadel::Zitadel::new(&self.zitadel, http)?),
            Kind::Sivo => Arc::new(sivo::adapter(&self.sivo, http)?),
            Kind::Mattr => Arc::new(mattr::Mattr::new(&self.mattr, http)?),
            Kind::Scim => Arc::new(scim::Scim::new(&self.scim, http)?),
            Kind::Rest => Arc::new(rest::adapter(&self.rest, http)?),
        })
    }

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
    /// A program and its arguments, run without a shell and with the worker's environment. It prints JSON with a
    /// bearer token and its lifetime in seconds, `{"token": "...", "expires_in": 900}` (`access_token` is accepted,
    /// too; without
    /// `expires_in` one hour is assumed), at most 64 KiB, within `provider.timeout`, and exits with status 0. It is run
    /// again before the token expires, and when the token is refused. Its other output is never shown.
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
    /// A file with the token that actions (`POST /resume`, `POST /reload`) need; read again each time. Without a token, actions are
    /// refused if the address is not a loopback address.
    #[schemars(with = "String")]
    pub token_file: Option<PathBuf>,
    /// The token itself: only from the environment, as `USHER_ADMIN__TOKEN`.
    #[schemars(with = "String", extend("x-sensitive" = true))]
    pub token: Option<SecretString>,
}

/// `[console]`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    /// Where `usher console` serves its pages.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Whether `usher run` serves the same pages besides.
    pub in_run: bool,
    /// A file with a line for each person: roles, name and token, such as `operator,auditor al TOKEN`. The roles are
    /// viewer, operator and auditor; the token has at least 16 characters. Read again each time. Without it, everybody
    /// on this machine may look, and nobody may act.
    #[schemars(with = "String")]
    pub token_file: Option<PathBuf>,
    /// The header in which an authenticating proxy names the person. Only the proxy may be able to reach the console.
    #[schemars(with = "String", extend("examples" = ["x-remote-user"]))]
    pub user_header: Option<String>,
    /// People of `user_header` who may act. The others may look.
    pub operators: Vec<String>,
    /// People of `user_header` who may see values.
    pub auditors: Vec<String>,
    /// Names under which browsers reach the console, besides IP addresses and localhost.
    #[schemars(extend("examples" = [["usher.example.com"]]))]
    pub hosts: Vec<String>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9465).into(),
            in_run: false,
            token_file: None,
            user_header: None,
            operators: Vec::new(),
            auditors: Vec::new(),
            hosts: Vec::new(),
        }
    }
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
