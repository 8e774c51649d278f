//! The JSON of a write. Absent members are not changed at Zitadel; null would mean absent, so it is not used.

use serde::Serialize;
use serde_json::Value;

use super::{Api, Verification as ByDefault};
use crate::contract::extension::{
    Gender, NewPassword, Nothing, Password, PasswordProof, SendCode, Verification,
};
use crate::contract::{Fault, Field, Reason, Update};
use crate::provider::{ProviderError, User};

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Body<'a> {
    Put {
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<&'a str>,
        #[serde(flatten)]
        human: Human<'a>,
    },
    Patch {
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        human: Option<Human<'a>>,
    },
}

#[derive(Serialize)]
pub(super) struct Human<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<Email<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<Phone<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<PasswordBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nick_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gender: Option<&'static str>,
}

#[derive(Serialize)]
struct Email<'a> {
    email: &'a str,
    #[serde(flatten)]
    proof: Proof<'a>,
}

#[derive(Serialize)]
struct Phone<'a> {
    phone: &'a str,
    #[serde(flatten)]
    proof: Proof<'a>,
}

/// One of the three, or none: two would be refused.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Proof<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    send_code: Option<SendCodeBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_code: Option<Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_verified: Option<bool>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct SendCodeBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    url_template: Option<&'a str>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PasswordBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<Plain<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashed_password: Option<Hashed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_code: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plain<'a> {
    password: &'a str,
    change_required: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hashed<'a> {
    hash: &'a str,
    change_required: bool,
}

pub(super) fn body<'a>(
    api: Api,
    verification: ByDefault,
    update: &'a Update,
    current: Option<&'a User>,
) -> Result<Body<'a>, ProviderError> {
    let username = set(update, Field::Username);
    let mut human = human(verification, update);
    Ok(match api {
        Api::Put => {
            if let Some(profile) = &mut human.profile {
                let current = current.map(|user| &user.0["human"]["profile"]);
                fill(&mut profile.given_name, current, Field::GivenName)?;
                fill(&mut profile.family_name, current, Field::FamilyName)?;
            }
            Body::Put { username, human }
        }
        Api::Patch => {
            let empty = human.profile.is_none()
                && human.email.is_none()
                && human.phone.is_none()
                && human.password.is_none();
            Body::Patch {
                username,
                human: (!empty).then_some(human),
            }
        }
    })
}

/// Fills in a missing name, because a PUT's profile must contain both.
fn fill<'a>(
    name: &mut Option<&'a str>,
    current: Option<&'a Value>,
    field: Field,
) -> Result<(), ProviderError> {
    if name.is_none() {
        // The name on the wire and in the command are the same for both fields.
        *name = current
            .and_then(|profile| profile[field.name()].as_str())
            .filter(|name| !name.is_empty());
    }
    match name {
        Some(_) => Ok(()),
        None => Err(ProviderError {
            pointer: Some(field.pointer()),
            ..ProviderError::new(
                Fault::Command(Reason::Invalid),
                format!(
                    "Zitadel's PUT requires `{0}` with the other names, and the user has none; add `{0}` to the \
                     command, or use `api = \"patch\"`",
                    field.name()
                ),
            )
        }),
    }
}

fn set(update: &Update, field: Field) -> Option<&str> {
    update.shared(field).flatten()
}

/// Whether the command changes anything in the profile.
pub(super) fn has_profile(update: &Update) -> bool {
    [
        Field::GivenName,
        Field::FamilyName,
        Field::DisplayName,
        Field::Nickname,
        Field::Locale,
    ]
    .into_iter()
    .any(|field| update.shared(field).is_some())
        || update
            .zitadel
            .as_ref()
            .is_some_and(|zitadel| zitadel.gender.is_some())
}

fn human(default: ByDefault, update: &Update) -> Human<'_> {
    let own = update.zitadel.as_ref();
    let profile = has_profile(update).then(|| Profile {
        given_name: set(update, Field::GivenName),
        family_name: set(update, Field::FamilyName),
        // Cleared by an empty string, which only PUT accepts.
        nick_name: update.shared(Field::Nickname).map(Option::unwrap_or_default),
        display_name: set(update, Field::DisplayName),
        preferred_language: set(update, Field::Locale),
        gender: own.and_then(|own| own.gender).map(gender),
    });
    let email = set(update, Field::Email).map(|email| Email {
        email,
        proof: proof(
            own.and_then(|own| own.email_verification.as_ref()),
            default,
            |send: &SendCode| send.url_template.as_ref().map(|template| template.as_str()),
        ),
    });
    let phone = update.shared(Field::Phone).map(|phone| match phone {
        Some(phone) => Phone {
            phone,
            proof: proof(
                own.and_then(|own| own.phone_verification.as_ref()),
                default,
                |_: &Nothing| None,
            ),
        },
        // An empty number deletes the phone. Only PATCH accepts it, and only without a verification.
        None => Phone {
            phone: "",
            proof: Proof::default(),
        },
    });
    Human {
        profile,
        email,
        phone,
        password: own.and_then(|own| own.password.as_ref()).map(password),
    }
}

fn proof<'a, S>(
    named: Option<&'a Verification<S>>,
    default: ByDefault,
    url_template: impl Fn(&'a S) -> Option<&'a str>,
) -> Proof<'a> {
    let mut proof = Proof::default();
    match (named, default) {
        (Some(Verification::SendCode(send)), _) => {
            proof.send_code = Some(SendCodeBody {
                url_template: url_template(send),
            });
        }
        (Some(Verification::ReturnCode(_)), _) => proof.return_code = Some(Empty {}),
        (Some(Verification::Verified(_)), _) | (None, ByDefault::Verified) => proof.is_verified = Some(true),
        (None, ByDefault::SendCode) => proof.send_code = Some(SendCodeBody::default()),
        (None, ByDefault::Provider) => {}
    }
    proof
}

/// The gender of a user without one, whether shown or not.
pub(super) const NO_GENDER: &str = "GENDER_UNSPECIFIED";

pub(super) fn gender(gender: Gender) -> &'static str {
    match gender {
        Gender::Unspecified => NO_GENDER,
        Gender::Female => "GENDER_FEMALE",
        Gender::Male => "GENDER_MALE",
        Gender::Diverse => "GENDER_DIVERSE",
    }
}

fn password(password: &Password) -> PasswordBody<'_> {
    let change_required = password.change_required;
    let (plain, hashed) = match &password.new {
        NewPassword::Plain(plain) => (
            Some(Plain {
                password: plain.expose(),
                change_required,
            }),
            None,
        ),
        NewPassword::Hash(hash) => (
            None,
            Some(Hashed {
                hash: hash.expose(),
                change_required,
            }),
        ),
    };
    let (current_password, verification_code) = match &password.proof {
        Some(PasswordProof::Current(current)) => (Some(current.expose()), None),
        Some(PasswordProof::Code(code)) => (None, Some(code.expose())),
        None => (None, None),
    };
    PasswordBody {
        password: plain,
        hashed_password: hashed,
        current_password,
        verification_code,
    }
}
