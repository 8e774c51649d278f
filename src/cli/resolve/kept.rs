//! How far the keys of a file are looked up, kept beside the id map, so that a run that was killed goes on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::args::Args;
use super::outputs::{Unresolved, Written};
use crate::cli::exit::{self, Exit};
use crate::cli::files;
use crate::cli::identity::Identity;
use crate::cli::input::Input;

/// The form of the file.
const VERSION: u32 = 1;

/// So much is looked up again after a crash.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// What became of the rows so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub resolved: u64,
    pub missing: u64,
    pub ambiguous: u64,
    pub failed: u64,
}

impl Counts {
    pub fn rows(&self) -> u64 {
        self.resolved + self.missing + self.ambiguous + self.failed
    }

    pub fn add(&mut self, unresolved: Unresolved) {
        match unresolved {
            Unresolved::Missing => self.missing += 1,
            Unresolved::Ambiguous => self.ambiguous += 1,
            Unresolved::Failed => self.failed += 1,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resolved,
            missing,
            ambiguous,
            failed,
        } = self;
        write!(
            f,
            "{resolved} resolved, {missing} missing, {ambiguous} ambiguous, {failed} failed"
        )
    }
}

/// What the ids depend on besides the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    pub by: String,
    pub column: String,
    pub provider: String,
    pub base_url: String,
    /// Whether the unresolved keys are written, too.
    pub unresolved: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    version: u32,
    input: Identity,
    asked: Asked,
    counts: Counts,
    written: Written,
    complete: bool,
}

pub struct Checkpoint {
    path: PathBuf,
    kept: Kept,
    latest: Instant,
}

impl Checkpoint {
    /// Reads the checkpoint beside the id map, if there is one. `None`: no run can go on.
    pub async fn open(input: &Input, args: &Args, asked: Asked) -> anyhow::Result<Option<Self>> {
        let out = args.out.as_deref().filter(|path| !files::is_special(path));
        let (Some(file), Some(out)) = (input.file(), out) else {
            return Ok(None);
        };
        let mut path = out.to_owned().into_os_string();
        path.push(".usher-checkpoint");
        let path = PathBuf::from(path);
        let new = Kept {
            version: VERSION,
            input: Identity::of(file).await?,
            asked,
            counts: Counts::default(),
            written: Written::default(),
            complete: false,
        };
        let earlier = if args.restart { None } else { read(&path)? };
        let kept = match earlier {
            Some(kept) if kept.input == new.input && kept.asked == new.asked => kept,
            Some(kept) => return Err(differs(&kept, &new, &path, &input.name())),
            None => new,
        };
        Ok(Some(Self {
            path,
            kept,
            latest: Instant::now(),
        }))
    }

    /// Whether an earlier run looked up all keys.
    pub fn is_complete(&self) -> bool {
        self.kept.complete
    }

    pub fn counts(&self) -> Counts {
        self.kept.counts
    }

    pub fn written(&self) -> Written {
        self.kept.written
    }

    /// Whether the last time was long enough ago.
    pub fn is_due(&self) -> bool {
        self.latest.elapsed() >= KEEP_EVERY
    }

    pub fn keep(&mut self, counts: &Counts, written: Written, complete: bool) -> anyhow::Result<()> {
        (self.kept.counts, self.kept.written) = (*counts, written);
        self.kept.complete = complete;
        self.latest = Instant::now();
        let text = serde_json::to_vec_pretty(&self.kept)?;
        files::replace(&self.path, &text).map_err(|error| {
            let path = self.path.display();
            exit::with(
                Exit::OutOfReach,
                format_args!("{path} can't be written: {error:#}"),
            )
        })
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Kept>> {
    files::kept(
        path,
        |kept: &Kept| kept.version == VERSION,
        "is no checkpoint of this usher resolve: remove it, or look all keys up again with --restart",
    )
}

fn differs(kept: &Kept, new: &Kept, path: &Path, input: &str) -> anyhow::Error {
    let path = path.display();
    let rows = kept.counts.rows();
    exit::usage(match kept.input == new.input {
        false => format!(
            "{input} is not the file of which an earlier run looked up {rows} keys into the same --out: name another --out, \
             or look all keys up again with --restart ({path} is the checkpoint)"
        ),
        true => format!(
            "an earlier run looked up {rows} keys of {input} otherwise (by {} from the column {}, at {} with base_url {}, {} \
             --unresolved): go on in the same way, or look all keys up again with --restart ({path} is the checkpoint)",
            kept.asked.by,
            kept.asked.column,
            kept.asked.provider,
            kept.asked.base_url,
            if kept.asked.unresolved { "with" } else { "without" }
        ),
    })
}
