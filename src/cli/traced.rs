//! The traces of `usher run` and `usher apply`: where they go, and how the last of them are sent.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use usher::clock::Clock;
use usher::config::Config;
use usher::telemetry::otlp;
use usher::traces::Traces;
use usher::worker::Shutdown;

use super::exit;

/// The most time at the end for the traces.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// A collector, if one is configured, and when the program was asked to stop.
pub struct Traced {
    collector: Option<Arc<otlp::Collector>>,
    shutdown: Shutdown,
    asked_at: JoinHandle<Instant>,
    grace_period: Duration,
}

impl Traced {
    /// `process` tells this process from others.
    pub fn new(config: &Config, process: &str, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let provider = config.provider.name.as_str();
        let collector = otlp::Collector::new(&config.telemetry, provider, process).map_err(exit::usage)?;
        Ok(Self {
            collector,
            shutdown: shutdown.clone(),
            asked_at: tokio::spawn(asked_at(shutdown.clone())),
            grace_period: config.worker.grace_period,
        })
    }

    /// What a worker traces by. `None`: nothing.
    pub fn traces(&self, sample: f64) -> Option<Arc<Traces>> {
        let collector = self.collector.clone()?;
        Some(Arc::new(Traces {
            spans: collector,
            sample,
            clock: Clock::System,
        }))
    }

    /// Sends the traces that are left. The program ends no later with traces than without: within the grace period, and
    /// at once after a second signal.
    pub async fn flush(self) {
        let Some(collector) = self.collector else { return };
        let left = match self.shutdown.is_draining() {
            true => {
                let asked_at = self.asked_at.await;
                let past = asked_at.map_or(self.grace_period, |at| at.elapsed());
                self.grace_period.saturating_sub(past)
            }
            false => FLUSH_MAX,
        };
        tokio::select! {
            biased;
            () = self.shutdown.aborting() => {}
            () = collector.flush(left.min(FLUSH_MAX)) => {}
        }
    }
}

async fn asked_at(shutdown: Shutdown) -> Instant {
    shutdown.draining().await;
    Instant::now()
}
