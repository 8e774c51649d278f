//! JSON as it was written. A value that is passed on is kept as text: parsing would round numbers of many digits and
//! refuse numbers beyond a float's range.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

/// The most levels of objects and arrays: together with the levels around it, the value stays parsable.
const DEPTH_MAX: u32 = 120;

/// Any JSON value, as it was written. User data: prints as `<redacted>`, and can't be serialized by accident.
#[derive(Clone)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Serializes a value.
    pub(super) fn of(value: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    pub fn raw(&self) -> &RawValue {
        &self.0
    }

    pub fn is_null(&self) -> bool {
        self.0.get() == "null"
    }

    /// The JSON type, by serde's name for it.
    fn type_name(&self) -> &'static str {
        match self.0.get().as_bytes().first() {
            Some(b'{') => "map",
            Some(b'[') => "sequence",
            Some(b'"') => "string",
            Some(b't' | b'f') => "boolean",
            Some(b'n') => "null",
            _ => "number",
        }
    }
}

/// An object, as it was written.
pub(super) struct Object(Json);

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        object.0
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.raw().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        match json.type_name() {
            "map" => Ok(Self(json)),
            sent => Err(D::Error::custom(format_args!(
                "invalid type: {sent}, expected a map"
            ))),
        }
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        check_unambiguous(&text, DEPTH_MAX).map_err(D::Error::custom)?;
        Ok(Self(text))
    }
}

impl JsonSchema for Json {
    fn schema_name() -> Cow<'static, str> {
        "Json".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}

/// Refuses what parsing accepts but two readers may interpret differently.
fn check_unambiguous(text: &RawValue, depth: u32) -> Result<(), &'static str> {
    const TOO_DEEP: &str = "invalid value: too deep, expected at most 120 levels of objects and arrays";
    const DUPLICATE: &str =
        "invalid value: a duplicate name, expected objects in which each name appears once";
    const NOT_UNICODE: &str = "invalid value: half of a surrogate pair, expected valid Unicode text";
    let text = text.get();
    let within = || depth.checked_sub(1).ok_or(TOO_DEEP);
    match text.as_bytes().first() {
        Some(b'{') => {
            let depth = within()?;
            let Pairs(pairs) = serde_json::from_str(text).map_err(|_| NOT_UNICODE)?;
            let mut seen = HashSet::new();
            for (name, member) in &pairs {
                if !seen.insert(name) {
                    return Err(DUPLICATE);
                }
                check_unambiguous(member, depth)?;
            }
            Ok(())
        }
        Some(b'[') => {
            let depth = within()?;
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| NOT_UNICODE)?;
            items
                .into_iter()
                .try_for_each(|item| check_unambiguous(item, depth))
        }
        Some(b'"') => serde_json::from_str::<Cow<'_, str>>(text)
            .map(drop)
            .map_err(|_| NOT_UNICODE),
        _ => Ok(()),
    }
}

/// An object's members, including those with the same name.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = members.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_keeps_its_text() {
        for text in [
            "12345678901234567890123",
            "1.10",
            "-0",
            "1e999",
            r#"{"z":1.0,"a" : [1e400,"\u00e9\/"],"b":{}}"#,
            "null",
        ] {
            let json: Json = serde_json::from_str(&format!(" {text}\n")).unwrap();
            assert_eq!(json.raw().get(), text);
            assert_eq!(format!("{json:?}"), "<redacted>");
        }
    }

    #[test]
    fn ambiguous_json_is_refused() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(serde_json::from_str::<Json>(&deep(120)).is_ok());
        for text in [
            deep(121).as_str(),
            r#"{"a":[{"b":1,"b":2}]}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
        ] {
            let error = serde_json::from_str::<Json>(text).unwrap_err().to_string();
            assert!(error.starts_with("invalid value: "), "{text}: {error}");
        }
    }
}
