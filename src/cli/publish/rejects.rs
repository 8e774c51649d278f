//! Refused lines: the first are shown, and all are written to a file if one is named.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;
use usher::contract::Failure;

use crate::cli::input::{Input, Line};
use crate::cli::{dead_letter_file, files, say};

/// The most refused lines that are shown: the rest usually have the same error.
const SHOWN_MAX: u64 = 20;

pub struct Rejects {
    file: Option<(String, BufWriter<File>)>,
    pub count: u64,
}

impl Rejects {
    /// Creates the file empty at the start, so that it never holds lines of an earlier run.
    pub fn open(path: Option<&Path>, input: &Input) -> anyhow::Result<Self> {
        files::refuse_same(("--rejects", path), ("the input", input.path()))?;
        let open = |path: &Path| -> anyhow::Result<_> {
            let file = BufWriter::new(files::write_anew(path)?);
            Ok((path.display().to_string(), file))
        };
        Ok(Self {
            file: path.map(open).transpose()?,
            count: 0,
        })
    }

    pub fn add(&mut self, line: &Line, failure: &Failure) -> anyhow::Result<()> {
        self.count += 1;
        if self.count <= SHOWN_MAX {
            say(&format!("usher: line {}: {failure}", line.number));
        }
        let Some((name, file)) = &mut self.file else {
            return Ok(());
        };
        let (key, text) = dead_letter_file::text_or_hex("text", &line.text);
        let line = json!({
            "line": line.number,
            "reason": failure.reason.as_str(),
            "pointer": failure.pointer,
            "detail": failure.detail,
            key: text,
        });
        writeln!(file, "{line}").map_err(|error| files::not_written(name, &error))
    }

    /// Flushes the file.
    pub fn keep(&mut self) -> anyhow::Result<()> {
        match &mut self.file {
            None => Ok(()),
            Some((name, file)) => file.flush().map_err(|error| files::not_written(name, &error)),
        }
    }

    /// Where to find the lines that were not shown.
    pub fn others(&self) -> String {
        match (&self.file, self.count > SHOWN_MAX) {
            (Some((name, _)), _) => format!("; all of them are in {name}"),
            (None, true) => format!("; the first {SHOWN_MAX} are shown, --rejects FILE keeps all of them"),
            (None, false) => String::new(),
        }
    }
}
