//! Tasks that run beside the commands for as long as the worker does. If one ends or panics, the worker must stop: it
//! could stall without noticing.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::reconciler::ReconcilerTask;

#[derive(Default)]
pub(super) struct Background(JoinSet<&'static str>);

impl Background {
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            // The panic is already logged; the task has ended either way.
            let _ = AssertUnwindSafe(task).catch_unwind().await;
            name
        });
    }

    /// Waits until one of the tasks ends, the reconciler included. Returns its name.
    pub(super) async fn ended(&mut self, reconciler: Option<&mut ReconcilerTask>) -> &'static str {
        let reconciler_ended = async {
            match reconciler {
                Some(reconciler) => reconciler.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(Ok(name)) = self.0.join_next() => name,
            () = reconciler_ended => "reconciler",
        }
    }

    pub(super) async fn shutdown(&mut self) {
        self.0.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_and_a_panic_are_both_named() {
        let mut keepers = Background::default();
        keepers.spawn("lasting", std::future::pending());
        keepers.spawn("ending", async {});
        assert_eq!(keepers.ended(None).await, "ending");
        keepers.spawn("panicking", async { panic!("as the test says") });
        assert_eq!(keepers.ended(None).await, "panicking");
        assert!(keepers.ended(None).now_or_never().is_none(), "the other lasts");
    }
}
