//! A file of commands, one per line, plain or gzip, in UTF-8, or in UTF-16 with a byte order mark. It is read without
//! holding more than one line.

mod counted;
mod encoding;
mod gunzip;
mod rows;
#[cfg(test)]
mod tests;

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use usher::contract::without_marks;

use counted::Counted;
pub use counted::Position;
use encoding::Utf16;
use gunzip::Gunzip;
pub use rows::{Content, Row, Rows};

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
    position: Position,
}

pub struct Line {
    pub number: u64,
    pub text: Vec<u8>,
}

impl Input {
    /// `None` for stdin.
    pub fn path(&self) -> Option<&Path> {
        (self.0.as_os_str() != "-").then_some(&self.0)
    }

    /// Its path, if it is a file that can be read again: stdin, a pipe and a device can be read only once.
    pub fn file(&self) -> Option<&Path> {
        self.path().filter(|path| !super::files::is_special(path))
    }

    pub fn name(&self) -> String {
        self.path()
            .map_or_else(|| "stdin".to_owned(), |path| path.display().to_string())
    }

    pub async fn open(&self) -> anyhow::Result<Lines> {
        let name = self.name();
        let position = Position::default();
        let reader: Reader = match self.path() {
            None => Box::new(Counted::new(BufReader::new(tokio::io::stdin()), position.clone())),
            Some(path) => {
                let file = tokio::fs::File::open(path)
                    .await
                    .with_context(|| format!("{name} can't be read"))?;
                let file = BufReader::with_capacity(BUFFER_BYTES, file);
                Box::new(Counted::new(file, position.clone()))
            }
        };
        Ok(Lines {
            reader,
            begun: false,
            name,
            number: 0,
            position,
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
            let Some(mut line) = self.whole().await? else {
                return Ok(None);
            };
            line.text.truncate(line.text.trim_ascii_end().len());
            if !line.text.trim_ascii_start().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// The next line, without its line break and byte order marks.
    async fn whole(&mut self) -> anyhow::Result<Option<Line>> {
        let mut text = Vec::new();
        let read = self.read_line(&mut text).await;
        if read.with_context(|| format!("{} can't be read", self.name))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if text.len() as u64 == LINE_BYTES_MAX && text.last() != Some(&b'\n') {
            bail!(
                "{}: line {} is longer than any command; is this a file of JSON lines or CSV?",
                self.name,
                self.number
            );
        }
        if let Some(wide) = encoding::recognise_wide(&text) {
            bail!("{}: {}", self.name, wide.refusal(self.number));
        }
        // Concatenated files may have a mark before a line in the middle.
        text.drain(..text.len() - without_marks(&text).len());
        let ended = text
            .strip_suffix(b"\n")
            .map(|text| text.strip_suffix(b"\r").unwrap_or(text));
        if let Some(ended) = ended {
            text.truncate(ended.len());
        }
        Ok(Some(Line {
            number: self.number,
            text,
        }))
    }

    async fn read_line(&mut self, text: &mut Vec<u8>) -> io::Result<usize> {
        if !self.begun {
            self.begin().await?;
        }
        let mut limited = (&mut self.reader).take(LINE_BYTES_MAX);
        limited.read_until(b'\n', text).await
    }

    /// Detects by the first bytes whether the input is gzip, and whether the text is UTF-16.
    async fn begin(&mut self) -> io::Result<()> {
        let head = self.take_head(gunzip::MAGIC.len()).await?;
        let is_gzip = head == gunzip::MAGIC;
        self.put_back(head);
        if is_gzip {
            self.reader = Box::new(Gunzip::new(self.take_reader()));
        }
        // A shorter file is not waited for: these are read where the first two bytes are a mark.
        let mut head = self.take_head(2).await?;
        if encoding::marked_utf16(&head).is_some() {
            head.extend(self.take_head(encoding::MARK_BYTES_MAX - 2).await?);
        }
        let big_endian = encoding::marked_utf16(&head);
        self.put_back(head);
        if let Some(big_endian) = big_endian {
            self.reader = Box::new(Utf16::new(self.take_reader(), big_endian));
        }
        self.begun = true;
        Ok(())
    }

    async fn take_head(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        let mut limited = (&mut self.reader).take(bytes as u64);
        limited.read_to_end(&mut head).await?;
        Ok(head)
    }

    fn put_back(&mut self, head: Vec<u8>) {
        self.reader = Box::new(Cursor::new(head).chain(self.take_reader()));
    }

    fn take_reader(&mut self) -> Reader {
        std::mem::replace(&mut self.reader, Box::new(tokio::io::empty()))
    }
}
