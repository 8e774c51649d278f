//! What an answer means: a table of rules, of which the first that matches decides.
//!
//! The configuration's rules come first, then those of the provider's kind, then those of HTTP. They are data, so that
//! `usher explain answer` can show which one decides.

mod rule;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::rate_limit::requested_wait;
use super::{Kind, SetupError};
use crate::clock::Clock;

pub use rule::Rule;
pub(super) use rule::places;

/// How many statuses in a body are followed, each naming the next.
const STATUSES_MAX: usize = 2;

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The request was carried out.
    Applied,
    /// The pace is too high: all calls wait, and no attempt is spent.
    Throttled,
    /// The request was not processed this time: it is sent once more without counting as an attempt, then counts as
    /// `outage`.
    Again,
    /// The worker's credentials are not accepted: the provider is paused.
    Credentials,
    /// The worker may not do this to this user, if calls for others succeed; otherwise as `credentials`.
    Denied,
    /// The request's form is refused: as `credentials` while no call succeeds; if calls for other users succeed, as
    /// `rejected`.
    Configuration,
    /// The command is refused.
    Rejected,
    /// There is no such user.
    NotFound,
    /// A value belongs to another user, or the user's state forbids the change.
    Conflict,
    /// The user has another version than `expectedVersion`.
    VersionConflict,
    /// The provider fails: the call is tried again, and the provider is paused if it fails for all users.
    Outage,
    /// It is unknown whether the request was carried out: the user is read.
    Unknown,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Throttled => "throttled",
            Self::Again => "again",
            Self::Credentials => "credentials",
            Self::Denied => "denied",
            Self::Configuration => "configuration",
            Self::Rejected => "rejected",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::VersionConflict => "version_conflict",
            Self::Outage => "outage",
            Self::Unknown => "unknown",
        }
    }
}

impl Class {
    /// What happens to a command whose call gets this answer.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Applied => "the command succeeds",
            Self::Throttled => "all calls wait as long as the provider says, and no attempt is spent",
            Self::Again => {
                "the request was not processed; it is sent once more without counting as an attempt, then counts as outage"
            }
            Self::Credentials => {
                "the worker's token is not accepted; the provider is paused, and no attempt is spent"
            }
            Self::Denied => {
                "the command is set aside while other users are tried; if those succeed, it is a dead letter \
                 (forbidden), otherwise the provider is paused"
            }
            Self::Configuration => {
                "the command is set aside while other users are tried; if those succeed, it is a dead letter \
                 (rejected), otherwise the provider is paused"
            }
            Self::Rejected => "the command is a dead letter (rejected)",
            Self::NotFound => "the command is a dead letter (not_found)",
            Self::Conflict => "the command is a dead letter (conflict)",
            Self::VersionConflict => "the command is a dead letter (version_conflict)",
            Self::Outage => "the call is tried again; if it fails for all users, the provider is paused",
            Self::Unknown => "the user is read, if possible, to see whether the command was applied",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The table that contains a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `[[provider.answers]]`
    Configuration,
    Kind(Kind),
    Http,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("[[provider.answers]]"),
            Self::Kind(kind) => write!(f, "the table of the kind {kind}"),
            Self::Http => f.write_str("HTTP's own table"),
        }
    }
}

/// A rule, its table, and its number there, counted from 1.
#[derive(Debug, Clone)]
pub struct PlacedRule {
    pub origin: Origin,
    pub number: usize,
    pub rule: Rule,
}

/// All rules, in the order in which they are checked.
#[derive(Debug, Clone, Default)]
pub struct Table(Vec<PlacedRule>);

/// An answer described by the user of `usher explain answer`.
pub struct SampleAnswer(Answer);

impl SampleAnswer {
    pub fn new(method: &str, status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Self, String> {
        let no_method = |_| format!("`{method}` is not an HTTP method");
        let method = Method::try_from(method.to_ascii_uppercase().as_str()).map_err(no_method)?;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let no_header = || format!("`{name}: {value}` is not an HTTP header");
            let (Ok(name), Ok(value)) = (
                HeaderName::try_from(name.trim()),
                HeaderValue::try_from(value.trim()),
            ) else {
                return Err(no_header());
            };
            map.append(name, value);
        }
        Ok(Self(Answer::new(method, status, map, body)))
    }
}

/// What an answer means according to a table.
#[derive(Debug, Clone, Copy)]
pub struct Meaning<'t> {
    pub class: Class,
    /// How long to wait if the answer does not say.
    pub retry_after: Option<Duration>,
    /// The rule that decided. None if no rule matches, which only an impossible status can cause.
    pub by: Option<&'t PlacedRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    answers: Vec<Rule>,
}

fn shipped(origin: Origin, text: &str) -> Result<Vec<PlacedRule>, SetupError> {
    let file: File = toml::from_str(text)
        .map_err(|error| SetupError::new("provider.answers", format!("{origin} can't be read: {error}")))?;
    Ok(placed(origin, file.answers))
}

fn placed(origin: Origin, rules: Vec<Rule>) -> Vec<PlacedRule> {
    let place = |(n, rule)| PlacedRule {
        origin,
        number: n + 1,
        rule,
    };
    rules.into_iter().enumerate().map(place).collect()
}

impl Table {
    /// The configuration's rules, then HTTP's.
    pub fn new(configured: Vec<Rule>) -> Result<Self, SetupError> {
        let mut rules = placed(Origin::Configuration, configured);
        rules.extend(shipped(Origin::Http, include_str!("answers/http.toml"))?);
        Ok(Self(rules))
    }

    /// Inserts the rules of a kind before HTTP's. `rules` follow from the kind's configuration.
    pub fn of(self, kind: Kind, rules: Vec<Rule>) -> Result<Self, SetupError> {
        let is_configured = |placed: &PlacedRule| placed.origin == Origin::Configuration;
        let (configured, http): (Vec<_>, Vec<_>) = self.0.into_iter().partition(is_configured);
        let configured = configured.into_iter().map(|placed| placed.rule).chain(rules);
        let mut all = placed(Origin::Configuration, configured.collect());
        all.extend(shipped(Origin::Kind(kind), kind.answers())?);
        all.extend(http);
        Ok(Self(all))
    }

    /// What the described answer would mean.
    pub fn explain(&self, sample: &SampleAnswer) -> Meaning<'_> {
        let meaning = self.meaning(&sample.0);
        let throttled = meaning.class == Class::Throttled;
        let said = requested_wait(&sample.0.headers, &Clock::System).filter(|_| throttled);
        Meaning {
            retry_after: said.or(meaning.retry_after),
            ..meaning
        }
    }

    /// What the answer means.
    pub(super) fn meaning(&self, answer: &Answer) -> Meaning<'_> {
        let mut status = answer.status;
        for _ in 0..=STATUSES_MAX {
            let fitting = self.0.iter().find(|placed| placed.rule.fits(status, answer));
            let Some(placed) = fitting else { break };
            if let Some(class) = placed.rule.class {
                return Meaning {
                    class,
                    retry_after: placed.rule.retry_after,
                    by: Some(placed),
                };
            }
            match placed.rule.status_in_body(answer) {
                Some(meant) if meant != status => status = meant,
                _ => break,
            }
        }
        Meaning {
            class: Class::Outage,
            retry_after: None,
            by: None,
        }
    }
}
