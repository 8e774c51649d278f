//! Dead letters: looking at all of them, counting them, choosing some, showing one.

mod filter;
mod groups;
mod letter;
mod shown;

use std::ops::ControlFlow;

use crate::broker::topology::DEAD_LETTERS;
use crate::broker::{Delivery, InspectError, Inspector};

pub use filter::Filter;
pub use groups::{By, GROUPS_MAX, Group, Groups, Tally};
pub use letter::Letter;
pub use shown::{compact, shown};

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
