//! The search for a user, `POST /v1/users/search`: by the value of a claim.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::Mattr;
use crate::contract::Field;
use crate::provider::ProviderError;
use crate::provider::equal::Case;
use crate::provider::find::{ASKED, Candidate, FindBy, Found, cannot_find, judge, of_search};
use crate::provider::http::Request;

const PATH: &str = "/v1/users/search";

const NO_OWN_IDS: &str = "MATTR keeps no id of another system beside a user's claims; look users up by email or username, or \
                          make the id map from an export of its users";

const NO_CLAIM: &str = "no claim has this field's value: its name under `fields` in [provider.mattr] is empty; set it, or look \
                        users up by another kind of key";

impl Mattr {
    /// The claim with this key.
    fn claim(&self, by: FindBy) -> Result<&str, &'static str> {
        let field = match by {
            FindBy::Email => Field::Email,
            FindBy::Username => Field::Username,
            FindBy::ExternalId => return Err(NO_OWN_IDS),
        };
        self.claims.name(field).ok_or(NO_CLAIM)
    }

    pub(super) fn can_find(&self, by: FindBy) -> Result<(), Cow<'static, str>> {
        self.claim(by).map(drop).map_err(Into::into)
    }
}

pub(super) async fn find(mattr: &Mattr, by: FindBy, key: &str) -> Result<Found, ProviderError> {
    let claim = mattr.claim(by).map_err(cannot_find)?;
    let request = Request::search(PATH, &json!({"claims": {claim: key}, "limit": ASKED}));
    let answer = mattr
        .http
        .call(request, |answer| mattr.refusal(answer, None))
        .await;
    let answer = answer.map_err(of_search)?;
    let list: Value = answer.object()?;
    let users = list["data"].as_array().ok_or_else(|| answer.unreadable())?;
    let candidates = users.iter().map(|user| Candidate {
        id: user["id"].as_str(),
        has_key: user["claims"][claim]
            .as_str()
            .map(|shown| by.is_same(Case::Exact, key, shown)),
    });
    // A cursor leads to further ones.
    let total = list["nextCursor"].is_string().then_some(users.len() as u64 + 1);
    judge(&answer, candidates, total)
}
