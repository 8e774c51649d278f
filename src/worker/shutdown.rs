//! Stopping is two acts: drain (take nothing new, finish what runs), and abort (stop doing).

use tokio_util::sync::CancellationToken;

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The input ended, and all of it is settled.
    InputEnded,
    /// It was asked to, and what was in flight is settled.
    Drained,
    /// The grace period ran out, or it was aborted: what was in flight comes again.
    Cut,
    /// What runs beside the commands has ended, which only a defect can do: what was in flight comes again.
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

/// `None` where it is cancelled first.
pub(super) async fn unless_cancelled<T>(
    leave: &CancellationToken,
    wait: impl Future<Output = T>,
) -> Option<T> {
    if leave.is_cancelled() {
        return None;
    }
    tokio::select! {
        biased;
        // First, since it is often done at once: whoever is to be told of a cancellation stands in a list.
        done = wait => Some(done),
        () = leave.cancelled() => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn what_is_left_is_neither_begun_nor_waited_for() {
        let leave = CancellationToken::new();
        assert_eq!(unless_cancelled(&leave, ready(1)).await, Some(1));
        let waiting = tokio::spawn({
            let leave = leave.clone();
            async move { unless_cancelled(&leave, pending::<u32>()).await }
        });
        tokio::task::yield_now().await;
        leave.cancel();
        assert_eq!(waiting.await.unwrap(), None);
        let never = async { panic!("it was begun") };
        assert_eq!(unless_cancelled(&leave, never).await, None::<u32>);
    }
}
