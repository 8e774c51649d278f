//! How a flat API finds a user: by GET, with the key in the path or the query, as the configuration says.

use std::borrow::Cow;

use percent_encoding::utf8_percent_encode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Flat;
use super::layout::{Layout, Path, pointer};
use crate::contract::{Fault, Field, Reason};
use crate::provider::equal::Case;
use crate::provider::find::{Candidate, FindBy, Found, cannot_find, judge, of_search};
use crate::provider::http::{Place, Request};
use crate::provider::setup::{SEGMENT, SetupError};
use crate::provider::{Kind, ProviderError};

const PLACEHOLDER: &str = "{key}";

/// `[provider.rest.find]`: how `usher resolve` finds users. In a path, `{key}` is where the key goes, such as
/// `/users?email={key}`. In quotes (`'{key}'`, `%22{key}%22`), a quote within a key is doubled or escaped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RestFindConfig")]
pub struct FindConfig {
    /// The path that finds users by e-mail address, with `{key}`. Default: empty: they are not found by it.
    pub email: String,
    /// The path that finds users by user name, with `{key}`. Default: empty: they are not found by it.
    pub username: String,
    /// The path that finds users by an id of the publisher's own, with `{key}`. Default: empty: they are not found by
    /// it.
    pub external_id: String,
    /// Where a user in the answer shows the e-mail address, as a JSON pointer. A user that shows another one does not
    /// count. Default: empty, which means where a read shows the field `email`.
    pub email_at: String,
    /// The same for the user name.
    pub username_at: String,
    /// The same for the id of the publisher's own, such as `/externalId`. Required with `external_id`.
    pub external_id_at: String,
    /// Where the users are in the answer, as a JSON pointer such as `/users`: a list, or one user. Default: empty,
    /// which means the whole answer.
    pub users_at: String,
    /// Where a user's id is, as a JSON pointer into the user: a text or a number. Default: `/id`.
    pub id_at: String,
}

impl Default for FindConfig {
    fn default() -> Self {
        Self {
            email: String::new(),
            username: String::new(),
            external_id: String::new(),
            email_at: String::new(),
            username_at: String::new(),
            external_id_at: String::new(),
            users_at: String::new(),
            id_at: "/id".into(),
        }
    }
}

/// What surrounds the key, and would end at a quote within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    None,
    /// As in OData: a quote is doubled.
    Single,
    /// As in JSON: a quote is escaped.
    Double,
}

/// A path with a placeholder for a key.
#[derive(Debug)]
struct KeyPath {
    before: Box<str>,
    after: Box<str>,
    quoting: Quoting,
}

impl KeyPath {
    fn parse(key: &'static str, text: &str) -> Result<Self, SetupError> {
        let refused = |detail: &'static str| Err(SetupError::new(key, detail));
        let Some((before, after)) = text.split_once(PLACEHOLDER) else {
            return refused("must contain {key}, where the key goes");
        };
        if !before.starts_with('/') || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return refused(
                "must be a path as in a URL, such as /users?email={key}: ASCII without spaces and #",
            );
        }
        if after.contains(PLACEHOLDER) {
            return refused("must contain {key} once");
        }
        let ends = |signs: [&str; 2]| signs.iter().any(|sign| before.ends_with(sign));
        Ok(Self {
            before: before.into(),
            after: after.into(),
            quoting: match () {
                () if ends(["'", "%27"]) => Quoting::Single,
                () if ends(["\"", "%22"]) => Quoting::Double,
                () => Quoting::None,
            },
        })
    }

    /// Not a search, whose path is there whether or not somebody has the key.
    fn names_one_user(&self) -> bool {
        !self.before.contains('?')
    }

    fn with(&self, key: &str) -> String {
        let key = match self.quoting {
            Quoting::None => Cow::Borrowed(key),
            Quoting::Single => key.replace('\'', "''").into(),
            Quoting::Double => key.replace('\\', "\\\\").replace('"', "\\\"").into(),
        };
        let mut path = String::from(&*self.before);
        path.extend(utf8_percent_encode(&key, SEGMENT));
        path.push_str(&self.after);
        path
    }
}

/// The searches of one API.
pub(in crate::provider) struct Searches {
    kind: Kind,
    /// With the place of the key in a user that was found.
    by: Vec<(FindBy, KeyPath, Path, Case)>,
    users_at: Path,
    id_at: Path,
}

impl Searches {
    pub(in crate::provider) fn none(kind: Kind) -> Self {
        Self {
            kind,
            by: Vec::new(),
            users_at: Path::new(),
            id_at: Path::new(),
        }
    }

    pub(in crate::provider) fn rest(config: &FindConfig, layout: &Layout) -> Result<Self, SetupError> {
        let written = [
            (
                FindBy::Email,
                EMAIL,
                &config.email,
                &config.email_at,
                Some(Field::Email),
            ),
            (
                FindBy::Username,
                USERNAME,
                &config.username,
                &config.username_at,
                Some(Field::Username),
            ),
            (
                FindBy::ExternalId,
                EXTERNAL_ID,
                &config.external_id,
                &config.external_id_at,
                None,
            ),
        ];
        let mut by = Vec::new();
        for (kind_of_key, [key, at_key], path, at, field) in written {
            if path.is_empty() {
                continue;
            }
            let at = match at.as_str() {
                "" => field.and_then(|field| layout.shown_at(field)).ok_or_else(|| {
                    let detail =
                        "is missing; write where a user that is found shows the key, such as /externalId";
                    SetupError::new(at_key, detail)
                })?,
                at => pointer(at_key, at)?,
            };
            let case = field.map_or(Case::Exact, |field| layout.case(field));
            by.push((kind_of_key, KeyPath::parse(key, path)?, at, case));
        }
        Ok(Self {
            kind: Kind::Rest,
            by,
            users_at: pointer("provider.rest.find.users_at", &config.users_at)?,
            id_at: pointer("provider.rest.find.id_at", &config.id_at)?,
        })
    }

    fn call(&self, by: FindBy) -> Option<(&KeyPath, &Path, Case)> {
        let call = self.by.iter().find(|(of, ..)| *of == by);
        call.map(|(_, path, at, case)| (path, at, *case))
    }

    pub(super) fn check(&self, by: FindBy) -> Result<(), Cow<'static, str>> {
        if self.call(by).is_some() {
            return Ok(());
        }
        Err(match self.kind {
            Kind::Karmo => {
                "Karmo's documentation shows a list of an organization's users and no search; make the id map from an export \
                 of the users: a CSV file with the columns key and userId"
                    .into()
            }
            Kind::Rest => format!(
                "no path is configured that finds users by {by}; set `{}` under [provider.rest.find], or use another kind of \
                 key",
                by.as_str().replace('-', "_")
            )
            .into(),
            kind => format!(
                "no call is known that finds a user at a provider of the kind {kind}; make the id map from an export of the \
                 users: a CSV file with the columns key and userId"
            )
            .into(),
        })
    }
}

const EMAIL: [&str; 2] = ["provider.rest.find.email", "provider.rest.find.email_at"];
const USERNAME: [&str; 2] = ["provider.rest.find.username", "provider.rest.find.username_at"];
const EXTERNAL_ID: [&str; 2] = [
    "provider.rest.find.external_id",
    "provider.rest.find.external_id_at",
];

/// The value at this path.
fn at<'v>(value: &'v Value, path: &[Box<str>]) -> &'v Value {
    path.iter().fold(value, |value, name| &value[&**name])
}

pub(super) async fn find(flat: &Flat, by: FindBy, key: &str) -> Result<Found, ProviderError> {
    let searches = &flat.searches;
    let Some((path, key_at, case)) = searches.call(by) else {
        return Err(cannot_find(&searches.check(by).err().unwrap_or_default()));
    };
    let names_one_user = path.names_one_user();
    let path = path.with(key);
    let request = Request {
        headers: flat.headers.of_read(),
        ..Request::get(Place::Query(&path))
    };
    let answer = match flat.http.call(request, |answer| flat.refusal(answer, None)).await {
        Ok(answer) => answer,
        Err(error) if names_one_user && error.fault == Fault::Command(Reason::NotFound) => {
            return Ok(Found::Nobody);
        }
        Err(error) => return Err(of_search(error)),
    };
    let body: Value = serde_json::from_slice(&answer.body).map_err(|_| answer.unreadable())?;
    let users = match at(&body, &searches.users_at) {
        Value::Array(users) => users.as_slice(),
        user @ Value::Object(_) => std::slice::from_ref(user),
        _ => return Err(answer.error(Fault::Configuration, NO_USERS)),
    };
    let ids: Vec<_> = users.iter().map(|user| text(at(user, &searches.id_at))).collect();
    let candidates = users.iter().zip(&ids).map(|(user, id)| Candidate {
        id: id.as_deref(),
        has_key: text(at(user, key_at)).map(|shown| by.is_same(case, key, &shown)),
    });
    judge(&answer, candidates, None)
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

const NO_USERS: &str = "the answer to the search has no users in the expected place; correct `users_at` under \
                        [provider.rest.find]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_within_its_quotes_and_its_parameter() {
        let with = |path: &str, key: &str| KeyPath::parse(EMAIL[0], path).unwrap().with(key);
        assert_eq!(
            with("/u?email={key}&x=1", "a+b&c=d"),
            "/u?email=a%2Bb%26c%3Dd&x=1"
        );
        assert_eq!(with("/u/{key}", "../x"), "/u/..%2Fx");
        assert_eq!(
            with("/u?$filter=mail%20eq%20'{key}'", "o'x"),
            "/u?$filter=mail%20eq%20'o%27%27x'"
        );
        assert_eq!(
            with("/u?q=mail:%22{key}%22", "a\"\\b"),
            "/u?q=mail:%22a%5C%22%5C%5Cb%22"
        );
    }

    #[test]
    fn a_path_without_its_place_for_the_key_is_refused() {
        for path in [
            "/users",
            "users?x={key}",
            "/users?a={key}&b={key}",
            "/users?a={key} b",
            "/users#{key}",
        ] {
            let refused = KeyPath::parse(EMAIL[0], path).unwrap_err();
            assert_eq!(refused.key, EMAIL[0], "{path}");
        }
    }
}
