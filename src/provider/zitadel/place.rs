//! The pointer into the command of the member that Zitadel's gateway refuses. The message has a fixed form, outermost
//! member first: `invalid UpdateHumanUserRequest.Email: embedded message failed validation | caused by: invalid
//! SetHumanEmail.Email: value length must be between 1 and 200 runes, inclusive`.

use serde::Deserialize;

use crate::contract::extension::ZitadelUpdate;
use crate::contract::{Fault, Field, Update};
use crate::provider::ProviderError;
use crate::provider::answer::Answer;

const CAUSED_BY: &str = " | caused by: ";

/// Adds the pointer to the member that the answer names, if the command has it.
pub(super) fn with_place(error: ProviderError, answer: &Answer, update: &Update) -> ProviderError {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    let words = match error.fault {
        Fault::Command(_) => answer.json().and_then(|body| Words::deserialize(body).ok()),
        _ => None,
    };
    ProviderError {
        pointer: words.and_then(|words| pointer(&words.message, update)),
        ..error
    }
}

/// The innermost member that has a pointer decides. A name that was put back is in no command.
fn pointer(message: &str, update: &Update) -> Option<String> {
    let innermost = message
        .split(CAUSED_BY)
        .filter_map(|words| {
            let (path, _) = words.strip_prefix("invalid ")?.split_once(':')?;
            let (_, member) = path.split_once('.')?;
            Place::of(member)
        })
        .last()?;
    innermost.is_in(update).then(|| innermost.pointer())
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Shared(Field),
    /// Under `zitadel`.
    Own(&'static str, fn(&ZitadelUpdate) -> bool),
}

impl Place {
    /// From the gateway's name of the member.
    fn of(member: &str) -> Option<Self> {
        Some(match member {
            "Username" => Self::Shared(Field::Username),
            "Email" => Self::Shared(Field::Email),
            "Phone" => Self::Shared(Field::Phone),
            "GivenName" => Self::Shared(Field::GivenName),
            "FamilyName" => Self::Shared(Field::FamilyName),
            "DisplayName" => Self::Shared(Field::DisplayName),
            "NickName" => Self::Shared(Field::Nickname),
            "PreferredLanguage" => Self::Shared(Field::Locale),
            "Gender" => Self::Own("gender", |own| own.gender.is_some()),
            "UrlTemplate" => Self::Own("emailVerification", |own| own.email_verification.is_some()),
            "Password" | "HashedPassword" | "Hash" | "CurrentPassword" | "VerificationCode" => {
                Self::Own("password", |own| own.password.is_some())
            }
            _ => return None,
        })
    }

    fn is_in(self, update: &Update) -> bool {
        match self {
            Self::Shared(field) => update.shared(field).is_some(),
            Self::Own(_, has) => update.zitadel.as_ref().is_some_and(has),
        }
    }

    fn pointer(self) -> String {
        match self {
            Self::Shared(field) => field.pointer(),
            Self::Own(name, _) => format!("/update/zitadel/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{CAUSED_BY, pointer as place_of};
    use crate::provider::testbed::command;

    /// The gateway's message for these members, from the outermost to the innermost.
    fn words(members: &str) -> String {
        let invalid = |member: &str| format!("invalid {member}: ");
        let chain: Vec<_> = members.split(' ').map(invalid).collect();
        chain.join(&format!("embedded message failed validation{CAUSED_BY}"))
            + "value length must be between 1 and 200 runes, inclusive"
    }

    const PLACES: [(&str, &str); 13] = [
        ("U.Username", "/update/username"),
        ("U.Email", "/update/email"),
        ("U.Email SetHumanEmail.Email", "/update/email"),
        ("U.Phone SetHumanPhone.Phone", "/update/phone"),
        ("U.Profile SetHumanProfile.GivenName", "/update/givenName"),
        ("U.Profile SetHumanProfile.FamilyName", "/update/familyName"),
        ("U.Profile SetHumanProfile.NickName", "/update/nickname"),
        ("U.Profile SetHumanProfile.DisplayName", "/update/displayName"),
        ("U.Profile SetHumanProfile.PreferredLanguage", "/update/locale"),
        ("U.Profile SetHumanProfile.Gender", "/update/zitadel/gender"),
        (
            "U.Email SetHumanEmail.SendCode SendEmailVerificationCode.UrlTemplate",
            "/update/zitadel/emailVerification",
        ),
        (
            "U.Password SetPassword.CurrentPassword",
            "/update/zitadel/password",
        ),
        (
            "U.Human U_Human.Profile U_Human_Profile.GivenName",
            "/update/givenName",
        ),
    ];

    #[test]
    fn gateway_message_becomes_a_pointer_into_the_command() {
        let update = command(
            "u",
            &json!({
                "username": "x", "email": "alex@example.com", "phone": "+61412345678", "givenName": "Alex",
                "familyName": "Taylor", "displayName": "x", "nickname": "x", "locale": "en",
                "zitadel": {"gender": "male", "emailVerification": {"sendCode": {"urlTemplate": "https://x.example"}},
                    "password": {"password": "hunter2"}},
            }),
        )
        .update;
        for (members, pointer) in PLACES {
            let message = words(members);
            assert_eq!(place_of(&message, &update).as_deref(), Some(pointer), "{message}");
        }
        let message = "invalid UpdateHumanUserRequest.Email: embedded message failed validation | caused by: invalid \
                       SetHumanEmail.Email: value length must be between 1 and 200 runes, inclusive";
        assert_eq!(place_of(message, &update).as_deref(), Some("/update/email"));
    }

    #[test]
    fn members_that_the_command_does_not_have_get_no_pointer() {
        // A PUT puts back the other name, as it was read.
        let update = command("u", &json!({"givenName": "Alex"})).update;
        for (members, pointer) in PLACES {
            let pointed = place_of(&words(members), &update);
            assert_eq!(pointed.is_some(), pointer == "/update/givenName", "{members}");
        }
        for message in [
            &*words("U.Profile"),
            &words("U.UserId"),
            "invalid alex@example.com: no",
            "GivenName",
            "",
        ] {
            assert_eq!(place_of(message, &update), None, "{message}");
        }
    }
}
