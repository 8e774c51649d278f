//! MATTR as its collection shows it. A PUT replaces: what is omitted is gone, the stricter of the two possible
//! behaviours. Conflicts are not documented; here they are 409.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::provider::shape::{Account, Op, Refusal, Reply, Search, Shape, Target, Write, is_taken, target};

const PROVIDER_ID: &str = "5a63ce01-0e11-4a52-9f0d-1c6f3a7a5f11";

#[derive(Default)]
pub(in crate::provider) struct Simulated;

impl Shape for Simulated {
    fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>> {
        let op = match *method {
            Method::PUT => Op::Write,
            Method::GET => Op::Read,
            _ => return None,
        };
        target(op, path, "/v1/users/")
    }

    fn search(&self, method: &Method, path: &str, _: &str, body: &[u8]) -> Option<Search> {
        if *method != Method::POST || path != "/v1/users/search" {
            return None;
        }
        let body: Value = serde_json::from_slice(body).ok()?;
        let claims = &body["claims"];
        let (at, key): (&'static [_], _) = match claims["email"].as_str() {
            Some(email) => (&["claims", "email"], email),
            None => (
                &["claims", "preferred_username"],
                claims["preferred_username"].as_str()?,
            ),
        };
        let key = key.to_owned();
        Some(Search { at, key })
    }

    fn list(&self, users: Vec<Value>) -> Value {
        json!({"data": users})
    }

    fn account(&self, user_id: &str) -> Account {
        let mut account = Account::default();
        let claims = json!({"email": format!("{user_id}@users.example"), "tier": "gold"});
        account.set("claims", claims);
        let provider = json!({"providerId": PROVIDER_ID, "subjectId": user_id});
        account.set("authenticationProvider", provider);
        account
    }

    fn show(&self, user_id: &str, account: &Account) -> Value {
        let mut user = account.fields.clone();
        user.insert("id".into(), user_id.into());
        if let Some(Value::Object(provider)) = user.get_mut("authenticationProvider") {
            provider.insert("url".into(), "https://provider.example".into());
        }
        user.into()
    }

    fn write(&self, write: &Write<'_>, account: &mut Account) -> Result<Value, Refusal> {
        let body = write.object()?;
        check(&body)?;
        let mut changed = false;
        for name in ["claims", "authenticationProvider"] {
            changed |= match body.get(name) {
                Some(value) => account.set(name, value.clone()),
                None => account.fields.remove(name).is_some(),
            };
        }
        account.version += u32::from(changed);
        Ok(self.show(write.user_id, account))
    }

    fn refuse(&self, refusal: &Refusal) -> Reply {
        let status = refusal.status();
        let (code, param) = match refusal {
            Refusal::Unauthorized => return Reply::text(status, "Unauthorized"),
            Refusal::Forbidden | Refusal::Broken | Refusal::Unavailable | Refusal::NoMethod => {
                return Reply::text(status, "");
            }
            Refusal::Throttled => return Reply::text(status, "Too Many Requests"),
            Refusal::Missing | Refusal::NoRoute => ("NotFound", ""),
            Refusal::Locked { .. } | Refusal::VersionMismatch => ("Conflict", ""),
            Refusal::Taken { at } => ("Conflict", *at),
            Refusal::Invalid { at, .. } => ("BadRequest", &**at),
        };
        let details = match param {
            "" => json!([]),
            param => json!([{"value": "", "msg": "Invalid value", "param": param, "location": "body"}]),
        };
        Reply::json(
            status,
            &json!({"code": code, "message": code, "details": details}),
        )
    }
}

fn check(body: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in body {
        match (name.as_str(), value) {
            ("claims", Value::Object(claims)) => check_claims(claims)?,
            ("authenticationProvider", Value::Object(provider)) => check_provider(provider)?,
            ("claims", _) => return Err(Refusal::invalid("claims", "", "must be an object")),
            _ => {
                return Err(Refusal::invalid(
                    "",
                    "",
                    "no such member, or a value of the wrong type",
                ));
            }
        }
    }
    Ok(())
}

fn check_claims(claims: &Map<String, Value>) -> Result<(), Refusal> {
    let text = |name| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    for (name, at) in [
        ("email", "claims.email"),
        ("preferred_username", "claims.preferred_username"),
    ] {
        if is_taken(text(name)) {
            return Err(Refusal::Taken { at });
        }
    }
    match text("givenName") {
        "rejected" => Err(Refusal::invalid("claims.givenName", "", "not allowed")),
        _ => Ok(()),
    }
}

fn check_provider(provider: &Map<String, Value>) -> Result<(), Refusal> {
    let known = provider
        .iter()
        .all(|(name, value)| matches!(name.as_str(), "providerId" | "subjectId") && value.is_string());
    if !known || !provider.contains_key("subjectId") {
        let at = "authenticationProvider.subjectId";
        return Err(Refusal::invalid(at, "", "the object has other members"));
    }
    Ok(())
}
