//! Zitadel's behaviour: partial updates with PUT and PATCH, codes only for changes, gRPC codes in refusals.

mod request;

use reqwest::Method;
use serde_json::{Map, Value, json};

use self::request::{Changes, Contact, Password, Proof};
use crate::clock::Clock;
use crate::provider::shape::{Account, Op, Refusal, Reply, Search, Shape, Target, Write, is_taken, target};
use crate::provider::shape::{STARTING_CODE, STARTING_PASSWORD, STARTING_VERSION};

const PROFILE: [&str; 6] = [
    "givenName",
    "familyName",
    "nickName",
    "displayName",
    "preferredLanguage",
    "gender",
];

#[derive(Default)]
pub(in crate::provider) struct Simulated;

impl Shape for Simulated {
    fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>> {
        match *method {
            Method::PUT => target(Op::Write, path, "/v2/users/human/"),
            Method::PATCH => target(Op::Write, path, "/v2/users/"),
            Method::GET => target(Op::Read, path, "/v2/users/"),
            _ => None,
        }
    }

    fn search(&self, method: &Method, path: &str, _: &str, body: &[u8]) -> Option<Search> {
        if *method != Method::POST || path != "/v2/users" {
            return None;
        }
        let body: Value = serde_json::from_slice(body).ok()?;
        let condition = &body["queries"][0];
        let (at, key): (&'static [_], _) = match condition["emailQuery"]["emailAddress"].as_str() {
            Some(email) => (&["user", "human", "email", "email"], email),
            None => (
                &["user", "username"],
                condition["userNameQuery"]["userName"].as_str()?,
            ),
        };
        let key = key.to_owned();
        Some(Search { at, key })
    }

    fn list(&self, users: Vec<Value>) -> Value {
        let details = match users.len() {
            0 => json!({"timestamp": STARTING_VERSION}),
            found => json!({"totalResult": found.to_string(), "timestamp": STARTING_VERSION}),
        };
        let mut list = json!({"details": details});
        if !users.is_empty() {
            list["result"] = users.into_iter().map(|mut user| user["user"].take()).collect();
        }
        list
    }

    fn account(&self, user_id: &str) -> Account {
        let mut account = Account::default();
        account.set("username", user_id.into());
        account.set("givenName", "Given".into());
        account.set("familyName", "Family".into());
        account.set("displayName", "Given Family".into());
        account.set("email", format!("{user_id}@users.example").into());
        account.set("emailVerified", true.into());
        account
    }

    fn show(&self, user_id: &str, account: &Account) -> Value {
        let username = account.text("username");
        let profile = PROFILE.map(|name| (name, Value::from(account.text(name))));
        let contact = |name: &'static str, verified: &str| {
            filled([
                (name, account.text(name).into()),
                ("isVerified", account.flag(verified).into()),
            ])
        };
        let human = filled([
            ("userId", user_id.into()),
            ("state", "USER_STATE_ACTIVE".into()),
            ("username", username.into()),
            ("loginNames", json!([username])),
            ("preferredLoginName", username.into()),
            ("profile", filled(profile)),
            ("email", contact("email", "emailVerified")),
            ("phone", contact("phone", "phoneVerified")),
            ("passwordChangeRequired", account.flag("changeRequired").into()),
            ("passwordChanged", account.text("passwordChanged").into()),
        ]);
        json!({
            "details": details(account),
            "user": {
                "userId": user_id, "details": details(account), "state": "USER_STATE_ACTIVE",
                "username": username, "loginNames": [username], "preferredLoginName": username, "human": human,
            },
        })
    }

    fn write(&self, write: &Write<'_>, account: &mut Account) -> Result<Value, Refusal> {
        let put = *write.method == Method::PUT;
        let changes = request::read(write.body, put)?;
        check_state(&changes, account)?;
        let now = Clock::System.now().to_string();
        let changed_before = account.version;
        let (email_code, phone_code) = apply(changes, account, &now);
        if account.version != changed_before {
            account.set("changeDate", now.into());
        }
        let mut answer = Map::new();
        if put {
            answer.insert("details".into(), details(account));
        } else {
            answer.insert("changeDate".into(), change_date(account));
        }
        for (name, code) in [("emailCode", email_code), ("phoneCode", phone_code)] {
            if let Some(code) = code {
                answer.insert(name.into(), code.into());
            }
        }
        Ok(answer.into())
    }

    fn refuse(&self, refusal: &Refusal) -> Reply {
        let status = match refusal {
            // FAILED_PRECONDITION is sent as 400, like an invalid value.
            Refusal::Locked { .. } => 400,
            _ => refusal.status(),
        };
        let (code, id, message) = match refusal {
            // The cloud's rate limiter is in front of the API and does not answer in JSON.
            Refusal::Throttled => return Reply::text(status, "Too many requests"),
            Refusal::NoRoute => {
                return Reply::json(status, &json!({"code": 5, "message": "Not Found", "details": []}));
            }
            Refusal::Unauthorized => (16, "AUTH-7fs1e", "the token is invalid"),
            Refusal::Forbidden => (7, "", "no matching permissions found"),
            Refusal::Missing => (5, "COMMAND-ugjs0upun6", "the user could not be found"),
            Refusal::Taken { .. } => (6, "", "the value is taken by another user"),
            Refusal::Locked { id, message } => (9, *id, *message),
            Refusal::Invalid { id, message, .. } => (3, *id, *message),
            Refusal::Unavailable => (14, "", "unavailable"),
            Refusal::VersionMismatch | Refusal::Broken | Refusal::NoMethod => (13, "", "db connection error"),
        };
        let details = match id {
            "" => json!([]),
            id => {
                json!([{"@type": "type.googleapis.com/zitadel.v1.ErrorDetail", "id": id, "message": message}])
            }
        };
        let message = match id {
            "" => message.to_owned(),
            id => format!("{message} ({id})"),
        };
        Reply::json(
            status,
            &json!({"code": code, "message": message, "details": details}),
        )
    }
}

/// Default values are omitted from answers.
fn filled<const N: usize>(members: [(&'static str, Value); N]) -> Value {
    members
        .into_iter()
        .filter(|(_, value)| match value {
            Value::String(text) => !text.is_empty() && text != "GENDER_UNSPECIFIED",
            Value::Bool(flag) => *flag,
            Value::Object(members) => !members.is_empty(),
            _ => true,
        })
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn change_date(account: &Account) -> Value {
    match account.text("changeDate") {
        "" => STARTING_VERSION.into(),
        date => date.into(),
    }
}

fn details(account: &Account) -> Value {
    json!({
        "sequence": (u64::from(account.version) + 1).to_string(),
        "changeDate": change_date(account),
        "resourceOwner": "1",
        "creationDate": STARTING_VERSION,
    })
}

/// Refuses changes that the user's state forbids.
fn check_state(changes: &Changes, account: &Account) -> Result<(), Refusal> {
    if changes.username.as_deref().is_some_and(is_taken) {
        return Err(Refusal::Taken { at: "username" });
    }
    if changes.email.as_ref().is_some_and(|email| is_taken(&email.value)) {
        return Err(Refusal::Taken { at: "email" });
    }
    let Some(password) = &changes.password else {
        return Ok(());
    };
    let current = match account.text("password") {
        "" => STARTING_PASSWORD,
        current => current,
    };
    match (&password.current, &password.code) {
        (Some(claimed), _) if claimed != current => Err(Refusal::invalid(
            "password",
            "COMMAND-3M0fs",
            "the password is wrong",
        )),
        (_, Some(code)) if code != STARTING_CODE || account.flag("codeUsed") => Err(Refusal::Locked {
            id: "",
            message: "the code is wrong or was used",
        }),
        _ => Ok(()),
    }
}

/// Applies the changes. Returns the codes to return.
fn apply(changes: Changes, account: &mut Account, now: &str) -> (Option<String>, Option<String>) {
    let mut changed = false;
    if let Some(username) = changes.username {
        changed |= account.set("username", username.into());
    }
    for (name, value) in changes.profile {
        changed |= account.set(name, value.into());
    }
    let mut codes = [None, None];
    let contacts = [
        ("email", "emailVerified", changes.email),
        ("phone", "phoneVerified", changes.phone),
    ];
    for (index, (name, verified, contact)) in contacts.into_iter().enumerate() {
        let Some(Contact { value, proof }) = contact else {
            continue;
        };
        let cleared = value.is_empty();
        let moved = account.set(name, value.into());
        changed |= moved;
        if proof == Proof::Verified {
            changed |= account.set(verified, true.into());
        } else if moved {
            account.set(verified, false.into());
        }
        // The same address again gets no second code.
        if !moved || cleared || proof == Proof::Verified {
            continue;
        }
        if proof == Proof::ReturnCode {
            codes[index] = Some(format!("{}{:05}", &name[..1].to_uppercase(), account.version + 1));
        } else if name == "email" {
            account.mails += 1;
        } else {
            account.texts += 1;
        }
    }
    if let Some(password) = changes.password {
        set_password(password, account, now);
        changed = true;
    }
    account.version += u32::from(changed);
    let [email, phone] = codes;
    (email, phone)
}

/// Each password is written, even if it is the same one.
fn set_password(password: Password, account: &mut Account, now: &str) {
    if password.code.is_some() {
        account.set("codeUsed", true.into());
    }
    account.set("password", password.new.into());
    account.set("changeRequired", password.change_required.into());
    account.set("passwordChanged", now.into());
}
