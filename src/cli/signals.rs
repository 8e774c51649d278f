//! SIGTERM and SIGINT: the first drains, the second aborts.

use tokio::signal::unix::{SignalKind, signal};
use usher::worker::Shutdown;

/// Ends with the first signal after the call.
pub fn first() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
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
