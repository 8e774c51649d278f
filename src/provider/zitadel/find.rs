//! The search for a user, `POST /v2/users`: one condition on a text. Zitadel compares without case, as it does when a
//! user signs in.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{Zitadel, error};
use crate::provider::ProviderError;
use crate::provider::equal::Case;
use crate::provider::find::{ASKED, Candidate, FindBy, Found, cannot_find, judge, of_search};
use crate::provider::http::Request;

const PATH: &str = "/v2/users";

const METHOD: &str = "TEXT_QUERY_METHOD_EQUALS_IGNORE_CASE";

const NO_OWN_IDS: &str = "Zitadel keeps no id of another system by which users can be searched; look them up by email or \
                          username, or make the id map from an export of its users";

pub(super) fn finds(by: FindBy) -> Result<(), Cow<'static, str>> {
    match by {
        FindBy::Email | FindBy::Username => Ok(()),
        FindBy::ExternalId => Err(NO_OWN_IDS.into()),
    }
}

fn conditions(by: FindBy, key: &str) -> Option<Value> {
    let condition = match by {
        FindBy::Email => json!({"emailQuery": {"emailAddress": key, "method": METHOD}}),
        FindBy::Username => json!({"userNameQuery": {"userName": key, "method": METHOD}}),
        FindBy::ExternalId => return None,
    };
    Some(json!({"query": {"limit": ASKED}, "queries": [condition]}))
}

fn has_key(by: FindBy, key: &str, user: &Value) -> Option<bool> {
    let shown = match by {
        FindBy::Email => &user["human"]["email"]["email"],
        _ => &user["username"],
    };
    Some(by.is_same(Case::Exact, key, shown.as_str()?))
}

pub(super) async fn find(zitadel: &Zitadel, by: FindBy, key: &str) -> Result<Found, ProviderError> {
    let conditions = conditions(by, key).ok_or_else(|| cannot_find(NO_OWN_IDS))?;
    let request = Request::search(PATH, &conditions);
    let answer = zitadel.http.call(request, error::refusal).await;
    let answer = answer.map_err(of_search)?;
    let list: Value = answer.object()?;
    // Members with default values are omitted: an answer about nobody has its details alone.
    if !list["details"].is_object() {
        return Err(answer.unreadable());
    }
    let users = list["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    let candidates = users.iter().map(|user| Candidate {
        id: user["userId"].as_str(),
        has_key: has_key(by, key, user),
    });
    // A 64-bit number is a text in JSON.
    let total = &list["details"]["totalResult"];
    let total = total.as_u64().or_else(|| total.as_str()?.parse().ok());
    judge(&answer, candidates, total)
}
