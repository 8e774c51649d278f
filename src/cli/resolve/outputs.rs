//! The id map, and the keys that were not resolved: files that only their owner may read.

use std::fs::{File, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use usher::contract::UserId;

use super::args::Args;
use super::column::Column;
use crate::cli::files::{self, csv_cell, not_written};
use crate::cli::{exit, say};

const MAP_HEADER: &str = "key,userId\n";

/// The most unresolved rows that are shown: the rest usually have the same cause.
const SHOWN_MAX: u64 = 20;

/// Why a key has no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    Missing,
    Ambiguous,
    Failed,
}

impl Unresolved {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ambiguous => "ambiguous",
            Self::Failed => "failed",
        }
    }
}

/// How long the files are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    pub map_bytes: u64,
    pub unresolved_bytes: u64,
}

pub struct Outputs {
    map: Output,
    unresolved: Option<Output>,
    shown: u64,
}

/// A file to append to, or stdout.
struct Output {
    name: String,
    to: BufWriter<To>,
    bytes: u64,
}

enum To {
    Stdout(io::Stdout),
    File(File),
}

impl Write for To {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            // What the checkpoint counts must outlast a crash.
            Self::File(file) => file.sync_data(),
        }
    }
}

impl Outputs {
    /// `written`: what an earlier run wrote, if this one goes on.
    pub fn open(args: &Args, column: &Column, written: Option<Written>) -> anyhow::Result<Self> {
        let written = written.unwrap_or_default();
        let map = match &args.out {
            None => Output::stdout(),
            Some(path) => Output::open(path, written.map_bytes, args.restart)?,
        };
        let unresolved = match &args.unresolved {
            None => None,
            Some(path) => Some(Output::open(path, written.unresolved_bytes, args.restart)?),
        };
        let mut outputs = Self {
            map,
            unresolved,
            shown: 0,
        };
        if outputs.map.bytes == 0 {
            outputs.map.write(MAP_HEADER)?;
        }
        if let Some(unresolved) = outputs.unresolved.as_mut().filter(|file| file.bytes == 0) {
            unresolved.write(&format!("{},line,outcome,reason\n", csv_cell(&column.name)))?;
        }
        Ok(outputs)
    }

    pub fn resolved(&mut self, key: &str, user_id: &UserId) -> anyhow::Result<()> {
        let (key, user_id) = (csv_cell(key), csv_cell(user_id.as_str()));
        self.map.write(&format!("{key},{user_id}\n"))
    }

    /// Shows the line of the first ones, never the key.
    pub fn unresolved(&mut self, line: u64, key: &str, what: Unresolved, why: &str) -> anyhow::Result<()> {
        self.shown += 1;
        if self.shown <= SHOWN_MAX {
            say(&format!("usher: line {line}: {why}"));
        } else if self.shown == SHOWN_MAX + 1 {
            say(match self.unresolved {
                Some(_) => "usher: further ones are not shown; --unresolved has all of them",
                None => "usher: further ones are not shown; --unresolved FILE keeps all of them",
            });
        }
        match &mut self.unresolved {
            Some(file) => file.write(&format!(
                "{},{line},{},{}\n",
                csv_cell(key),
                what.as_str(),
                csv_cell(why)
            )),
            None => Ok(()),
        }
    }

    /// Writes everything, and returns how much there is.
    pub fn flush(&mut self) -> anyhow::Result<Written> {
        self.map.flush()?;
        let mut written = Written {
            map_bytes: self.map.bytes,
            unresolved_bytes: 0,
        };
        if let Some(unresolved) = &mut self.unresolved {
            unresolved.flush()?;
            written.unresolved_bytes = unresolved.bytes;
        }
        Ok(written)
    }
}

impl Output {
    fn stdout() -> Self {
        Self {
            name: "stdout".to_owned(),
            to: BufWriter::new(To::Stdout(io::stdout())),
            bytes: 0,
        }
    }

    /// Goes on after so many bytes: what was written later is written again.
    fn open(path: &Path, bytes: u64, restart: bool) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let there = path.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        if bytes == 0 && there > 0 && !restart {
            return Err(exit::usage(format_args!(
                "{name} is there already, and no run with this input wrote it: name another file, or write it anew with \
                 --restart"
            )));
        }
        if there < bytes {
            return Err(exit::usage(format_args!(
                "{name} is shorter than an earlier run left it, so this run can't go on: look all keys up again with \
                 --restart"
            )));
        }
        let mut file = files::write_on(path)?;
        // Nothing is cut off before it is certain that nobody else writes here. Some file systems have no locks.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(exit::usage(format_args!(
                "{name} is being written by another usher resolve: wait until it ends"
            )));
        }
        // A device or a pipe has no length.
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let cut = file
                .set_len(bytes)
                .and_then(|()| file.seek(SeekFrom::Start(bytes)));
            cut.map_err(|error| not_written(&name, &error))?;
        }
        Ok(Self {
            name,
            to: BufWriter::new(To::File(file)),
            bytes,
        })
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        self.bytes += text.len() as u64;
        let written = self.to.write_all(text.as_bytes());
        written.map_err(|error| not_written(&self.name, &error))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.to.flush().map_err(|error| not_written(&self.name, &error))
    }
}
