//! What Zitadel can't take or can't clear, and where its bounds are narrower than the command's.

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
        return Err(not_beside_what_goes_out_once(api, update));
    }
    if let Some(Some(locale)) = update.shared(Field::Locale)
        && locale.len() > LOCALE_CHARS_MAX
    {
        let detail =
            format!("Zitadel takes language tags of at most {LOCALE_CHARS_MAX} characters; shorten it");
        return Err(invalid(Field::Locale.pointer(), detail));
    }
    match &update.zitadel {
        Some(zitadel) => check_own(update, zitadel),
        None => Ok(()),
    }
}

/// The same address again sends no second code, and equal values write nothing. A proof of the password can be given once
/// only, and a code is returned once only.
pub(super) fn is_idempotent(update: &Update) -> bool {
    update.zitadel.as_ref().is_none_or(|zitadel| {
        let password = zitadel.password.as_ref();
        !zitadel.returns_code() && password.is_none_or(|password| password.proof.is_none())
    })
}

fn not_clearable(field: Field) -> Failure {
    let name = field.name();
    let detail = format!(
        "Zitadel can't clear `{name}`, `nickname` and `phone` alone; set it to a value or leave it out"
    );
    Failure::new(Reason::UnsupportedField, detail).at(field.pointer())
}

/// Were the second call lost, nobody could tell whether the first may be made again.
fn not_beside_what_goes_out_once(api: Api, update: &Update) -> Failure {
    let pointer = match api {
        Api::Put => Field::Phone.pointer(),
        Api::Patch if plan::takes_gender_back(update) => "/update/zitadel/gender".into(),
        Api::Patch => Field::Nickname.pointer(),
    };
    let detail = "Zitadel takes this in a call of its own, and beside it are a proof of the password or codes to be returned, \
                  which go out in one call alone; send it in a command of its own";
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
                "it needs `{}` set beside it; add that, or leave this out",
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
            format!("Zitadel's codes have at most {CODE_CHARS_MAX} characters; send the code alone"),
        ));
    }
    Ok(())
}

fn invalid(pointer: String, detail: String) -> Failure {
    Failure::new(Reason::Invalid, detail).at(pointer)
}
