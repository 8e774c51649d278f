//! Reads a stream up to the present, within bounds.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::broker::{InspectError, Message, StreamReader, Streamed};

/// A reader may not be told of a stream's last messages until there are others (RabbitMQ 3.10).
const SILENT_FOR: Duration = Duration::from_secs(10);

/// Returns whether the present was reached: not if the stream fell silent before, or the time ran out.
pub(super) async fn read_to_present<T>(
    reader: &mut dyn StreamReader,
    within: Duration,
    mut take: impl FnMut(&Message) -> T,
) -> Result<bool, InspectError> {
    let take = |message: &Message| {
        take(message);
        ControlFlow::Continue(())
    };
    read_while(reader, within, take).await
}

/// The same, but reads no further once `take` breaks: that is as good as the present.
pub(super) async fn read_while(
    reader: &mut dyn StreamReader,
    within: Duration,
    mut take: impl FnMut(&Message) -> ControlFlow<()>,
) -> Result<bool, InspectError> {
    let until = Instant::now() + within;
    loop {
        let silence = Instant::now() + SILENT_FOR;
        match timeout_at(until.min(silence), reader.next()).await {
            Err(_) => return Ok(false),
            Ok(next) => match next? {
                Streamed::Message(message) => {
                    if take(&message).is_break() {
                        return Ok(true);
                    }
                }
                Streamed::Present => return Ok(true),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::broker::Properties;

    /// Gives so many messages, and then nothing any more.
    struct Silent(usize);

    #[async_trait]
    impl StreamReader for Silent {
        async fn next(&mut self) -> Result<Streamed, InspectError> {
            if self.0 == 0 {
                std::future::pending::<()>().await;
            }
            self.0 -= 1;
            Ok(Streamed::Message(Message {
                exchange: String::new(),
                routing_key: String::new(),
                properties: Properties::default(),
                body: "x".into(),
                mandatory: false,
            }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_falls_silent_or_never_ends_is_not_read_to_the_present() {
        for (messages, within, longest) in [(3, 3600, SILENT_FOR), (0, 1, Duration::from_secs(1))] {
            let (mut taken, began) = (0, Instant::now());
            let within = Duration::from_secs(within);
            let read = read_to_present(&mut Silent(messages), within, |_| taken += 1).await;
            assert_eq!((read, taken), (Ok(false), messages));
            assert_eq!(began.elapsed(), longest);
        }
    }
}
