//! What a server says about itself in `/ServiceProviderConfig`, `/Schemas` and `/ResourceTypes` (RFC 7643, sections 5
//! to 7). Each document may be missing, and none of them disables anything.

use serde_json::Value;

use super::desired::PHONES;
use super::list::{EntryMembers, Lists};
use super::{Config, Contacts, EntryMember, USER_SCHEMA, Write};
use crate::provider::{ProviderError, Remark};

type Document = Result<Value, ProviderError>;

fn remark(detail: impl Into<std::borrow::Cow<'static, str>>) -> Remark {
    Remark {
        detail: detail.into(),
        workable: true,
    }
}

fn unreadable(name: &str, error: &ProviderError, instead: &str) -> Remark {
    remark(format!("`{name}` can't be read, so {instead}: {error}"))
}

/// None if it is not stated.
fn supports(config: Option<&Value>, feature: &str) -> Option<bool> {
    config?[feature]["supported"].as_bool()
}

pub(super) fn of_service(config: &Config, document: &Document) -> Vec<Remark> {
    let service = document.as_ref().ok();
    let (patch, etag) = (supports(service, "patch"), supports(service, "etag"));
    let mut remarks = match document {
        Ok(_) => vec![of_patch(config, patch), of_etag(etag)],
        Err(error) => {
            let instead = "the provider's limits are learned from its refusals";
            vec![unreadable("/ServiceProviderConfig", error, instead)]
        }
    };
    if etag != Some(true) {
        remarks.extend(of_loss(config, patch));
    }
    remarks
}

fn of_patch(config: &Config, patch: Option<bool>) -> Remark {
    let (detail, workable) = match (config.write, patch) {
        (Some(Write::Put), _) => ("users are read and put as a whole (`write = \"put\"`)", true),
        (_, Some(true)) => ("users can be changed (PATCH)", true),
        (Some(Write::Patch), Some(false)) => (
            "the provider says that it has no PATCH, and `write = \"patch\"` under [provider.scim] allows nothing else; set \
             it to put, or omit it",
            false,
        ),
        (None, Some(false)) => (
            "the provider says that it has no PATCH: users are read and put as a whole once it refuses one; with \
             `write = \"put\"` under [provider.scim] it is never tried",
            true,
        ),
        (_, None) => (
            "the provider does not say whether it has PATCH; it is tried",
            true,
        ),
    };
    Remark {
        detail: detail.into(),
        workable,
    }
}

fn of_etag(etag: Option<bool>) -> Remark {
    remark(match etag {
        Some(true) => "versions are checked (ETag): a command may carry `expectedVersion`",
        Some(false) | None => {
            "the provider does not say that it has ETag: `expectedVersion` is sent, but nothing can be relied on to \
             check it, so leave it out"
        }
    })
}

/// Without versions, changes between a read and the write that follows from it are lost unnoticed.
fn of_loss(config: &Config, patch: Option<bool>) -> Option<Remark> {
    let puts = match config.write {
        Some(write) => write == Write::Put,
        None => patch == Some(false),
    };
    let has_types = config
        .entry_members
        .as_ref()
        .is_none_or(|members| members.contains(&EntryMember::Type));
    let puts_lists = config.path_filters == Some(false) || !has_types;
    if puts {
        return Some(remark(
            "the provider does not say that it keeps versions: changes that others make to a user between the read and \
             the put are lost",
        ));
    }
    (puts_lists && config.contacts != Contacts::List).then(|| {
        remark(
            "the provider does not say that it keeps versions: changes that others make to a user's `emails` or \
             `phoneNumbers` between the read and the write of the list are lost",
        )
    })
}

pub(super) fn of_schemas(config: &Config, document: &Document) -> Remark {
    let schemas = match document {
        Ok(schemas) => schemas,
        Err(error) => {
            let instead = "entries of `emails` and `phoneNumbers` are assumed to have `type` and `primary`";
            return unreadable("/Schemas", error, instead);
        }
    };
    let members: Vec<_> = ["emails", PHONES]
        .into_iter()
        .map(|list| match EntryMembers::from_schemas(schemas, list) {
            Some(members) => format!("an entry of `{list}` has {}", members.names()),
            None => format!("nothing is said of the entries of `{list}`"),
        })
        .collect();
    let members = members.join(", ");
    let (wanted, has) = (
        config.entry_members.as_deref().map(Lists::configured),
        Lists::from_schemas(schemas),
    );
    let what_follows = match wanted {
        Some(wanted) if wanted.emails.fits(has.emails) && wanted.phones.fits(has.phones) => "",
        Some(_) => {
            "; `entry_members` under [provider.scim] names a member that does not exist: omit the key, or correct it"
        }
        None if has == Lists::USUAL => "",
        None => {
            "; a member that does not exist is omitted once the provider refuses it, and with `entry_members` under \
             [provider.scim] it is never sent"
        }
    };
    remark(format!("by `/Schemas`, {members}{what_follows}"))
}

pub(super) fn of_resource_types(document: &Document) -> Remark {
    let types = match document {
        Ok(types) => types,
        Err(error) => return unreadable("/ResourceTypes", error, "users are assumed to be under `/Users`"),
    };
    let users = types["Resources"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|known| known["schema"] == USER_SCHEMA);
    let endpoint = users.and_then(|users| users["endpoint"].as_str());
    remark(match endpoint {
        Some(endpoint) if endpoint.trim_end_matches('/').ends_with("/Users") => {
            "by `/ResourceTypes`, users are under `/Users`"
        }
        Some(_) => {
            "by `/ResourceTypes`, users are under another path than `/Users`, which usher uses; check whether `base_url` is \
             right"
        }
        None => "`/ResourceTypes` says nothing of users; they are assumed to be under `/Users`",
    })
}
