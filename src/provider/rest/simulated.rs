//! A plain JSON API without a real counterpart: users under `/users/{userId}` with the names of a command's shared
//! fields. PATCH changes what is sent, PUT replaces everything writable. `if-match` is checked if it is sent.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::provider::shape::{
    Account, Op, Refusal, Reply, Search, Shape, Target, Write, is_e164, is_email, is_taken, parameter, target,
};

/// No command can name `tier`.
const FIELDS: [&str; 9] = [
    "username",
    "email",
    "phone",
    "givenName",
    "familyName",
    "displayName",
    "nickname",
    "locale",
    "tier",
];

#[derive(Default)]
pub(in crate::provider) struct Simulated;

impl Shape for Simulated {
    fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>> {
        let op = match *method {
            Method::PATCH | Method::PUT => Op::Write,
            Method::GET => Op::Read,
            _ => return None,
        };
        target(op, path, "/users/")
    }

    fn search(&self, method: &Method, path: &str, query: &str, _: &[u8]) -> Option<Search> {
        if *method != Method::GET || path != "/users" {
            return None;
        }
        match parameter(query, "email") {
            Some(key) => Some(Search { at: &["email"], key }),
            None => parameter(query, "username").map(|key| Search {
                at: &["username"],
                key,
            }),
        }
    }

    fn list(&self, users: Vec<Value>) -> Value {
        json!({"users": users})
    }

    fn account(&self, user_id: &str) -> Account {
        let mut account = Account::default();
        account.set("email", format!("{user_id}@users.example").into());
        account.set("givenName", "Given".into());
        account.set("familyName", "Family".into());
        account.set("tier", "gold".into());
        account
    }

    fn show(&self, user_id: &str, account: &Account) -> Value {
        let mut user = account.fields.clone();
        user.insert("id".into(), user_id.into());
        user.insert("version".into(), account.version.to_string().into());
        user.into()
    }

    fn write(&self, write: &Write<'_>, account: &mut Account) -> Result<Value, Refusal> {
        let body = write.object()?;
        check(&body)?;
        if let Some(known) = write.headers.get("if-match")
            && known.as_bytes() != account.version.to_string().as_bytes()
        {
            return Err(Refusal::VersionMismatch);
        }
        let before = account.fields.clone();
        if *write.method == Method::PUT {
            account.fields.clear();
        }
        for (name, value) in body {
            account.set(&name, value);
        }
        account.version += u32::from(account.fields != before);
        Ok(self.show(write.user_id, account))
    }

    fn refuse(&self, refusal: &Refusal) -> Reply {
        let (code, field) = match refusal {
            Refusal::Unauthorized => ("unauthorized", ""),
            Refusal::Forbidden => ("forbidden", ""),
            Refusal::Missing | Refusal::NoRoute => ("not_found", ""),
            Refusal::Locked { .. } => ("locked", ""),
            Refusal::Invalid { at, .. } => ("invalid", &**at),
            Refusal::Taken { at } => ("taken", *at),
            Refusal::VersionMismatch => ("version_mismatch", ""),
            Refusal::Throttled => ("too_many_requests", ""),
            Refusal::Broken | Refusal::Unavailable | Refusal::NoMethod => ("internal", ""),
        };
        let error = json!({"error": {"code": code, "field": field}});
        Reply::json(refusal.status(), &error)
    }
}

fn check(body: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in body {
        let Some(known) = FIELDS.into_iter().find(|known| known == name) else {
            return Err(Refusal::invalid("", "", "no such field, or a read-only one"));
        };
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.as_str(),
            _ => return Err(Refusal::invalid(known, "", "must be a string")),
        };
        match known {
            "username" | "email" if is_taken(text) => return Err(Refusal::Taken { at: known }),
            "email" if !is_email(text) => {
                return Err(Refusal::invalid(known, "", "must be an e-mail address"));
            }
            "phone" if !is_e164(text) => return Err(Refusal::invalid(known, "", "must be in E.164 form")),
            "givenName" if text == "rejected" => return Err(Refusal::invalid(known, "", "not allowed")),
            _ => {}
        }
    }
    Ok(())
}
