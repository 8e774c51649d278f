//! The pass over the input in which its commands are sent.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use usher::broker::Publisher;
use usher::operations::confirmed::Prefix;
use usher::worker::Shutdown;
use uuid::Uuid;

use super::commands::{Commands, Ready};
use super::events::Events;
use super::pace::Pace;
use super::progress::Progress;
use super::queues::Queues;
use super::sending::{Confirmed, Sending};
use super::{Publishing, consent, on_failure, refuse_too_many};
use crate::cli::exit::Exit;
use crate::cli::input::Rows;
use crate::cli::{note, say};

/// Sends the rows in order, for many users at a time.
pub struct Pass<'p, 'a> {
    publishing: &'p mut Publishing<'a>,
    shutdown: &'p Shutdown,
    sending: Sending,
    events: Events,
    queues: Queues<'a>,
    pace: Option<Pace>,
    progress: Progress,
    /// The providers whose first command was sent by this run.
    tried: HashSet<String>,
}

/// `None`: the run is stopped.
async fn unless_draining<T>(shutdown: &Shutdown, next: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = shutdown.draining() => None,
        next = next => Some(next),
    }
}

impl<'p, 'a> Pass<'p, 'a> {
    /// Returns how the run ended, when nothing is in flight any more.
    pub async fn run(
        publishing: &'p mut Publishing<'a>,
        publisher: Arc<dyn Publisher>,
        shutdown: &'p Shutdown,
    ) -> anyhow::Result<Exit> {
        let Some(opened) = unless_draining(shutdown, publishing.open()).await else {
            return Ok(Exit::Interrupted);
        };
        let (rows, commands) = opened?;
        if let Some(read_as) = rows.note.as_ref().filter(|_| publishing.effect.is_none()) {
            note(&format!("usher: {read_as}"));
        }
        let (args, checkpoint) = (publishing.args, &publishing.checkpoint);
        let (earlier, input) = match checkpoint {
            Some(checkpoint) => (checkpoint.confirmed().clone(), checkpoint.digest()),
            None => (Default::default(), Uuid::new_v4()),
        };
        let events = Events::new(args.batch.clone(), args.bulk, input, publisher.clone());
        let bytes = publishing.input.file().and_then(|file| file.metadata().ok());
        let total = publishing.effect.as_ref().map(|_| publishing.account.lines);
        let mut pass = Self {
            events: match checkpoint {
                Some(checkpoint) => events.after(checkpoint.opened()),
                None => events,
            },
            progress: Progress::new(total, bytes.map(|file| file.len()), rows.position(), earlier.rows),
            sending: Sending::new(publisher, Prefix::after(earlier)),
            queues: Queues::new(publishing.config, args.bulk, args.max_queued.into()).await?,
            pace: args.rate.map(Pace::new),
            tried: HashSet::new(),
            publishing,
            shutdown,
        };
        // Before the first command: a place that can't be written is noticed in time.
        pass.keep()?;
        let ended = pass.send_all(rows, commands).await;
        let ended = pass.settle(ended).await;
        pass.progress.clear();
        pass.queues.close().await;
        pass.publishing.account.published = pass.sending.published;
        ended
    }

    async fn send_all(&mut self, mut rows: Rows, commands: Commands) -> anyhow::Result<Exit> {
        let earlier = self.sending.prefix().so_far().rows;
        let is_checked = self.publishing.effect.is_some();
        self.publishing.account.lines = 0;
        loop {
            let Some(row) = unless_draining(self.shutdown, rows.next()).await else {
                return Ok(Exit::Interrupted);
            };
            let Some(row) = row? else { return Ok(Exit::Done) };
            self.publishing.account.lines += 1;
            let is_earlier = self.publishing.account.lines <= earlier;
            // Rows that are refused were kept when the file was checked.
            if is_earlier && is_checked {
                continue;
            }
            let ready = commands.read(&row).and_then(|ready| {
                consent::refuse(self.publishing.args, &ready.command)?;
                Ok(ready)
            });
            let ready = match ready {
                _ if is_earlier && ready.is_ok() => continue,
                Ok(ready) => ready,
                Err(failure) => {
                    if !is_checked {
                        let column = commands.column(&failure);
                        let rejects = &mut self.publishing.rejects;
                        self.progress
                            .suspend(|| rejects.add(&row.line, &failure, column))?;
                        rejects.keep()?;
                        if self.publishing.args.rejects.is_none() {
                            say(
                                "usher: nothing was read beyond the row that is refused; --rejects FILE goes on",
                            );
                            return Ok(Exit::Failures);
                        }
                    }
                    if !is_earlier {
                        self.sending.refuse();
                    }
                    continue;
                }
            };
            if !self.send(ready).await? {
                return Ok(Exit::Interrupted);
            }
            let rows = self.publishing.account.lines;
            self.progress.show(rows, self.queues.depth(), false);
            self.glance()?;
        }
    }

    /// Sends it as soon as it may be sent. False: the run is stopped.
    async fn send(&mut self, ready: Ready) -> anyhow::Result<bool> {
        let provider = ready.command.provider.to_string();
        if !self.publishing.route.is_looked_at(&provider) {
            refuse_too_many(self.tried.len() + 1)?;
            let providers = BTreeSet::from([provider.clone()]);
            self.publishing.route.look_at(providers).await?;
        }
        // By each run: an earlier one may have been told otherwise.
        if !self.tried.contains(&provider) {
            on_failure::order(self.publishing, &ready.command.provider).await?;
        }
        if self.events.is_due(&provider) {
            let effect = self.publishing.effect.as_ref();
            let commands = effect.and_then(|effect| effect.providers.get(&provider).copied());
            self.events.open(&provider, commands).await?;
            self.keep()?;
        }
        if !self.wait_for_room(&provider).await? {
            return Ok(false);
        }
        if let Some(pace) = &mut self.pace
            && unless_draining(self.shutdown, pace.wait()).await.is_none()
        {
            return Ok(false);
        }
        while let Some(confirmed) = self.sending.make_room(&ready.message).await {
            self.explained(confirmed).await?;
        }
        self.sending.send(ready.message, &provider, ready.command.id);
        if self.tried.insert(provider) {
            // One unroutable command is enough to detect it.
            self.confirm_all().await?;
            self.publishing.route.count_unroutable().await?;
        } else {
            self.publishing.route.glance().await?;
        }
        Ok(true)
    }

    /// Waits while the provider's queues are full. False: the run is stopped.
    async fn wait_for_room(&mut self, provider: &str) -> anyhow::Result<bool> {
        while !self.queues.take(provider, self.sending.in_flight()).await? {
            self.confirm_all().await?;
            self.glance()?;
            let rows = self.publishing.account.lines;
            self.progress.show(rows, self.queues.depth(), true);
            if unless_draining(self.shutdown, self.queues.pause())
                .await
                .is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn confirm_all(&mut self) -> anyhow::Result<()> {
        while let Some(confirmed) = self.sending.confirmed().await {
            self.explained(confirmed).await?;
        }
        Ok(())
    }

    async fn explained(&self, confirmed: Confirmed) -> anyhow::Result<()> {
        match confirmed? {
            Ok(()) => Ok(()),
            Err(error) => Err(self.publishing.route.explain(&error).await),
        }
    }

    /// Publishes in flight are waited for, whatever ended the run. The batch is closed if all of it is published.
    async fn settle(&mut self, mut ended: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
        while let Some(confirmed) = self.sending.confirmed().await {
            if ended.is_ok()
                && let Err(error) = self.explained(confirmed).await
            {
                ended = Err(error);
            }
        }
        if ended.is_ok() && self.sending.published > 0 {
            ended = self.publishing.route.count_unroutable().await.and(ended);
        }
        if matches!(ended, Ok(Exit::Done)) {
            ended = self.events.close(self.sending.prefix().so_far()).await.and(ended);
        }
        let kept = match (&ended, &mut self.publishing.checkpoint) {
            (Ok(Exit::Done), Some(checkpoint)) => checkpoint.complete(self.sending.prefix().so_far()),
            _ => self.keep(),
        };
        if let Some(checkpoint) = &self.publishing.checkpoint {
            checkpoint.remove_unused();
        }
        // The first error is the cause.
        match ended {
            Ok(ended) => kept.map(|()| ended),
            Err(error) => Err(error),
        }
    }

    fn keep(&mut self) -> anyhow::Result<()> {
        let Some(checkpoint) = &mut self.publishing.checkpoint else {
            return Ok(());
        };
        checkpoint.set_opened(self.events.opened());
        checkpoint.keep(self.sending.prefix().so_far())
    }

    fn glance(&mut self) -> anyhow::Result<()> {
        match &mut self.publishing.checkpoint {
            Some(checkpoint) => checkpoint.glance(self.sending.prefix().so_far()),
            None => Ok(()),
        }
    }
}
