//! Stopping is two acts: drain (take nothing new, finish what runs), and abort (stop doing).

use tokio_util::sync::CancellationToken;

/// Asks a worker to stop. Clones ask the same worker.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Take no new command, finish those whose call is out, hand back the rest.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stop at once.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Cancelled with the drain, or by itself before.
    pub fn leave(&self) -> CancellationToken {
        self.drain.child_token()
    }

    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    pub async fn aborting(&self) {
        self.abort.cancelled().await;
    }
}
