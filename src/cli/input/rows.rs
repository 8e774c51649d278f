//! Commands as JSON lines or as CSV: which of them a file is, and its rows.

use anyhow::bail;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use serde_json::Value;

use super::{Input, Line, Lines, Position};

/// A row of CSV with more bytes has a quote that is never closed: a command has at most 256 KiB.
const ROW_BYTES_MAX: usize = 1024 * 1024;

/// The rows of a file, or of stdin.
pub struct Rows {
    lines: Lines,
    /// The first line of JSON lines, which was read to recognise them.
    first: Option<Line>,
    csv: Option<Csv>,
    /// What one may not expect of the file.
    pub note: Option<String>,
}

/// A row as it was written, with the number of its first line.
pub struct Row {
    pub line: Line,
    pub content: Content,
}

pub enum Content {
    /// The line is JSON.
    Json,
    Cells(Cells),
    /// A quoted cell has no end.
    Unclosed,
}

/// The cells of a row, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cells {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Cells {
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins
            .zip(&self.ends)
            .map(|(begin, end)| self.bytes.get(begin..*end).unwrap_or_default())
    }
}

/// What a file's name says that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    JsonLines,
    Csv,
    Other,
}

impl Input {
    pub async fn rows(&self) -> anyhow::Result<Rows> {
        Rows::begin(self, self.open().await?, self.named()).await
    }

    /// The rows of a table, whose header may be one name of anything.
    pub async fn table(&self) -> anyhow::Result<Rows> {
        let mut rows = Rows::begin(self, self.open().await?, Named::Csv).await?;
        rows.note = None;
        Ok(rows)
    }

    fn named(&self) -> Named {
        let name = self.name().to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("csv" | "tsv" | "tab") => Named::Csv,
            Some("json" | "jsonl" | "ndjson") => Named::JsonLines,
            _ => Named::Other,
        }
    }
}

impl Rows {
    async fn begin(input: &Input, mut lines: Lines, named: Named) -> anyhow::Result<Self> {
        let first = loop {
            match lines.whole().await? {
                Some(line) if line.text.trim_ascii().is_empty() => {}
                first => break first,
            }
        };
        let text = first.as_ref().map_or(&b"{"[..], |line| &line.text);
        let name = input.name();
        if text.trim_ascii_start().starts_with(b"[") {
            bail!(
                "{name}: this is one JSON array, and commands are read as JSON lines, one object a line: `jq -c '.[]'` \
                 makes them"
            );
        }
        let is_json = is_json(text, named);
        let called =
            |what: &str, other: &str| Some(format!("{name}: its name says {other}, and it holds {what}"));
        let note = match (is_json, named) {
            (true, Named::Csv) => called("JSON lines", "CSV"),
            (false, Named::JsonLines) => called("CSV", "JSON lines"),
            _ => None,
        };
        let (first, csv) = match (is_json, first) {
            (false, Some(header)) => (None, Some(Csv::begin(header, &mut lines).await?)),
            (_, first) => (first, None),
        };
        Ok(Self {
            lines,
            first,
            csv,
            note,
        })
    }

    /// The cells of the header. `None`: the rows are JSON lines.
    pub fn header(&self) -> Option<Vec<&[u8]>> {
        self.csv.as_ref().map(|csv| csv.header.iter().collect())
    }

    /// Whether the input has no line that is not blank.
    pub fn is_empty(&self) -> bool {
        self.csv.is_none() && self.first.is_none()
    }

    /// How much of the input was read.
    pub fn position(&self) -> Position {
        self.lines.position.clone()
    }

    /// The next row that is not blank.
    pub async fn next(&mut self) -> anyhow::Result<Option<Row>> {
        if let Some(csv) = &mut self.csv {
            return csv.next(&mut self.lines).await;
        }
        let line = match self.first.take() {
            Some(mut first) => {
                first.text.truncate(first.text.trim_ascii_end().len());
                Some(first)
            }
            None => self.lines.next().await?,
        };
        Ok(line.map(|line| Row {
            line,
            content: Content::Json,
        }))
    }
}

/// Whether the first line is JSON rather than a header. Of a line that is neither, the name decides.
fn is_json(first: &[u8], named: Named) -> bool {
    if first.trim_ascii_start().starts_with(b"{") {
        return true;
    }
    let is_other_json = || serde_json::from_slice::<Value>(first).is_ok_and(|value| !value.is_string());
    let has_columns = first.windows(7).any(|part| part.eq_ignore_ascii_case(b"update."));
    match named {
        Named::Csv => false,
        Named::JsonLines => !has_columns,
        Named::Other => is_other_json() || !has_columns && !first.iter().any(|byte| b",;\t".contains(byte)),
    }
}

struct Csv {
    reader: Reader,
    header: Cells,
}

impl Csv {
    async fn begin(header: Line, lines: &mut Lines) -> anyhow::Result<Self> {
        let mut csv = Self {
            reader: ReaderBuilder::new()
                .delimiter(delimiter(&header.text))
                .terminator(Terminator::Any(b'\n'))
                .build(),
            header: Cells::default(),
        };
        match csv.row(header, lines).await?.content {
            Content::Cells(cells) => csv.header = cells,
            _ => bail!("{}: a quoted cell of the header has no closing quote", lines.name),
        }
        Ok(csv)
    }

    /// The next row with a cell that is not empty: spreadsheets write rows of delimiters alone.
    async fn next(&mut self, lines: &mut Lines) -> anyhow::Result<Option<Row>> {
        while let Some(line) = lines.whole().await? {
            if line.text.trim_ascii().is_empty() {
                continue;
            }
            let row = self.row(line, lines).await?;
            let is_blank = matches!(&row.content, Content::Cells(cells) if cells.bytes.is_empty());
            if !is_blank {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The row that begins with this line: a quoted cell may contain line breaks.
    async fn row(&mut self, mut row: Line, lines: &mut Lines) -> anyhow::Result<Row> {
        let mut parsing = Parsing::default();
        let mut part = row.text.clone();
        loop {
            part.push(b'\n');
            if parsing.feed(&mut self.reader, &part) {
                let content = Content::Cells(parsing.cells());
                return Ok(Row { line: row, content });
            }
            if row.text.len() > ROW_BYTES_MAX {
                bail!(
                    "{}: the row that begins at line {} is longer than any command: a quoted cell has no closing quote; \
                     double the quotes within quoted cells",
                    lines.name,
                    row.number
                );
            }
            let Some(next) = lines.whole().await? else {
                self.reader.reset();
                let content = Content::Unclosed;
                return Ok(Row { line: row, content });
            };
            part = next.text;
            row.text.push(b'\n');
            row.text.extend_from_slice(&part);
        }
    }
}

/// The most frequent one of the header, outside of quotes.
fn delimiter(header: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for byte in header {
        quoted ^= *byte == b'"';
        if let Some((_, count)) = counts
            .iter_mut()
            .find(|(delimiter, _)| delimiter == byte && !quoted)
        {
            *count += 1;
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max();
    let frequent = counts.iter().find(|(_, count)| Some(*count) == most);
    frequent.map_or(b',', |(delimiter, _)| *delimiter)
}

/// A row in the making.
#[derive(Default)]
struct Parsing {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    bytes_used: usize,
    ends_used: usize,
}

impl Parsing {
    /// Whether the row is complete.
    fn feed(&mut self, reader: &mut Reader, mut part: &[u8]) -> bool {
        loop {
            // No cell is longer than what it is made of.
            let needed = self.bytes_used + part.len() + 1;
            self.bytes.resize(self.bytes.len().max(needed), 0);
            self.ends.resize(self.ends.len().max(self.ends_used + 32), 0);
            let (into, ends) = (
                &mut self.bytes[self.bytes_used..],
                &mut self.ends[self.ends_used..],
            );
            let (result, read, written, ended) = reader.read_record(part, into, ends);
            part = part.get(read..).unwrap_or_default();
            self.bytes_used += written;
            self.ends_used += ended;
            match result {
                ReadRecordResult::Record => return true,
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return false,
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {}
            }
        }
    }

    fn cells(mut self) -> Cells {
        self.bytes.truncate(self.bytes_used);
        self.ends.truncate(self.ends_used);
        Cells {
            bytes: self.bytes,
            ends: self.ends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Kept, packed};
    use super::*;

    /// The header, and of each row its line and its cells or its text; or why the file is refused.
    async fn read(name: &str, bytes: &[u8]) -> Result<(Vec<String>, Vec<(u64, Vec<String>)>), String> {
        let file = Kept::new(name, bytes);
        let mut rows = file.input().rows().await.map_err(|error| format!("{error:#}"))?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let header = rows.header().unwrap_or_default().into_iter().map(text).collect();
        let mut all = Vec::new();
        while let Some(row) = rows.next().await.map_err(|error| format!("{error:#}"))? {
            let cells = match &row.content {
                Content::Json => vec![text(&row.line.text)],
                Content::Cells(cells) => cells.iter().map(text).collect(),
                Content::Unclosed => vec!["unclosed".to_owned()],
            };
            all.push((row.line.number, cells));
        }
        Ok((header, all))
    }

    fn wide(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        format!("\u{feff}{text}")
            .encode_utf16()
            .flat_map(to_bytes)
            .collect()
    }

    #[tokio::test]
    async fn csv_is_read_with_each_delimiter_line_end_mark_encoding_and_packing() {
        let expected = (
            vec!["userId".to_owned(), "update.nickname".to_owned()],
            vec![
                (2, vec!["u1".to_owned(), "a, \"b\"; \u{1d11e}\nc".to_owned()]),
                (5, vec!["u2".to_owned(), String::new()]),
            ],
        );
        for delimiter in [",", ";", "\t"] {
            for end in ["\n", "\r\n"] {
                let text = [
                    "userId|update.nickname",
                    "u1|\"a, \"\"b\"\"; \u{1d11e}",
                    "c\"",
                    "|",
                    "u2|",
                    "",
                ];
                let text = text.join(end).replace('|', delimiter);
                for bytes in [
                    text.clone().into_bytes(),
                    format!("\u{feff}{text}").into_bytes(),
                    wide(&text, u16::to_le_bytes),
                    wide(&text, u16::to_be_bytes),
                    packed(text.as_bytes()),
                    packed(&wide(&text, u16::to_le_bytes)),
                ] {
                    assert_eq!(read("a", &bytes).await.as_ref(), Ok(&expected), "{text:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn the_first_line_says_what_a_file_is_whatever_its_name() {
        let json = "{\"a\":1}";
        let header = "userId,update.email";
        for (name, text, is_csv, noted) in [
            ("a", json, false, false),
            ("a.csv", json, false, true),
            ("a.jsonl", json, false, false),
            ("a", header, true, false),
            ("a.csv", header, true, false),
            ("a.jsonl", header, true, true),
            ("a.csv", "user;mail", true, false),
            ("a", "user;mail", true, false),
            ("a.jsonl", "no JSON, no header", false, false),
            ("a", "no JSON", false, false),
            ("a", "\n\n", false, false),
            ("a.csv.gz", "mail", true, false),
        ] {
            let file = Kept::new(name, text.as_bytes());
            let rows = file.input().rows().await.unwrap();
            assert_eq!(
                (rows.header().is_some(), rows.note.is_some()),
                (is_csv, noted),
                "{name} {text}"
            );
        }
        let array = read("a.json", b"[{\"a\":1}]").await.unwrap_err();
        assert!(array.contains("jq -c"), "{array}");
    }

    #[tokio::test]
    async fn a_quote_that_is_never_closed_is_one_refused_row_and_a_bare_one_is_text() {
        let (_, rows) = read("a.csv", b"userId,update.nickname\nu1,5\" pipe\nu2,\"open\nu3,x\n")
            .await
            .unwrap();
        assert_eq!(rows[0], (2, vec!["u1".to_owned(), "5\" pipe".to_owned()]));
        assert_eq!(rows[1], (3, vec!["unclosed".to_owned()]));
        assert_eq!(rows.len(), 2);
        let long = format!("userId,update.nickname\nu1,\"{}", "x\n".repeat(ROW_BYTES_MAX));
        let refused = read("a.csv", long.as_bytes()).await.unwrap_err();
        assert!(refused.contains("begins at line 2"), "{refused}");
    }

    #[tokio::test]
    async fn damaged_utf_16_is_one_error() {
        let mut odd = wide("userId,update.email\n", u16::to_le_bytes);
        odd.pop();
        for damaged in [
            odd,
            [b"\xff\xfe".as_slice(), &0xd800_u16.to_le_bytes(), b"a\0"].concat(),
        ] {
            let refused = read("a.csv", &damaged).await.unwrap_err();
            assert!(refused.contains("UTF-16 that is damaged"), "{refused}");
        }
    }
}
