//! What a refusal says beside its class: the code, and by the words of `detail` the field that is meant. Nothing of the
//! words is passed on.

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

    /// The standard's word, to decide by.
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
        // RFC 7644 has 409 both for a value that is taken, which says `uniqueness`, and for another version.
        (Class::Conflict, None) if (form.is_versioned || form.is_merged) && speaks_of_version(&detail) => {
            answer.refusal_as(Class::VersionConflict)
        }
        // Nothing was applied: a PATCH is, as a whole or not at all. For the user as it is, nothing is removed or
        // replaced that is not there.
        (Class::Rejected, Some(NO_TARGET)) if !form.is_known => answer.error(
            Fault::ReadFirst,
            "the provider refuses to replace or remove what is not there",
        ),
        (Class::Configuration, _) if matches!(answer.status, 405 | 501) => answer.error(
            Fault::Configuration,
            "the provider takes neither PATCH nor PUT for users; see what `usher check` says, and whether base_url is \
             what stands before /Users",
        ),
        _ => answer.refusal(),
    };
    if let Fault::Command(Reason::Rejected | Reason::Conflict) = error.fault {
        error.pointer = field_meant(desired, &detail, known.is_some());
    }
    error.code = known.and_then(|known| answer.listed_code(known, &SCIM_TYPES));
    error
}

pub(super) fn is_no_target(error: &ProviderError) -> bool {
    error.status == Some(400) && error.code.as_deref() == Some(NO_TARGET)
}

/// The provider does not understand a path: where the command's values are right, it is the filter in it.
pub(super) fn speaks_of_path(error: &ProviderError) -> bool {
    matches!(error.code.as_deref(), Some("invalidPath" | "invalidFilter"))
}

/// The provider does not take a value, or does not know a member.
pub(super) fn may_be_a_member(error: &ProviderError) -> bool {
    error.fault == Fault::Command(Reason::Rejected)
        && matches!(
            error.code.as_deref(),
            None | Some("invalidSyntax" | "invalidValue" | "invalidPath")
        )
}

pub(super) fn is_version_conflict(error: &ProviderError) -> bool {
    error.fault == Fault::Command(Reason::VersionConflict)
}

fn speaks_of_version(detail: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    ["version", "etag", "if-match"]
        .into_iter()
        .any(|word| detail.contains(word))
}

/// The one field of the command whose attribute is named; or, where a code says that it is a value's fault, the only
/// one that there is.
fn field_meant(desired: &[Desired<'_>], detail: &str, has_code: bool) -> Option<String> {
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
