//! Reads the configuration again while the worker runs: on SIGHUP, and when the admin port is asked to.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::Signal;
use usher::config::{self, Changes, Config, Tree};
use usher::telemetry;
use usher::worker::gate::{Gate, Live};

use super::variables;

pub struct Reloader {
    file: Option<PathBuf>,
    gate: Arc<Gate>,
    /// What was set when it was last read without a problem.
    tree: Mutex<Tree>,
}

impl Reloader {
    pub fn new(file: Option<PathBuf>, gate: Arc<Gate>, tree: Tree) -> Arc<Self> {
        Arc::new(Self {
            file,
            gate,
            tree: Mutex::new(tree),
        })
    }

    /// Follows what can be followed, and says what has changed; or changes nothing and says what is wrong.
    pub fn reload(&self) -> Result<String, String> {
        let (config, tree) = match config::load_with_tree(self.file.as_deref(), variables()) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "configuration: can't be used and changes nothing");
                return Err(format!("nothing was changed: {error}"));
            }
        };
        let mut before = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = before.changes(&tree);
        *before = tree;
        self.gate.configure(live(&config));
        telemetry::set_level(config.log.level);
        tracing::info!(
            config.changed = changes.live.join(", "),
            config.at_restart = changes.at_restart.join(", "),
            "configuration: read again"
        );
        Ok(described(&changes))
    }

    /// Reloads at each SIGHUP. Never ends.
    pub async fn on_signals(self: Arc<Self>, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            // What it says is in the log.
            let _ = self.reload();
        }
    }
}

fn live(config: &Config) -> Live {
    Live {
        rates: config.provider.rate.clone(),
        share: config.provider.share,
        concurrency: config.provider.concurrency.get(),
        bulk_share_min: config.worker.bulk_share_min,
    }
}

fn described(changes: &Changes) -> String {
    let mut said = match changes.live.as_slice() {
        [] => "no key has changed that a running worker follows".to_owned(),
        keys => format!("followed from now on: {}", keys.join(", ")),
    };
    if !changes.at_restart.is_empty() {
        said += &format!("; these count after a restart: {}", changes.at_restart.join(", "));
    }
    said
}
