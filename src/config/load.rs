//! Reads the configuration, and reports all its problems at once, with their places.

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::changes::Tree;
use super::check::{Check, Problem};
use super::shape::Shape;
use super::tree::{Broken, Node, Place};
use super::variables;
use super::{Admin, Config};
use crate::broker;
use crate::contract::ProviderName;
use crate::contract::decode::expected_of;

/// The largest configuration file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The most problems that are shown; the rest are counted.
const SHOWN_MAX: usize = 50;

/// Secrets, and why they are refused.
const NOT_IN_A_FILE: [(&str, &str); 3] = [
    (
        "admin.token",
        "a token does not belong in a file that is copied and kept: set USHER_ADMIN__TOKEN, or name a file of its \
         own with token_file",
    ),
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

/// The problems of an invalid configuration, one per line. Quotes no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Each with its origin, its key, and how to fix it. In the order of the file, then of the variables.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &self.problems[..] {
            return f.write_str(only);
        }
        write!(f, "{} problems in the configuration:", self.problems.len())?;
        for problem in self.problems.iter().take(SHOWN_MAX) {
            write!(f, "\n  {problem}")?;
        }
        match self.problems.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Reads `file`, if there is one, overridden by the variables `USHER_…`.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    load_with_tree(file, environment).map(|(config, _)| config)
}

/// The same, and what was set, to compare it with what is set later.
pub fn load_with_tree(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Config, Tree), ConfigError> {
    let sources = Sources { file };
    let tree = sources.read(&[], environment)?;
    Ok((sources.typed(tree.clone())?, Tree::new(tree)))
}

/// Reads only the `[broker]` table, for publishing.
pub fn load_broker(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<broker::Config, ConfigError> {
    #[derive(serde::Deserialize)]
    struct BrokerAlone {
        #[serde(default)]
        broker: broker::Config,
    }
    let sources = Sources { file };
    let read = sources.typed(sources.read(&["broker"], environment)?);
    read.map(|BrokerAlone { broker }| broker)
}

/// Only what an operator's verb needs: the broker, and the provider's name, if it is configured.
pub fn load_names(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(broker::Config, Option<ProviderName>), ConfigError> {
    #[derive(serde::Deserialize)]
    struct Names {
        #[serde(default)]
        broker: broker::Config,
        #[serde(default)]
        provider: Provider,
    }
    #[derive(Default, serde::Deserialize)]
    struct Provider {
        name: Option<ProviderName>,
    }
    let sources = Sources { file };
    let read = sources.typed(sources.read(&["broker"], environment)?);
    read.map(|Names { broker, provider }| (broker, provider.name))
}

/// Reads only the `[admin]` table, for who asks the worker of this machine.
pub fn load_admin(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Admin, ConfigError> {
    #[derive(serde::Deserialize)]
    struct AdminAlone {
        #[serde(default)]
        admin: Admin,
    }
    let sources = Sources { file };
    let read = sources.typed(sources.read(&["admin"], environment)?);
    read.map(|AdminAlone { admin }| admin)
}

/// What the console needs.
#[derive(serde::Deserialize)]
pub struct ForConsole {
    #[serde(default)]
    pub broker: broker::Config,
    #[serde(default)]
    pub console: super::Console,
}

pub fn load_console(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<ForConsole, ConfigError> {
    let sources = Sources { file };
    sources.typed(sources.read(&["broker", "console"], environment)?)
}

/// The sources of the configuration.
pub(super) struct Sources<'a> {
    pub(super) file: Option<&'a Path>,
}

impl Sources<'_> {
    /// Reads all sources into one tree that is valid by the schema. With `tables`, the contents of others are
    /// not checked.
    pub(super) fn read(
        &self,
        tables: &[&str],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Value, ConfigError> {
        let mut tree = self.file_tree()?;
        let mut problems = Vec::new();
        for (key, detail) in NOT_IN_A_FILE {
            if let Some(node) = tree.get(key) {
                problems.push(Problem::new(node.place.clone(), key, detail));
            }
        }
        let mut schema = super::schema().to_value();
        problems.extend(variables::put_above(&mut tree, Shape::of(&schema), environment));
        if !tables.is_empty() {
            let of_one = |key: &str| tables.contains(&key.split('.').next().unwrap_or_default());
            problems.retain(|problem| problem.key.is_empty() || of_one(&problem.key));
            look_at_alone(&mut schema, tables);
        }
        let shape = Shape::of(&schema);
        let mut check = Check::new(shape, problems);
        check.value(&mut tree, shape, "");
        check.forms(&tree);
        check.rules(&tree);
        check.clear_text(&tree);
        match check.problems.is_empty() {
            true => Ok(tree.to_json()),
            false => Err(self.error(check.problems)),
        }
    }

    fn file_tree(&self) -> Result<Node, ConfigError> {
        let Some(path) = self.file else {
            return Ok(Node::empty());
        };
        let refused = |line, detail: String| Problem::new(Place::File(line), "", detail);
        let text = read_text(path).map_err(|detail| self.error(vec![refused(None, detail)]))?;
        Node::from_toml(&text).map_err(|broken| {
            let problem = |broken: Broken| refused(broken.line, format!("is not TOML: {}", broken.detail));
            self.error(broken.into_iter().map(problem).collect())
        })
    }

    /// Deserializes the valid tree. If a type refuses it nevertheless, that is the only problem reported.
    fn typed<T: DeserializeOwned>(&self, json: Value) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(json).map_err(|error| {
            let expected = expected_of(&error.inner().to_string())
                .map_or_else(String::new, |expected| format!("; write {expected}"));
            let key = error.path().to_string();
            let detail = format!("is not valid{expected}");
            self.error(vec![Problem::new(Place::File(None), &key, detail)])
        })
    }

    fn error(&self, mut problems: Vec<Problem>) -> ConfigError {
        problems.sort_by(|one, other| (&one.place, &one.key).cmp(&(&other.place, &other.key)));
        ConfigError {
            problems: problems.iter().map(|problem| self.describe(problem)).collect(),
        }
    }

    fn describe(&self, problem: &Problem) -> String {
        let Problem { place, key, detail } = problem;
        let (origin, named) = match (place, self.file) {
            (Place::Variable(name), _) => (
                format!("environment variable {name}"),
                key.is_empty() || variables::name_of(key) == *name,
            ),
            (Place::File(Some(line)), Some(path)) => (format!("{}:{line}", path.display()), key.is_empty()),
            (Place::File(_), Some(path)) => (path.display().to_string(), key.is_empty()),
            (Place::File(_), None) => (
                "environment (no --config was given, and there is no usher.toml here)".to_owned(),
                key.is_empty(),
            ),
        };
        match named {
            true => format!("{origin}: {detail}"),
            false => format!("{origin}: {key}: {detail}"),
        }
    }
}

/// Makes the schema accept anything in the other tables.
fn look_at_alone(schema: &mut Value, tables: &[&str]) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    schema.remove("required");
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, shape) in properties.into_iter().flatten() {
        if !tables.contains(&name.as_str()) {
            *shape = Value::Bool(true);
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(format!("can't be read: {error}")),
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => Err(format!(
            "is larger than {FILE_BYTES_MAX} bytes: name the configuration with --config"
        )),
        Ok(_) => Ok(text),
    }
}
