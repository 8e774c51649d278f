//! The published schemas, generated from the types that read and write.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::command::UpdateUser;
use super::event::Event;
use super::lifecycle::LifecycleEvent;

/// `schemas/update-user.v1.json`
pub fn command() -> Schema {
    of_read::<UpdateUser>()
}

/// `schemas/user-update-event.v1.json`
pub fn event() -> Schema {
    generate::<Event>(SchemaSettings::draft2020_12().for_serialize())
}

/// `schemas/lifecycle-event.v1.json`
pub fn lifecycle() -> Schema {
    generate::<LifecycleEvent>(SchemaSettings::draft2020_12().for_serialize())
}

/// The schema of a type that is deserialized.
pub fn of_read<T: JsonSchema>() -> Schema {
    generate::<T>(SchemaSettings::draft2020_12())
}

fn generate<T: JsonSchema>(settings: SchemaSettings) -> Schema {
    settings
        .with_transform(RecursiveTransform(plain))
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Removes what is specific to schemars: strict validators refuse formats such as `uint32`; a default of null only
/// means that a member may be omitted, and would also appear where null is refused; line breaks in descriptions are
/// those of the source.
fn plain(schema: &mut Schema) {
    if let Some(Value::String(format)) = schema.get("format")
        && ["int", "uint", "double"]
            .iter()
            .any(|own| format.starts_with(own))
    {
        schema.remove("format");
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}

/// Forbids other members: usher writes exactly these.
pub(super) fn closed(schema: &mut Schema) {
    schema.insert("additionalProperties".into(), false.into());
}

/// Lists the event's `type` and `data` as members of the whole schema, so that it can be closed. The alternatives only
/// say which `data` belongs to which `type`.
pub(super) fn tagged(schema: &mut Schema) {
    let types: Vec<Value> = schema
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|variant| variant["properties"]["type"]["const"].clone())
        .collect();
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("type".into(), json!({ "type": "string", "enum": types }));
        properties.insert("data".into(), json!({ "type": "object" }));
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.extend(["type".into(), "data".into()]);
    }
    let variants = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for variant in variants.into_iter().flatten().filter_map(Value::as_object_mut) {
        variant.remove("type");
        variant.remove("required");
    }
    closed(schema);
}

/// Adds a schema and its definitions to the components of a document, and adapts its references.
pub(super) fn into_components(name: &str, schema: Schema, components: &mut serde_json::Map<String, Value>) {
    let mut schema = schema.to_value();
    relocate(&mut schema);
    if let Some(schema) = schema.as_object_mut() {
        // Only a schema that is a document of its own has these.
        schema.remove("$schema");
        schema.remove("$id");
        if let Some(Value::Object(definitions)) = schema.remove("$defs") {
            components.extend(definitions);
        }
    }
    components.insert(name.into(), schema);
}

fn relocate(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", "#/components/schemas/");
            }
            members.values_mut().for_each(relocate);
        }
        Value::Array(items) => items.iter_mut().for_each(relocate),
        _ => {}
    }
}
