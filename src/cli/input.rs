//! A file of commands, one per line, plain or gzip, in UTF-8. It is read without holding more than one line.

mod encoding;
mod gunzip;
#[cfg(test)]
mod tests;

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use usher::contract::without_marks;

use gunzip::Gunzip;

/// The longest line that is read: a command is far shorter.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

const BUFFER_BYTES: usize = 256 * 1024;

/// A file, or stdin as `-`.
#[derive(Debug, Clone)]
pub struct Input(PathBuf);

impl From<PathBuf> for Input {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

type Reader = Box<dyn AsyncBufRead + Unpin + Send>;

/// The lines, with their numbers from 1.
pub struct Lines {
    reader: Reader,
    /// Whether the first bytes were looked at, which say whether it is gzip. Stdin may keep one waiting for them.
    begun: bool,
    name: String,
    number: u64,
}

pub struct Line {
    pub number: u64,
    pub text: Vec<u8>,
}

impl Input {
    /// `None` for stdin, which can be read only once.
    pub fn path(&self) -> Option<&Path> {
        (self.0.as_os_str() != "-").then_some(&self.0)
    }

    pub async fn open(&self) -> anyhow::Result<Lines> {
        let (reader, name): (Reader, _) = match self.path() {
            None => (Box::new(BufReader::new(tokio::io::stdin())), "stdin".to_owned()),
            Some(path) => {
                let name = path.display().to_string();
                let file = tokio::fs::File::open(path)
                    .await
                    .with_context(|| format!("{name} can't be read"))?;
                (Box::new(BufReader::with_capacity(BUFFER_BYTES, file)), name)
            }
        };
        Ok(Lines {
            reader,
            begun: false,
            name,
            number: 0,
        })
    }

    /// The number of commands, if it can be known before they are read.
    pub async fn count(&self) -> anyhow::Result<Option<u64>> {
        if self.path().is_none() {
            return Ok(None);
        }
        let mut lines = self.open().await?;
        let mut count = 0;
        while lines.next().await?.is_some() {
            count += 1;
        }
        Ok(Some(count))
    }
}

impl Lines {
    /// The next line that is not blank, without its line break and byte order marks.
    pub async fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            let mut text = Vec::new();
            let read = self.read_line(&mut text).await;
            if read.with_context(|| format!("{} can't be read", self.name))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if text.len() as u64 == LINE_BYTES_MAX && text.last() != Some(&b'\n') {
                bail!(
                    "{}: line {} is longer than any command; is this a file of JSON lines?",
                    self.name,
                    self.number
                );
            }
            if let Some(wide) = encoding::recognise_wide(&text) {
                bail!("{}: {}", self.name, wide.refusal(self.number));
            }
            // Concatenated files may have a mark before a line in the middle.
            text.drain(..text.len() - without_marks(&text).len());
            text.truncate(text.trim_ascii_end().len());
            if !text.trim_ascii_start().is_empty() {
                return Ok(Some(Line {
                    number: self.number,
                    text,
                }));
            }
        }
    }

    async fn read_line(&mut self, text: &mut Vec<u8>) -> io::Result<usize> {
        if !self.begun {
            self.begin().await?;
        }
        let mut limited = (&mut self.reader).take(LINE_BYTES_MAX);
        limited.read_until(b'\n', text).await
    }

    /// Detects by the first bytes whether the input is gzip.
    async fn begin(&mut self) -> io::Result<()> {
        let mut head = Vec::new();
        let mut limited = (&mut self.reader).take(gunzip::MAGIC.len() as u64);
        limited.read_to_end(&mut head).await?;
        let is_gzip = head == gunzip::MAGIC;
        let rest = std::mem::replace(&mut self.reader, Box::new(tokio::io::empty()));
        let whole = Cursor::new(head).chain(rest);
        self.reader = match is_gzip {
            true => Box::new(Gunzip::new(whole)),
            false => Box::new(whole),
        };
        self.begun = true;
        Ok(())
    }
}
