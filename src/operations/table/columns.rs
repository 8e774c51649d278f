//! The columns that a table may have: the members of a command, dotted, with the types of their cells.

use serde_json::Value;

use crate::contract::schema;

/// How a cell becomes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellType {
    /// The cell's text, also if it looks like a number.
    Text,
    Flag,
    /// The cell holds JSON, which is passed on as it is written: numbers, lists, objects.
    Json,
}

/// A column that a command's schema knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Such as `update.email`.
    pub name: String,
    pub cell: CellType,
}

/// All of them, those of an object before those of its members.
pub(super) fn known() -> Vec<Known> {
    let schema = schema::command().to_value();
    let mut known = Vec::new();
    members(&schema, &schema, "", &mut known);
    known
}

fn members(root: &Value, object: &Value, prefix: &str, known: &mut Vec<Known>) {
    let variants = object["oneOf"].as_array().into_iter().flatten();
    for part in std::iter::once(object).chain(variants) {
        for (name, member) in part["properties"].as_object().into_iter().flatten() {
            let name = format!("{prefix}{name}");
            let member = resolved(root, member);
            known.push(Known {
                cell: cell_type(member),
                name: name.clone(),
            });
            members(root, member, &format!("{name}."), known);
        }
    }
}

fn resolved<'s>(root: &'s Value, member: &'s Value) -> &'s Value {
    let reference = member["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
    reference.and_then(|path| root.pointer(path)).unwrap_or(member)
}

fn cell_type(member: &Value) -> CellType {
    let is = |name: &str| match &member["type"] {
        Value::String(only) => only == name,
        Value::Array(either) => either.iter().any(|one| one == name),
        _ => false,
    };
    match (is("string"), is("boolean")) {
        (true, _) => CellType::Text,
        (_, true) => CellType::Flag,
        _ => CellType::Json,
    }
}

/// The known column that was most likely meant: one with the same last part, else one that differs by few letters.
pub(super) fn near<'k>(name: &str, known: &'k [Known]) -> Option<&'k str> {
    let plain = |name: &str| -> String {
        let letters = name.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let last = |name: &str| name.rsplit('.').next().map(plain).unwrap_or_default();
    let wanted = plain(name);
    let edits_max = (wanted.chars().count() / 4).max(1);
    let distances = known.iter().flat_map(|known| {
        let whole = strsim::osa_distance(&wanted, &plain(&known.name));
        // `mail` or `E-Mail` alone may well mean `update.email`.
        let part = strsim::osa_distance(&last(name), &last(&known.name));
        let part =
            (part == 0 || part <= edits_max && !name.contains('.')).then_some((part + 1, &*known.name));
        [(whole <= edits_max).then_some((whole, &*known.name)), part]
    });
    distances
        .flatten()
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}
