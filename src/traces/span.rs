//! A finished span, as plain data: what a trace says of one step of a command.

use std::borrow::Cow;

use jiff::Timestamp;

use super::context::Context;
use super::state::State;

#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub context: Context,
    /// What vendors have put beside it.
    pub state: Option<State>,
    /// `None` for the first span of a trace.
    pub parent: Option<Context>,
    /// Whether another program made the parent.
    pub parent_is_remote: bool,
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub failed: bool,
    pub attributes: Vec<Attribute>,
}

pub type Attribute = (&'static str, Value);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Handles a message.
    Consumer,
    /// Publishes a message.
    Producer,
    /// Calls another program.
    Client,
    Internal,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Number(i64),
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Flag(yes)
    }
}
