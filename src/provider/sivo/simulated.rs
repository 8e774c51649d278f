//! Sivo as far as it is known: a PATCH that needs the user's current version. The header `If-Match`, 412 for a
//! mismatch, and the refusals are made up.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::provider::shape::{
    Account, Op, Refusal, Reply, STARTING_VERSION, Shape, Target, Write, is_e164, is_email, is_taken, target,
};

const TEXTS: [&str; 6] = [
    "username",
    "email",
    "phoneNumber",
    "firstName",
    "lastName",
    "alias",
];

#[derive(Default)]
pub(in crate::provider) struct Simulated;

/// Each write advances it by one second, so that a test knows it in advance.
fn version(account: &Account) -> String {
    let start: Timestamp = STARTING_VERSION.parse().unwrap_or_default();
    let moved = SignedDuration::from_secs(account.version.into());
    let version = start.checked_add(moved).unwrap_or(Timestamp::MAX);
    format!("{version:.3}")
}

impl Shape for Simulated {
    fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>> {
        let op = match *method {
            Method::PATCH => Op::Write,
            Method::GET => Op::Read,
            _ => return None,
        };
        target(op, path, "/users/")
    }

    fn account(&self, user_id: &str) -> Account {
        let mut account = Account::default();
        account.set("username", user_id.into());
        account.set("email", format!("{user_id}@users.example").into());
        account.set("firstName", "Given".into());
        account.set("lastName", "Family".into());
        account
    }

    fn show(&self, user_id: &str, account: &Account) -> Value {
        let mut user = account.fields.clone();
        user.insert("id".into(), user_id.into());
        user.insert("updated_at".into(), version(account).into());
        user.into()
    }

    fn write(&self, write: &Write<'_>, account: &mut Account) -> Result<Value, Refusal> {
        let Some(known) = write.headers.get("if-match") else {
            return Err(Refusal::invalid("If-Match", "", "the header is required"));
        };
        let body = write.object()?;
        for (name, value) in &body {
            check(name, value)?;
        }
        if known.as_bytes() != version(account).as_bytes() {
            return Err(Refusal::VersionMismatch);
        }
        for (name, value) in body {
            account.set(&name, value);
        }
        account.version += 1;
        Ok(self.show(write.user_id, account))
    }

    fn refuse(&self, refusal: &Refusal) -> Reply {
        let code = match refusal {
            Refusal::Unauthorized => "unauthorized",
            Refusal::Forbidden => "forbidden",
            Refusal::Missing | Refusal::NoRoute => "not_found",
            Refusal::Locked { .. } => "locked",
            Refusal::Invalid { .. } => "invalid_update",
            Refusal::Taken { .. } => "duplicate_exists",
            Refusal::VersionMismatch => "version_mismatch",
            Refusal::Throttled => "too_many_requests",
            Refusal::Broken | Refusal::Unavailable | Refusal::NoMethod => "internal",
        };
        Reply::json(refusal.status(), &json!({"error": code, "code": code}))
    }
}

/// Sivo's own fields: texts, timestamps, booleans, and lists of objects.
const OWN_TEXTS: [&str; 20] = [
    "projectEnvironmentId",
    "lastVerifiedCredentialId",
    "sessionId",
    "firstVisit",
    "lastVisit",
    "country",
    "jobTitle",
    "tShirtSize",
    "team",
    "mfaBackupCodeAcknowledgement",
    "btcWallet",
    "kdaWallet",
    "ltcWallet",
    "ckbWallet",
    "kasWallet",
    "dogeWallet",
    "scope",
    "walletPublicKey",
    "wallet",
    "chain",
];
const TIMESTAMPS: [&str; 2] = ["firstVisit", "lastVisit"];
const FLAGS: [&str; 5] = [
    "newUser",
    "policiesConsent",
    "emailNotification",
    "discordNotification",
    "newsletterNotification",
];
const OBJECTS: [&str; 7] = [
    "verifiedCredentials",
    "missingFields",
    "sessions",
    "wallets",
    "chainalysisChecks",
    "oauthAccounts",
    "mfaDevices",
];
const NEVER_NULL: [&str; 7] = [
    "projectEnvironmentId",
    "verifiedCredentials",
    "lastVerifiedCredentialId",
    "sessionId",
    "newUser",
    "firstVisit",
    "lastVisit",
];

fn check(name: &str, value: &Value) -> Result<(), Refusal> {
    let wrong = |message| Err(Refusal::invalid("", "", message));
    let known = [&TEXTS[..], &OWN_TEXTS, &FLAGS, &OBJECTS, &["metadata", "lists"]]
        .iter()
        .any(|names| names.contains(&name));
    match value {
        _ if !known => wrong("no such field"),
        Value::Null if !NEVER_NULL.contains(&name) => Ok(()),
        Value::Object(_) if name == "metadata" => Ok(()),
        Value::Bool(_) if FLAGS.contains(&name) => Ok(()),
        Value::Array(lists) if name == "lists" && lists.iter().all(Value::is_string) => Ok(()),
        Value::Array(items) if OBJECTS.contains(&name) && items.iter().all(Value::is_object) => Ok(()),
        Value::String(text) if TEXTS.contains(&name) || OWN_TEXTS.contains(&name) => match name {
            _ if text.is_empty() => wrong("must not be empty"),
            "username" if is_taken(text) => Err(Refusal::Taken { at: "username" }),
            "email" if is_taken(text) => Err(Refusal::Taken { at: "email" }),
            "email" if !is_email(text) => wrong("must be an e-mail address"),
            "phoneNumber" if !is_e164(text) => wrong("must be in E.164 form"),
            "firstName" if text == "rejected" => wrong("not allowed"),
            name if TIMESTAMPS.contains(&name) && text.parse::<Timestamp>().is_err() => {
                wrong("must be a date-time")
            }
            _ => Ok(()),
        },
        _ => wrong("not of the field's type"),
    }
}
