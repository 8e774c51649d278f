//! One rule: the conditions on an answer, and what the answer means if they hold.

mod member;

use std::borrow::Cow;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::member::{HeaderIs, Headers, HeadersWritten, Method, Pattern, Scalar, Statuses};
use super::Class;
use crate::provider::answer::Answer;

/// The answer meets all conditions. It then means `class`, or what it would mean with the status in its body at
/// `status_at`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(
    with = "Written",
    extend("oneOf" = [{ "required": ["class"] }, { "required": ["status_at"] }])
)]
pub struct Rule {
    status: Statuses,
    method: Option<Method>,
    header: Vec<HeaderIs>,
    content_type: Option<String>,
    json: Option<bool>,
    pointer: Option<String>,
    equals: Option<Scalar>,
    matches: Option<Pattern>,
    pub(super) class: Option<Class>,
    status_at: Option<String>,
    pub(super) retry_after: Option<Duration>,
    because: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AnswerRule")]
struct Written {
    /// A status, such as 403, all of a class ("4xx"), a range ("500-504"), or a list of these. Omitted: any.
    #[serde(default)]
    status: Statuses,
    /// The request's method. Omitted: any.
    #[serde(default)]
    #[schemars(with = "Method")]
    method: Option<Method>,
    /// A header that is present ("retry-after"), or that has this value, with * for any characters
    /// ("x-ratelimit-remaining: 0"). One of a list is enough. Case does not matter.
    #[serde(default)]
    #[schemars(with = "HeadersWritten")]
    header: Headers,
    /// The media type of a body that is not empty, without its parameters: "text/html", or "text/*".
    #[serde(default)]
    #[schemars(with = "String", extend("examples" = ["text/html"]))]
    content_type: Option<String>,
    /// Whether the body is a JSON object.
    #[serde(default)]
    #[schemars(with = "bool")]
    json: Option<bool>,
    /// A JSON pointer into the body to a value that is present and not null. It may contain `/**/` once, which means
    /// any number of levels: one such value is enough.
    #[serde(default)]
    #[schemars(with = "String", extend("examples" = ["/error/code"]))]
    pointer: Option<String>,
    /// The value at `pointer` is this text, number or boolean.
    #[serde(default)]
    #[schemars(with = "Scalar")]
    equals: Option<Scalar>,
    /// The value at `pointer` has a match of this regular expression.
    #[serde(default)]
    #[schemars(with = "String")]
    matches: Option<Pattern>,
    /// What the answer means.
    #[serde(default)]
    #[schemars(with = "Class")]
    class: Option<Class>,
    /// A JSON pointer to the status that counts, if the body names another one than the answer has.
    #[serde(default)]
    #[schemars(with = "String", extend("examples" = ["/status"]))]
    status_at: Option<String>,
    /// With the class `throttled`: how long to wait if the answer does not say.
    #[serde(
        default,
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional"
    )]
    #[schemars(with = "String", extend("x-duration" = { "minimum": "0s", "maximum": "168h" }))]
    retry_after: Option<Duration>,
    /// A note for people; `usher explain answer` shows it.
    #[serde(default)]
    #[schemars(with = "String")]
    because: Option<String>,
}

impl TryFrom<Written> for Rule {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        if written.class.is_some() == written.status_at.is_some() {
            return Err("a rule for answers needs either `class` or `status_at`");
        }
        if written.pointer.is_none() && (written.equals.is_some() || written.matches.is_some()) {
            return Err("`equals` and `matches` need a `pointer`, the place in the body that they check");
        }
        let pointers = [&written.pointer, &written.status_at];
        if pointers
            .into_iter()
            .flatten()
            .any(|pointer| !pointer.starts_with('/'))
        {
            return Err(
                "`pointer` and `status_at` are JSON pointers, which start with a slash, such as /error/code",
            );
        }
        let any_levels = |pointer: &Option<String>| {
            pointer
                .as_ref()
                .map_or(0, |pointer| pointer.matches(ANY_LEVELS).count())
        };
        if any_levels(&written.pointer) > 1 || any_levels(&written.status_at) > 0 {
            return Err("`pointer` may contain `/**/` once, and `status_at` must not contain it");
        }
        if written.retry_after.is_some() && written.class != Some(Class::Throttled) {
            return Err("`retry_after` is only allowed with the class `throttled`");
        }
        let names_nothing = written.status.0.is_empty()
            && written.method.is_none()
            && written.header.0.is_empty()
            && written.content_type.is_none()
            && written.json.is_none()
            && written.pointer.is_none();
        if names_nothing {
            return Err(
                "a rule without a condition would match every answer; add a `status`, a `header`, \
                        a `content_type`, `json`, a `method` or a `pointer`",
            );
        }
        Ok(Self {
            status: written.status,
            method: written.method,
            header: written.header.0,
            content_type: written.content_type.map(|text| text.to_ascii_lowercase()),
            json: written.json,
            pointer: written.pointer,
            equals: written.equals,
            matches: written.matches,
            class: written.class,
            status_at: written.status_at,
            retry_after: written.retry_after,
            because: written.because,
        })
    }
}

impl Rule {
    /// The body has this text or number at the pointer.
    pub(crate) fn body_says(pointer: &str, text: &str, class: Class) -> Self {
        Self {
            status: Statuses::default(),
            method: None,
            header: Vec::new(),
            content_type: None,
            json: None,
            pointer: Some(pointer.into()),
            equals: Some(Scalar(text.into())),
            matches: None,
            class: Some(class),
            status_at: None,
            retry_after: None,
            because: None,
        }
    }

    pub fn because(&self) -> Option<&str> {
        self.because.as_deref()
    }

    /// Cheap checks come first, so that most bodies are never parsed.
    pub(super) fn fits(&self, status: u16, answer: &Answer) -> bool {
        self.status.contain(status)
            && self
                .method
                .is_none_or(|method| method.as_str() == answer.method.as_str())
            && (self.header.is_empty() || self.header.iter().any(|header| header.is_in(answer)))
            && self
                .content_type
                .as_deref()
                .is_none_or(|asked| is_of_type(asked, answer))
            && self.json.is_none_or(|json| json == answer.json().is_some())
            && self
                .pointer
                .as_deref()
                .is_none_or(|pointer| self.finds(pointer, answer))
    }

    fn finds(&self, pointer: &str, answer: &Answer) -> bool {
        if let Some(Scalar(text)) = &self.equals
            && !contains(&answer.body, text.as_bytes())
            && text.is_ascii()
            && !text.contains(['"', '\\', '/'])
        {
            return false;
        }
        let body = answer.json();
        body.map_or(Vec::new(), |body| places(body, pointer))
            .into_iter()
            .any(|value| !value.is_null() && self.is_expected(value))
    }

    fn is_expected(&self, found: &Value) -> bool {
        let text = scalar(found);
        self.equals
            .as_ref()
            .is_none_or(|expected| text.as_deref() == Some(expected.0.as_str()))
            && self
                .matches
                .as_ref()
                .is_none_or(|pattern| text.as_deref().is_some_and(|text| pattern.0.is_match(text)))
    }

    /// The status that the body names.
    pub(super) fn status_in_body(&self, answer: &Answer) -> Option<u16> {
        let value = answer.json()?.pointer(self.status_at.as_deref()?)?;
        let status = scalar(value)?.parse().ok()?;
        (100..=999).contains(&status).then_some(status)
    }
}

/// Means any number of levels in a pointer, including none.
const ANY_LEVELS: &str = "/**/";

/// The values at the pointer, which contains `ANY_LEVELS` at most once.
pub(crate) fn places<'a>(body: &'a Value, pointer: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    match pointer.split_once(ANY_LEVELS) {
        None => found.extend(body.pointer(pointer)),
        Some((above, below)) => {
            if let Some(at) = body.pointer(above) {
                at_any_level(at, &format!("/{below}"), &mut found);
            }
        }
    }
    found
}

/// Recursion is bounded by the depth that serde_json reads.
fn at_any_level<'a>(at: &'a Value, pointer: &str, found: &mut Vec<&'a Value>) {
    found.extend(at.pointer(pointer));
    match at {
        Value::Object(members) => members
            .values()
            .for_each(|member| at_any_level(member, pointer, found)),
        Value::Array(items) => items.iter().for_each(|item| at_any_level(item, pointer, found)),
        _ => {}
    }
}

/// Whether the body contains the bytes.
fn contains(body: &[u8], part: &[u8]) -> bool {
    part.is_empty() || body.windows(part.len()).any(|window| window == part)
}

fn is_of_type(asked: &str, answer: &Answer) -> bool {
    let said = answer.headers.get(reqwest::header::CONTENT_TYPE);
    let said = said.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = said.split(';').next().unwrap_or_default().trim();
    !answer.body.is_empty() && wildcard(asked, &media_type.to_ascii_lowercase())
}

/// A string, a number or a boolean, as text.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(bool) => Some(bool.to_string().into()),
        _ => None,
    }
}

/// Whether the text matches the pattern, in which * means any characters.
fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
