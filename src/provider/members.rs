//! A JSON object kept as text, so that it can be put back as it was read. Parsing would round numbers of many digits,
//! refuse numbers beyond a float's range, and reorder names.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::equal::same_json;

/// An object's members in their order. Names are unique.
#[derive(Default)]
pub(super) struct Members<'a>(Vec<(String, Member<'a>)>);

#[derive(Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Kept(&'a RawValue),
    Set(Value),
    Text(Box<RawValue>),
    /// An object in which something was changed.
    Within(Members<'a>),
}

impl<'a> Members<'a> {
    pub(super) fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, name: &str) -> Option<&Member<'a>> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, member)| member)
    }

    /// A member's text, if it was read and not changed.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        match self.get(name)? {
            Member::Kept(text) => Some(text.get()),
            Member::Set(_) | Member::Text(_) | Member::Within(_) => None,
        }
    }

    /// Sets a member in its old place, or at the end.
    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.put(name, Member::Set(value));
    }

    /// The same, for a value that is already text.
    pub(super) fn set_raw(&mut self, name: &str, value: &'a RawValue) {
        self.put(name, Member::Kept(value));
    }

    fn put(&mut self, name: &str, member: Member<'a>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, present)) => *present = member,
            None => self.0.push((name.to_owned(), member)),
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Sets the value at the end of a path of names. A value on the path that is not an object is replaced by one.
    pub(super) fn set_at(&mut self, path: &[Box<str>], value: Value) -> serde_json::Result<()> {
        self.put_at(path, Member::Set(value))
    }

    /// The same, for a value that is already text.
    pub(super) fn set_text_at(&mut self, path: &[Box<str>], text: Box<RawValue>) -> serde_json::Result<()> {
        self.put_at(path, Member::Text(text))
    }

    fn put_at(&mut self, path: &[Box<str>], member: Member<'a>) -> serde_json::Result<()> {
        match path {
            [] => {}
            [name] => self.put(name, member),
            [name, rest @ ..] => {
                let mut within = self.within(name)?.unwrap_or_default();
                within.put_at(rest, member)?;
                self.put(name, Member::Within(within));
            }
        }
        Ok(())
    }

    /// Removes the value at the end of a path of names.
    pub(super) fn remove_at(&mut self, path: &[Box<str>]) -> serde_json::Result<()> {
        match path {
            [] => {}
            [name] => self.remove(name),
            [name, rest @ ..] => {
                if let Some(mut within) = self.within(name)? {
                    within.remove_at(rest)?;
                    self.put(name, Member::Within(within));
                }
            }
        }
        Ok(())
    }

    /// The members of a member that is an object. Members that were changed are moved out.
    fn within(&mut self, name: &str) -> serde_json::Result<Option<Self>> {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, Member::Within(members))) => Ok(Some(std::mem::take(members))),
            Some((_, Member::Kept(text))) if text.get().starts_with('{') => Self::parse(text.get()).map(Some),
            _ => Ok(None),
        }
    }

    /// The value that was read at the end of a path of names. A number beyond a float's range is null.
    pub(super) fn shown_at(&self, path: &[Box<str>]) -> Option<Value> {
        let (name, rest) = path.split_first()?;
        let text = self.text(name)?;
        match rest {
            [] => Some(serde_json::from_str(text).unwrap_or_default()),
            rest => Members::parse(text).ok()?.shown_at(rest),
        }
    }

    /// The same, but null if absent.
    pub(super) fn value_at(&self, path: &[Box<str>]) -> Value {
        self.shown_at(path).unwrap_or_default()
    }

    /// Whether the member has this value. Absent equals null; a number beyond a float's range equals no value.
    pub(super) fn has(&self, name: &str, value: &Value) -> bool {
        match self.get(name) {
            None => value.is_null(),
            Some(Member::Set(member)) => member == value,
            Some(Member::Kept(text)) => {
                serde_json::from_str::<Value>(text.get()).is_ok_and(|member| member == *value)
            }
            Some(Member::Text(_) | Member::Within(_)) => false,
        }
    }

    /// The same for a value that is still text.
    pub(super) fn has_raw(&self, name: &str, value: &RawValue) -> bool {
        match self.get(name) {
            None => value.get() == "null",
            Some(Member::Kept(text)) => same_json(value, text),
            Some(Member::Set(_) | Member::Text(_) | Member::Within(_)) => false,
        }
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, member)| (name, member)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Whole)
    }
}

struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, text)) = map.next_entry::<String, &RawValue>()? {
            members.push((name, Member::Kept(text)));
        }
        let mut seen = HashSet::new();
        match members.iter().all(|(name, _)| seen.insert(name)) {
            true => Ok(Members(members)),
            false => Err(A::Error::custom("a duplicate name")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(dotted: &str) -> Vec<Box<str>> {
        dotted.split('.').map(Box::from).collect()
    }

    #[test]
    fn unchanged_members_keep_their_text_and_place() {
        let text = r#"{"z":1e999,"a":{"n":1.50,"b":{"c":12345678901234567890123,"d":"x"}},"s":"text"}"#;
        let mut members = Members::parse(text).unwrap();
        members.set_at(&path("a.b.d"), json!("y")).unwrap();
        members.set_at(&path("a.b.e"), json!(null)).unwrap();
        members.set_at(&path("s.t"), json!(true)).unwrap();
        members.remove_at(&path("a.n")).unwrap();
        members.remove_at(&path("z.none")).unwrap();
        members.remove_at(&path("none.none")).unwrap();
        assert_eq!(
            serde_json::to_string(&members).unwrap(),
            r#"{"z":1e999,"a":{"b":{"c":12345678901234567890123,"d":"y","e":null}},"s":{"t":true}}"#
        );
    }

    #[test]
    fn duplicate_name_is_refused_where_something_is_changed() {
        let mut members = Members::parse(r#"{"a":{"b":1,"b":2}}"#).unwrap();
        assert!(members.set_at(&path("a.c"), json!(1)).is_err());
        assert!(Members::parse(r#"{"a":1,"a":2}"#).is_err());
    }

    #[test]
    fn value_is_found_by_its_path() {
        let members = Members::parse(r#"{"a":{"b":"c","n":1e999},"d":null}"#).unwrap();
        for (at, value) in [
            ("a.b", json!("c")),
            ("a", json!(null)),
            ("a.n", json!(null)),
            ("a.b.c", json!(null)),
            ("d", json!(null)),
            ("e", json!(null)),
        ] {
            assert_eq!(members.value_at(&path(at)), value, "{at}");
        }
    }
}
