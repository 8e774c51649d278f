//! A table of commands: its header names members of a command, and each row of cells becomes one.

mod columns;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::contract::{Failure, ProviderName, Reason};

use super::fill::{Fill, id_from, write_text};
use super::id_map::IdMap;
use columns::{CellType, Known};

/// The most names of columns in an error.
const NAMED_MAX: usize = 10;

#[derive(Debug, Clone, Default)]
pub struct Options {
    pub fill: Fill,
    /// The cell that clears a field.
    pub null: Option<String>,
    /// The column whose cells are keys of the rows, for rows without an id. It needs a batch in `fill`.
    pub id_from: Option<String>,
    /// The users' ids by the keys in this column, for rows that have no `userId`.
    pub ids: Option<(Arc<IdMap>, String)>,
}

impl Options {
    /// Whether an option is set that JSON lines can't follow.
    pub fn is_for_csv(&self) -> bool {
        self.id_from.is_some() || self.null.is_some() || self.ids.is_some()
    }
}

/// How the rows of a table become commands.
#[derive(Debug)]
pub struct Table {
    header: Vec<String>,
    members: Vec<Member>,
    id: Option<usize>,
    provider: Option<usize>,
    key: Option<usize>,
    /// The column whose cells are keys of the id map.
    mapped: Option<usize>,
    options: Options,
}

#[derive(Debug)]
struct Member {
    name: String,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Cell(usize, CellType),
    Object(Vec<Member>),
}

impl Table {
    /// `Err`: what is wrong with the header, and how to fix it.
    pub fn new(header: &[&[u8]], options: Options) -> Result<Self, String> {
        let known = columns::known();
        let header: Vec<String> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        let at = |name: &str| header.iter().position(|column| column == name);
        let key = named(&header, options.id_from.as_ref(), "--id-from")?;
        let mapped = named(
            &header,
            options.ids.as_ref().map(|(_, column)| column),
            "--map-from",
        )?;
        // The first line of a file without a header is users' data.
        let is_header = header
            .iter()
            .any(|name| known.iter().any(|known| known.name == *name));
        let mut wrong = Vec::new();
        let mut members = Vec::new();
        for (index, name) in header.iter().enumerate() {
            let Some(column) = known.iter().find(|known| known.name == *name) else {
                // A key may be a column of the publisher's own.
                if key != Some(index) && mapped != Some(index) {
                    wrong.push(unknown((index, name), is_header, &known));
                }
                continue;
            };
            if at(name) != Some(index) {
                wrong.push(format!("the column {name} appears twice; keep one"));
                continue;
            }
            let inner = header.iter().find(|other| is_within(other, name));
            if let Some(inner) = inner {
                wrong.push(format!(
                    "the columns {name} and {inner} exclude each other; keep one"
                ));
                continue;
            }
            // These three may be filled.
            if !["id", "provider", "batchId"].contains(&name.as_str()) {
                insert(&mut members, name, Value::Cell(index, column.cell));
            }
        }
        let (id, provider, batch) = (at("id"), at("provider"), at("batchId"));
        if let Some(index) = batch.filter(|_| options.fill.batch.is_none()) {
            insert(&mut members, "batchId", Value::Cell(index, CellType::Text));
        }
        wrong.extend(missing(&header, &options));
        if !wrong.is_empty() {
            wrong.truncate(NAMED_MAX);
            return Err(wrong.join("; "));
        }
        Ok(Self {
            header,
            members,
            id,
            provider,
            key,
            mapped,
            options,
        })
    }

    /// The row's command as JSON, not validated yet.
    pub fn command(&self, cells: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        if cells.len() != self.header.len() {
            return Err(Failure::new(
                Reason::Invalid,
                format!(
                    "the row has {} cells, and the header has {}: quote cells that hold a delimiter or a line break, as \
                     in \"a,b\", and double the quotes within",
                    cells.len(),
                    self.header.len()
                ),
            ));
        }
        let cells = cells
            .iter()
            .zip(&self.header)
            .map(|(cell, name)| std::str::from_utf8(cell).map_err(|_| not_utf8(name)))
            .collect::<Result<Vec<_>, _>>()?;
        if cells
            .iter()
            .zip(&self.header)
            .all(|(cell, name)| cell.trim() == name)
        {
            let detail = "this is the header again; remove it, as from joined files";
            return Err(Failure::new(Reason::Invalid, detail));
        }
        let sent = |index: Option<usize>| {
            let cell = index.and_then(|index| cells.get(index).copied());
            cell.filter(|cell| !cell.is_empty())
        };
        let own = self.options.fill.provider.as_ref().map(ProviderName::as_str);
        let provider = sent(self.provider).or(own);
        let id = match (sent(self.id), self.key, &self.options.fill.batch) {
            (Some(id), ..) => Some(id.to_owned()),
            (None, Some(key), Some(batch)) => {
                let key = sent(Some(key)).ok_or_else(|| {
                    let column = self.header.get(key).map_or("", String::as_str);
                    let detail =
                        format!("the cell of the column {column}, from which the id is made, is empty");
                    Failure::new(Reason::Invalid, detail).at("/id")
                })?;
                Some(id_from(batch, provider.unwrap_or_default(), key).to_string())
            }
            _ => None,
        };
        let batch = self.options.fill.batch.as_ref().map(|batch| batch.as_str());
        let mut json = vec![b'{'];
        for (name, text) in [("id", id.as_deref()), ("provider", provider), ("batchId", batch)] {
            if let Some(text) = text {
                begin(&mut json, name);
                write_text(&mut json, text);
            }
        }
        if let Some(user_id) = self.mapped_id(&cells)? {
            begin(&mut json, "userId");
            write_text(&mut json, user_id);
        }
        self.write_members(&self.members, &cells, "", &mut json)?;
        json.push(b'}');
        Ok(json)
    }

    /// The user's id that the id map has for the row.
    fn mapped_id(&self, cells: &[&str]) -> Result<Option<&str>, Failure> {
        let (Some((ids, _)), Some(mapped)) = (&self.options.ids, self.mapped) else {
            return Ok(None);
        };
        let key = cells.get(mapped).copied().unwrap_or_default();
        let user_id = ids.get(key).ok_or_else(|| {
            let detail = match key.trim().is_empty() {
                true => "the cell with the user's key is empty; fill it in",
                false => {
                    "the id map has no id for this key; look it up with `usher resolve`, or add it to the map"
                }
            };
            Failure::new(Reason::Invalid, detail).at("/userId")
        })?;
        Ok(Some(user_id))
    }

    /// The column that a refusal's pointer means, if it is one.
    pub fn column_at(&self, pointer: &str) -> Option<&str> {
        if let (Some((_, column)), "/userId") = (&self.options.ids, pointer) {
            return Some(column);
        }
        let name = pointer.strip_prefix('/')?.replace('/', ".");
        let columns = || self.header.iter().map(String::as_str);
        let exact = columns().find(|column| *column == name);
        exact.or_else(|| columns().find(|column| is_within(&name, column)))
    }

    fn write_members(
        &self,
        members: &[Member],
        cells: &[&str],
        at: &str,
        json: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        for Member { name, value } in members {
            match value {
                Value::Cell(index, cell_type) => {
                    let cell = cells.get(*index).copied().unwrap_or_default();
                    if !cell.is_empty() {
                        begin(json, name);
                        self.write_cell(cell, *cell_type, json).map_err(|detail| {
                            Failure::new(Reason::Invalid, detail).at(format!("{at}/{name}"))
                        })?;
                    }
                }
                Value::Object(inner) => {
                    // An object of which no member is sent is not sent either, but `update` is required.
                    let before = json.len();
                    begin(json, name);
                    json.push(b'{');
                    let empty = json.len();
                    self.write_members(inner, cells, &format!("{at}/{name}"), json)?;
                    match json.len() == empty && !at.is_empty() {
                        true => json.truncate(before),
                        false => json.push(b'}'),
                    }
                }
            }
        }
        Ok(())
    }

    fn write_cell(&self, cell: &str, cell_type: CellType, json: &mut Vec<u8>) -> Result<(), &'static str> {
        if self.options.null.as_deref() == Some(cell) {
            json.extend_from_slice(b"null");
            return Ok(());
        }
        match cell_type {
            CellType::Text => write_text(json, cell),
            CellType::Flag => match cell.to_ascii_lowercase().as_str() {
                flag @ ("true" | "false") => json.extend_from_slice(flag.as_bytes()),
                _ => return Err("this cell is neither true nor false; send one of them"),
            },
            CellType::Json => match serde_json::from_str::<serde::de::IgnoredAny>(cell) {
                Ok(_) => json.extend_from_slice(cell.as_bytes()),
                Err(_) => {
                    return Err(
                        "the cells of this column are JSON, and this one is not; send JSON, such as {} or []",
                    );
                }
            },
        }
        Ok(())
    }
}

/// Where the column is that an option names.
fn named(header: &[String], column: Option<&String>, option: &str) -> Result<Option<usize>, String> {
    let Some(column) = column else { return Ok(None) };
    match header.iter().position(|name| name == column) {
        None => Err(format!("there is no column {column} for {option}")),
        at => Ok(at),
    }
}

/// What a header lacks, and how it may be filled.
fn missing(header: &[String], options: &Options) -> Vec<String> {
    let lacks = |name: &str| !header.iter().any(|column| column == name);
    let mut missing = Vec::new();
    if lacks("id") && options.id_from.is_none() {
        missing.push("there is no column id; add it, or name a column of keys with --id-from COLUMN");
    }
    if lacks("provider") && options.fill.provider.is_none() {
        missing.push("there is no column provider; add it, or name it with --provider NAME");
    }
    match (lacks("userId"), options.ids.is_some()) {
        (true, false) => missing.push(
            "there is no column userId; add it, or have ids looked up: `usher resolve`, then --id-map FILE --map-from \
             COLUMN",
        ),
        (false, true) => missing.push("there is a column userId, and --id-map gives the ids; keep one of the two"),
        _ => {}
    }
    if !header.iter().any(|name| name.starts_with("update")) {
        missing.push("there is no column of a field to change, such as update.email; add one");
    }
    missing.into_iter().map(str::to_owned).collect()
}

fn begin(json: &mut Vec<u8>, name: &str) {
    if json.last() != Some(&b'{') {
        json.push(b',');
    }
    write_text(json, name);
    json.push(b':');
}

/// Whether the column is a member of the object in the other one.
fn is_within(column: &str, object: &str) -> bool {
    column
        .strip_prefix(object)
        .is_some_and(|rest| rest.starts_with('.'))
}

fn insert(members: &mut Vec<Member>, path: &str, value: Value) {
    let (name, rest) = match path.split_once('.') {
        None => (path, None),
        Some((name, rest)) => (name, Some(rest)),
    };
    let Some(rest) = rest else {
        let name = name.to_owned();
        members.push(Member { name, value });
        return;
    };
    let there = members.iter_mut().find(|member| member.name == name);
    match there {
        Some(Member {
            value: Value::Object(inner),
            ..
        }) => insert(inner, rest, value),
        _ => {
            let mut inner = Vec::new();
            insert(&mut inner, rest, value);
            members.push(Member {
                name: name.to_owned(),
                value: Value::Object(inner),
            });
        }
    }
}

fn unknown((index, name): (usize, &str), is_header: bool, known: &[Known]) -> String {
    let is_name = name.len() <= 80 && name.chars().all(|c| c.is_alphanumeric() || " ._-/".contains(c));
    let shown = match is_header && is_name && !name.is_empty() {
        true => format!("the column {name} is"),
        false => format!("column {} of the header is", index + 1),
    };
    match columns::near(name, known) {
        Some(near) => format!("{shown} unknown; use {near}"),
        None => format!(
            "{shown} unknown; remove it, or use one of id, provider, userId, expectedVersion, issuedAt, expiresAt, \
             update.email and the other members of `usher schema command`, with dots between levels"
        ),
    }
}

fn not_utf8(name: &str) -> Failure {
    let detail =
        "the cell is not UTF-8; save the file as UTF-8, or convert it: `iconv -f WINDOWS-1252 -t UTF-8`";
    Failure::new(Reason::Undecodable, detail).at(format!("/{}", name.replace('.', "/")))
}
