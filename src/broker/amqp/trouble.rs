//! What a listener can't do for now: said once when it begins, and once when it is over.

use std::fmt::Display;

pub(super) struct Trouble {
    what: &'static str,
    lasts: bool,
}

impl Trouble {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, lasts: false }
    }

    pub(super) fn is(&mut self, reason: &dyn Display) {
        if !std::mem::replace(&mut self.lasts, true) {
            tracing::warn!(%reason, "broker: {}; trying again until it works", self.what);
        }
    }

    pub(super) fn is_over(&mut self) {
        if std::mem::take(&mut self.lasts) {
            tracing::info!("broker: it works again, after this: {}", self.what);
        }
    }
}
