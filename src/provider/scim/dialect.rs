//! What a provider was found to need, where the configuration leaves it open.
//!
//! Nothing is asked beforehand. A provider that refuses the usual form shows by it which one it wants: the next request is
//! made in that form, and so are all after it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use reqwest::header::HeaderValue;
use serde_json::Value;

use super::compare::is_untyped;
use super::list::Lists;
use super::wish::PHONES;
use super::{Config, MediaType, Write};

pub(super) const SCIM_JSON: HeaderValue = HeaderValue::from_static("application/scim+json");

/// What can't be read twice is taken to say nothing.
const SCHEMAS_ASKED_MAX: u8 = 2;

#[derive(Default)]
pub(super) struct Dialect {
    /// PATCH was refused as a method.
    put: AtomicBool,
    /// `application/scim+json` was refused.
    json: AtomicBool,
    /// A path with a filter was refused: lists are put as a whole.
    whole_lists: AtomicBool,
    /// How the lists are written by `/Schemas`. It is read once something is refused that may be due to it.
    lists: OnceLock<Lists>,
    /// How often it was asked for.
    schemas_asked: AtomicU8,
    wants_schemas: AtomicBool,
    /// A user was seen whose entries have no types: a path with a type leads to none of them.
    untyped: AtomicBool,
}

impl Dialect {
    pub(super) fn puts(&self, config: &Config) -> bool {
        match config.write {
            Some(write) => write == Write::Put,
            None => self.put.load(Ordering::Relaxed),
        }
    }

    pub(super) fn media_type(&self, config: &Config) -> HeaderValue {
        let json = match config.media_type {
            Some(media_type) => media_type == MediaType::Json,
            None => self.json.load(Ordering::Relaxed),
        };
        match json {
            true => HeaderValue::from_static("application/json"),
            false => SCIM_JSON,
        }
    }

    /// Whether the entries of a list can be changed for a known user only.
    pub(super) fn needs_entries(&self, config: &Config, list: &str) -> bool {
        self.untyped.load(Ordering::Relaxed) || self.lists(config).is_whole(list)
    }

    pub(super) fn lists(&self, config: &Config) -> Lists {
        let lists = match &config.entry_members {
            Some(members) => Lists::configured(members),
            None => self.lists.get().copied().unwrap_or(Lists::USUAL),
        };
        Lists {
            path_filters: config
                .path_filters
                .unwrap_or_else(|| !self.whole_lists.load(Ordering::Relaxed)),
            ..lists
        }
    }

    /// Something was refused that members of entries may be the reason of, which the provider does not have. Whether
    /// `/Schemas` may tell more of it.
    pub(super) fn may_lack_members(&self, config: &Config) -> bool {
        let is_open = config.entry_members.is_none()
            && self.lists.get().is_none()
            && self.schemas_asked.load(Ordering::Relaxed) < SCHEMAS_ASKED_MAX;
        self.wants_schemas.store(is_open, Ordering::Relaxed);
        is_open
    }

    /// Whether `/Schemas` is to be read now, by whoever asks.
    pub(super) fn takes_schemas(&self) -> bool {
        let takes = self.wants_schemas.swap(false, Ordering::Relaxed);
        self.schemas_asked.fetch_add(u8::from(takes), Ordering::Relaxed);
        takes
    }

    pub(super) fn read_schemas(&self, schemas: &Value) {
        let _ = self.lists.set(Lists::told(schemas));
    }

    /// A user was shown.
    pub(super) fn saw(&self, user: &Value) {
        let lists = ["emails", PHONES];
        let mut entries = lists.into_iter().filter_map(|list| user[list].as_array());
        if entries.any(|entries| is_untyped(entries)) {
            self.untyped.store(true, Ordering::Relaxed);
        }
    }

    /// A request in the usual form was refused so. Whether it can be made in the other one.
    pub(super) fn refused(&self, config: &Config, what: Refused) -> bool {
        let (open, flag) = match what {
            Refused::Method => (config.write.is_none(), &self.put),
            Refused::MediaType => (config.media_type.is_none(), &self.json),
            Refused::Filter => (config.path_filters.is_none(), &self.whole_lists),
        };
        if open {
            flag.store(true, Ordering::Relaxed);
        }
        open
    }

    /// Neither PATCH nor PUT is taken: it was not the method.
    pub(super) fn put_is_refused_too(&self) {
        self.put.store(false, Ordering::Relaxed);
    }
}

/// What of a request's form a provider refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Method,
    MediaType,
    Filter,
}
