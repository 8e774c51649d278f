//! The details of a refusal besides its class: the code, and the field that the words of `detail` name. The words
//! themselves are never passed on.

use serde::Deserialize;

use super::Form;
use super::desired::Desired;
use crate::contract::{Fault, Reason};
use crate::provider::ProviderError;
use crate::provider::answer::Answer;
use crate::provider::answers::Class;

const NO_TARGET: &str = "noTarget";

/// RFC 7644, section 3.12.
const SCIM_TYPES: [&str; 10] = [
    "invalidFilter",
    "tooMany",
    "uniqueness",
    "mutability",
    "invalidSyntax",
    "invalidPath",
    NO_TARGET,
    "invalidValue",
    "invalidVers",
    "sensitive",
];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    scim_type: Option<String>,
    detail: Option<String>,
}

impl Body {
    fn of(answer: &Answer) -> Self {
        let body = answer.json().and_then(|body| Self::deserialize(body).ok());
        body.unwrap_or_default()
    }

    /// The standard's code, used for decisions.
    fn known_type(&self) -> Option<&'static str> {
        let is = self.scim_type.as_deref()?;
        SCIM_TYPES.into_iter().find(|known| *known == is)
    }
}

pub(super) fn of_read(answer: &Answer) -> ProviderError {
    let mut error = answer.refusal();
    error.code = Body::of(answer)
        .known_type()
        .and_then(|known| answer.listed_code(known, &SCIM_TYPES));
    error
}

pub(super) fn of_write(answer: &Answer, desired: &[Desired<'_>], form: &Form) -> ProviderError {
    let body = Body::of(answer);
    let known = body.known_type();
    let detail = body.detail.unwrap_or_default();
    let mut error = match (answer.class, known) {
        // RFC 7644 uses 409 both for a value that is taken, with `uniqueness`, and for another version.
        (Class::Conflict, None) if (form.is_versioned || form.is_merged) && mentions_version(&detail) => {
            answer.refusal_as(Class::VersionConflict)
        }
        // Nothing was applied, because a PATCH is applied completely or not at all. If the user is known, the write
        // does not remove or replace anything that does not exist.
        (Class::Rejected, Some(NO_TARGET)) if !form.is_known => answer.error(
            Fault::ReadFirst,
            "the provider refuses to replace or remove a value that does not exist",
        ),
        (Class::Configuration, _) if matches!(answer.status, 405 | 501) => answer.error(
            Fault::Configuration,
               "the provider accepts neither PATCH nor PUT for users; see what `usher check` reports, and check that \
                 base_url is everything before /Users",
        ),
        _ => answer.refusal(),
    };
    if let Fault::Command(Reason::Rejected | Reason::Conflict) = error.fault {
        error.pointer = named_field(desired, &detail, known.is_some());
    }
    error.code = known.and_then(|known| answer.listed_code(known, &SCIM_TYPES));
    error
}

pub(super) fn is_no_target(error: &ProviderError) -> bool {
    error.status == Some(400) && error.code.as_deref() == Some(NO_TARGET)
}

/// Whether the provider does not understand a path. If the command's values are right, it is the filter in the path.
pub(super) fn is_path_refusal(error: &ProviderError) -> bool {
    matches!(error.code.as_deref(), Some("invalidPath" | "invalidFilter"))
}

/// Whether the provider may refuse a value because of an unknown member.
pub(super) fn may_concern_a_member(error: &ProviderError) -> bool {
    error.fault == Fault::Command(Reason::Rejected)
        && matches!(
            error.code.as_deref(),
            None | Some("invalidSyntax" | "invalidValue" | "invalidPath")
        )
}

pub(super) fn is_version_conflict(error: &ProviderError) -> bool {
    error.fault == Fault::Command(Reason::VersionConflict)
}

fn mentions_version(detail: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    ["version", "etag", "if-match"]
        .into_iter()
        .any(|word| detail.contains(word))
}

/// The only field of the command whose attribute is named; or, if a code blames a value, the only field of the command.
fn named_field(desired: &[Desired<'_>], detail: &str, has_code: bool) -> Option<String> {
    let words: Vec<_> = detail.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let mut named = desired
        .iter()
        .filter(|desired| words.contains(&desired.attribute.name()));
    match (named.next(), named.next(), desired) {
        (Some(desired), None, _) => Some(desired.pointer.clone()),
        (None, _, [desired]) if has_code => Some(desired.pointer.clone()),
        _ => None,
    }
}
