//! A write's JSON, validated as a whole. Unknown members are silently dropped, and null equals absent.

use serde::Deserialize;

use crate::provider::shape::{Refusal, is_e164, is_email};

/// A valid write.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) username: Option<String>,
    pub(super) profile: Vec<(&'static str, String)>,
    pub(super) email: Option<Contact>,
    pub(super) phone: Option<Contact>,
    pub(super) password: Option<Password>,
}

pub(super) struct Contact {
    pub(super) value: String,
    pub(super) proof: Proof,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Unnamed,
    SendCode,
    ReturnCode,
    Verified,
}

pub(super) struct Password {
    pub(super) new: String,
    pub(super) change_required: bool,
    pub(super) current: Option<String>,
    pub(super) code: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Body {
    username: Option<String>,
    human: Option<Human>,
    #[serde(flatten)]
    top: Human,
}

#[derive(Deserialize, Default)]
struct Human {
    profile: Option<ProfileIn>,
    email: Option<EmailIn>,
    phone: Option<PhoneIn>,
    password: Option<PasswordIn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileIn {
    given_name: Option<String>,
    family_name: Option<String>,
    nick_name: Option<String>,
    display_name: Option<String>,
    preferred_language: Option<String>,
    gender: Option<String>,
}

#[derive(Deserialize)]
struct EmailIn {
    email: Option<String>,
    #[serde(flatten)]
    proof: ProofIn,
}

#[derive(Deserialize)]
struct PhoneIn {
    phone: Option<String>,
    #[serde(flatten)]
    proof: ProofIn,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofIn {
    send_code: Option<SendCodeIn>,
    return_code: Option<Nothing>,
    is_verified: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SendCodeIn {
    url_template: Option<String>,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PasswordIn {
    password: Option<NewIn>,
    hashed_password: Option<NewIn>,
    current_password: Option<String>,
    verification_code: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewIn {
    password: Option<String>,
    hash: Option<String>,
    #[serde(default)]
    change_required: bool,
}

fn syntax() -> Refusal {
    Refusal::invalid("", "", "proto: syntax error")
}

/// `put`: the body of the human PUT; otherwise that of PATCH, which has a human's members under `human`.
pub(super) fn read(body: &[u8], put: bool) -> Result<Changes, Refusal> {
    let body: Body = serde_json::from_slice(body).map_err(|_| syntax())?;
    let human = if put {
        body.top
    } else {
        body.human.unwrap_or_default()
    };
    let mut changes = Changes {
        username: body.username,
        ..Changes::default()
    };
    if let Some(username) = &changes.username {
        length("username", username, 1, 200)?;
    }
    if let Some(profile) = human.profile {
        changes.profile = self::profile(profile, put)?;
    }
    if let Some(email) = human.email {
        changes.email = Some(self::email(email)?);
    }
    if let Some(phone) = human.phone {
        changes.phone = Some(self::phone(phone, put)?);
    }
    if let Some(password) = human.password {
        changes.password = Some(self::password(password)?);
    }
    Ok(changes)
}

fn length(name: &'static str, value: &str, min: usize, max: usize) -> Result<(), Refusal> {
    if (min..=max).contains(&value.chars().count()) {
        return Ok(());
    }
    Err(Refusal::invalid(
        name,
        "",
        "the value's length is out of its bounds",
    ))
}

fn profile(profile: ProfileIn, put: bool) -> Result<Vec<(&'static str, String)>, Refusal> {
    if put && (profile.given_name.is_none() || profile.family_name.is_none()) {
        return Err(Refusal::invalid(
            "profile",
            "",
            "givenName and familyName are required",
        ));
    }
    if profile.given_name.as_deref() == Some("rejected") {
        return Err(Refusal::invalid("givenName", "", "the name is not allowed"));
    }
    let genders: &[&str] = &["GENDER_FEMALE", "GENDER_MALE", "GENDER_DIVERSE"];
    if let Some(gender) = &profile.gender
        && !genders.contains(&gender.as_str())
        && !(put && gender == "GENDER_UNSPECIFIED")
    {
        return Err(syntax());
    }
    let chars_min = usize::from(!put);
    let members = [
        ("givenName", profile.given_name, 1, 200),
        ("familyName", profile.family_name, 1, 200),
        ("nickName", profile.nick_name, chars_min, 200),
        ("displayName", profile.display_name, chars_min, 200),
        ("preferredLanguage", profile.preferred_language, chars_min, 10),
        ("gender", profile.gender, 1, 200),
    ];
    let mut given = Vec::new();
    for (name, value, min, max) in members {
        if let Some(value) = value {
            length(name, &value, min, max)?;
            given.push((name, value));
        }
    }
    Ok(given)
}

/// Two members of the same oneof are a syntax error.
fn proof(proof: &ProofIn) -> Result<Proof, Refusal> {
    match (&proof.send_code, &proof.return_code, proof.is_verified) {
        (None, None, None | Some(false)) => Ok(Proof::Unnamed),
        (Some(send), None, None) => {
            if let Some(template) = &send.url_template {
                length("urlTemplate", template, 1, 200)?;
            }
            Ok(Proof::SendCode)
        }
        (None, Some(_), None) => Ok(Proof::ReturnCode),
        (None, None, Some(true)) => Ok(Proof::Verified),
        _ => Err(syntax()),
    }
}

fn email(email: EmailIn) -> Result<Contact, Refusal> {
    let value = email.email.unwrap_or_default();
    length("email", &value, 1, 200)?;
    if !is_email(&value) {
        return Err(Refusal::invalid(
            "email",
            "EMAIL-599BI",
            "the e-mail address is invalid",
        ));
    }
    let proof = proof(&email.proof)?;
    Ok(Contact { value, proof })
}

fn phone(phone: PhoneIn, put: bool) -> Result<Contact, Refusal> {
    let value = phone.phone.unwrap_or_default();
    if phone.proof.is_verified == Some(false) {
        return Err(Refusal::invalid("phone", "", "isVerified must be true"));
    }
    let proof = proof(&phone.proof)?;
    match value.as_str() {
        "" if put => Err(Refusal::invalid("phone", "", "the phone number is invalid")),
        "" if proof != Proof::Unnamed => Err(Refusal::invalid(
            "phone",
            "USERv2-4f3d6",
            "an empty number can't be verified",
        )),
        "" => Ok(Contact { value, proof }),
        number if is_e164(number) => Ok(Contact { value, proof }),
        _ => Err(Refusal::invalid("phone", "", "the phone number is invalid")),
    }
}

fn password(password: PasswordIn) -> Result<Password, Refusal> {
    if password.current_password.is_some() && password.verification_code.is_some() {
        return Err(syntax());
    }
    if let Some(code) = &password.verification_code {
        length("verificationCode", code, 1, 20)?;
    }
    let (new, change_required) = match (password.password, password.hashed_password) {
        (Some(_), Some(_)) => return Err(syntax()),
        (Some(plain), None) => (plain.password.unwrap_or_default(), plain.change_required),
        (None, Some(hashed)) => {
            let hash = hashed.hash.unwrap_or_default();
            if !hash.starts_with('$') {
                return Err(Refusal::invalid(
                    "password",
                    "USER-oz74onzvqr",
                    "the hash is not supported",
                ));
            }
            (hash, hashed.change_required)
        }
        (None, None) => (String::new(), false),
    };
    if new.is_empty() {
        return Err(Refusal::invalid(
            "password",
            "COMMAND-3klek4sbns",
            "the password is empty",
        ));
    }
    length("password", &new, 1, 200)?;
    Ok(Password {
        new,
        change_required,
        current: password.current_password,
        code: password.verification_code,
    })
}
