//! The seven screens, each made of blocks.

mod actions;
mod batches;
mod failure;
mod failures;
mod fleet;
mod operations;
mod overview;
mod why;

use std::time::Duration;

use super::access::Viewer;
use super::address::{Query, Screen};
use super::link::Trouble;
use super::page::Shown;
use super::shared::Patience;
use super::{Console, Seen};

pub use actions::{BULK_ALONE, UNTIL_LIFTED, cancel, plan};
pub use failure::revealed;
pub use fleet::Fleet;

/// How long a page waits for a look. One that takes longer goes on, and the page asks again.
const WAIT: Duration = Duration::from_secs(4);

/// Who asks for what.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub viewer: &'a Viewer,
    pub screen: &'a Screen,
    pub query: &'a Query,
}

impl Ask<'_> {
    /// What may be so old. Who asks for a fresh look gets one, but not more often than each third second.
    fn patience(&self, seconds: u64) -> Patience {
        let seconds = match self.query.get("fresh") {
            Some(_) => seconds.min(3),
            None => seconds,
        };
        Patience {
            age: Duration::from_secs(seconds),
            wait: WAIT,
        }
    }
}

pub async fn shown(console: &Console, ask: Ask<'_>) -> Result<Shown, Trouble> {
    match ask.screen {
        Screen::Overview => overview::shown(console, ask).await.map(Shown::from),
        Screen::Failures => failures::shown(console, ask).await,
        Screen::Failure(id) => failure::shown(console, ask, id).await,
        Screen::Operations => operations::shown(console, ask).await.map(Shown::from),
        Screen::Operation(id) => operations::one(console, ask, *id).await,
        Screen::Batches => batches::shown(console, ask).await.map(Shown::from),
        Screen::Batch(id) => batches::one(console, ask, id).await,
        Screen::Why => why::shown(console, ask).await,
        Screen::Fleet => fleet::shown(console, ask).await.map(Shown::from),
    }
}

/// How old it is, in words.
fn age<T>(seen: &Seen<T>) -> String {
    match seen.made.elapsed().as_secs() {
        0 | 1 => "just now".to_owned(),
        seconds => format!("{seconds} s ago"),
    }
}

/// Such as `1 command` and `2 commands`.
fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{} {what}s", super::block::number(count)),
    }
}
