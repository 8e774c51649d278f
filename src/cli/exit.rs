//! Exit codes, and errors that carry one.

use std::fmt;
use std::process::ExitCode;

use usher::broker::amqp::ConnectError;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Done, with failures in the data.
    Failures = 1,
    /// Wrong use or configuration.
    Usage = 2,
    /// Interrupted before the end.
    Interrupted = 3,
    /// The broker, the provider or the worker is unreachable or not well, or the output can't be written.
    OutOfReach = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit code that belongs to it.
#[derive(Debug)]
struct Coded {
    exit: Exit,
    text: String,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Coded {}

pub fn with(exit: Exit, text: impl fmt::Display) -> anyhow::Error {
    anyhow::Error::new(Coded {
        exit,
        text: text.to_string(),
    })
}

pub fn usage(text: impl fmt::Display) -> anyhow::Error {
    with(Exit::Usage, text)
}

pub fn broker(error: &ConnectError) -> anyhow::Error {
    with(of_broker(error), error)
}

pub fn of_broker(error: &ConnectError) -> Exit {
    match error.is_out_of_reach() {
        true => Exit::OutOfReach,
        false => Exit::Usage,
    }
}

/// Prints the error. One without a code of its own is about files and the like: wrong use.
pub fn report(error: &anyhow::Error) -> ExitCode {
    super::say(&format!("usher: {error:#}"));
    error
        .downcast_ref::<Coded>()
        .map_or(Exit::Usage, |coded| coded.exit)
        .into()
}
