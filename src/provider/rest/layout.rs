//! Where a user's fields stand in what is sent and in what is read.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use super::config::{Clear, Config, Constant};
use crate::contract::{Field, Update, Version};
use crate::provider::code::text;
use crate::provider::field_map::FieldMap;
use crate::provider::members::Members;
use crate::provider::setup::SetupError;
use crate::provider::{Kind, User};

/// The names on the way to a member.
type Path = Vec<Box<str>>;

pub(super) struct Layout {
    fields: FieldMap,
    /// Of the fields in the body; empty where they stand at its top.
    wrap: Path,
    /// Where a read shows the fields whose name it has another for.
    read: Vec<(Field, Path)>,
    constants: Vec<(Path, Value)>,
    cleared: Value,
    omit: Vec<Path>,
    user_at: Path,
    version_at: Option<Path>,
}

impl Layout {
    pub(super) fn new(config: &Config) -> Result<Self, SetupError> {
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
                "says that nothing clears a field, and `clearable` names some; write null or empty, or leave \
                 `clearable` out",
            ));
        }
        let wrap = match config.wrap.as_str() {
            "" => Path::new(),
            wrap => dotted("provider.rest.wrap", wrap)?,
        };
        let layout = Self {
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
        layout.refuse_overlaps()?;
        if !layout.wrap.is_empty() && layout.user_at.ends_with(&layout.wrap) {
            return Err(SetupError::new(
                "provider.rest.user_at",
                "leads to where `wrap` leads: fields would be looked for under it twice; leave user_at's last part out",
            ));
        }
        Ok(layout)
    }

    /// One of two members would be lost, where both stand at one place or one within the other.
    fn refuse_overlaps(&self) -> Result<(), SetupError> {
        let mut taken: Vec<Path> = Vec::new();
        let fields = self.fields.names().map(|(field, name)| {
            let key = format!("provider.rest.fields.{}", field.name());
            dotted(key.clone(), name).map(|path| (key, self.wrapped(&path)))
        });
        let constants = self.constants.iter().map(|(path, _)| {
            let key = format!("provider.rest.constants.{}", path.join("."));
            Ok((key, path.clone()))
        });
        for placed in fields.chain(constants) {
            let (key, path) = placed?;
            if taken
                .iter()
                .any(|other| other.starts_with(&path) || path.starts_with(other))
            {
                let detail = "stands where another member stands, or within it; give each a place of its own";
                return Err(SetupError::new(key, detail));
            }
            taken.push(path);
        }
        Ok(())
    }

    pub(super) fn fields(&self) -> &FieldMap {
        &self.fields
    }

    fn wrapped(&self, path: &[Box<str>]) -> Path {
        [&self.wrap, path].concat()
    }

    /// What is sent: what the command changes, over the user where it is put back.
    pub(super) fn body<'a>(
        &self,
        update: &Update,
        current: Option<&'a User>,
    ) -> serde_json::Result<Members<'a>> {
        let mut body = match current {
            Some(user) => members(user)?,
            None => Members::default(),
        };
        for path in &self.omit {
            body.remove_at(path)?;
        }
        for (path, value) in &self.constants {
            body.set_at(path, value.clone())?;
        }
        for (name, value) in self.fields.changes(update) {
            let value = value.map_or_else(|| self.cleared.clone(), Value::from);
            body.set_at(&self.wrapped(&names(name)), value)?;
        }
        Ok(body)
    }

    /// The user in the answer to a read, as its text.
    pub(super) fn user(&self, answer: &RawValue) -> Option<User> {
        let mut text = answer.get();
        for name in &self.user_at {
            text = inner(text, name)?;
        }
        if self.user_at.is_empty() && self.wrap.first().is_none_or(|wrap| **wrap != *"user") {
            text = inner(text, "user")
                .filter(|user| user.starts_with('{'))
                .unwrap_or(text);
        }
        Members::parse(text).ok()?;
        Some(User(text.into()))
    }

    pub(super) fn as_asked(&self, update: &Update, user: &User) -> bool {
        let Ok(members) = members(user) else {
            return false;
        };
        self.fields.as_asked_where(update, |field, name| {
            let other = self.read.iter().find(|(of, _)| *of == field);
            let shown = match other {
                Some((_, path)) => members.value_at(path),
                None => members.value_at(&self.wrapped(&names(name))),
            };
            let cleared = shown == self.cleared;
            Cow::Owned(if cleared { Value::Null } else { shown })
        })
    }

    /// Whether what changes with each write is the same in both.
    pub(super) fn is_untouched(&self, before: &User, after: &User) -> bool {
        let mark = self.mark(before);
        mark.is_some() && mark == self.mark(after)
    }

    fn mark(&self, user: &User) -> Option<Value> {
        let mark = members(user).ok()?.value_at(self.version_at.as_ref()?);
        (mark.is_string() || mark.is_number()).then_some(mark)
    }

    pub(super) fn version(&self, user: &User) -> Option<Version> {
        Version::parse(&text(&self.mark(user)?)?)
    }

    /// The field of the update that an error's body names: by its dotted name or a JSON pointer, with `wrap` or without.
    pub(super) fn field_named(&self, text: &str, update: &Update) -> Option<Field> {
        let name = text.trim_start_matches('#').trim_start_matches('/');
        let name = name.replace('/', ".");
        let wrap = self.wrap.join(".");
        let bare = name.strip_prefix(&wrap).and_then(|rest| rest.strip_prefix('.'));
        let field = self.fields.field(bare.unwrap_or(&name))?;
        update.shared(field).is_some().then_some(field)
    }
}

fn members(user: &User) -> serde_json::Result<Members<'_>> {
    Members::parse(user.0.as_str().unwrap_or_default())
}

/// What stands under a name in an object, or under a number in a list.
fn inner<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    match text.starts_with('[') {
        true => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let item: &RawValue = items.get(name.parse::<usize>().ok()?)?;
            Some(item.get())
        }
        false => Members::parse(text).ok()?.text(name),
    }
}

fn names(dotted: &str) -> Path {
    dotted.split('.').map(Box::from).collect()
}

fn dotted(key: impl Into<Cow<'static, str>>, text: &str) -> Result<Path, SetupError> {
    let names = names(text);
    match names.iter().any(|name| name.is_empty() || name.contains('"')) {
        true => Err(SetupError::new(
            key,
            "has an empty name or a quotation mark in it; write names with a dot between, such as name.first (a name \
             that has a dot itself can't be written)",
        )),
        false => Ok(names),
    }
}

fn pointer(key: &'static str, text: &str) -> Result<Path, SetupError> {
    check_pointer(key, text)?;
    let unescaped = |name: &str| name.replace("~1", "/").replace("~0", "~").into();
    Ok(text.split('/').skip(1).map(unescaped).collect())
}

pub(super) fn check_pointer(key: &'static str, text: &str) -> Result<(), SetupError> {
    match text.is_empty() || text.starts_with('/') {
        true => Ok(()),
        false => Err(SetupError::new(
            key,
            "must be a JSON pointer, which begins with a slash, such as /error/code",
        )),
    }
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
