//! SIGTERM and SIGINT: the first ends in order, the second at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use usher::worker::Shutdown;

use super::exit::Exit;

/// For verbs that only look, or give one order. Ends with the first signal after the call; the second one ends the
/// process, whatever it does, such as writing to a reader that takes nothing.
pub fn first() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, received) = oneshot::channel();
    tokio::spawn(async move {
        let mut sender = Some(sender);
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            match sender.take() {
                Some(sender) => drop(sender.send(())),
                None => std::process::exit(Exit::Interrupted as i32),
            }
        }
    });
    Ok(async move {
        // The sender is kept as long as the process.
        let _received = received.await;
    })
}

/// From now on turns signals into a shutdown.
pub fn stop_on_signals(shutdown: Shutdown) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if shutdown.is_draining() {
                tracing::warn!("signal: stopping at once");
                shutdown.abort();
            } else {
                tracing::info!(
                    "signal: stopping; commands in flight are finished. A second signal stops at once"
                );
                shutdown.drain();
            }
        }
    });
    Ok(())
}
