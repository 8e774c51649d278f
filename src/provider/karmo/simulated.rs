//! Karmo as far as it is known: four fields under `/users/{userId}`, and one form for all refusals. The 8-digit codes
//! and the names of members in answers are made up.

use reqwest::Method;
use serde_json::{Value, json};

use crate::provider::shape::{
    Account, Op, Refusal, Reply, Shape, Target, Write, is_e164, is_email, is_taken, target,
};

const FIELDS: [&str; 4] = ["email", "mobileNumber", "firstName", "lastName"];

#[derive(Default)]
pub(in crate::provider) struct Simulated;

impl Shape for Simulated {
    fn target<'a>(&self, method: &Method, path: &'a str) -> Option<Target<'a>> {
        let op = match *method {
            Method::PATCH | Method::PUT | Method::POST => Op::Write,
            Method::GET => Op::Read,
            _ => return None,
        };
        target(op, path, "/users/")
    }

    fn account(&self, user_id: &str) -> Account {
        let mut account = Account::default();
        account.set("email", format!("{user_id}@users.example").into());
        account.set("firstName", "Given".into());
        account.set("lastName", "Family".into());
        account
    }

    fn show(&self, user_id: &str, account: &Account) -> Value {
        let mut user = account.fields.clone();
        user.insert("id".into(), user_id.into());
        user.into()
    }

    fn write(&self, write: &Write<'_>, account: &mut Account) -> Result<Value, Refusal> {
        let body = write.object()?;
        if body.is_empty() {
            return Err(Refusal::invalid("", "", "at least one field is needed"));
        }
        for (name, value) in &body {
            check(name, value)?;
        }
        let mut changed = false;
        for (name, value) in body {
            changed |= account.set(&name, value);
        }
        account.version += u32::from(changed);
        Ok(self.show(write.user_id, account))
    }

    fn refuse(&self, refusal: &Refusal) -> Reply {
        let status = refusal.status();
        let errors = match refusal {
            Refusal::Invalid { at, message, .. } => json!([{"detail": message, "pointer": format!("/{at}")}]),
            Refusal::Taken { at } => json!([{"detail": "in use", "pointer": format!("/{at}")}]),
            _ => json!([]),
        };
        let body = json!({"code": format!("10000{status}"), "metadata": {}, "errors": errors});
        Reply::json(status, &body)
    }
}

fn check(name: &str, value: &Value) -> Result<(), Refusal> {
    let Some(known) = FIELDS.into_iter().find(|known| *known == name) else {
        return Err(Refusal::invalid("", "", "no such field"));
    };
    let text = match value {
        Value::Null => return Ok(()),
        Value::String(text) => text.as_str(),
        _ => return Err(Refusal::invalid(known, "", "must be a string")),
    };
    match known {
        "email" if is_taken(text) => Err(Refusal::Taken { at: "email" }),
        "email" if !is_email(text) => Err(Refusal::invalid(known, "", "must be an e-mail address")),
        "mobileNumber" if !is_e164(text) => Err(Refusal::invalid(known, "", "must be in E.164 form")),
        "firstName" if text == "rejected" => Err(Refusal::invalid(known, "", "not allowed")),
        _ => Ok(()),
    }
}
