//! What a screen is made of, the same for pages, live updates and CSV.

use std::collections::HashMap;

use askama::Template;
use jiff::{SignedDuration, Timestamp, Unit};

use super::address::{Query, Screen};

/// A state by icon, word and colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Good,
    Busy,
    Waits,
    Bad,
    Unknown,
}

impl Mood {
    pub fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Waits => "waits",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }

    pub fn icon(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Busy => "▸",
            Self::Waits => "‖",
            Self::Bad => "✕",
            Self::Unknown => "?",
        }
    }
}

/// A time, relative, with the exact one on hover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    pub exact: String,
    pub said: String,
}

impl When {
    pub fn of(at: Timestamp, now: Timestamp) -> Self {
        let rounded = at.round(Unit::Second).unwrap_or(at);
        Self {
            exact: rounded.to_string(),
            said: relative(now.duration_since(at)),
        }
    }
}

fn relative(ago: SignedDuration) -> String {
    let span = span(ago.abs());
    match ago.as_secs() {
        0 => "now".to_owned(),
        seconds if seconds < 0 => format!("in {span}"),
        _ => format!("{span} ago"),
    }
}

/// Its largest unit, and the next one where that is small.
pub fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) if hours < 10 => format!("{hours} h {} min", minutes % 60),
        (0, hours, _) => format!("{hours} h"),
        (days, hours, _) if days < 10 => format!("{days} d {} h", hours % 24),
        (days, ..) => format!("{days} d"),
    }
}

/// A number with thin spaces between its thousands.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(path = "cell.html", config = "src/console/askama.toml")]
pub enum Cell {
    None,
    Text(String),
    Number(u64),
    /// A number with its unit.
    Amount(String),
    Link {
        text: String,
        href: String,
    },
    Time(When),
    State {
        mood: Mood,
        word: String,
    },
    /// Drawn here, from numbers alone.
    Drawn(String),
    /// An id, or what is written as it is sent.
    Code(String),
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn maybe(text: Option<&str>) -> Self {
        text.map_or(Self::None, Self::text)
    }

    pub fn time(at: Option<Timestamp>, now: Timestamp) -> Self {
        at.map_or(Self::None, |at| Self::Time(When::of(at, now)))
    }

    pub fn state(mood: Mood, word: impl Into<String>) -> Self {
        let word = word.into();
        Self::State { mood, word }
    }

    pub fn link(text: impl Into<String>, href: impl Into<String>) -> Self {
        let (text, href) = (text.into(), href.into());
        Self::Link { text, href }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Amount(_))
    }

    /// As a cell of CSV.
    fn plain(&self) -> String {
        match self {
            Self::None | Self::Drawn(_) => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) | Self::Amount(text) | Self::Code(text) | Self::Link { text, .. } => {
                text.clone()
            }
            Self::Time(when) => when.exact.clone(),
            Self::State { word, .. } => word.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Part of its address as CSV, and of its ids.
    pub name: String,
    pub caption: String,
    pub heads: Vec<&'static str>,
    pub rows: Vec<Vec<Cell>>,
    /// What is said where there are no rows.
    pub empty: String,
    /// What is said below it.
    pub note: String,
    /// The address of its rows as CSV.
    pub csv: String,
}

impl Table {
    pub fn new(name: &str, caption: impl Into<String>, heads: &[&'static str]) -> Self {
        Self {
            name: name.to_owned(),
            caption: caption.into(),
            heads: heads.to_vec(),
            rows: Vec::new(),
            empty: "Nothing here.".to_owned(),
            note: String::new(),
            csv: String::new(),
        }
    }

    #[must_use]
    pub fn empty(mut self, text: impl Into<String>) -> Self {
        self.empty = text.into();
        self
    }

    /// Whether the column's cells are numbers.
    pub fn is_number(&self, column: &usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(*column));
        cells.next().is_some_and(Cell::is_number)
    }

    pub fn as_csv(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = String>| {
            let cells: Vec<_> = cells.map(|cell| csv_cell(&cell)).collect();
            format!("{}\r\n", cells.join(","))
        };
        let mut text = line(&mut self.heads.iter().map(|head| (*head).to_owned()));
        for row in &self.rows {
            text += &line(&mut row.iter().map(Cell::plain));
        }
        text
    }
}

/// A spreadsheet runs a text that begins as a formula: a quote before it keeps it a text.
fn csv_cell(text: &str) -> String {
    let text = match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// A field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub label: &'static str,
    pub value: String,
    /// An example.
    pub hint: &'static str,
    /// The words to choose from; none: any text.
    pub words: Vec<&'static str>,
}

impl Field {
    pub fn new(name: &'static str, label: &'static str, hint: &'static str) -> Self {
        Self {
            name,
            label,
            value: String::new(),
            hint,
            words: Vec::new(),
        }
    }
}

/// A form that changes something, once it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub path: String,
    pub label: String,
    /// What is sent besides the fields.
    pub hidden: Vec<(String, String)>,
    pub fields: Vec<Field>,
    /// Whether it can't be taken back.
    pub is_final: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(path = "block.html", config = "src/console/askama.toml")]
pub enum Block {
    /// The one sentence of a screen, which is read aloud when it changes.
    Verdict {
        mood: Mood,
        text: String,
    },
    Heading(String),
    Text(String),
    Note {
        mood: Mood,
        text: String,
    },
    Facts(Vec<(String, Vec<Cell>)>),
    Table(Table),
    /// A drawing, described by what stands beside it.
    Drawing {
        title: String,
        svg: String,
        legend: Vec<(&'static str, String)>,
    },
    /// A form whose fields become the address.
    Filter {
        path: String,
        fields: Vec<Field>,
        label: &'static str,
    },
    Links(Vec<(String, String)>),
    Code(String),
    Actions {
        token: String,
        actions: Vec<Action>,
    },
}

impl Block {
    pub fn note(mood: Mood, text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Note { mood, text }
    }
}

/// Tells the tables of a page apart: the second of a kind is `kind-2`.
pub fn with_names(mut blocks: Vec<Block>) -> Vec<Block> {
    let mut counts = HashMap::<String, usize>::new();
    for block in &mut blocks {
        if let Block::Table(table) = block {
            let nth = counts.entry(table.name.clone()).or_default();
            *nth += 1;
            if *nth > 1 {
                table.name = format!("{}-{nth}", table.name);
            }
        }
    }
    blocks
}

/// Gives the tables their addresses as CSV.
pub fn with_csv(blocks: Vec<Block>, screen: &Screen, query: &Query) -> Vec<Block> {
    let mut blocks = with_names(blocks);
    for block in &mut blocks {
        if let Block::Table(table) = block {
            let query = query.without("live").with("csv", &table.name);
            table.csv = format!("{}{}", screen.path(), query.text());
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative_with_one_or_two_units() {
        for (seconds, expected) in [
            (0, "now"),
            (59, "59 s ago"),
            (61, "1 min ago"),
            (3 * 3600 + 60, "3 h 1 min ago"),
            (30 * 3600, "1 d 6 h ago"),
            (-90, "in 1 min"),
        ] {
            assert_eq!(relative(SignedDuration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_cell_of_csv_is_no_formula_and_ends_no_row() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("a\r\nb", "\"a\r\nb\""),
        ] {
            assert_eq!(csv_cell(text), expected);
        }
    }

    #[test]
    fn tables_of_one_kind_are_told_apart() {
        let table = |name| Block::Table(Table::new(name, "Timeline", &["When"]));
        let blocks = with_names(vec![table("timeline"), table("headers"), table("timeline")]);
        let names: Vec<_> = blocks
            .iter()
            .filter_map(|block| match block {
                Block::Table(table) => Some(table.name.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(names, ["timeline", "headers", "timeline-2"]);
    }

    #[test]
    fn what_a_stranger_wrote_is_text() {
        let hostile = "<script>alert(1)</script>\"'&";
        let blocks = [
            Block::Verdict {
                mood: Mood::Good,
                text: hostile.into(),
            },
            Block::Heading(hostile.into()),
            Block::note(Mood::Bad, hostile),
            Block::Code(hostile.into()),
            Block::Links(vec![(hostile.into(), "/x".into())]),
            Block::Facts(vec![(
                hostile.into(),
                vec![
                    Cell::text(hostile),
                    Cell::link(hostile, "/failures"),
                    Cell::state(Mood::Bad, hostile),
                    Cell::Code(hostile.into()),
                ],
            )]),
        ];
        for block in blocks {
            let html = block.to_string();
            assert!(!html.contains("<script") && html.contains("alert(1)"), "{html}");
        }
    }
}
