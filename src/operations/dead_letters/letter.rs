//! A dead letter as it is chosen and counted: what its headers say, and the parts of its body that are no values.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::broker::Properties;
use crate::contract::dead_letter::{
    ATTEMPTS, CODE, DEAD_AT, DETAIL, EXCHANGE, FIRST_ATTEMPT_AT, REASON, REDRIVES, ROUTING_KEY, STATUS,
    VERSION,
};
use crate::contract::{BODY_BYTES_MAX, ProviderName, Reason, without_marks};

/// A dead letter without its values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    /// The command's id, or the message's where the command has none.
    pub id: Option<String>,
    pub provider: Option<String>,
    pub user: Option<String>,
    pub batch: Option<String>,
    pub reason: Option<String>,
    pub status: Option<i64>,
    pub code: Option<String>,
    /// Where in the command, as a JSON pointer.
    pub pointer: Option<String>,
    pub detail: Option<String>,
    pub attempts: Option<i64>,
    pub first_attempt_at: Option<Timestamp>,
    pub dead_at: Option<Timestamp>,
    pub redrives: i64,
    pub exchange: Option<String>,
    pub routing_key: Option<String>,
    /// The version of usher that wrote it.
    pub version: Option<String>,
    pub bytes: usize,
}

/// The members of a command that are no values.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    batch_id: Option<Cow<'a, str>>,
}

impl Letter {
    pub fn of(properties: &Properties, body: &[u8]) -> Self {
        let text = |name: &str| properties.header_text(name);
        let time = |name: &str| text(name).and_then(|time| time.parse().ok());
        let head = match body.len() <= BODY_BYTES_MAX {
            true => serde_json::from_slice(without_marks(body)).unwrap_or_default(),
            false => Head::default(),
        };
        let message_id = || properties.message_id().filter(|id| !id.is_empty());
        let routing_key = text(ROUTING_KEY);
        let (provider, user) = match routing_key.as_deref().and_then(|key| key.split_once('.')) {
            Some((provider, user)) => (Some(provider.to_owned()), Some(user.to_owned())),
            None => (None, None),
        };
        let (pointer, detail) = in_parts(text(DETAIL));
        Self {
            id: head
                .id
                .map(Cow::into_owned)
                .or_else(|| message_id().map(str::to_owned)),
            provider,
            user,
            batch: head.batch_id.map(Cow::into_owned),
            reason: text(REASON),
            status: properties.number(STATUS),
            code: text(CODE),
            pointer,
            detail,
            attempts: properties.number(ATTEMPTS),
            first_attempt_at: time(FIRST_ATTEMPT_AT),
            dead_at: time(DEAD_AT),
            redrives: properties.number(REDRIVES).unwrap_or(0),
            exchange: text(EXCHANGE),
            routing_key,
            version: text(VERSION),
            bytes: body.len(),
        }
    }

    pub fn known_reason(&self) -> Option<Reason> {
        Reason::parse(self.reason.as_deref()?)
    }

    /// The provider, where the headers say all that sending it again needs.
    pub fn addressed_to(&self) -> Option<ProviderName> {
        let complete = self.reason.is_some() && self.dead_at.is_some() && self.exchange.is_some();
        ProviderName::parse(self.provider.as_deref().filter(|_| complete)?)
    }

    /// Identifies the dead letter wherever it lies: a copy has the same.
    pub fn key(&self, properties: &Properties, body: &[u8]) -> Uuid {
        let said = [
            properties.message_id(),
            self.reason.as_deref(),
            self.routing_key.as_deref(),
        ]
        .map(Option::unwrap_or_default)
        .join("\n");
        let dead_at = self.dead_at.map(|at| at.to_string()).unwrap_or_default();
        let numbers = format!("\n{}\n{dead_at}\n", self.redrives);
        let identity = [said.as_bytes(), numbers.as_bytes(), body].concat();
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &identity)
    }
}

/// The pointer that a detail begins with, and the rest.
fn in_parts(detail: Option<String>) -> (Option<String>, Option<String>) {
    let parts = detail
        .as_deref()
        .filter(|detail| detail.starts_with('/'))
        .and_then(|detail| detail.split_once(": "));
    match parts {
        Some((pointer, rest)) => (Some(pointer.to_owned()), Some(rest.to_owned())),
        None => (None, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Header;

    fn properties(headers: &[(&str, &str)]) -> Properties {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Header::Text((*value).to_owned())));
        Properties::persistent("m1", "application/json").with_headers(headers)
    }

    #[test]
    fn a_letter_is_read_from_its_headers_and_the_head_of_its_body() {
        let properties = properties(&[
            (REASON, "conflict"),
            (DETAIL, "/update/email: taken: by another"),
            (ROUTING_KEY, "sivo.a.b"),
            (EXCHANGE, "user.commands"),
            (DEAD_AT, "2026-11-21T10:00:00Z"),
        ]);
        let letter = Letter::of(
            &properties,
            br#"{"id":"c1","batchId":"b","update":{"email":"s3cret"}}"#,
        );
        assert_eq!(letter.id.as_deref(), Some("c1"));
        assert_eq!(letter.batch.as_deref(), Some("b"));
        assert_eq!(letter.provider.as_deref(), Some("sivo"));
        assert_eq!(letter.user.as_deref(), Some("a.b"));
        assert_eq!(letter.pointer.as_deref(), Some("/update/email"));
        assert_eq!(letter.detail.as_deref(), Some("taken: by another"));
        assert_eq!(letter.addressed_to().unwrap().as_str(), "sivo");
        assert_eq!(letter.known_reason(), Some(Reason::Conflict));
        assert!(!format!("{letter:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_no_dead_letter_of_ours_is_seen_and_addressed_to_nobody() {
        let letter = Letter::of(&properties(&[]), b"no JSON");
        assert_eq!(letter.id.as_deref(), Some("m1"));
        assert_eq!(letter.reason, None);
        assert_eq!(letter.addressed_to(), None);
    }

    #[test]
    fn a_copy_has_the_key_of_its_letter_and_another_run_has_another() {
        let dead = |at: &str| properties(&[(REASON, "conflict"), (DEAD_AT, at)]);
        let key = |properties: &Properties, body: &[u8]| Letter::of(properties, body).key(properties, body);
        let first = dead("2026-11-21T10:00:00Z");
        let counted = first
            .clone()
            .with_headers([("x-delivery-count".to_owned(), Header::Number(3))]);
        assert_eq!(key(&first, b"{}"), key(&counted, b"{}"));
        assert_ne!(key(&first, b"{}"), key(&dead("2026-11-21T10:00:01Z"), b"{}"));
        assert_ne!(key(&first, b"{}"), key(&first, b"[]"));
    }
}
