//! What happens to an operation: a change of many things that somebody decided on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::schema::closed;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Dead letters are published again.
    Redrive,
    /// Dead letters are removed.
    Discard,
    /// A batch's commands that have not begun end as failures.
    Cancel,
    /// Ids of users are looked up at the provider.
    Resolve,
    /// Values of a dead letter are shown to somebody.
    Reveal,
    /// The provider is paused by an order, or its bulk traffic alone.
    Pause,
    /// A pause is lifted, and workers that paused by themselves try again.
    Resume,
    /// The pace is set by an order.
    Pin,
    /// The pace is the learned one again.
    Unpin,
}

impl OperationKind {
    /// Whether it is an order to all workers, whose options say what was ordered.
    pub const fn is_order(self) -> bool {
        matches!(self, Self::Pause | Self::Resume | Self::Pin | Self::Unpin)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Discard => "discard",
            Self::Cancel => "cancel",
            Self::Resolve => "resolve",
            Self::Reveal => "reveal",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
        }
    }
}

/// What is to be done, and who decided on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct Operation {
    pub operation_id: Uuid,
    pub kind: OperationKind,
    /// A name that was given, or the login.
    pub by: String,
    /// What is chosen, by the names of the command line's options.
    pub filter: BTreeMap<String, String>,
    /// How it is done, by the names of the command line's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    pub counts: Counts,
}

/// How far it has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct OperationProgressed {
    pub operation_id: Uuid,
    pub kind: OperationKind,
    pub counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct OperationEnded {
    pub operation_id: Uuid,
    pub kind: OperationKind,
    pub end: OperationEnd,
    pub counts: Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationEnd {
    /// Everything planned is done.
    Done,
    /// Somebody aborted it.
    Aborted,
    /// It stopped by itself, because what it did failed again.
    Stopped,
}

impl OperationEnd {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Aborted => "aborted",
            Self::Stopped => "stopped",
        }
    }
}

/// Numbers of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = closed)]
pub struct Counts {
    /// That it was planned for.
    pub planned: u64,
    /// That were changed: sent again, removed, cancelled or looked up.
    pub done: u64,
    /// Of these, that are known to have succeeded.
    pub succeeded: u64,
    /// Of these, that are known to have failed again.
    pub failed: u64,
}
