//! SCIM 2.0 in several dialects: a write is applied completely or not at all, and `If-Match` is checked in dialects
//! with versions.

mod attribute;
mod dialect;
mod documents;
mod patch;
mod replace;
#[cfg(test)]
mod tests;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use uuid::Uuid;

use self::attribute::LISTS;
use crate::provider::shape::{
    Account, Op, Refusal, Reply, Search, Shape, Target, Write, is_email, is_taken, parameter, target,
};

pub use self::dialect::ScimDialect;

const MEDIA_TYPE: &str = "application/scim+json";

const USER_SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

#[derive(Default)]
pub(crate) struct Simulated(pub(crate) ScimDialect);

fn version(account: &Account) -> String {
    format!("W/\"{}\"", account.version)
}

fn scim(status: u16, body: &Value) -> Reply {
    Reply {
        content_type: MEDIA_TYPE,
        ..Reply::json(status, body)
    }
}

impl Shape for Simulated {
    fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>> {
        let op = match *method {
            Method::PATCH | Method::PUT => Op::Write,
            Method::GET => Op::Read,
            _ => return None,
        };
        target(op, path, "/Users/")
    }

    fn search(&self, method: &Method, path: &str, query: &str, _: &[u8]) -> Option<Search> {
        if *method != Method::GET || path != "/Users" {
            return None;
        }
        let filter = parameter(query, "filter")?;
        let (attribute, value) = filter.split_once(" eq ")?;
        let at: &'static [_] = match attribute {
            "emails.value" => &["emails", "*", "value"],
            "userName" => &["userName"],
            "externalId" => &["externalId"],
            _ => return None,
        };
        let key = serde_json::from_str(value).ok()?;
        Some(Search { at, key })
    }

    fn list(&self, users: Vec<Value>) -> Value {
        json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": users.len(), "startIndex": 1, "itemsPerPage": users.len(), "Resources": users,
        })
    }

    fn account(&self, user_id: &str) -> Account {
        let mut account = Account::default();
        account.set("userName", user_id.into());
        account.set("externalId", user_id.into());
        account.set("name", json!({"givenName": "Given", "familyName": "Family"}));
        let mut email = json!({"value": format!("{user_id}@users.example")});
        if self.0.entry().contains(&"type") {
            email["type"] = "home".into();
            email["primary"] = true.into();
        }
        account.set("emails", json!([email]));
        account.set("active", true.into());
        account
    }

    fn show(&self, user_id: &str, account: &Account) -> Value {
        let mut user = account.fields.clone();
        user.remove("password");
        let mut meta = json!({ "resourceType": "User" });
        if self.0.has_versions() {
            meta["version"] = version(account).into();
        }
        let mut id = user_id.to_owned();
        if self.0 == ScimDialect::Entra {
            id = Uuid::new_v5(&Uuid::NAMESPACE_OID, user_id.as_bytes()).to_string();
            if let Some(active) = user.get_mut("active") {
                *active = if *active == true { "True" } else { "False" }.into();
            }
        }
        user.insert("schemas".into(), json!([USER_SCHEMA]));
        user.insert("id".into(), id.into());
        user.insert("meta".into(), meta);
        user.into()
    }

    fn write(&self, write: &Write<'_>, account: &mut Account) -> Result<Value, Refusal> {
        let dialect = self.0;
        let patches = *write.method == Method::PATCH;
        if patches && !dialect.has_patch() {
            return Err(Refusal::NoMethod);
        }
        let body = write.object()?;
        if dialect.has_versions() && !is_version_asked(write.headers, &version(account)) {
            return Err(Refusal::VersionMismatch);
        }
        let mut user = account.fields.clone();
        match patches {
            true => patch::patch(&body, &mut user, dialect)?,
            false => replace::replace(&body, &mut user, dialect)?,
        }
        user.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
        check(&user.clone().into())?;
        if user != account.fields {
            account.fields = user;
            account.version += 1;
        }
        Ok(match patches && dialect == ScimDialect::Entra {
            true => Value::Null,
            false => self.show(write.user_id, account),
        })
    }

    fn reply(&self, answer: &Value, account: &Account) -> Reply {
        let mut reply = match answer {
            Value::Null => Reply::text(204, ""),
            answer => scim(200, answer),
        };
        reply.etag = self.0.has_versions().then(|| version(account));
        reply
    }

    fn refuse(&self, refusal: &Refusal) -> Reply {
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": refusal.status().to_string(),
        });
        match refusal {
            Refusal::Taken { at } => {
                body["scimType"] = "uniqueness".into();
                body["detail"] = format!("{at} is already in use").into();
            }
            Refusal::Invalid { at, id, message } => {
                body["scimType"] = (*id).into();
                body["detail"] = format!("{at}: {message}").into();
            }
            Refusal::Locked { message, .. } => body["detail"] = (*message).into(),
            _ => {}
        }
        scim(refusal.status(), &body)
    }

    fn document(&self, method: &Method, path: &str) -> Option<Reply> {
        let document = documents::document(self.0, path).filter(|_| *method == Method::GET)?;
        Some(scim(200, &document))
    }
}

/// Whether the write is for this version, or unconditional.
fn is_version_asked(headers: &HeaderMap, version: &str) -> bool {
    let Some(asked) = headers.get("if-match") else {
        return true;
    };
    let mut tags = asked.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag == version)
}

fn check(user: &Value) -> Result<(), Refusal> {
    let wrong = |at: &'static str| Err(Refusal::invalid(at, "invalidValue", "not allowed"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for list in LISTS {
        let entries = user[list].as_array().into_iter().flatten();
        if entries.filter(|entry| entry["primary"] == true).count() > 1 {
            return wrong(list);
        }
    }
    for email in user["emails"].as_array().into_iter().flatten() {
        let email = text(&email["value"]);
        if is_taken(&email) {
            return Err(Refusal::Taken { at: "emails" });
        }
        if !is_email(&email) {
            return wrong("emails");
        }
    }
    let user_name = text(&user["userName"]);
    if is_taken(&user_name) {
        return Err(Refusal::Taken { at: "userName" });
    }
    if user_name.is_empty() {
        return Err(Refusal::invalid("userName", "mutability", "it is required"));
    }
    if user["name"]["givenName"] == "rejected" {
        return wrong("givenName");
    }
    Ok(())
}
