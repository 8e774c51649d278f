//! Stopping has two steps: drain (take no new command, finish running ones), and abort (stop at once).

use tokio_util::sync::CancellationToken;

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The input ended, and all of it is settled.
    InputEnded,
    /// It was asked to stop, and all commands in flight are settled or handed back.
    Drained,
    /// The grace period ran out, or it was aborted: commands in flight are redelivered.
    Cut,
    /// A background task has ended, which only a defect can cause: commands in flight are redelivered.
    Broken,
}

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

    /// Take no new command, finish those with a call in flight, hand back the rest.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stop at once.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// A token that is cancelled by the drain, or separately before.
    pub fn cancel_token(&self) -> CancellationToken {
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

/// `None` where it is cancelled first.
pub(super) async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    wait: impl Future<Output = T>,
) -> Option<T> {
    if cancel.is_cancelled() {
        return None;
    }
    tokio::select! {
        biased;
        // First: it is often ready at once, and then nothing has to be registered with the token.
        done = wait => Some(done),
        () = cancel.cancelled() => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn cancelled_work_is_neither_begun_nor_waited_for() {
        let cancel = CancellationToken::new();
        assert_eq!(unless_cancelled(&cancel, ready(1)).await, Some(1));
        let waiting = tokio::spawn({
            let cancel = cancel.clone();
            async move { unless_cancelled(&cancel, pending::<u32>()).await }
        });
        tokio::task::yield_now().await;
        cancel.cancel();
        assert_eq!(waiting.await.unwrap(), None);
        let never = async { panic!("it was begun") };
        assert_eq!(unless_cancelled(&cancel, never).await, None::<u32>);
    }
}
