//! Checks that commands reach a queue. The broker also confirms one that reaches none: it goes to `user.unroutable`.
//!
//! Exchanges and queues are checked before the first command of a provider. Bindings can't be queried; and a
//! mandatory publish would not be returned, since the alternate exchange takes it. So the messages in
//! `user.unroutable` are counted: before the first command, after the first one of each provider, from time to time,
//! and at the end. Messages of another publisher count as well, and one that is removed meanwhile hides another.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;
use usher::broker::topology::UNROUTABLE;
use usher::broker::{Config, PublishError, amqp};

use crate::cli::exit::{self, Exit};

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The most missing objects that are named.
const NAMED_MAX: usize = 10;

const DECLARE: &str = "check the provider's name in the commands, or run `usher topology declare` with that provider's \
                       configuration (a worker does it, too)";

pub struct Route<'c> {
    config: &'c Config,
    bulk: bool,
    looked_at: BTreeSet<String>,
    /// Messages in `user.unroutable` before the first publish.
    before: Option<u64>,
    latest: Instant,
}

impl<'c> Route<'c> {
    pub fn new(config: &'c Config, bulk: bool) -> Self {
        Self {
            config,
            bulk,
            looked_at: BTreeSet::new(),
            before: None,
            latest: Instant::now(),
        }
    }

    pub fn is_looked_at(&self, provider: &str) -> bool {
        self.looked_at.contains(provider)
    }

    /// Refuses providers whose commands would reach no queue.
    pub async fn look_at(&mut self, providers: BTreeSet<String>) -> anyhow::Result<()> {
        let looked = self.look(&providers).await?;
        self.before.get_or_insert(looked.unroutable);
        match missing(&looked.missing) {
            Some(missing) => Err(exit::usage(missing)),
            None => {
                self.looked_at.extend(providers);
                Ok(())
            }
        }
    }

    /// Whether all that was confirmed so far reached a queue; at times, and not while the broker is away: that is the
    /// publishes' own affair.
    pub async fn glance(&mut self) -> anyhow::Result<()> {
        if self.latest.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.latest = Instant::now();
        match self.look(&BTreeSet::new()).await {
            Ok(looked) => self.compare(looked.unroutable),
            Err(_) => Ok(()),
        }
    }

    /// Whether all that was confirmed so far reached a queue.
    pub async fn count_unroutable(&mut self) -> anyhow::Result<()> {
        let looked = self.look(&BTreeSet::new()).await;
        let looked = looked.context("whether all of them reached a queue can't be checked now")?;
        self.compare(looked.unroutable)
    }

    fn compare(&self, now: u64) -> anyhow::Result<()> {
        let lost = now.saturating_sub(self.before.unwrap_or(now));
        if lost == 0 {
            return Ok(());
        }
        Err(exit::usage(format_args!(
            "{UNROUTABLE} holds {lost} more than before: these commands, or another publisher's, reached no queue; a \
             binding is missing: run `usher topology declare` with the provider's configuration, then publish the file \
             again (the commands keep their ids)"
        )))
    }

    /// Why a command was not confirmed, as far as the broker shows it.
    pub async fn explain(&self, error: &PublishError) -> anyhow::Error {
        let again = "publish the file again, its commands keep their ids";
        match self.look(&self.looked_at).await {
            Err(away) => away.context(format!("{error}; once the broker is back, {again}")),
            Ok(looked) => match missing(&looked.missing) {
                Some(missing) => exit::usage(format_args!("{error}: {missing}; then {again}")),
                None => exit::with(Exit::OutOfReach, format_args!("{error}; {again}")),
            },
        }
    }

    async fn look(&self, providers: &BTreeSet<String>) -> anyhow::Result<amqp::Looked> {
        let providers: Vec<_> = providers.iter().cloned().collect();
        amqp::look(self.config, &providers, self.bulk)
            .await
            .map_err(|error| exit::broker(&error))
    }
}

fn missing(objects: &[String]) -> Option<String> {
    let named = objects.get(..NAMED_MAX).unwrap_or(objects).join(", ");
    match objects.len() {
        0 => None,
        1..=NAMED_MAX => Some(format!("missing on the broker: {named}; {DECLARE}")),
        more => Some(format!(
            "missing on the broker: {named} and {} more; {DECLARE}",
            more - NAMED_MAX
        )),
    }
}
