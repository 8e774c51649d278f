//! What a publisher adds to commands that lack it: the provider, the batch, and ids made from a key of its own.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::contract::{BODY_BYTES_MAX, BatchId, CommandId, ProviderName};

/// The UUID namespace of ids that are made from keys: the ids must not change between versions of usher.
const IDS: Uuid = Uuid::from_u128(0x7d0c_5c3e_2a6b_4f0e_9b57_31c5_0a4e_8d21);

/// The id of the command with this key: UUIDv5 of `<provider>.<key>` under the UUIDv5 of the batch under `IDS`. A
/// provider's name has no dot, so different pairs have different names.
pub fn id_from(batch: &BatchId, provider: &str, key: &str) -> CommandId {
    let batch = Uuid::new_v5(&IDS, batch.as_str().as_bytes());
    Uuid::new_v5(&batch, format!("{provider}.{key}").as_bytes())
}

#[derive(Debug, Clone, Default)]
pub struct Fill {
    /// For commands that name no provider.
    pub provider: Option<ProviderName>,
    /// For every command, whatever batch it names.
    pub batch: Option<BatchId>,
}

impl Fill {
    /// The command with what it lacks. Its other members stay as they were written: parsing would round long numbers.
    /// A text that is no JSON object is returned as it is, for `decode` to refuse.
    pub fn line<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        if self.provider.is_none() && self.batch.is_none() || text.len() > BODY_BYTES_MAX {
            return Cow::Borrowed(text);
        }
        let Ok(Members(members)) = serde_json::from_slice(text) else {
            return Cow::Borrowed(text);
        };
        let mut filled = Vec::with_capacity(text.len() + 64);
        let mut write = |name: &str, value: &[u8]| {
            filled.push(if filled.is_empty() { b'{' } else { b',' });
            write_text(&mut filled, name);
            filled.push(b':');
            filled.extend_from_slice(value);
        };
        for (name, value) in &members {
            if name != "batchId" || self.batch.is_none() {
                write(name, value.get().as_bytes());
            }
        }
        let provider = self.provider.as_ref().map(ProviderName::as_str);
        if let Some(provider) = provider.filter(|_| !members.iter().any(|(name, _)| name == "provider")) {
            write("provider", text_of(provider).as_bytes());
        }
        if let Some(batch) = &self.batch {
            write("batchId", text_of(batch.as_str()).as_bytes());
        }
        if filled.is_empty() {
            filled.push(b'{');
        }
        filled.push(b'}');
        Cow::Owned(filled)
    }
}

/// As a JSON string.
fn text_of(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Adds it as a JSON string.
pub(super) fn write_text(into: &mut Vec<u8>, text: &str) {
    into.extend_from_slice(text_of(text).as_bytes());
}

/// An object's members in their order, also those that appear twice.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let fill = Fill {
            provider: Some("p".parse().unwrap()),
            batch: Some("b \"1\"".parse().unwrap()),
        };
        String::from_utf8(fill.line(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn what_is_missing_is_added_and_the_rest_keeps_its_digits_and_its_order() {
        let number = "123456789012345678901234567890.12345678901234567890";
        let line =
            format!(r#"{{"userId":"u","update":{{"sivo":{{"metadata":{{"n": {number}}}}}}},"id":"x"}}"#);
        let rest = line.trim_end_matches('}').trim_start_matches('{');
        assert_eq!(
            filled(&line),
            format!(r#"{{{rest},"provider":"p","batchId":"b \"1\""}}"#)
        );
        assert_eq!(
            filled(r#"{ "provider" : "q", "batchId" : "a" }"#),
            r#"{"provider":"q","batchId":"b \"1\""}"#
        );
        assert_eq!(filled("{}"), r#"{"provider":"p","batchId":"b \"1\""}"#);
        // What appears twice is still refused by `decode`.
        assert!(filled(r#"{"id":1,"id":2}"#).contains(r#""id":1,"id":2"#));
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for text in ["", "no JSON", "[1]", "{", "{\"a\":1} {}"] {
            assert_eq!(filled(text), text);
        }
        let nothing = Fill::default();
        assert_eq!(&*nothing.line(b"{ \"a\" : 1 }"), b"{ \"a\" : 1 }");
    }

    #[test]
    fn ids_depend_on_the_batch_the_provider_and_the_key_alone() {
        let id = |batch: &str, provider, key| id_from(&batch.parse().unwrap(), provider, key).to_string();
        // Published ids: they must never change.
        assert_eq!(
            id("migration-2026-11", "zitadel", "u1"),
            "1ce9489e-f78b-59c8-9468-a9f2884ce612"
        );
        let all = [
            id("a", "p", "k"),
            id("b", "p", "k"),
            id("a", "q", "k"),
            id("a", "p", "l"),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), 4);
    }
}
