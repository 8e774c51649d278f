//! A listener's trouble that lasts for a while: logged once when it begins, and once when it is over.

use std::fmt::Display;

use tokio::sync::watch;

pub(super) struct Trouble<'t> {
    what: &'static str,
    lasts: bool,
    /// Where the reason is also published.
    published: Option<&'t watch::Sender<Option<String>>>,
}

impl<'t> Trouble<'t> {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            lasts: false,
            published: None,
        }
    }

    pub(super) fn published_to(self, published: &'t watch::Sender<Option<String>>) -> Self {
        Self {
            published: Some(published),
            ..self
        }
    }

    pub(super) fn is(&mut self, reason: &dyn Display) {
        if let Some(published) = self.published {
            published.send_replace(Some(reason.to_string()));
        }
        if !std::mem::replace(&mut self.lasts, true) {
            tracing::warn!(%reason, "broker: {}; trying again until it works", self.what);
        }
    }

    pub(super) fn is_over(&mut self) {
        if let Some(published) = self.published {
            published.send_replace(None);
        }
        if std::mem::take(&mut self.lasts) {
            tracing::info!("broker: it works again, after this: {}", self.what);
        }
    }
}
