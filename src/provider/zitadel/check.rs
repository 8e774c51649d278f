//! Commands that Zitadel can't apply, and values for which its limits are narrower than the command's.

use super::{Api, plan};
use crate::contract::extension::{PasswordProof, ZitadelUpdate};
use crate::contract::{Failure, Field, Reason, Update, UpdateUser};
use crate::provider::Kind;

const LOCALE_CHARS_MAX: usize = 10;
const CODE_CHARS_MAX: usize = 20;

pub(super) fn check(api: Api, command: &UpdateUser) -> Result<(), Failure> {
    Kind::Zitadel.check_blocks(command)?;
    Kind::Zitadel.check_no_version(command)?;
    let update = &command.update;
    for (field, value) in update.shared_changes() {
        if value.is_none() && !matches!(field, Field::Nickname | Field::Phone) {
            return Err(not_clearable(field));
        }
    }
    if plan::parts(api, update).len() > 1 && !is_idempotent(update) {
        return Err(conflict_with_one_time_values(api, update));
    }
    if let Some(Some(locale)) = update.shared(Field::Locale)
        && locale.len() > LOCALE_CHARS_MAX
    {
        let detail =
            format!("Zitadel accepts language tags of at most {LOCALE_CHARS_MAX} characters; shorten it");
        return Err(invalid(Field::Locale.pointer(), detail));
    }
    match &update.zitadel {
        Some(zitadel) => check_own(update, zitadel),
        None => Ok(()),
    }
}

/// The same address again sends no second code, and equal values write nothing. A proof of the password works once
/// only, and a code is returned once only.
pub(super) fn is_idempotent(update: &Update) -> bool {
    update.zitadel.as_ref().is_none_or(|zitadel| {
        let password = zitadel.password.as_ref();
        !zitadel.returns_code() && password.is_none_or(|password| password.proof.is_none())
    })
}

fn not_clearable(field: Field) -> Failure {
    let name = field.name();
    let detail =
        format!("Zitadel can't clear `{name}`, only `nickname` and `phone`; set it to a value or omit it");
    Failure::new(Reason::UnsupportedField, detail).at(field.pointer())
}

/// If the second call were lost, it would be unknown whether the first may be repeated.
fn conflict_with_one_time_values(api: Api, update: &Update) -> Failure {
    let pointer = match api {
        Api::Put => Field::Phone.pointer(),
        Api::Patch if plan::clears_gender(update) => "/update/zitadel/gender".into(),
        Api::Patch => Field::Nickname.pointer(),
    };
    let detail = "Zitadel needs a separate call for this, and the command also has a proof of the password or requests codes, \
                  which must be sent in a single call; send this in a separate command";
    Failure::new(Reason::UnsupportedField, detail).at(pointer)
}

fn check_own(update: &Update, zitadel: &ZitadelUpdate) -> Result<(), Failure> {
    let set = |field| matches!(update.shared(field), Some(Some(_)));
    let pairs = [
        (
            "emailVerification",
            zitadel.email_verification.is_some(),
            Field::Email,
        ),
        (
            "phoneVerification",
            zitadel.phone_verification.is_some(),
            Field::Phone,
        ),
    ];
    for (name, present, field) in pairs {
        if present && !set(field) {
            let detail = format!(
                "it requires `{}` to be set in the same command; add that, or omit this",
                field.name()
            );
            return Err(invalid(format!("/update/zitadel/{name}"), detail));
        }
    }
    let proof = zitadel
        .password
        .as_ref()
        .and_then(|password| password.proof.as_ref());
    if let Some(PasswordProof::Code(code)) = proof
        && code.expose().chars().count() > CODE_CHARS_MAX
    {
        return Err(invalid(
            "/update/zitadel/password/verificationCode".into(),
            format!("Zitadel's codes have at most {CODE_CHARS_MAX} characters; send only the code"),
        ));
    }
    Ok(())
}

fn invalid(pointer: String, detail: String) -> Failure {
    Failure::new(Reason::Invalid, detail).at(pointer)
}
