//! The values of file and environment before validation, each with its place.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In the file, at this line if it is known.
    File(Option<usize>),
    Variable(String),
}

/// A value and its place. It may be a secret, so it is never printed.
pub(super) struct Node {
    pub place: Place,
    pub written: Written,
}

pub(super) enum Written {
    /// A value that could not be read, which was reported already.
    Unread,
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    Date,
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// A file that is not TOML: what the parser expected, and the line.
pub(super) struct Broken {
    pub line: Option<usize>,
    pub detail: String,
}

impl Node {
    pub fn empty() -> Self {
        Self {
            place: Place::File(None),
            written: Written::Table(BTreeMap::new()),
        }
    }

    pub fn from_toml(text: &str) -> Result<Self, Vec<Broken>> {
        let lines = Lines::of(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(Self {
                place: Place::File(None),
                written: Written::Table(lines.members(table.into_inner())),
            });
        }
        // A further error on the same line follows from the first one.
        let mut broken: Vec<Broken> = Vec::new();
        for error in errors {
            let line = error.span().map(|span| lines.line(span.start));
            if broken.last().is_none_or(|last| last.line != line) {
                let detail = error.message().lines().next().unwrap_or_default().to_owned();
                broken.push(Broken { line, detail });
            }
        }
        Err(broken)
    }

    pub fn from_json(value: Value, place: &Place) -> Self {
        let written = match value {
            Value::Null => Written::Null,
            Value::Bool(value) => Written::Bool(value),
            Value::Number(number) => number
                .as_i128()
                .map(Written::Integer)
                .unwrap_or(Written::Float(number.as_f64().unwrap_or(f64::NAN))),
            Value::String(text) => Written::Text(text),
            Value::Array(items) => Written::List(
                items
                    .into_iter()
                    .map(|item| Self::from_json(item, place))
                    .collect(),
            ),
            Value::Object(members) => Written::Table(
                members
                    .into_iter()
                    .map(|(name, value)| (name, Self::from_json(value, place)))
                    .collect(),
            ),
        };
        Self {
            place: place.clone(),
            written,
        }
    }

    /// The tree as JSON, to be deserialized after validation.
    pub fn to_json(&self) -> Value {
        match &self.written {
            Written::Unread | Written::Null | Written::Date => Value::Null,
            Written::Bool(value) => (*value).into(),
            Written::Integer(number) => match u64::try_from(*number) {
                Ok(number) => number.into(),
                Err(_) => i64::try_from(*number).map_or(Value::Null, Value::from),
            },
            Written::Float(number) => (*number).into(),
            Written::Text(text) => text.as_str().into(),
            Written::List(items) => items.iter().map(Self::to_json).collect(),
            Written::Table(members) => members
                .iter()
                .map(|(name, node)| (name.clone(), node.to_json()))
                .collect(),
        }
    }

    /// The value at a key such as `provider.timeout`.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let mut at = self;
        for name in key.split('.') {
            let Written::Table(members) = &at.written else {
                return None;
            };
            at = members.get(name)?;
        }
        Some(at)
    }

    /// Sets a value at a key. It replaces anything in its way: the later source overrides the earlier.
    pub fn put(&mut self, key: &str, node: Self) {
        let mut at = self;
        for name in key.split('.') {
            if !matches!(at.written, Written::Table(_)) {
                at.written = Written::Table(BTreeMap::new());
            }
            let Written::Table(members) = &mut at.written else {
                return;
            };
            at = members.entry(name.to_owned()).or_insert_with(Self::empty);
        }
        *at = node;
    }

    /// Takes over members that are not set yet, table by table.
    pub fn fill(&mut self, other: Self) {
        let (Written::Table(members), Written::Table(others)) = (&mut self.written, other.written) else {
            return;
        };
        for (name, node) in others {
            match members.entry(name) {
                Entry::Vacant(place) => drop(place.insert(node)),
                Entry::Occupied(mut present) => present.get_mut().fill(node),
            }
        }
    }
}

/// The offsets at which the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(breaks.map(|(at, _)| at + 1).collect())
    }

    fn line(&self, at: usize) -> usize {
        self.0.partition_point(|begin| *begin <= at) + 1
    }

    fn members(&self, table: DeTable) -> BTreeMap<String, Node> {
        let member = |(name, value): (Spanned<_>, Spanned<DeValue>)| {
            let line = self.line(name.span().start);
            (
                std::borrow::Cow::into_owned(name.into_inner()),
                self.node(value.into_inner(), line),
            )
        };
        table.into_iter().map(member).collect()
    }

    fn node(&self, value: DeValue, line: usize) -> Node {
        let written = match value {
            DeValue::String(text) => Written::Text(text.into_owned()),
            DeValue::Integer(number) => {
                let (digits, radix) = (number.as_str(), number.radix());
                Written::Integer(i128::from_str_radix(digits, radix).unwrap_or_else(|_| beyond(digits)))
            }
            DeValue::Float(number) => Written::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Written::Bool(value),
            DeValue::Datetime(_) => Written::Date,
            DeValue::Array(items) => {
                let item = |item: Spanned<DeValue>| {
                    let line = self.line(item.span().start);
                    self.node(item.into_inner(), line)
                };
                Written::List(items.into_iter().map(item).collect())
            }
            DeValue::Table(table) => Written::Table(self.members(table)),
        };
        Node {
            place: Place::File(Some(line)),
            written,
        }
    }
}

/// A replacement for an integer with too many digits: beyond every bound.
pub(super) fn beyond(digits: &str) -> i128 {
    match digits.starts_with('-') {
        true => i128::MIN,
        false => i128::MAX,
    }
}
