//! What a provider was found to need, where the configuration leaves it open.
//!
//! Nothing is asked beforehand. A provider that refuses the usual form shows by it which one it wants: the next request is
//! made in that form, and so are all after it.

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::header::HeaderValue;
use serde_json::Value;

use super::compare::is_untyped;
use super::wish::PHONES;
use super::{Config, MediaType, Write};

pub(super) const SCIM_JSON: HeaderValue = HeaderValue::from_static("application/scim+json");

#[derive(Default)]
pub(super) struct Dialect {
    /// PATCH was refused as a method.
    put: AtomicBool,
    /// `application/scim+json` was refused.
    json: AtomicBool,
    /// A path with a filter was refused: lists are put as a whole.
    whole_lists: AtomicBool,
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

    /// Whether entries of lists can be changed for a known user only.
    pub(super) fn needs_entries(&self) -> bool {
        self.untyped.load(Ordering::Relaxed) || self.whole_lists.load(Ordering::Relaxed)
    }

    pub(super) fn whole_lists(&self) -> bool {
        self.whole_lists.load(Ordering::Relaxed)
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
            Refused::Filter => (true, &self.whole_lists),
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
