//! Refused rows: the first are shown, and all are written to a file if one is named.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;
use usher::contract::Failure;

use crate::cli::input::{Input, Line};
use crate::cli::{dead_letter_file, files, say};

/// The most refused rows that are shown: the rest usually have the same error.
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

    pub fn add(&mut self, line: &Line, failure: &Failure, column: Option<&str>) -> anyhow::Result<()> {
        self.count += 1;
        if self.count <= SHOWN_MAX {
            let column = column.map_or_else(String::new, |column| format!(", column {column}"));
            say(&format!("usher: line {}{column}: {failure}", line.number));
        }
        let Some((name, file)) = &mut self.file else {
            return Ok(());
        };
        let (key, text) = dead_letter_file::text_or_hex("text", &line.text);
        let mut line = json!({
            "line": line.number,
            "reason": failure.reason.as_str(),
            "pointer": failure.pointer,
            "detail": failure.detail,
            key: text,
        });
        if let Some(column) = column {
            line["column"] = column.into();
        }
        writeln!(file, "{line}").map_err(|error| files::not_written(name, &error))
    }

    /// Flushes the file.
    pub fn keep(&mut self) -> anyhow::Result<()> {
        match &mut self.file {
            None => Ok(()),
            Some((name, file)) => file.flush().map_err(|error| files::not_written(name, &error)),
        }
    }

    /// Where to find the rows that were not shown, and how to publish the others.
    pub fn others(&self) -> String {
        match (&self.file, self.count > SHOWN_MAX) {
            (Some((name, _)), _) => format!("; all of them are in {name}"),
            (None, true) => format!(
                "; the first {SHOWN_MAX} are shown, --rejects FILE keeps all of them and publishes the others"
            ),
            (None, false) => "; --rejects FILE keeps them and publishes the others".to_owned(),
        }
    }
}
