//! What happens to a batch of commands.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::checked::BatchId;
use crate::contract::command::CommandId;
use crate::contract::schema::closed;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct BatchOpened {
    pub batch_id: BatchId,
    /// Whether it is published as bulk traffic.
    pub bulk: bool,
    /// How many commands it will have. Absent if the input could not be counted first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct BatchClosed {
    pub batch_id: BatchId,
    /// How many commands were published and confirmed.
    pub commands: u64,
    /// Identifies the set of their ids, whatever their order.
    pub ids: Digest,
}

/// An order for a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = closed)]
pub struct BatchOrdered {
    pub batch_id: BatchId,
    /// Who gave the order.
    pub by: String,
}

/// A digest of a set of command ids: the sum modulo 2^128 of the UUIDv5 of each, under the OID namespace, in hex. The
/// order does not matter, so parts can be added up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(u128);

impl Digest {
    pub fn add(&mut self, id: CommandId) {
        let hashed = Uuid::new_v5(&Uuid::NAMESPACE_OID, id.to_string().as_bytes());
        self.0 = self.0.wrapping_add(hashed.as_u128());
    }

    /// Adds the ids of another part.
    pub fn join(&mut self, part: Self) {
        self.0 = self.0.wrapping_add(part.0);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let read = is_hex.then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        read.map(Self).ok_or("a digest has 32 hexadecimal digits")
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_the_ids_and_not_on_their_order() {
        let id = Uuid::from_u128;
        let digest = |ids: &[u128]| {
            let mut digest = Digest::default();
            ids.iter().for_each(|n| digest.add(id(*n)));
            digest
        };
        assert_eq!(digest(&[1, 2, 3]), digest(&[3, 1, 2]));
        assert_ne!(digest(&[1, 2, 3]), digest(&[1, 2, 4]));
        assert_ne!(digest(&[1, 2]), digest(&[3]));
        let mut parts = digest(&[1, 3]);
        parts.join(digest(&[2]));
        assert_eq!(parts, digest(&[1, 2, 3]));
        let text = serde_json::to_string(&digest(&[1])).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest(&[1]));
        assert!(serde_json::from_str::<Digest>("\"+0000000000000000000000000000001\"").is_err());
    }
}
