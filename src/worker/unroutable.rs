//! Messages that no queue took: a gauge, and a repeated log line while there are any.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::metrics;

const LOG_EVERY: Duration = Duration::from_secs(60);

/// Ends with the listener that counts them.
pub(super) async fn watch(depth: watch::Receiver<Option<u64>>) {
    report(depth, |messages| {
        tracing::warn!(
            messages,
            "broker: messages that no queue takes lie in user.unroutable; run `usher check`"
        );
    })
    .await;
}

async fn report(mut depth: watch::Receiver<Option<u64>>, mut log: impl FnMut(u64)) {
    let mut next_line = Instant::now();
    loop {
        let messages = *depth.borrow_and_update();
        if let Some(messages) = messages {
            metrics::unroutable(messages);
        }
        let messages = messages.filter(|messages| *messages > 0);
        if let Some(messages) = messages.filter(|_| Instant::now() >= next_line) {
            next_line = Instant::now() + LOG_EVERY;
            log(messages);
        }
        tokio::select! {
            changed = depth.changed() => if changed.is_err() { return },
            () = sleep_until(next_line), if messages.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unroutable_messages_are_logged_once_a_minute_at_most_and_only_while_there_are_any() {
        let logged = Arc::new(Mutex::new(Vec::new()));
        let (sender, depth) = watch::channel(None);
        let log = logged.clone();
        let watching = tokio::spawn(report(depth, move |messages| log.lock().unwrap().push(messages)));
        let seconds = |count| sleep(Duration::from_secs(count));
        seconds(100).await;
        for messages in 1..=30 {
            sender.send_replace(Some(messages));
            seconds(1).await;
        }
        assert_eq!(*logged.lock().unwrap(), [1]);
        seconds(60).await;
        assert_eq!(*logged.lock().unwrap(), [1, 30]);
        sender.send_replace(Some(0));
        seconds(200).await;
        assert_eq!(*logged.lock().unwrap(), [1, 30]);
        sender.send_replace(Some(7));
        seconds(1).await;
        assert_eq!(*logged.lock().unwrap(), [1, 30, 7]);
        drop(sender);
        watching.await.unwrap();
    }
}
