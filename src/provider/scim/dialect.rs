//! What a provider was found to need, if the configuration leaves it open.
//!
//! Nothing is asked beforehand. When a provider refuses the usual form of a request, the next request uses the other
//! form, and so do all later ones.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use reqwest::header::HeaderValue;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::desired::PHONES;
use super::list::Lists;
use super::{Config, MediaType, Write};

pub(super) const SCIM_JSON: HeaderValue = HeaderValue::from_static("application/scim+json");

/// After this many failures, the schemas count as empty.
const SCHEMAS_UNREAD_MAX: u8 = 2;

/// How many users are read before entries are written without a read.
const TYPED_MIN: u32 = 20;

#[derive(Default)]
pub(super) struct Dialect {
    /// The method PATCH was refused.
    put: AtomicBool,
    /// `application/scim+json` was refused.
    json: AtomicBool,
    /// A path with a filter was refused: lists are put as a whole.
    whole_lists: AtomicBool,
    /// How the lists are written according to `/Schemas`. It is read when a refusal may be due to it.
    lists: OnceLock<Lists>,
    wants_schemas: AtomicBool,
    /// Its owner reads the schemas.
    reading_schemas: Mutex<()>,
    /// How often reading them failed.
    schemas_unread: AtomicU8,
    /// A user had an entry without a type, which no path can address.
    untyped: AtomicBool,
    /// Users without such an entry, counted until one has it.
    typed: AtomicU32,
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

    /// Whether a user must be read before an entry of the list is changed. A write without a read would leave an entry
    /// without a type next to the new one, unnoticed. So users are read until it is likely that all entries have types.
    pub(super) fn needs_entries(&self, config: &Config, list: &str) -> bool {
        self.untyped.load(Ordering::Relaxed)
            || self.typed.load(Ordering::Relaxed) < TYPED_MIN
            || self.lists(config).is_whole(list)
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

    /// A write of this form was refused, possibly because the provider lacks members of it. Returns whether another
    /// form can be tried.
    pub(super) fn may_lack_members(&self, config: &Config, made: &Lists) -> bool {
        match (&config.entry_members, self.lists.get()) {
            (Some(_), _) => false,
            // The write was in flight when they were read.
            (None, Some(_)) => !self.lists(config).has_members_of(made),
            (None, None) => {
                self.wants_schemas.store(true, Ordering::Relaxed);
                true
            }
        }
    }

    /// Whether the caller is to read `/Schemas` now. While it holds the guard, no other caller reads them.
    pub(super) fn try_reading_schemas(&self) -> Option<MutexGuard<'_, ()>> {
        let wants = || self.wants_schemas.load(Ordering::Relaxed) && self.lists.get().is_none();
        let reading = wants().then(|| self.reading_schemas.try_lock().ok())?;
        reading.filter(|_| wants())
    }

    /// None if they can't be read.
    pub(super) fn read_schemas(&self, schemas: Option<&Value>) {
        let lists = match schemas {
            Some(schemas) => Lists::from_schemas(schemas),
            None if self.schemas_unread.fetch_add(1, Ordering::Relaxed) + 1 < SCHEMAS_UNREAD_MAX => return,
            None => Lists::USUAL,
        };
        let _ = self.lists.set(lists);
    }

    /// Records a user that the provider showed.
    pub(super) fn observe(&self, user: &Value) {
        let lists = ["emails", PHONES];
        let mut entries = lists
            .into_iter()
            .filter_map(|list| user[list].as_array())
            .flatten();
        if entries.any(|entry| entry["type"].is_null()) {
            self.untyped.store(true, Ordering::Relaxed);
        }
        // It can't overflow: there are not that many users.
        self.typed.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that the usual form was refused. Returns whether the other form can be tried.
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

    /// PUT was refused as well, so the method was not the cause.
    pub(super) fn put_is_refused_too(&self) {
        self.put.store(false, Ordering::Relaxed);
    }
}

/// The part of a request's form that a provider refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Method,
    MediaType,
    Filter,
}
