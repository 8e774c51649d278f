//! The search for a user (RFC 7644, section 3.4.2): a filter with one comparison.

use std::fmt::Write as _;

use percent_encoding::utf8_percent_encode;
use serde_json::Value;

use super::Scim;
use crate::provider::ProviderError;
use crate::provider::equal::Case;
use crate::provider::find::{ASKED, Candidate, FindBy, Found, judge, of_search};
use crate::provider::http::Place;
use crate::provider::setup::SEGMENT;

fn attribute(by: FindBy) -> &'static str {
    match by {
        FindBy::Email => "emails.value",
        FindBy::Username => "userName",
        FindBy::ExternalId => "externalId",
    }
}

/// A value in a filter is a JSON string: quotes and backslashes in a key can't end it.
fn path(by: FindBy, key: &str) -> String {
    let filter = format!("{} eq {}", attribute(by), Value::from(key));
    let mut path = "/Users?filter=".to_owned();
    path.extend(utf8_percent_encode(&filter, SEGMENT));
    let _infallible = write!(path, "&count={ASKED}");
    path
}

/// Whether the user has the key; `None`: it does not show the attribute.
fn has_key(by: FindBy, key: &str, user: &Value) -> Option<bool> {
    let is_same = |shown: &Value| Some(by.is_same(Case::Folded, key, shown.as_str()?));
    match by {
        FindBy::Username => is_same(&user["userName"]),
        FindBy::ExternalId => is_same(&user["externalId"]),
        FindBy::Email => {
            let entries = user["emails"].as_array()?;
            let same: Vec<_> = entries
                .iter()
                .filter_map(|entry| is_same(&entry["value"]))
                .collect();
            (!same.is_empty()).then(|| same.contains(&true))
        }
    }
}

pub(super) async fn find(scim: &Scim, by: FindBy, key: &str) -> Result<Found, ProviderError> {
    let path = path(by, key);
    let answer = scim.get(Place::Query(&path)).await.map_err(of_search)?;
    let list: Value = answer.object()?;
    // A list of nobody may lack the member.
    let users = list["Resources"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let candidates = users.iter().map(|user| Candidate {
        id: user["id"].as_str(),
        has_key: has_key(by, key, user),
    });
    if users.is_empty() && !list["totalResults"].is_number() {
        return Err(answer.unreadable());
    }
    judge(&answer, candidates, list["totalResults"].as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_can_not_end_its_string_in_the_filter() {
        let decoded = |key| {
            let path = path(FindBy::ExternalId, key);
            percent_encoding::percent_decode_str(&path)
                .decode_utf8()
                .unwrap()
                .into_owned()
        };
        assert_eq!(decoded("a-1"), r#"/Users?filter=externalId eq "a-1"&count=2"#);
        assert_eq!(
            decoded(r#"x" or userName pr or "\"#),
            r#"/Users?filter=externalId eq "x\" or userName pr or \"\\"&count=2"#
        );
        // The URL has no sign of the key that has a meaning there.
        assert_eq!(
            path(FindBy::Email, "a+b&c=d#@é"),
            "/Users?filter=emails.value%20eq%20%22a%2Bb%26c%3Dd%23%40%C3%A9%22&count=2"
        );
    }
}
