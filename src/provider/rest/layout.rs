//! Where a user's fields are, as the configuration says.

use serde_json::Value;

use super::config::{Clear, Config, Constant};
use crate::contract::Field;
use crate::provider::Kind;
use crate::provider::field_map::FieldMap;
use crate::provider::flat::{Layout, Path, dotted, pointer};
use crate::provider::setup::SetupError;

pub(super) fn of(config: &Config) -> Result<Layout, SetupError> {
    let clearable = |field| config.clear != Clear::None && config.clearable.contains(&field);
    let fields = FieldMap::new(Kind::Rest, &[], &config.fields, clearable)?.folding(&config.folds_case);
    if let Some(field) =
        (config.folds_case.iter()).find(|field| !matches!(field, Field::Email | Field::Username))
    {
        return Err(SetupError::new(
            "provider.rest.folds_case",
            format!(
                "names {}, and only email and username can be folded; leave it out",
                field.name()
            ),
        ));
    }
    if fields.names().next().is_none() {
        return Err(SetupError::new(
            "provider.rest.fields",
            "is missing; write the provider's name of each field that it takes, such as { email = \"email\" }",
        ));
    }
    if config.clear == Clear::None && !config.clearable.is_empty() {
        return Err(SetupError::new(
            "provider.rest.clear",
            "says that no field can be cleared, but `clearable` names some; set it to null or empty, or omit \
             `clearable` out",
        ));
    }
    let wrap = match config.wrap.as_str() {
        "" => Path::new(),
        wrap => dotted("provider.rest.wrap", wrap)?,
    };
    let layout = Layout {
        wrap,
        read: read_names(config, &fields)?,
        fields,
        constants: constants(config)?,
        cleared: match config.clear {
            Clear::Empty => "".into(),
            Clear::None | Clear::Null => Value::Null,
        },
        omit: omitted(config)?,
        user_at: pointer("provider.rest.user_at", &config.user_at)?,
        version_at: match config.version_at.as_str() {
            "" => None,
            at => Some(pointer("provider.rest.version_at", at)?),
        },
    };
    if !layout.wrap.is_empty() && layout.user_at.ends_with(&layout.wrap) {
        return Err(SetupError::new(
            "provider.rest.user_at",
            "ends with the path of `wrap`, so fields would be looked for under it twice; remove the last part of user_at",
        ));
    }
    layout.checked(Kind::Rest)
}

fn read_names(config: &Config, fields: &FieldMap) -> Result<Vec<(Field, Path)>, SetupError> {
    let mut read = Vec::new();
    for field in Field::ALL {
        let Some(name) = config.read_fields.get(field) else {
            continue;
        };
        let key = format!("provider.rest.read_fields.{}", field.name());
        if !fields.names().any(|(known, _)| known == field) {
            let detail = "has no name under `fields`; add one there, or leave it out here";
            return Err(SetupError::new(key, detail));
        }
        read.push((field, dotted(key, name)?));
    }
    Ok(read)
}

fn constants(config: &Config) -> Result<Vec<(Path, Value)>, SetupError> {
    let constant = |(name, value): (&String, &Constant)| {
        let path = dotted(format!("provider.rest.constants.{name}"), name)?;
        let value = match value {
            Constant::Flag(flag) => (*flag).into(),
            Constant::Number(number) => number.clone().into(),
            Constant::Text(text) => text.as_str().into(),
        };
        Ok((path, value))
    };
    config.constants.iter().map(constant).collect()
}

fn omitted(config: &Config) -> Result<Vec<Path>, SetupError> {
    const KEY: &str = "provider.rest.omit";
    if !config.omit.is_empty() && !config.replaces {
        let detail = "is for an update that replaces the user; set `replaces`, or leave it out";
        return Err(SetupError::new(KEY, detail));
    }
    config.omit.iter().map(|name| dotted(KEY, name)).collect()
}
