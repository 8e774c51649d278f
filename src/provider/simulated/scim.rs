//! SCIM 2.0 with versions: a PATCH is applied as a whole or not at all, `If-Match` is kept, and what is to be removed
//! may be gone already. Where RFC 7644 leaves a choice, it does as scim2-server does.

mod patch;

use axum::http::Method;
use serde_json::{Value, json};

use super::calls::Op;
use super::shape::{Account, Refusal, Reply, Shape, Target, Write, is_email, is_taken, target};

const MEDIA_TYPE: &str = "application/scim+json";

const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

pub(super) struct Scim;

fn version(account: &Account) -> String {
    format!("W/\"{}\"", account.version)
}

fn scim(status: u16, body: &Value) -> Reply {
    Reply {
        content_type: MEDIA_TYPE,
        ..Reply::json(status, body)
    }
}

impl Shape for Scim {
    fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>> {
        let op = match *method {
            Method::PATCH => Op::Write,
            Method::GET => Op::Read,
            _ => return None,
        };
        target(op, path, "/Users/")
    }

    fn account(&self, user_id: &str) -> Account {
        let mut account = Account::default();
        account.set("userName", user_id.into());
        account.set("name", json!({"givenName": "Given", "familyName": "Family"}));
        let email = json!({"value": format!("{user_id}@users.example"), "type": "home", "primary": true});
        account.set("emails", json!([email]));
        account.set("active", true.into());
        account
    }

    fn show(&self, user_id: &str, account: &Account) -> Value {
        let mut user = account.fields.clone();
        user.remove("password");
        user.insert(
            "schemas".into(),
            json!(["urn:ietf:params:scim:schemas:core:2.0:User"]),
        );
        user.insert("id".into(), user_id.into());
        user.insert(
            "meta".into(),
            json!({"resourceType": "User", "version": version(account)}),
        );
        user.into()
    }

    fn write(&self, write: &Write<'_>, account: &mut Account) -> Result<Value, Refusal> {
        let body = write.object()?;
        let asks = body.get("schemas").and_then(Value::as_array);
        let operations = body.get("Operations").and_then(Value::as_array);
        let (Some(schemas), Some(operations)) = (asks, operations) else {
            return Err(Refusal::invalid(
                "",
                "invalidSyntax",
                "schemas and Operations are required",
            ));
        };
        if !schemas.contains(&PATCH_OP.into()) || operations.is_empty() {
            return Err(Refusal::invalid(
                "",
                "invalidSyntax",
                "no PatchOp with operations",
            ));
        }
        let known = write.headers.get("if-match");
        if known.is_some_and(|known| known.as_bytes() != version(account).as_bytes()) {
            return Err(Refusal::VersionMismatch);
        }
        let mut user = account.fields.clone();
        for operation in operations {
            patch::apply(operation, &mut user)?;
        }
        user.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
        check(&user.clone().into())?;
        if user != account.fields {
            account.fields = user;
            account.version += 1;
        }
        Ok(self.show(write.user_id, account))
    }

    fn reply(&self, answer: &Value, account: &Account) -> Reply {
        Reply {
            etag: Some(version(account)),
            ..scim(200, answer)
        }
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
        let yes = json!({"supported": true});
        let no = json!({"supported": false});
        (*method == Method::GET && path == "/ServiceProviderConfig").then(|| {
            let config = json!({
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
                "patch": yes, "etag": yes, "changePassword": yes, "bulk": no, "filter": no, "sort": no,
            });
            scim(200, &config)
        })
    }
}

fn check(user: &Value) -> Result<(), Refusal> {
    let wrong = |at: &'static str| Err(Refusal::invalid(at, "invalidValue", "not allowed"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let emails = user["emails"].as_array();
    for email in emails.into_iter().flatten() {
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
