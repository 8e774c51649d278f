//! Validates the tree against the schema, and collects all problems.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::shape::Shape;
use super::tree::{Node, Place, Written};
use super::variables::name_of;
use crate::broker::config::BrokerUrls;
use crate::contract::ProviderName;
use crate::contract::decode::expected_of;

/// One problem, and how to fix it. Quotes no value.
pub(super) struct Problem {
    pub place: Place,
    pub key: String,
    pub detail: String,
}

impl Problem {
    pub fn new(place: Place, key: &str, detail: impl Into<String>) -> Self {
        Self {
            place,
            key: key.to_owned(),
            detail: detail.into(),
        }
    }
}

/// The known name that was most likely meant.
pub(super) fn near<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
    let name = plain(name);
    let edits_max = (name.chars().count() / 4).max(1);
    known
        .map(|known| (strsim::osa_distance(&name, &plain(known)), known))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| known)
}

/// Validates the tree. Misspelled keys are corrected on the way, so that nothing is reported twice.
pub(super) struct Check<'s> {
    pub schema: Shape<'s>,
    pub problems: Vec<Problem>,
}

impl<'s> Check<'s> {
    pub fn new(schema: Shape<'s>, problems: Vec<Problem>) -> Self {
        Self { schema, problems }
    }

    fn report(&mut self, place: &Place, key: &str, detail: impl Into<String>) {
        self.problems.push(Problem::new(place.clone(), key, detail));
    }

    /// Checks the value at a key.
    pub fn value(&mut self, node: &mut Node, shape: Shape<'s>, key: &str) {
        if let Written::Float(number) = node.written
            && shape.typed("integer").is_some()
            && number.fract() == 0.0
        {
            // By JSON Schema, 5.0 is an integer. The conversion saturates.
            node.written = Written::Integer(number as i128);
        }
        if matches!(node.written, Written::Unread) {
            return;
        }
        let in_variable = matches!(node.place, Place::Variable(_));
        let form = || shape.form(in_variable);
        if shape.takes_anything() {
            return;
        }
        if !shape.takes(&node.written) {
            let detail = format!("is {}; write {}", kind_of(&node.written), form());
            return self.report(&node.place, key, detail);
        }
        let detail = match &mut node.written {
            Written::Table(_) => return self.table(node, shape, key),
            Written::List(items) => {
                if shape.items_min().is_some_and(|min| (items.len() as u64) < min) {
                    Some(format!("is empty; write {}", form()))
                } else {
                    let Some(of_items) = shape.items() else { return };
                    for (index, item) in items.iter_mut().enumerate() {
                        self.value(item, of_items, &format!("{key}[{index}]"));
                    }
                    None
                }
            }
            Written::Integer(number) => {
                outside(shape, *number as f64).then(|| format!("is out of bounds; write {}", form()))
            }
            Written::Float(number) => {
                outside(shape, *number).then(|| format!("is out of bounds; write {}", form()))
            }
            Written::Text(text) => {
                text_problem(shape, text).map(|problem| format!("{problem}; write {}", form()))
            }
            Written::Unread | Written::Null | Written::Bool(_) | Written::Date => None,
        };
        if let Some(detail) = detail {
            self.report(&node.place, key, detail);
        }
    }

    fn table(&mut self, node: &mut Node, shape: Shape<'s>, key: &str) {
        let Written::Table(members) = &mut node.written else {
            return;
        };
        self.put_right(members, shape, key);
        for (name, member) in members.iter_mut() {
            if let Some(shape) = shape.property(name) {
                self.value(member, shape, &below(key, name));
            }
        }
        for name in shape.required() {
            if !members.contains_key(name) {
                let detail = shape.property(name).map_or_else(String::new, wanted);
                self.report(
                    &node.place,
                    &below(key, name),
                    format!("is required; add it{detail}"),
                );
            }
        }
        let rivals = shape.one_of();
        let mut given = rivals.iter().filter_map(|name| Some((name, members.get(*name)?)));
        match (given.next(), given.next()) {
            (None, _) if !rivals.is_empty() => {
                let names: Vec<_> = rivals.iter().map(|name| named(shape, key, name)).collect();
                let detail = format!("needs one of them: {}", names.join(", "));
                self.problems.push(Problem::new(node.place.clone(), key, detail));
            }
            (Some((first, _)), Some((second, rival))) => {
                let detail = format!("is set together with {first}; set only one of the two");
                let problem = Problem::new(rival.place.clone(), &below(key, second), detail);
                self.problems.push(problem);
            }
            _ => {}
        }
    }

    /// Reports unknown keys, and treats each as the key that was meant, if that one is not set.
    fn put_right(&mut self, members: &mut BTreeMap<String, Node>, shape: Shape<'s>, key: &str) {
        let unknown = |name: &String| shape.property(name).is_none();
        let unknown: Vec<String> = members.keys().filter(|name| unknown(name)).cloned().collect();
        for name in unknown {
            let Some(node) = members.remove(&name) else {
                continue;
            };
            let known = || shape.properties().map(|(name, _)| name);
            let meant = near(&name, known());
            let detail = match meant {
                Some(meant) => format!("unknown key; did you mean {meant}?"),
                None => match self.elsewhere(&name) {
                    Some(key) => format!("unknown key here; did you mean {key}?"),
                    None => format!(
                        "unknown key; remove it, or use one of {}",
                        known().collect::<Vec<_>>().join(", ")
                    ),
                },
            };
            self.report(&node.place, &below(key, &shown(&name)), detail);
            if let Some(meant) = meant {
                match members.entry(meant.to_owned()) {
                    Entry::Vacant(place) => drop(place.insert(node)),
                    Entry::Occupied(mut present) => present.get_mut().fill(node),
                }
            }
        }
    }

    /// The only key of this name in another table.
    fn elsewhere(&self, name: &str) -> Option<String> {
        let keys = self.schema.keys().into_iter().map(|(key, _)| key);
        let mut same = keys.filter(|key| key.rsplit('.').next() == Some(name));
        match (same.next(), same.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Checks the form of values that the schema can't express, if they have no problem so far.
    pub fn forms(&mut self, tree: &Node) {
        for (key, problem) in [
            (
                "provider.name",
                unreadable::<ProviderName> as fn(&Value) -> Option<String>,
            ),
            ("broker.url", unreadable::<BrokerUrls>),
            ("admin.listen", |value| {
                let form = "an IP address and a port, such as 127.0.0.1:9464".to_owned();
                unreadable::<SocketAddr>(value).map(|_| form)
            }),
        ] {
            if let Some(node) = tree.get(key)
                && !self.is_reported(key)
                && let Some(form) = problem(&node.to_json())
            {
                self.report(&node.place, key, format!("is not valid; write {form}"));
            }
        }
    }

    pub fn is_reported(&self, key: &str) -> bool {
        let within = |reported: &str| {
            reported
                .strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.problems.iter().any(|problem| within(&problem.key))
    }
}

fn below(key: &str, name: &str) -> String {
    match key {
        "" => name.to_owned(),
        key => format!("{key}.{name}"),
    }
}

/// A key as written, shortened if it is long.
fn shown(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    match !name.is_empty() && name.len() <= 60 && name.chars().all(plain) {
        true => name.to_owned(),
        false => format!("{:?}", name.chars().take(60).collect::<String>()),
    }
}

/// What to add for a missing key.
fn wanted(shape: Shape) -> String {
    let members = shape.required();
    match members.is_empty() {
        false => format!(". It needs {}", members.join(", ")),
        true if !shape.one_of().is_empty() => format!(", with one of {}", shape.one_of().join(", ")),
        true => format!(": {}", shape.form(false)),
    }
}

/// A member's name, or its variable if it must not be set in a file.
fn named(shape: Shape, key: &str, name: &str) -> String {
    match shape.property(name).is_some_and(Shape::is_secret) {
        true => format!("the variable {}", name_of(&below(key, name))),
        false => name.to_owned(),
    }
}

fn kind_of(written: &Written) -> &'static str {
    match written {
        Written::Unread | Written::Null => "null",
        Written::Bool(_) => "true or false",
        Written::Integer(_) | Written::Float(_) => "a number",
        Written::Text(_) => "a string",
        Written::Date => "a date",
        Written::List(_) => "a list",
        Written::Table(_) => "a table",
    }
}

/// Whether a number is outside its bounds. NaN is outside all bounds.
fn outside(shape: Shape, number: f64) -> bool {
    let (min, max) = shape.numbers();
    let (min, max) = (min.and_then(Value::as_f64), max.and_then(Value::as_f64));
    !number.is_finite() || min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max)
}

fn text_problem(shape: Shape, text: &str) -> Option<&'static str> {
    let words = shape.words();
    if !words.is_empty() {
        return (!words.contains(&text)).then_some("is not one of the known words");
    }
    let span = shape.span()?;
    match (span.read)(text) {
        None => Some("is not valid"),
        Some(duration) if !span.holds(duration) => Some("is out of bounds"),
        Some(_) => None,
    }
}

/// What is expected instead, if the value can't be read.
fn unreadable<T: DeserializeOwned>(value: &Value) -> Option<String> {
    let error = T::deserialize(value).err()?.to_string();
    Some(expected_of(&error).unwrap_or("a valid value").to_owned())
}
