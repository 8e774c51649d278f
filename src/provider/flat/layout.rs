//! Where a user's fields are in requests and in answers to reads.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::contract::{Field, Update, Version};
use crate::provider::code::text;
use crate::provider::equal::Case;
use crate::provider::field_map::FieldMap;
use crate::provider::members::Members;
use crate::provider::setup::SetupError;
use crate::provider::{Kind, User};

/// The member names on the path to a value.
pub(in crate::provider) type Path = Vec<Box<str>>;

pub(in crate::provider) struct Layout {
    pub(in crate::provider) fields: FieldMap,
    /// The path of the object with the fields in the body; empty if they are at the top.
    pub(in crate::provider) wrap: Path,
    /// The fields that a read shows under another name, with their paths.
    pub(in crate::provider) read: Vec<(Field, Path)>,
    pub(in crate::provider) constants: Vec<(Path, Value)>,
    /// The value that clears a field.
    pub(in crate::provider) cleared: Value,
    /// Members that are not put back when the user is replaced.
    pub(in crate::provider) omit: Vec<Path>,
    pub(in crate::provider) user_at: Path,
    pub(in crate::provider) version_at: Option<Path>,
}

impl Layout {
    /// The fields are at the top of the user, and null clears them.
    pub(in crate::provider) fn top(fields: FieldMap) -> Self {
        Self {
            fields,
            wrap: Path::new(),
            read: Vec::new(),
            constants: Vec::new(),
            cleared: Value::Null,
            omit: Vec::new(),
            user_at: Path::new(),
            version_at: None,
        }
    }

    /// Refuses two members of which one would overwrite the other, because they have the same path or one contains the
    /// other.
    pub(in crate::provider) fn checked(self, kind: Kind) -> Result<Self, SetupError> {
        let mut taken: Vec<Path> = Vec::new();
        let fields = self.fields.names().map(|(field, name)| {
            let key = format!("provider.{kind}.fields.{}", field.name());
            dotted(key.clone(), name).map(|path| (key, self.wrapped(&path)))
        });
        let constants = self.constants.iter().map(|(path, _)| {
            let key = format!("provider.{kind}.constants.{}", path.join("."));
            Ok((key, path.clone()))
        });
        for placed in fields.chain(constants) {
            let (key, path) = placed?;
            if taken
                .iter()
                .any(|other| other.starts_with(&path) || path.starts_with(other))
            {
                let detail =
                    "has the same path as another member, or one contains the other; give each its own path";
                return Err(SetupError::new(key, detail));
            }
            taken.push(path);
        }
        Ok(self)
    }

    fn wrapped(&self, path: &[Box<str>]) -> Path {
        [&self.wrap, path].concat()
    }

    /// The body to send: the command's changes, over the user if it is put back.
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

    /// How values of the field are told apart.
    pub(super) fn case(&self, field: Field) -> Case {
        self.fields.case(field)
    }

    /// Where a read shows the field, from the top of the user.
    pub(super) fn shown_at(&self, field: Field) -> Option<Path> {
        let other = self.read.iter().find(|(of, _)| *of == field);
        other.map(|(_, path)| path.clone()).or_else(|| {
            let (_, name) = self.fields.names().find(|(of, _)| *of == field)?;
            Some(self.wrapped(&names(name)))
        })
    }

    /// The text of the user in the answer to a read.
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

    /// Whether the user matches the update.
    pub(super) fn matches(&self, update: &Update, user: &User) -> bool {
        self.first_that_differs(update, user, |_, shown| Some(shown.unwrap_or_default()))
            .is_none()
    }

    /// The first field that the answer to the update shows with another value. Only fields for which `shows` is true
    /// count. An absent member is ignored, and an empty text equals null.
    pub(super) fn first_ignored(
        &self,
        update: &Update,
        user: &User,
        shows: fn(Field) -> bool,
    ) -> Option<Field> {
        let is_empty = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
        self.first_that_differs(update, user, |field, shown| {
            let shown = shown.filter(|_| shows(field))?;
            Some(if is_empty(&shown) { Value::Null } else { shown })
        })
    }

    /// The first field that does not match. `judged` turns what is shown in its place into the value to compare.
    fn first_that_differs(
        &self,
        update: &Update,
        user: &User,
        judged: impl Fn(Field, Option<Value>) -> Option<Value>,
    ) -> Option<Field> {
        let members = members(user).unwrap_or_default();
        self.fields.first_that_differs(update, |field, name| {
            let other = self.read.iter().find(|(of, _)| *of == field);
            let shown = match other {
                Some((_, path)) => members.shown_at(path),
                None => members.shown_at(&self.wrapped(&names(name))),
            };
            let shown = judged(field, shown)?;
            let is_cleared = shown == self.cleared;
            Some(if is_cleared { Value::Null } else { shown })
        })
    }

    /// Whether the marker that changes with each write is the same in both.
    pub(super) fn is_unchanged(&self, before: &User, after: &User) -> bool {
        let marker = self.change_marker(before);
        marker.is_some() && marker == self.change_marker(after)
    }

    fn change_marker(&self, user: &User) -> Option<Value> {
        let marker = members(user).ok()?.value_at(self.version_at.as_ref()?);
        (marker.is_string() || marker.is_number()).then_some(marker)
    }

    pub(super) fn version(&self, user: &User) -> Option<Version> {
        Version::parse(&text(&self.change_marker(user)?)?)
    }

    /// The field that an error's body names, by its dotted name or a JSON pointer, from the top of the body or of
    /// `wrap`.
    pub(super) fn field_named(&self, text: &str) -> Option<Field> {
        let name = text
            .trim_start_matches('#')
            .trim_start_matches('/')
            .replace('/', ".");
        let wrap = self.wrap.join(".");
        let within = |prefix: &str| name.strip_prefix(prefix)?.strip_prefix('.');
        [within(&wrap), Some(&*name), within("body"), within("data")]
            .into_iter()
            .flatten()
            .find_map(|name| self.fields.field(name))
    }
}

fn members(user: &User) -> serde_json::Result<Members<'_>> {
    Members::parse(user.0.as_str().unwrap_or_default())
}

/// The value under a name in an object, or at an index in an array.
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

pub(in crate::provider) fn names(dotted: &str) -> Path {
    dotted.split('.').map(Box::from).collect()
}

pub(in crate::provider) fn dotted(key: impl Into<Cow<'static, str>>, text: &str) -> Result<Path, SetupError> {
    let names = names(text);
    match names.iter().any(|name| name.is_empty() || name.contains('"')) {
        true => Err(SetupError::new(
            key,
            "has an empty name or contains a quotation mark; separate names with dots, such as name.first (a name \
             that contains a dot can't be written)",
        )),
        false => Ok(names),
    }
}

/// A JSON pointer.
pub(in crate::provider) fn pointer(key: &'static str, text: &str) -> Result<Path, SetupError> {
    if !text.is_empty() && !text.starts_with('/') {
        let detail = "must be a JSON pointer, which starts with a slash, such as /data/user";
        return Err(SetupError::new(key, detail));
    }
    let unescaped = |name: &str| name.replace("~1", "/").replace("~0", "~").into();
    Ok(text.split('/').skip(1).map(unescaped).collect())
}
