//! The version in a success, for each kind that checks versions.

use std::sync::Arc;

use serde_json::json;

use super::{adapter, apply, command, some_fields};
use crate::contract::{Fault, Reason, Version};
use crate::provider::rest;
use crate::provider::testbed::{TIMEOUT, command_with, error, http, simulated, user_id};
use crate::provider::{Kind, Provider};

fn checking_versions(kind: Kind, base_url: &str) -> Arc<dyn Provider> {
    match kind {
        Kind::Rest => {
            let config = rest::Config {
                version_header: "If-Match".into(),
                version_at: "/version".into(),
                ..rest::tests::simulated_users()
            };
            Arc::new(rest::adapter(&config, http(base_url, TIMEOUT)).unwrap())
        }
        _ => adapter(kind, base_url, TIMEOUT),
    }
}

#[tokio::test]
async fn write_returns_the_version_that_a_read_shows_and_the_next_write_may_expect() {
    for kind in Kind::ALL {
        let simulated = simulated(kind).await;
        let provider = checking_versions(kind, &simulated.base_url());
        let version = apply(&*provider, &command(kind, "u", &some_fields()))
            .await
            .unwrap()
            .version;
        let user = provider.read(&user_id("u")).await.unwrap();
        assert_eq!(version, provider.version(&user), "{kind}");
        let next = |version: &Version| {
            let version = json!({"expectedVersion": version.as_str()});
            command_with("u", &json!({"givenName": "Sam"}), &version)
        };
        let previous = next(&Version::parse(Version::PREVIOUS).unwrap());
        let Some(version) = version else {
            let refused = provider.check(&previous).unwrap_err();
            assert_eq!(refused.reason, Reason::UnsupportedField, "{kind}");
            continue;
        };
        assert!([Kind::Sivo, Kind::Scim, Kind::Rest].contains(&kind), "{kind}");
        provider.check(&previous).unwrap();
        apply(&*provider, &next(&version)).await.unwrap();
        let late = error(apply(&*provider, &next(&version)).await);
        assert_eq!(late.fault, Fault::Command(Reason::VersionConflict), "{kind}");
    }
}
