//! How far a file is published, kept in a file beside it, so that a run that was killed goes on where it ended.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use usher::operations::confirmed::Confirmed;
use uuid::Uuid;

use super::args::Args;
use crate::cli::exit::{self, Exit};
use crate::cli::files;
use crate::cli::identity::Identity;
use crate::cli::input::Input;

/// The form of the file.
const VERSION: u32 = 1;

const KEEP_EVERY: Duration = Duration::from_secs(1);

pub struct Checkpoint {
    path: PathBuf,
    kept: Kept,
    latest: Instant,
    /// Locked while it is published, so that no second run sends the same rows.
    _input: File,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    version: u32,
    input: Identity,
    options: Options,
    confirmed: Confirmed,
    /// The providers whose batch was opened.
    opened: BTreeSet<String>,
    complete: bool,
}

/// What the commands of the file depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    bulk: bool,
    provider: Option<String>,
    batch: Option<String>,
    id_from: Option<String>,
    null: Option<String>,
    /// The content of the id map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id_map: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    map_from: Option<String>,
}

impl Options {
    fn of(args: &Args, id_map: Option<Identity>) -> Self {
        Self {
            bulk: args.bulk,
            provider: args.provider.as_ref().map(ToString::to_string),
            batch: args.batch.as_ref().map(ToString::to_string),
            id_from: args.id_from.clone(),
            null: args.null.clone(),
            id_map,
            map_from: args.map_from.clone(),
        }
    }

    /// The options by which they differ, as they were.
    fn differing(&self, now: &Self) -> Vec<String> {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let mut differing = Vec::new();
        if self.bulk != now.bulk {
            differing.push(format!("{} --bulk", if self.bulk { "with" } else { "without" }));
        }
        for (name, was, is) in [
            ("--provider", &self.provider, &now.provider),
            ("--batch", &self.batch, &now.batch),
            ("--id-from", &self.id_from, &now.id_from),
            ("--null", &self.null, &now.null),
            ("--map-from", &self.map_from, &now.map_from),
        ] {
            if was != is {
                differing.push(format!("{name} {}", value(was)));
            }
        }
        match (&self.id_map, &now.id_map) {
            (was, is) if was == is => {}
            (Some(_), Some(_)) => differing.push("an --id-map with other content".to_owned()),
            (was, _) => differing.push(format!(
                "{} --id-map",
                if was.is_some() { "with" } else { "without" }
            )),
        }
        differing
    }
}

impl Checkpoint {
    /// Reads the checkpoint of the input, if there is one. `None`: the input can't be read again.
    pub async fn open(input: &Input, args: &Args, id_map: Option<Identity>) -> anyhow::Result<Option<Self>> {
        let Some(file) = input.file().map(Path::to_owned) else {
            return Ok(None);
        };
        let path = match &args.checkpoint {
            Some(path) => path.clone(),
            None => {
                let mut path = file.clone().into_os_string();
                path.push(".usher-checkpoint");
                path.into()
            }
        };
        files::refuse_same(("--checkpoint", Some(&path)), ("the input", Some(&file)))?;
        files::refuse_same(
            ("--checkpoint", Some(&path)),
            ("--rejects", args.rejects.as_deref()),
        )?;
        let locked = File::open(&file).with_context(|| format!("{} can't be read", file.display()))?;
        // Some file systems have no locks.
        if let Err(TryLockError::WouldBlock) = locked.try_lock() {
            return Err(exit::usage(format_args!(
                "{} is being published by another usher publish: wait until it ends",
                file.display()
            )));
        }
        let new = Kept {
            version: VERSION,
            input: Identity::of(&file).await?,
            options: Options::of(args, id_map),
            confirmed: Confirmed::default(),
            opened: BTreeSet::new(),
            complete: false,
        };
        let earlier = if args.restart { None } else { read(&path)? };
        let kept = match earlier {
            Some(kept) => going_on(kept, new, &path, &input.name())?,
            None => new,
        };
        Ok(Some(Self {
            path,
            kept,
            latest: Instant::now(),
            _input: locked,
        }))
    }

    /// Whether an earlier run published all of the file.
    pub fn is_complete(&self) -> bool {
        self.kept.complete
    }

    pub fn confirmed(&self) -> &Confirmed {
        &self.kept.confirmed
    }

    pub fn opened(&self) -> &BTreeSet<String> {
        &self.kept.opened
    }

    /// Identifies the content of the file.
    pub fn digest(&self) -> Uuid {
        self.kept.input.digest
    }

    pub fn set_opened(&mut self, opened: &BTreeSet<String>) {
        self.kept.opened.clone_from(opened);
    }

    /// Writes the checkpoint, if the last time was long enough ago.
    pub fn glance(&mut self, confirmed: &Confirmed) -> anyhow::Result<()> {
        match self.latest.elapsed() >= KEEP_EVERY {
            true => self.keep(confirmed),
            false => Ok(()),
        }
    }

    pub fn keep(&mut self, confirmed: &Confirmed) -> anyhow::Result<()> {
        self.kept.confirmed.clone_from(confirmed);
        self.latest = Instant::now();
        self.write()
    }

    /// A run with the same file does nothing from now on.
    pub fn complete(&mut self, confirmed: &Confirmed) -> anyhow::Result<()> {
        self.kept.complete = true;
        self.keep(confirmed)
    }

    fn write(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.kept)?;
        files::replace(&self.path, &text).map_err(|error| {
            exit::with(
                Exit::OutOfReach,
                format_args!(
                    "{} can't be written: {:#}; --checkpoint FILE names another place",
                    self.path.display(),
                    error
                ),
            )
        })
    }

    /// Nothing was published: a later run begins anyway.
    pub fn remove_unused(&self) {
        if self.kept.confirmed.rows == 0 && self.kept.opened.is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Kept>> {
    files::kept(
        path,
        |kept: &Kept| kept.version == VERSION,
        "is no checkpoint of this usher publish: remove it, if the file is to be published from its beginning",
    )
}

/// What the run goes on from. One that is complete holds for the same file and options alone.
fn going_on(kept: Kept, new: Kept, path: &Path, input: &str) -> anyhow::Result<Kept> {
    let (same, differing) = (kept.input == new.input, kept.options.differing(&new.options));
    let done = kept.confirmed.rows;
    if same && differing.is_empty() {
        return Ok(kept);
    }
    if kept.complete {
        return Ok(new);
    }
    let path = path.display();
    Err(exit::usage(match same {
        false => format!(
            "{input} has changed since an earlier run published its first {done} rows: publish the file as it was, or from \
             its beginning with --restart ({path} is the checkpoint)"
        ),
        true => format!(
            "an earlier run published the first {done} rows of {input} with other options ({}): go on with those, or \
             publish it from its beginning with --restart ({path} is the checkpoint)",
            differing.join(", ")
        ),
    }))
}
