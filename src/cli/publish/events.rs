//! BATCH_OPENED before a provider's first command of a batch, and BATCH_CLOSED after its last one.

use std::collections::BTreeSet;
use std::sync::Arc;

use usher::broker::Publisher;
use usher::clock::Clock;
use usher::contract::lifecycle::{BatchClosed, BatchOpened, LifecycleBody, LifecycleEvent};
use usher::contract::{BatchId, ProviderName};
use usher::operations::confirmed::Confirmed;
use usher::worker::lifecycle::message;
use uuid::Uuid;

use crate::cli::exit::{self, Exit};

pub struct Events {
    batch: Option<BatchId>,
    bulk: bool,
    /// Tells apart the files of one batch, so that each has events of its own; the same file has the same events.
    nth: u64,
    publisher: Arc<dyn Publisher>,
    opened: BTreeSet<String>,
}

impl Events {
    /// `input` identifies the content of the file.
    pub fn new(batch: Option<BatchId>, bulk: bool, input: Uuid, publisher: Arc<dyn Publisher>) -> Self {
        Self {
            batch,
            bulk,
            nth: input.as_u64_pair().0,
            publisher,
            opened: BTreeSet::new(),
        }
    }

    /// Goes on from an earlier run that has opened the batch for these.
    pub fn after(mut self, opened: &BTreeSet<String>) -> Self {
        self.opened.clone_from(opened);
        self
    }

    pub fn opened(&self) -> &BTreeSet<String> {
        &self.opened
    }

    /// Whether it has to be opened for the provider.
    pub fn is_due(&self, provider: &str) -> bool {
        self.batch.is_some() && !self.opened.contains(provider)
    }

    /// Opens the batch, unless it is open. `commands`: how many it will have, if that is known.
    pub async fn open(&mut self, provider: &str, commands: Option<u64>) -> anyhow::Result<()> {
        let Some(batch) = self.batch.clone().filter(|_| self.is_due(provider)) else {
            return Ok(());
        };
        let body = LifecycleBody::BatchOpened(BatchOpened {
            batch_id: batch.clone(),
            bulk: self.bulk,
            commands,
        });
        self.publish(provider, &batch, body).await?;
        self.opened.insert(provider.to_owned());
        Ok(())
    }

    /// All commands are published.
    pub async fn close(&self, confirmed: &Confirmed) -> anyhow::Result<()> {
        let Some(batch) = &self.batch else {
            return Ok(());
        };
        for (provider, published) in &confirmed.providers {
            let body = LifecycleBody::BatchClosed(BatchClosed {
                batch_id: batch.clone(),
                commands: published.commands,
                ids: published.ids,
            });
            self.publish(provider, batch, body).await?;
        }
        Ok(())
    }

    async fn publish(&self, provider: &str, batch: &BatchId, body: LifecycleBody) -> anyhow::Result<()> {
        let kind = body.kind().as_str();
        let provider: ProviderName = provider.parse().map_err(exit::usage)?;
        let event = LifecycleEvent::about(&provider, batch.as_str(), body, self.nth, Clock::System.now());
        let published = self.publisher.publish(&message(&provider, &event)).await;
        published.map_err(|error| {
            exit::with(
                Exit::OutOfReach,
                format_args!(
                    "{kind} was not published: {error}; if the broker is well, the user lacks the permission to write to \
                     user.outcomes, which --batch needs: grant it, or leave out --batch and name the batchId in the \
                     commands"
                ),
            )
        })
    }
}
