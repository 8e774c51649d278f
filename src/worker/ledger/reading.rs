//! How far the outcome log is read, and so what the ledger knows for certain.

use jiff::Timestamp;

use super::Ledger;

impl Ledger {
    /// The outcome log is read from this time on.
    pub fn reads_since(&self, then: Timestamp) {
        let mut state = self.state();
        state.complete_since = state.complete_since.max(Some(then));
    }

    /// A reading of the log begins. Known events are kept.
    pub fn begins(&self) {
        let mut state = self.state();
        state.cut = false;
        state.end_since = None;
        state.earlier.get_or_insert_default();
    }

    /// The log's older part is not read completely: events are missing before the next one that is read.
    pub fn is_cut(&self) {
        let mut state = self.state();
        state.cut = true;
        state.end_since = None;
    }

    /// The older part of the log is read.
    pub fn is_read(&self) {
        let mut state = self.state();
        if let Some(earlier) = state.earlier.take() {
            let newer = std::mem::replace(&mut state.oldest_first, earlier.oldest_first);
            state.oldest_first.extend(newer);
        }
    }

    /// Whether every run that began since then is known, and the log's older part is read.
    pub fn is_complete_since(&self, then: Timestamp) -> bool {
        self.state().earlier.is_none() && self.knows_since(then)
    }

    /// Whether every event since then is known, though the log's older part may not be read yet.
    pub fn knows_since(&self, then: Timestamp) -> bool {
        let state = self.state();
        let known_from = match state.earlier {
            Some(_) => state
                .end_since
                .map(|end_since| state.complete_since.max(Some(end_since))),
            None => (!state.cut).then_some(state.complete_since),
        };
        known_from.is_some_and(|known_from| known_from.is_none_or(|since| since <= then))
    }
}
