//! The published schemas, generated from the types that read and write.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::command::UpdateUser;
use super::event::Event;

/// `schemas/update-user.v1.json`
pub fn command() -> Schema {
    generate::<UpdateUser>()
}

/// `schemas/user-update-event.v1.json`
pub fn event() -> Schema {
    generate::<Event>()
}

fn generate<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>()
}
