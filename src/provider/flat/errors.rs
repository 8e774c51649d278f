//! Where an error's body has a code, and where it names fields of the command.

use serde_json::Value;

use super::Layout;
use crate::contract::{Field, Update};
use crate::provider::answer::Answer;
use crate::provider::answers::places;
use crate::provider::code::text;
use crate::provider::{Code, ProviderError, SetupError};

pub(in crate::provider) struct Errors {
    /// JSON pointers, one of which may contain `/**/`.
    pub(in crate::provider) code_at: Vec<String>,
    pub(in crate::provider) codes: Codes,
    pub(in crate::provider) fields_named: Places,
}

/// Which codes are passed on. Other text in their place may be user data.
pub(in crate::provider) enum Codes {
    Listed(Vec<String>),
    Formed(fn(&str) -> bool),
}

/// Where an error's body names a field.
pub(in crate::provider) enum Places {
    At(Vec<String>),
    /// In any text of the body.
    Anywhere,
}

impl Errors {
    pub(super) fn code(&self, answer: &Answer, body: &Value) -> Option<Code> {
        let texts = self
            .code_at
            .iter()
            .flat_map(|at| places(body, at))
            .filter_map(text);
        let passed_on = |text: String| match &self.codes {
            Codes::Listed(list) => answer.listed_code(&text, list),
            Codes::Formed(form) => answer.formed_code(&text, *form),
        };
        texts.into_iter().find_map(passed_on)
    }

    /// Adds the fields of the command that the body names.
    pub(super) fn point(&self, error: &mut ProviderError, body: &Value, layout: &Layout, update: &Update) {
        let texts: Vec<&str> = match &self.fields_named {
            Places::At(pointers) => pointers
                .iter()
                .flat_map(|at| places(body, at))
                .filter_map(Value::as_str)
                .collect(),
            Places::Anywhere => {
                let mut texts = Vec::new();
                all_texts(body, &mut texts);
                texts
            }
        };
        let mut named: Vec<Field> = Vec::new();
        for field in texts.into_iter().filter_map(|text| layout.field_named(text)) {
            if update.shared(field).is_some() && !named.contains(&field) {
                named.push(field);
            }
        }
        let pointers: Vec<_> = named.into_iter().map(Field::pointer).collect();
        if pointers.len() > 1 {
            let places = pointers.join(", ");
            error.detail = format!("{}; the provider names {places}", error.detail).into();
        }
        error.pointer = pointers.into_iter().next();
    }
}

/// Recursion is bounded by the depth that serde_json reads.
fn all_texts<'a>(body: &'a Value, texts: &mut Vec<&'a str>) {
    match body {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| all_texts(item, texts)),
        Value::Object(members) => members.values().for_each(|member| all_texts(member, texts)),
        _ => {}
    }
}

/// Refuses anything but JSON pointers with at most one `/**/`.
pub(in crate::provider) fn check_places(key: &'static str, pointers: &[String]) -> Result<(), SetupError> {
    let refused = |detail| Err(SetupError::new(key, detail));
    for pointer in pointers {
        if !pointer.starts_with('/') && !pointer.is_empty() {
            return refused("must be JSON pointers, which start with a slash, such as /error/code");
        }
        if pointer.matches("/**/").count() > 1 {
            return refused("may contain /**/ once, for any number of levels");
        }
    }
    Ok(())
}
