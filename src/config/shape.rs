//! What the configuration's schema says about a key: its type, its bounds, its allowed words, and how it is written.

use std::time::Duration;

use serde_json::Value;

use super::tree::Written;
use crate::broker::config::MaxAge;

/// A place in the schema.
#[derive(Clone, Copy)]
pub(super) struct Shape<'s> {
    root: &'s Value,
    /// The key's own schema, with its example and default.
    key: &'s Value,
    /// The schema of its type.
    of: &'s Value,
}

impl<'s> Shape<'s> {
    pub fn of(root: &'s Value) -> Self {
        Self {
            root,
            key: root,
            of: root,
        }
    }

    fn at(self, key: &'s Value) -> Self {
        let reference = key.get("$ref").and_then(Value::as_str);
        let of = reference.and_then(|reference| self.root.pointer(reference.trim_start_matches('#')));
        Self {
            root: self.root,
            key,
            of: of.unwrap_or(key),
        }
    }

    /// A keyword of the key's schema, or else of its type's.
    fn said(self, word: &str) -> Option<&'s Value> {
        self.key.get(word).or_else(|| self.of.get(word))
    }

    /// The types that the value may have: only itself, if it is not a union.
    pub fn alternatives(self) -> Vec<Self> {
        if self.of.get("type").is_some() {
            return vec![self];
        }
        let branches = ["oneOf", "anyOf"].into_iter().find_map(|word| self.of.get(word));
        let branches = branches.and_then(Value::as_array).into_iter().flatten();
        branches
            .flat_map(|branch| self.at(branch).alternatives())
            .collect()
    }

    fn has_type(self, name: &str) -> bool {
        self.of.get("type").and_then(Value::as_str) == Some(name)
    }

    /// The alternative of this JSON type.
    pub fn typed(self, name: &str) -> Option<Self> {
        self.alternatives().into_iter().find(|one| one.has_type(name))
    }

    /// Whether the schema allows any type.
    pub fn takes_anything(self) -> bool {
        self.alternatives().is_empty()
    }

    /// Whether a value of this type is allowed.
    pub fn takes(self, written: &Written) -> bool {
        let names: &[&str] = match written {
            Written::Unread | Written::Null | Written::Date => &[],
            Written::Bool(_) => &["boolean"],
            Written::Integer(_) => &["integer", "number"],
            Written::Float(_) => &["number"],
            Written::Text(_) => &["string"],
            Written::List(_) => &["array"],
            Written::Table(_) => &["object"],
        };
        names.iter().any(|name| self.typed(name).is_some())
    }

    pub fn properties(self) -> impl Iterator<Item = (&'s str, Self)> {
        let table = self.typed("object");
        let properties = table.and_then(|table| table.of.get("properties")?.as_object());
        let member = move |(name, key): (&'s String, &'s Value)| (name.as_str(), self.at(key));
        properties.into_iter().flatten().map(member)
    }

    pub fn property(self, name: &str) -> Option<Self> {
        self.properties()
            .find_map(|(known, shape)| (known == name).then_some(shape))
            .or_else(|| self.any_member())
    }

    /// The schema of members of any name, if the table allows them.
    pub fn any_member(self) -> Option<Self> {
        let others = self.typed("object")?.of.get("additionalProperties")?;
        others.is_object().then(|| self.at(others))
    }

    /// Required members of the table.
    pub fn required(self) -> Vec<&'s str> {
        self.typed("object")
            .map_or_else(Vec::new, |table| names(table.of))
    }

    /// Members of the table of which exactly one is required; empty if there is no such rule.
    pub fn one_of(self) -> Vec<&'s str> {
        let table = self.typed("object");
        let branches = table.and_then(|table| table.of.get("oneOf")?.as_array());
        branches.into_iter().flatten().flat_map(names).collect()
    }

    pub fn items(self) -> Option<Self> {
        Some(self.at(self.typed("array")?.of.get("items")?))
    }

    pub fn items_min(self) -> Option<u64> {
        self.typed("array")?.of.get("minItems")?.as_u64()
    }

    /// The schema at a key such as `provider.timeout`.
    pub fn get(self, key: &str) -> Option<Self> {
        key.split('.').try_fold(self, Self::property)
    }

    /// Every key, however deep, with its schema.
    pub fn keys(self) -> Vec<(String, Self)> {
        let mut keys = Vec::new();
        for (name, shape) in self.properties() {
            keys.push((name.to_owned(), shape));
            let below = shape.keys().into_iter();
            keys.extend(below.map(|(key, shape)| (format!("{name}.{key}"), shape)));
        }
        keys
    }

    /// The allowed words, if there is a fixed set.
    pub fn words(self) -> Vec<&'s str> {
        let one = |shape: Self| {
            let listed = shape.of.get("enum").and_then(Value::as_array);
            let constant = shape.of.get("const");
            listed.into_iter().flatten().chain(constant)
        };
        let alternatives = self
            .alternatives()
            .into_iter()
            .filter(|one| one.has_type("string"));
        alternatives.flat_map(one).filter_map(Value::as_str).collect()
    }

    /// The bounds of a number, if any.
    pub fn numbers(self) -> (Option<&'s Value>, Option<&'s Value>) {
        (self.said("minimum"), self.said("maximum"))
    }

    pub fn span(self) -> Option<Span<'s>> {
        let (read, bounds): (fn(&str) -> Option<Duration>, _) = match self.said("x-duration") {
            Some(bounds) => (duration, bounds),
            None => (age, self.said("x-age")?),
        };
        let bound = |word| bounds.get(word).and_then(Value::as_str).unwrap_or_default();
        Some(Span {
            read,
            min: bound("minimum"),
            max: bound("maximum"),
        })
    }

    pub fn default(self) -> Option<&'s Value> {
        self.said("default")
    }

    pub fn is_secret(self) -> bool {
        self.said("x-sensitive").is_some()
    }

    /// An example of a valid value.
    fn example(self) -> Option<Value> {
        let examples = self.said("examples").and_then(|examples| examples.get(0));
        if let Some(example) = examples.or_else(|| self.default()) {
            return Some(example.clone());
        }
        if let Some(item) = self.items() {
            let word = item.words().first().map(|word| (*word).into());
            return Some(vec![word.or_else(|| item.example())?].into());
        }
        if let Some(word) = self.words().first() {
            return Some((*word).into());
        }
        let member = |name: &'s str| Some((name.to_owned(), self.property(name)?.example()?));
        let mut members: serde_json::Map<_, _> = self.required().into_iter().filter_map(member).collect();
        members.extend(self.one_of().into_iter().find_map(member));
        if members.is_empty() {
            members.extend(self.properties().find_map(|(name, _)| member(name)));
        }
        (!members.is_empty()).then(|| members.into())
    }

    /// Describes how a value is written, in a file or in a variable.
    pub fn form(self, in_variable: bool) -> String {
        let quoted = |text: &str| match in_variable {
            true => text.to_owned(),
            false => format!("\"{text}\""),
        };
        let example = self.example();
        let such_as = match &example {
            Some(example) if in_variable => format!(" such as {}", bare(example)),
            Some(example) => format!(" such as {}", toml(example)),
            None => String::new(),
        };
        if let Some(span) = self.span() {
            let kind = if self.said("x-age").is_some() {
                "an age"
            } else {
                "a duration"
            };
            return format!("{kind}{such_as}, from {} to {}", span.min, span.max);
        }
        let words = self.words();
        if !words.is_empty() {
            let words: Vec<_> = words.into_iter().map(quoted).collect();
            return format!("one of {}", words.join(", "));
        }
        if self.typed("integer").or(self.typed("number")).is_some() {
            return self.form_of_number(&such_as);
        }
        if self.typed("boolean").is_some() {
            return "true or false".to_owned();
        }
        let list = self.typed("array").is_some();
        if self.typed("object").is_some() {
            let or_list = if list { ", or a list of them" } else { "" };
            return match in_variable {
                true => format!("JSON{such_as}{or_list}, or a variable for each member"),
                false => format!("a table{such_as}{or_list}"),
            };
        }
        if self.typed("string").is_some() {
            let or_list = if list { ", or a list of them" } else { "" };
            return match in_variable {
                true => format!("a text{such_as}{or_list}"),
                false => format!(
                    "a string, in quotes{}{such_as}{or_list}",
                    if such_as.is_empty() { "" } else { "," }
                ),
            };
        }
        let words = self.items().map_or_else(Vec::new, Self::words);
        let of_words = match words.is_empty() {
            true => String::new(),
            false => format!(
                " of some of {}",
                words.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
            ),
        };
        match in_variable {
            true => format!("a list{of_words}, with commas between or as JSON,{such_as}"),
            false => format!("a list{of_words},{such_as}"),
        }
    }

    fn form_of_number(self, such_as: &str) -> String {
        if self.typed("string").and(self.typed("boolean")).is_some() {
            return "a text, a number, true or false".to_owned();
        }
        let kind = match self.typed("integer") {
            Some(_) => "a whole number",
            None => "a number",
        };
        match self.numbers() {
            (Some(min), Some(max)) => format!("{kind} from {min} to {max},{such_as}"),
            (Some(min), None) => format!("{kind} of at least {min},{such_as}"),
            (None, Some(max)) => format!("{kind} of at most {max},{such_as}"),
            (None, None) => format!("{kind}{such_as}"),
        }
        .trim_end_matches(',')
        .to_owned()
    }
}

/// A duration or an age with its bounds.
pub(super) struct Span<'s> {
    pub read: fn(&str) -> Option<Duration>,
    min: &'s str,
    max: &'s str,
}

impl Span<'_> {
    pub fn holds(&self, duration: Duration) -> bool {
        let (min, max) = ((self.read)(self.min), (self.read)(self.max));
        min.is_some_and(|min| min <= duration) && max.is_some_and(|max| duration <= max)
    }
}

/// Reads `200ms`, `10s`, `1m 30s` with the same code as the configuration's types.
fn duration(text: &str) -> Option<Duration> {
    let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    jiff::fmt::serde::unsigned_duration::friendly::compact::required::deserialize(text).ok()
}

fn age(text: &str) -> Option<Duration> {
    Some(MaxAge::try_from(text.to_owned()).ok()?.duration())
}

fn names(schema: &Value) -> Vec<&str> {
    let required = schema.get("required").and_then(Value::as_array);
    required.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A value as written in a file.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{name} = {}", toml(value));
            format!(
                "{{ {} }}",
                members.iter().map(member).collect::<Vec<_>>().join(", ")
            )
        }
        scalar => scalar.to_string(),
    }
}

/// A value as written in a variable.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
