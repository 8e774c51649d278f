//! Dead letters: looking at all of them, counting them, choosing some, showing one.

mod filter;
mod groups;
mod letter;
mod shown;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::broker::topology::DEAD_LETTERS;
use crate::broker::{Delivery, InspectError, Inspector, Properties};
use crate::contract::ProviderName;

pub use filter::Filter;
pub use groups::{By, GROUPS_MAX, Group, Groups, Tally};
pub use letter::Letter;
pub use shown::{compact, is_open_header, shown};

/// The most dead letters of one command that are shown.
const FOUND_MAX: usize = 100;

/// A dead letter with its body.
pub struct Found {
    pub letter: Letter,
    pub properties: Properties,
    pub body: Bytes,
}

/// What a look at all dead letters found besides them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// Dead letters in the queue, chosen or not.
    pub seen: u64,
    /// Consumers that were there at the start, and may hold others.
    pub consumers: u64,
}

/// Visits every dead letter once, in order. All are held meanwhile, so that none comes twice, and go back as they were.
pub async fn look(
    inspector: &dyn Inspector,
    mut visit: impl FnMut(Letter, &Delivery) -> ControlFlow<()> + Send,
) -> Result<Looked, InspectError> {
    let consumers = inspector.depth(DEAD_LETTERS).await?;
    let consumers = consumers.map_or(0, |depth| depth.consumers);
    let mut holder = inspector.hold(DEAD_LETTERS).await?;
    let mut seen = 0;
    let ended = loop {
        match holder.next().await {
            Ok(Some(delivery)) => {
                seen += 1;
                let letter = Letter::of(&delivery.properties, &delivery.body);
                if visit(letter, &delivery).is_break() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    holder.release().await;
    ended.map(|()| Looked { seen, consumers })
}

/// The dead letters that a filter chooses, such as those of a command, with their bodies.
pub async fn find(inspector: &dyn Inspector, filter: &Filter) -> Result<(Vec<Found>, Looked), InspectError> {
    let mut found = Vec::new();
    let looked = look(inspector, |letter, delivery: &Delivery| {
        if filter.matches(&letter) && found.len() < FOUND_MAX {
            found.push(Found {
                letter,
                properties: delivery.properties.clone(),
                body: delivery.body.clone(),
            });
        }
        ControlFlow::Continue(())
    });
    let looked = looked.await?;
    Ok((found, looked))
}

/// Commands of dead letters, to be kept or sent elsewhere. They hold values of users.
#[derive(Debug, Default)]
pub struct Exported {
    /// Each on a line, as JSON.
    pub lines: Vec<u8>,
    /// How many are exported of each provider; `None`: they do not say whose they are.
    pub counts: BTreeMap<Option<ProviderName>, u64>,
    /// There are more than fit.
    pub is_cut: bool,
}

/// The commands that a filter chooses, as far as they fit into so many bytes. Bodies that are no JSON are left out.
pub async fn export(
    inspector: &dyn Inspector,
    filter: &Filter,
    bytes_max: usize,
) -> Result<Exported, InspectError> {
    let mut exported = Exported::default();
    let looked = look(inspector, |letter, delivery| {
        if !filter.matches(&letter) {
            return ControlFlow::Continue(());
        }
        let Some(line) = compact(&delivery.body) else {
            return ControlFlow::Continue(());
        };
        if exported.lines.len() + line.len() >= bytes_max {
            exported.is_cut = true;
            return ControlFlow::Break(());
        }
        exported.lines.extend_from_slice(&line);
        exported.lines.push(b'\n');
        *exported.counts.entry(letter.addressed_to()).or_default() += 1;
        ControlFlow::Continue(())
    });
    looked.await?;
    Ok(exported)
}
