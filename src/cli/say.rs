//! What a person reads on stderr, and how much of it: `--quiet` leaves warnings and errors, `--verbose` adds details.

use std::io::{self, Write as _};
use std::sync::OnceLock;

use usher::telemetry::Level;

/// How much is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Volume {
    Quiet,
    #[default]
    Normal,
    Verbose,
}

static VOLUME: OnceLock<Volume> = OnceLock::new();

impl Volume {
    /// The level of the log, where `configured` is the one without `--quiet` and `--verbose`.
    fn level(self, configured: Level) -> Level {
        match (self, configured) {
            (Self::Quiet, Level::Info | Level::Debug | Level::Trace) => Level::Warn,
            (Self::Verbose, Level::Error | Level::Warn | Level::Info) => Level::Debug,
            (_, configured) => configured,
        }
    }
}

/// Called once, by the program, before anything is said.
pub fn set(volume: Volume) {
    let _set_before = VOLUME.set(volume);
}

fn volume() -> Volume {
    VOLUME.get().copied().unwrap_or_default()
}

pub fn is_quiet() -> bool {
    volume() == Volume::Quiet
}

pub fn is_verbose() -> bool {
    volume() == Volume::Verbose
}

pub fn level(configured: Level) -> Level {
    volume().level(configured)
}

/// An error, a warning, or what a question is about: said at every volume.
pub fn say(line: &str) {
    let _infallible = Stderr.write_all(format!("{line}\n").as_bytes());
}

/// How far it is and what was done: not said with `--quiet`.
pub fn note(line: &str) {
    if !is_quiet() {
        say(line);
    }
}

/// What a verb does meanwhile: said with `--verbose` alone. Never a value of a user, never a password.
pub fn detail(line: impl FnOnce() -> String) {
    if is_verbose() {
        say(&format!("usher: {}", line()));
    }
}

/// Ignores errors of stderr, such as a closed pipe or a full disk: they are no reason to stop, and there is
/// nowhere to report them.
pub struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_only_lower_or_only_raise_the_level_of_the_log() {
        for (volume, configured, expected) in [
            (Volume::Normal, Level::Info, Level::Info),
            (Volume::Quiet, Level::Info, Level::Warn),
            (Volume::Quiet, Level::Trace, Level::Warn),
            (Volume::Quiet, Level::Error, Level::Error),
            (Volume::Verbose, Level::Warn, Level::Debug),
            (Volume::Verbose, Level::Trace, Level::Trace),
        ] {
            assert_eq!(volume.level(configured), expected, "{volume:?} {configured:?}");
        }
    }
}
