//! The size of headers on the wire, and which of them to cut so that a message can be published.
//!
//! A message's headers are sent in one frame. A publisher's may fill it, and the broker closes a connection that sends
//! a larger one.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::properties::{Header, amqp};

/// A deeper value is cut: writing it needs a stack as deep. Only an attacker nests headers like that.
const DEPTH_MAX: usize = 16;

/// The most cut headers that are named, each only if it looks like a name.
const NAMED_MAX: usize = 10;

/// The headers that are added to a message, and the bound for all its headers.
pub struct Added<'a> {
    pub headers: Vec<(String, Header)>,
    /// Headers with this prefix are replaced: they are of an earlier dead letter.
    pub replaces: &'a str,
    /// The header that names the cut ones.
    pub cut: &'a str,
    pub bytes_max: usize,
}

impl Added<'_> {
    /// The headers that fit; the largest are cut first. Added ones are never cut.
    pub(super) fn to(self, table: Option<&FieldTable>) -> FieldTable {
        let mut ours: BTreeMap<ShortString, AMQPValue> = self
            .headers
            .into_iter()
            .map(|(name, value)| (name.into(), amqp(value)))
            .collect();
        let theirs = table.into_iter().flat_map(|table| table.inner());
        let mut kept: Vec<_> = theirs
            .filter(|(name, _)| !name.as_str().starts_with(self.replaces) && !ours.contains_key(*name))
            .map(|(name, value)| (name, value, Size::of(value)))
            .collect();
        let mut cut = Vec::new();
        kept.retain(|(name, _, size)| {
            let deep = size.depth > DEPTH_MAX;
            if deep {
                cut.push(name.as_str());
            }
            !deep
        });
        // The names have a bound, so room can be reserved for them.
        let note_bytes = NAMED_MAX * 2 * usize::from(u8::MAX);
        let entry = |name: &ShortString, size: usize| 1 + name.as_str().len() + size;
        let own: usize = ours
            .iter()
            .map(|(name, value)| entry(name, Size::of(value).bytes))
            .sum();
        let room = self.bytes_max.saturating_sub(own + note_bytes);
        kept.sort_by_key(|(name, _, size)| entry(name, size.bytes));
        let mut bytes: usize = kept.iter().map(|(name, _, size)| entry(name, size.bytes)).sum();
        while bytes > room
            && let Some((name, _, size)) = kept.pop()
        {
            bytes -= entry(name, size.bytes);
            cut.push(name.as_str());
        }
        if !cut.is_empty() {
            ours.insert(self.cut.into(), amqp(Header::Text(names(&cut))));
        }
        ours.extend(
            kept.into_iter()
                .map(|(name, value, _)| (name.clone(), value.clone())),
        );
        FieldTable::from(ours)
    }
}

/// `3: tenant, trace, *`
fn names(cut: &[&str]) -> String {
    let is_name = |name: &str| {
        (1..=60).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphabetic() || b == b'-' || b == b'_' || b == b'.')
    };
    let named: Vec<_> = cut
        .iter()
        .take(NAMED_MAX)
        .map(|name| if is_name(name) { name } else { "*" })
        .collect();
    format!("{}: {}", cut.len(), named.join(", "))
}

struct Size {
    /// Bytes on the wire, including the value's type.
    bytes: usize,
    depth: usize,
}

impl Size {
    /// Uses a list instead of recursion: the deepest value that fits a frame has 26,000 levels.
    fn of(value: &AMQPValue) -> Self {
        let (mut bytes, mut depth) = (0, 0);
        let mut open = vec![(value, 1)];
        while let Some((value, level)) = open.pop() {
            depth = depth.max(level);
            bytes += 1 + match value {
                AMQPValue::Void => 0,
                AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
                AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
                AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
                AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
                AMQPValue::DecimalValue(_) => 5,
                AMQPValue::ShortString(text) => 1 + text.as_str().len(),
                AMQPValue::LongString(text) => 4 + text.len(),
                AMQPValue::ByteArray(array) => 4 + array.len(),
                AMQPValue::FieldArray(array) => {
                    open.extend(array.as_slice().iter().map(|value| (value, level + 1)));
                    4
                }
                AMQPValue::FieldTable(table) => {
                    open.extend(table.inner().values().map(|value| (value, level + 1)));
                    let names = table.inner().keys().map(|name| 1 + name.as_str().len());
                    4 + names.sum::<usize>()
                }
            };
        }
        Self { bytes, depth }
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;

    const BYTES_MAX: usize = 64 * 1024;

    fn text(bytes: usize) -> AMQPValue {
        AMQPValue::LongString("x".repeat(bytes).into())
    }

    fn nested(levels: usize) -> AMQPValue {
        (1..levels).fold(AMQPValue::Void, |inner, _| {
            AMQPValue::FieldArray(FieldArray::from(vec![inner]))
        })
    }

    fn fitted(theirs: &[(&str, AMQPValue)], bytes_max: usize) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in theirs {
            table.insert((*name).into(), value.clone());
        }
        let added = Added {
            headers: vec![("x-ours-reason".to_owned(), Header::Text("why".to_owned()))],
            replaces: "x-ours-",
            cut: "x-ours-cut",
            bytes_max,
        };
        added.to(Some(&table))
    }

    fn names_in(table: &FieldTable) -> Vec<&str> {
        table.inner().keys().map(ShortString::as_str).collect()
    }

    fn said(table: &FieldTable) -> Option<String> {
        match table.inner().get("x-ours-cut")? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            _ => None,
        }
    }

    #[test]
    fn headers_that_fit_are_kept_and_earlier_ones_are_replaced() {
        let table = fitted(
            &[
                ("tenant", text(10)),
                ("x-ours-reason", text(3)),
                ("x-ours-status", text(3)),
            ],
            BYTES_MAX,
        );
        assert_eq!(names_in(&table), ["tenant", "x-ours-reason"]);
        assert_eq!(said(&table), None);
    }

    #[test]
    fn the_largest_are_cut_first_and_named() {
        let theirs = [
            ("small", text(10)),
            ("large", text(40_000)),
            ("alex@example.com", text(50_000)),
            ("middle", text(30_000)),
        ];
        let table = fitted(&theirs, BYTES_MAX);
        assert_eq!(
            names_in(&table),
            ["middle", "small", "x-ours-cut", "x-ours-reason"]
        );
        assert_eq!(said(&table).unwrap(), "2: *, large");
    }

    #[test]
    fn ten_thousand_headers_are_cut_to_what_fits() {
        let named: Vec<_> = (0..10_000).map(|n| format!("h{n}")).collect();
        let theirs: Vec<_> = named.iter().map(|name| (name.as_str(), text(10))).collect();
        let table = fitted(&theirs, BYTES_MAX);
        assert!(Size::of(&AMQPValue::FieldTable(table.clone())).bytes <= BYTES_MAX);
        assert!(table.inner().len() > 2000, "{}", table.inner().len());
    }

    #[test]
    fn deeply_nested_headers_are_cut() {
        let theirs = [("deep", nested(DEPTH_MAX + 1)), ("shallow", nested(DEPTH_MAX))];
        let table = fitted(&theirs, BYTES_MAX);
        assert_eq!(said(&table).unwrap(), "1: deep");
        assert!(table.inner().contains_key("shallow"));
    }

    #[test]
    fn sizes_are_those_on_the_wire() {
        let size = Size::of(&AMQPValue::FieldArray(FieldArray::from(vec![
            AMQPValue::Boolean(true),
            text(3),
        ])));
        assert_eq!((size.bytes, size.depth), (1 + 4 + 2 + 8, 2));
    }
}
