//! Dead letters for many viewers: one look at all of them at a time, of which the heads are kept for a while, and no values.

use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;

use super::link::Trouble;
use crate::broker::Inspector;
use crate::operations::dead_letters::{By, Filter, Groups, Letter, look};

/// The most dead letters whose heads are kept. Those beyond are counted.
const KEPT_MAX: usize = 20_000;

/// The most characters of a text that are kept of each.
const TEXT_MAX: usize = 300;

/// What a look at all dead letters saw.
pub struct Snapshot {
    /// In the queue's order.
    pub letters: Vec<Letter>,
    /// All of them by their causes, those that are not kept included.
    pub groups: Groups,
    pub seen: u64,
    pub consumers: u64,
}

impl Snapshot {
    pub async fn take(inspector: Arc<dyn Inspector>) -> Result<Self, Trouble> {
        let (mut letters, mut groups) = (Vec::new(), Groups::new(By::Fingerprint));
        let looked = look(&*inspector, |letter, _| {
            groups.add(&letter);
            if letters.len() < KEPT_MAX {
                letters.push(short(letter));
            }
            ControlFlow::Continue(())
        });
        let looked = looked.await?;
        Ok(Self {
            letters,
            groups,
            seen: looked.seen,
            consumers: looked.consumers,
        })
    }

    /// How many are not kept.
    pub fn beyond(&self) -> u64 {
        self.seen.saturating_sub(self.letters.len() as u64)
    }

    pub fn chosen<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Letter> {
        self.letters.iter().filter(|letter| filter.matches(letter))
    }

    /// How many died from then on, before then, of those that are kept.
    pub fn dead_between(&self, since: Timestamp, until: Timestamp) -> u64 {
        let died = |letter: &&Letter| letter.dead_at.is_some_and(|at| at >= since && at < until);
        self.letters.iter().filter(died).count() as u64
    }
}

/// Anybody who may publish there can send long texts.
fn short(letter: Letter) -> Letter {
    let cut = |text: Option<String>| {
        text.map(|text| match text.char_indices().nth(TEXT_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        })
    };
    Letter {
        detail: cut(letter.detail),
        ..letter
    }
}
