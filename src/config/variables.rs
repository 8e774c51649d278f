//! The environment: which variables are keys, which ones a platform sets, and what the others probably mean.

use serde_json::Value;

use super::check::{Problem, near};
use super::shape::Shape;
use super::tree::{Node, Place, Written, beyond};

const PREFIX: &str = "USHER_";

/// Read by the test suite, not by the program.
const NOT_OURS: &str = "USHER_TEST_";

/// The variable of a key such as `provider.base_url`. Variables are upper case, so `GIVEN_NAME` is givenName.
pub(super) fn name_of(key: &str) -> String {
    let mut name = PREFIX.to_owned();
    for letter in key.chars() {
        match letter {
            '.' => name.push_str("__"),
            _ if letter.is_ascii_uppercase() => {
                name.push('_');
                name.push(letter);
            }
            _ => name.push(letter.to_ascii_uppercase()),
        }
    }
    name
}

/// Sets every variable `USHER_…` at its key, overriding the file's value. Returns the problems.
pub(super) fn put_above(
    tree: &mut Node,
    shape: Shape,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<Problem> {
    let known: Vec<(String, String, Shape)> = shape
        .keys()
        .into_iter()
        .map(|(key, shape)| (name_of(&key), key, shape))
        .collect();
    let ours = |(name, text): &(String, String)| {
        name.starts_with(PREFIX) && !name.starts_with(NOT_OURS) && !is_service_link(name, text)
    };
    let mut variables: Vec<_> = variables.into_iter().filter(ours).collect();
    // A table comes before its members, which override it.
    variables.sort_by_cached_key(|(name, _)| (name.matches("__").count(), name.clone()));
    let mut problems = Vec::new();
    let mut misspelled = Vec::new();
    for (name, text) in variables {
        let place = Place::Variable(name.clone());
        match known.iter().find(|(known, ..)| *known == name) {
            Some((_, key, shape)) => match read(&text, *shape, &place) {
                Ok(node) => tree.put(key, node),
                Err(detail) => {
                    problems.push(Problem::new(place, key, detail));
                    // The key is set, so it is not missing, and the file's value does not apply.
                    tree.put(key, unread());
                }
            },
            None => misspelled.push((name, text)),
        }
    }
    for (name, text) in misspelled {
        let place = Place::Variable(name.clone());
        let meant = meant_by(&name, &known);
        let detail = match meant {
            Some((meant, ..)) => format!("unknown variable; did you mean {meant}?"),
            None => "unknown variable; remove it, or name a key as in USHER_PROVIDER__BASE_URL (`usher schema config` \
                     describes every key)"
                .to_owned(),
        };
        problems.push(Problem::new(place.clone(), "", detail));
        if let Some((_, key, shape)) = meant
            && tree.get(key).is_none()
        {
            tree.put(key, read(&text, *shape, &place).unwrap_or_else(|_| unread()));
        }
    }
    problems
}

/// A placeholder for a value that could not be read, which was reported already.
fn unread() -> Node {
    Node {
        place: Place::File(None),
        written: Written::Unread,
    }
}

/// The key whose variable is similar, or whose last part has this name.
fn meant_by<'k, 's>(
    name: &str,
    known: &'k [(String, String, Shape<'s>)],
) -> Option<&'k (String, String, Shape<'s>)> {
    let rest = name.strip_prefix(PREFIX)?;
    let names = known.iter().filter_map(|(known, ..)| known.strip_prefix(PREFIX));
    let at = |meant: &str| {
        known
            .iter()
            .find(|(known, ..)| known.strip_prefix(PREFIX) == Some(meant))
    };
    if let Some(meant) = near(rest, names) {
        return at(meant);
    }
    let mut ends = known.iter().filter(|(known, ..)| {
        known
            .strip_suffix(rest)
            .is_some_and(|before| before.ends_with("__"))
    });
    match (ends.next(), ends.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// What Kubernetes sets in every pod for a service named `usher`, or for one whose name begins with `usher-`. A port
/// that is not an address is none of these: it was set by hand and means a key.
fn is_service_link(name: &str, text: &str) -> bool {
    let plain = |text: &str| {
        !text.is_empty()
            && !text.contains("__")
            && text
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let protocol = |text: &str| ["TCP", "UDP", "SCTP"].contains(&text);
    // 5672_TCP, 5672_TCP_PROTO
    let port = |text: &str| {
        let mut parts = text.splitn(3, '_');
        parts.next().is_some_and(digits)
            && parts.next().is_some_and(protocol)
            && parts
                .next()
                .is_none_or(|part| ["PROTO", "PORT", "ADDR"].contains(&part))
    };
    if !plain(name) {
        return false;
    }
    let of_service = |word: &str| name.ends_with(word);
    let after = |word: &str| name.rsplit_once(word).map(|(_, rest)| rest);
    of_service("_SERVICE_HOST")
        || of_service("_SERVICE_PORT")
        || after("_SERVICE_PORT_").is_some_and(plain)
        || (of_service("_PORT") && text.contains("://"))
        || after("_PORT_").is_some_and(port)
}

/// Reads a variable by its key's type: a text, a number, a comma-separated list, or JSON.
fn read(text: &str, shape: Shape, place: &Place) -> Result<Node, String> {
    let trimmed = text.trim();
    let takes = |name| shape.typed(name).is_some();
    let json = (takes("array") && trimmed.starts_with('[')) || (takes("object") && trimmed.starts_with('{'));
    if json {
        return serde_json::from_str::<Value>(trimmed)
            .map(|value| Node::from_json(value, place))
            .map_err(|error| {
                let (line, column) = (error.line(), error.column());
                let form = shape.form(true);
                format!("is not JSON: the error is at line {line}, column {column}; write {form}")
            });
    }
    let node = |written| Node {
        place: place.clone(),
        written,
    };
    if takes("string") {
        return Ok(node(Written::Text(text.to_owned())));
    }
    let strings = shape.items().is_some_and(|items| items.typed("string").is_some());
    if strings {
        let texts = trimmed.split(',').map(str::trim).filter(|text| !text.is_empty());
        let items = texts.map(|text| node(Written::Text(text.to_owned())));
        return Ok(node(Written::List(items.collect())));
    }
    let written = match trimmed.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" if takes("boolean") => Some(Written::Bool(true)),
        "false" | "off" | "no" | "0" if takes("boolean") => Some(Written::Bool(false)),
        number if takes("integer") || takes("number") => number_of(number),
        _ => None,
    };
    written
        .map(node)
        .ok_or_else(|| format!("is not valid; write {}", shape.form(true)))
}

fn number_of(text: &str) -> Option<Written> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Written::Integer(text.parse().unwrap_or_else(|_| beyond(text))));
    }
    text.parse().ok().map(Written::Float)
}
