//! What a provider was found to need, where the configuration leaves it open.
//!
//! Nothing is asked beforehand. A provider that refuses the usual form shows by it which one it wants: the next request is
//! made in that form, and so are all after it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use reqwest::header::HeaderValue;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::desired::PHONES;
use super::list::Lists;
use super::{Config, MediaType, Write};

pub(super) const SCIM_JSON: HeaderValue = HeaderValue::from_static("application/scim+json");

/// What can't be read twice is taken to say nothing.
const SCHEMAS_UNREAD_MAX: u8 = 2;

/// So many users are read before an entry is written blind.
const TYPED_MIN: u32 = 20;

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
    wants_schemas: AtomicBool,
    /// Whoever holds it reads them.
    reading_schemas: Mutex<()>,
    /// How often they could not be read.
    schemas_unread: AtomicU8,
    /// A user was seen with an entry that has no type: no path leads to it.
    untyped: AtomicBool,
    /// Users that were seen, as long as none of them had such an entry.
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

    /// Whether the entries of a list can be changed for a known user only. A blind write would leave an entry without a
    /// type beside the new one, and nobody would know: so users are read until it is likely that all entries have types.
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

    /// A write was refused that was made so, and members that the provider does not have may be the reason. Whether it may
    /// be made in another form.
    pub(super) fn may_lack_members(&self, config: &Config, made: &Lists) -> bool {
        match (&config.entry_members, self.lists.get()) {
            (Some(_), _) => false,
            // It was on its way when they were read.
            (None, Some(_)) => !self.lists(config).has_members_of(made),
            (None, None) => {
                self.wants_schemas.store(true, Ordering::Relaxed);
                true
            }
        }
    }

    /// Whether `/Schemas` is to be read now, by who asks, and by nobody else meanwhile.
    pub(super) fn takes_schemas(&self) -> Option<MutexGuard<'_, ()>> {
        let wants = || self.wants_schemas.load(Ordering::Relaxed) && self.lists.get().is_none();
        let reading = wants().then(|| self.reading_schemas.try_lock().ok())?;
        reading.filter(|_| wants())
    }

    /// None: they can't be read.
    pub(super) fn read_schemas(&self, schemas: Option<&Value>) {
        let lists = match schemas {
            Some(schemas) => Lists::told(schemas),
            None if self.schemas_unread.fetch_add(1, Ordering::Relaxed) + 1 < SCHEMAS_UNREAD_MAX => return,
            None => Lists::USUAL,
        };
        let _ = self.lists.set(lists);
    }

    /// A user was shown.
    pub(super) fn saw(&self, user: &Value) {
        let lists = ["emails", PHONES];
        let mut entries = lists
            .into_iter()
            .filter_map(|list| user[list].as_array())
            .flatten();
        if entries.any(|entry| entry["type"].is_null()) {
            self.untyped.store(true, Ordering::Relaxed);
        }
        // A sum that wraps would take more users than there are.
        self.typed.fetch_add(1, Ordering::Relaxed);
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
