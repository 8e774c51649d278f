//! Whether a user, as Zitadel shows it, matches a command. Zitadel omits default values: an empty text, `false`, the
//! first value of an enum.

use serde_json::Value;

use super::{Verification as ByDefault, body};
use crate::contract::extension::Verification;
use crate::contract::{Field, UpdateUser};
use crate::provider::equal::{Case, Form, same};
use crate::provider::{Comparison, User};

pub(super) fn compare(default: ByDefault, command: &UpdateUser, user: &User) -> Comparison {
    let human = &user.0["human"];
    let update = &command.update;
    let own = update.zitadel.as_ref();
    let as_asked = update.shared_changes().all(|(field, value)| {
        same(
            Form::of(field),
            Case::Exact,
            value.unwrap_or_default(),
            text(&user.0, field),
        )
    });
    let shown_gender = human["profile"]["gender"].as_str().unwrap_or(body::NO_GENDER);
    let gender = own.and_then(|own| own.gender);
    let gender = gender.is_none_or(|gender| shown_gender == body::gender(gender));
    let set = |field| matches!(update.shared(field), Some(Some(_)));
    let shown = |contact: &str| human[contact]["isVerified"] == true;
    let named = own.and_then(|own| own.email_verification.as_ref());
    let email = !set(Field::Email) || !verified(named, default) || shown("email");
    let named = own.and_then(|own| own.phone_verification.as_ref());
    let phone = !set(Field::Phone) || !verified(named, default) || shown("phone");
    if !(as_asked && gender && email && phone) {
        Comparison::Differs
    } else if own.is_some_and(|own| own.password.is_some() || own.returns_code()) {
        Comparison::Unreadable
    } else {
        Comparison::Matches
    }
}

/// Whether the command makes the address or number verified.
fn verified<S>(named: Option<&Verification<S>>, default: ByDefault) -> bool {
    match named {
        Some(named) => matches!(named, Verification::Verified(_)),
        None => default == ByDefault::Verified,
    }
}

fn text(user: &Value, field: Field) -> &str {
    let human = &user["human"];
    let profile = &human["profile"];
    let value = match field {
        Field::Username => &user["username"],
        Field::Email => &human["email"]["email"],
        Field::Phone => &human["phone"]["phone"],
        Field::GivenName => &profile["givenName"],
        Field::FamilyName => &profile["familyName"],
        Field::DisplayName => &profile["displayName"],
        Field::Nickname => &profile["nickName"],
        Field::Locale => &profile["preferredLanguage"],
    };
    value.as_str().unwrap_or_default()
}
