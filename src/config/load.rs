//! Reads the configuration, and says where a bad value came from.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::{Auth, Config};
use crate::broker;
use crate::contract::decode::mend;

const PREFIX: &str = "USHER";

/// Read by the test suite, not by the program.
const NOT_OURS: &str = "USHER_TEST_";

/// Secrets, and why they are refused.
const NOT_IN_A_FILE: [(&str, &str); 2] = [
    (
        "provider.auth.token",
        "a token does not belong in a file that is copied and kept: set USHER_PROVIDER__AUTH__TOKEN, or name a \
         file of its own with token_file",
    ),
    (
        "provider.auth.oauth2.client_secret",
        "a secret does not belong in a file that is copied and kept: set \
         USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET, or name a file of its own with client_secret_file",
    ),
];

/// A configuration that can't be used: where, which key, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub origin: String,
    pub key: String,
    pub detail: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.detail)
    }
}

/// A file, where there is one, with the environment above it.
struct Sources {
    file: Option<PathBuf>,
    environment: HashMap<String, String>,
}

/// Reads `file`, if there is one, and the variables `USHER_…` above it.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let sources = Sources::new(file, environment);
    let config: Config = sources.read()?;
    sources.check(&config)?;
    Ok(config)
}

/// The `[broker]` table alone, for those who only publish.
pub fn load_broker(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<broker::Config, ConfigError> {
    #[derive(serde::Deserialize)]
    struct BrokerAlone {
        #[serde(default)]
        broker: broker::Config,
    }
    Ok(Sources::new(file, environment).read::<BrokerAlone>()?.broker)
}

impl Sources {
    fn new(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| name.starts_with("USHER_") && !name.starts_with(NOT_OURS);
        Self {
            file: file.map(Path::to_owned),
            environment: environment.into_iter().filter(|(name, _)| ours(name)).collect(),
        }
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut builder = config::Config::builder();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| self.in_file("", format!("can't be read: {error}")))?;
            let file = config::Config::builder()
                .add_source(File::from_str(&text, FileFormat::Toml))
                .build()
                .map_err(|error| self.in_file("", format!("is not TOML: {}", first_line(&error))))?;
            for (key, detail) in NOT_IN_A_FILE {
                if file.get::<config::Value>(key).is_ok() {
                    return Err(self.in_file(key, detail.into()));
                }
            }
            builder = builder.add_source(file);
        }
        let environment = Environment::with_prefix(PREFIX)
            .prefix_separator("_")
            .separator("__")
            .source(Some(self.environment.clone()));
        let read = builder
            .add_source(environment)
            .build()
            .map_err(|error| self.error("", first_line(&error)))?;
        serde_path_to_error::deserialize(read).map_err(|error| self.refusal(error.path(), error.inner()))
    }

    fn refusal(&self, path: &serde_path_to_error::Path, error: &config::ConfigError) -> ConfigError {
        let mut key = String::new();
        for segment in path {
            match segment {
                Segment::Map { key: name } | Segment::Enum { variant: name } => {
                    key.push_str(if key.is_empty() { "" } else { "." });
                    key.push_str(name);
                }
                Segment::Seq { index } => key.push_str(&format!("[{index}]")),
                Segment::Unknown => {}
            }
        }
        let message = first_line(error);
        // The library adds the key's table, which the path names better.
        let message = message
            .rsplit_once(" for key `")
            .map_or(&*message, |(message, _)| message);
        if let Some(missing) = message.strip_prefix("missing configuration field \"") {
            let key = missing.trim_end_matches('"');
            return self.error(key, format!("is required; add it. {}", hint(key)));
        }
        let (_, detail) = mend(message);
        self.error(&key, format!("{detail}. {}", hint(&key)))
    }

    /// An error at the key, with where its value stands.
    fn error(&self, key: &str, detail: String) -> ConfigError {
        let variable = format!("{PREFIX}_{}", key.replace('.', "__").to_uppercase());
        if self.environment.contains_key(&variable) {
            return ConfigError {
                origin: format!("environment variable {variable}"),
                key: String::new(),
                detail,
            };
        }
        self.in_file(key, detail)
    }

    fn in_file(&self, key: &str, detail: String) -> ConfigError {
        let origin = match &self.file {
            Some(path) => path.display().to_string(),
            None => "environment (no --config was given, and there is no usher.toml here)".into(),
        };
        ConfigError {
            origin,
            key: key.into(),
            detail,
        }
    }

    /// What the types alone can't say.
    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let rules = rules(config);
        if let Some((_, key, detail)) = rules.into_iter().find(|(kept, ..)| !kept) {
            return Err(self.error(key, detail.into()));
        }
        self.check_auth(&config.provider.auth)
    }

    fn check_auth(&self, auth: &Auth) -> Result<(), ConfigError> {
        let given = [
            ("token_file", auth.token_file.is_some()),
            ("token", auth.token.is_some()),
            ("oauth2", auth.oauth2.is_some()),
        ];
        let given: Vec<_> = given
            .into_iter()
            .filter_map(|(key, given)| given.then_some(key))
            .collect();
        match given[..] {
            [] => {
                let detail = "says no token: name a file with token_file, set USHER_PROVIDER__AUTH__TOKEN, or say \
                              with oauth2 where one is fetched";
                return Err(self.error("provider.auth", detail.into()));
            }
            [_] => {}
            [first, second, ..] => {
                let detail = format!("stands beside {first}: give one of the two");
                return Err(self.error(&format!("provider.auth.{second}"), detail));
            }
        }
        let Some(oauth2) = &auth.oauth2 else {
            return Ok(());
        };
        match (&oauth2.client_secret_file, &oauth2.client_secret) {
            (None, None) => Err(self.error(
                "provider.auth.oauth2",
                "says no secret of the client: name a file with client_secret_file, or set \
                 USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET"
                    .into(),
            )),
            (Some(_), Some(_)) => Err(self.error(
                "provider.auth.oauth2.client_secret",
                "stands beside client_secret_file: give one of the two".into(),
            )),
            _ => Ok(()),
        }
    }
}

/// Whether each is kept, the key that it is about, and what the value must be.
fn rules(config: &Config) -> impl IntoIterator<Item = (bool, &'static str, &'static str)> {
    let share = |value: f64| (0.0..=1.0).contains(&value);
    let (retry, worker) = (&config.retry, &config.worker);
    [
        (retry.attempts >= 1, "retry.attempts", "must be at least 1"),
        (
            retry.delay_min <= retry.delay_max,
            "retry.delay_min",
            "must not be above retry.delay_max",
        ),
        (
            !retry.delay_min.is_zero(),
            "retry.delay_min",
            "must be longer than nothing, such as 200ms",
        ),
        (
            !config.broker.hold_max.is_zero(),
            "broker.hold_max",
            "must be longer than nothing, such as 10m",
        ),
        (
            config.broker.consumer_timeout >= config.broker.heartbeat.saturating_mul(4),
            "broker.consumer_timeout",
            "must be at least four times broker.heartbeat: the broker has to find a frozen worker out before it takes \
             single commands from it, out of order",
        ),
        (
            retry.delay_min <= retry.probe_gap_max,
            "retry.probe_gap_max",
            "must not be below retry.delay_min",
        ),
        (share(retry.budget), "retry.budget", "must be a share from 0 to 1"),
        (
            share(worker.bulk_share_min),
            "worker.bulk_share_min",
            "must be a share from 0 to 1",
        ),
        (
            share(worker.dead_letter_share_max),
            "worker.dead_letter_share_max",
            "must be a share from 0 to 1",
        ),
        (
            worker.dead_letter_window >= 1,
            "worker.dead_letter_window",
            "must be at least 1",
        ),
        (
            (0.01..=1.0).contains(&config.provider.share),
            "provider.share",
            "must be a share from 0.01 to 1",
        ),
    ]
}

/// What the schema says of a key: its meaning, and its values where they are few.
fn hint(key: &str) -> String {
    let schema = super::schema().to_value();
    let resolve = |at: &Value| match at.get("$ref").and_then(Value::as_str) {
        Some(reference) => schema
            .pointer(reference.trim_start_matches('#'))
            .cloned()
            .unwrap_or_default(),
        None => at.clone(),
    };
    let mut at = schema.clone();
    let mut meaning = Value::Null;
    for name in key.split('.').map(|name| name.split('[').next().unwrap_or(name)) {
        let member = at
            .pointer(&format!("/properties/{name}"))
            .cloned()
            .unwrap_or_default();
        at = resolve(&member);
        meaning = [&member, &at]
            .into_iter()
            .find_map(|place| place.get("description"))
            .cloned()
            .unwrap_or_default();
    }
    let listed = at.get("enum").and_then(Value::as_array).into_iter().flatten();
    let described = at.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let values: Vec<_> = listed
        .chain(described.filter_map(|one| one.get("const")))
        .filter_map(Value::as_str)
        .collect();
    let meaning = meaning
        .as_str()
        .unwrap_or("`usher schema config` describes every key.")
        .replace('\n', " ");
    match values.is_empty() {
        true => meaning,
        false => format!("Write one of {}. {meaning}", values.join(", ")),
    }
}

fn first_line(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
