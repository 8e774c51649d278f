//! What Zitadel can't take or can't clear, and where its bounds are narrower than the command's.

use super::Api;
use crate::contract::extension::{Gender, PasswordProof, ZitadelUpdate};
use crate::contract::{Failure, Field, Reason, Update, UpdateUser};
use crate::provider::Kind;

const LOCALE_CHARS_MAX: usize = 10;
const CODE_CHARS_MAX: usize = 20;

pub(super) fn check(api: Api, command: &UpdateUser) -> Result<(), Failure> {
    Kind::Zitadel.refuse_foreign(command)?;
    Kind::Zitadel.refuse_version(command)?;
    let update = &command.update;
    for (field, value) in update.shared_changes() {
        if value.is_none() && field != clearable(api) {
            return Err(not_clearable(api, field));
        }
    }
    if let Some(Some(locale)) = update.shared(Field::Locale)
        && locale.len() > LOCALE_CHARS_MAX
    {
        let detail =
            format!("Zitadel takes language tags of at most {LOCALE_CHARS_MAX} characters; shorten it");
        return Err(invalid(Field::Locale.pointer(), detail));
    }
    match &update.zitadel {
        Some(zitadel) if api == Api::Patch && zitadel.gender == Some(Gender::Unspecified) => Err(Failure::new(
            Reason::UnsupportedField,
            "Zitadel's PATCH can't take a gender back; with `api = \"put\"` it could; send another one or leave it out",
        )
        .at("/update/zitadel/gender")),
        Some(zitadel) => check_own(update, zitadel),
        None => Ok(()),
    }
}

/// The one field that each call can clear.
fn clearable(api: Api) -> Field {
    match api {
        Api::Put => Field::Nickname,
        Api::Patch => Field::Phone,
    }
}

fn not_clearable(api: Api, field: Field) -> Failure {
    let clearable = clearable(api).name();
    let mend = match (api, field) {
        (Api::Put, Field::Phone) => "; with `api = \"patch\"` it could",
        (Api::Patch, Field::Nickname) => "; with `api = \"put\"` it could",
        _ => "",
    };
    let name = field.name();
    Failure::new(
        Reason::UnsupportedField,
        format!(
            "Zitadel can't clear `{name}` this way, `{clearable}` alone{mend}; set it to a value or leave it out"
        ),
    )
    .at(field.pointer())
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
