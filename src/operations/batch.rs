//! How far a batch is. The audit log knows what was published, the outcome log what became of it. No value of a command is
//! kept.

mod announced;
mod estimate;
mod listed;
mod sample;
mod series;
mod status;
mod tally;
#[cfg(test)]
mod tests;
mod verified;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use self::announced::Announced;
pub use self::estimate::{Left, Pace};
pub use self::listed::{Listed, list};
pub use self::sample::{Amount, Asked, Sample, TooMany, USERS_MAX};
pub use self::series::{Bucket, Series};
pub use self::status::{Account, Status};
pub use self::tally::{Counts, Ended, Last, Tally};
pub use self::verified::{Compared, Found, Verified, compare};
use crate::broker::topology::{AUDIT_LOG, OUTCOME_LOG};
use crate::broker::{InspectError, Inspector, Message, StreamReader};
use crate::contract::lifecycle::{LifecycleBody, LifecycleEvent, ProviderPaused};
use crate::contract::notice::PauseCause;
use crate::contract::{BatchId, ProviderName};
use crate::operations::stream::read_to_present;

/// How far back the outcome log is read where nothing says when the batch was opened.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Clocks differ, and the log is read from a chunk's beginning.
const BEFORE: SignedDuration = SignedDuration::from_mins(2);

/// Reading a log up to the present ends after this, wherever it has got to.
const READ_WITHIN: Duration = Duration::from_secs(30 * 60);

/// Other providers under which the batch was announced: so many are named.
const ELSEWHERE_MAX: usize = 10;

/// All that is known of one batch of one provider.
#[derive(Debug)]
pub struct Book {
    pub batch: BatchId,
    pub provider: ProviderName,
    pub announced: Announced,
    /// Other providers that the batch was announced for.
    pub elsewhere: Vec<String>,
    pub tally: Tally,
    /// The provider's pause, unless an operator ordered it.
    pub pause: Option<ProviderPaused>,
    /// From when on the outcome log is asked for.
    pub since: Timestamp,
    /// The oldest event that it gave, of whichever command.
    pub log_from: Option<Timestamp>,
    /// Whether it gave the event that opened the batch: nothing before it is missing.
    whole: bool,
    /// Whether the log was read up to the present.
    pub complete: bool,
}

impl Book {
    /// Reads what was announced. The outcome log is to be read from `since` on, or from when the batch was opened.
    pub async fn open(
        inspector: &dyn Inspector,
        provider: &ProviderName,
        batch: &BatchId,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, InspectError> {
        let mut book = Self {
            batch: batch.clone(),
            provider: provider.clone(),
            announced: Announced::default(),
            elsewhere: Vec::new(),
            tally: Tally::new(format!("/usher/{provider}"), batch),
            pause: None,
            since: now,
            log_from: None,
            whole: false,
            complete: false,
        };
        let mut reader = inspector.read(AUDIT_LOG, None).await?;
        read_to_present(&mut *reader, READ_WITHIN, |message| book.take_lifecycle(message)).await?;
        let opened = || book.announced.opened_at().map(|at| at - BEFORE);
        book.since = since.or_else(opened).unwrap_or(now - DAY);
        Ok(book)
    }

    /// Starts to read the outcome log.
    pub async fn log(&self, inspector: &dyn Inspector) -> Result<Box<dyn StreamReader>, InspectError> {
        inspector.read(OUTCOME_LOG, Some(self.since)).await
    }

    /// Reads the outcome log up to the present. The reader goes on behind it.
    pub async fn read_on(&mut self, reader: &mut dyn StreamReader) -> Result<(), InspectError> {
        self.complete = read_to_present(reader, READ_WITHIN, |message| self.take(message)).await?;
        Ok(())
    }

    /// The same, all at once.
    pub async fn read(
        inspector: &dyn Inspector,
        provider: &ProviderName,
        batch: &BatchId,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, InspectError> {
        let mut book = Self::open(inspector, provider, batch, since, now).await?;
        let mut reader = book.log(inspector).await?;
        book.read_on(&mut *reader).await?;
        Ok(book)
    }

    /// Takes a message of the outcome log.
    pub fn take(&mut self, message: &Message) {
        if self.log_from.is_none() {
            let seconds = message
                .properties
                .timestamp()
                .and_then(|at| i64::try_from(at).ok());
            self.log_from = seconds.and_then(|at| Timestamp::from_second(at).ok());
        }
        match message.routing_key.starts_with("user.") {
            true => self.tally.take(&message.body),
            false => {
                let event = self.take_lifecycle(message);
                self.whole |= event.is_some() && event == self.announced.first_event();
            }
        }
    }

    /// Returns the event's id, if it is of this batch and provider.
    fn take_lifecycle(&mut self, message: &Message) -> Option<uuid::Uuid> {
        let is_told = ["batch.", "provider."].iter();
        if !is_told
            .clone()
            .any(|topic| message.routing_key.starts_with(topic))
        {
            return None;
        }
        let event: LifecycleEvent = serde_json::from_slice(&message.body).ok()?;
        let named = event.source.strip_prefix("/usher/")?;
        let is_ours = named == self.provider.as_str();
        let batch = match &event.body {
            LifecycleBody::Paused(paused) if is_ours => {
                self.pause = Some(paused.clone()).filter(|paused| paused.cause != PauseCause::Operator);
                return None;
            }
            LifecycleBody::Resumed(_) if is_ours => {
                self.pause = None;
                return None;
            }
            LifecycleBody::BatchOpened(opened) => &opened.batch_id,
            LifecycleBody::BatchClosed(closed) => &closed.batch_id,
            _ => return None,
        };
        if *batch != self.batch {
            return None;
        }
        if !is_ours {
            let is_new = self.elsewhere.iter().all(|known| known != named);
            if is_new && self.elsewhere.len() < ELSEWHERE_MAX {
                self.elsewhere.push(named.to_owned());
            }
            return None;
        }
        self.announced.take(&event);
        Some(event.id)
    }

    /// Reads the outcome log once more, and tells the last outcome of each command that has ended, once. What ended since the
    /// first reading may be left out.
    pub async fn outcomes<E>(
        &mut self,
        inspector: &dyn Inspector,
        mut tell: impl FnMut(&Last) -> Result<(), E>,
    ) -> Result<Result<(), E>, InspectError> {
        let mut reader = self.log(inspector).await?;
        let mut told = Ok(());
        let tally = &mut self.tally;
        read_to_present(&mut *reader, READ_WITHIN, |message| {
            if told.is_ok()
                && let Some(last) = tally.take_last(&message.body)
            {
                told = tell(&last);
            }
        })
        .await?;
        Ok(told)
    }

    /// Whether anything is known of it.
    pub fn is_known(&self) -> bool {
        self.announced.is_known() || self.tally.first_at.is_some()
    }
}
