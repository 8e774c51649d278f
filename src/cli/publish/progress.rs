//! How far `publish` is: a bar on a terminal, a line from time to time elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;
use usher::broker::Depth;

use crate::cli::input::Position;
use crate::cli::{bar, note, summary};

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);

pub struct Progress {
    bar: ProgressBar,
    /// The input's rows and bytes, where they are known.
    rows: Option<u64>,
    bytes: Option<u64>,
    position: Position,
    /// Rows that earlier runs published: they are skipped much faster.
    earlier: u64,
    begun: Option<Instant>,
    next: Instant,
}

impl Progress {
    pub fn new(rows: Option<u64>, bytes: Option<u64>, position: Position, earlier: u64) -> Self {
        let bar = bar::bar(bytes);
        let every = if bar.is_hidden() {
            LINE_EVERY
        } else {
            Duration::ZERO
        };
        Self {
            bar,
            rows,
            bytes,
            position,
            earlier,
            begun: None,
            next: Instant::now() + every,
        }
    }

    /// So many rows are read, and so many messages are ready in the queues.
    pub fn show(&mut self, rows: u64, depth: Depth, waits: bool) {
        let now = Instant::now();
        if rows > self.earlier {
            self.begun.get_or_insert(now);
        }
        if now < self.next {
            return;
        }
        let text = self.text(rows, depth, waits, now);
        if self.bar.is_hidden() {
            note(&format!("usher: {text}"));
            self.next = now + LINE_EVERY;
            return;
        }
        self.bar.set_position(self.position.bytes());
        self.bar.set_message(text);
        self.next = now + BAR_EVERY;
    }

    /// What matters most comes first: a terminal may be narrow.
    fn text(&self, rows: u64, depth: Depth, waits: bool, now: Instant) -> String {
        let mut text = match self.rows {
            Some(all) => format!("{rows} of {all} rows"),
            None => format!("{rows} rows"),
        };
        if waits {
            text.push_str(match depth.consumers {
                0 => ", waits for the queue (--max-queued), which no worker consumes",
                _ => ", waits for the queue (--max-queued)",
            });
        }
        let seconds = self.begun.map_or(0.0, |begun| (now - begun).as_secs_f64());
        let pace = rows.saturating_sub(self.earlier) as f64 / seconds.max(0.001);
        if seconds > 0.0 {
            let _infallible = write!(text, ", {pace:.0}/s");
        }
        if let Some(all) = self.rows.filter(|_| seconds > 0.0 && pace > 0.0) {
            let left = Duration::from_secs_f64((all.saturating_sub(rows) as f64 / pace).ceil());
            let _infallible = write!(text, ", {} left", summary::span(left));
        }
        let read = self.position.bytes() as f64 / 1e6;
        let _infallible = write!(text, ", {} queued", depth.ready);
        let _infallible = match self.bytes {
            Some(all) => write!(text, ", {read:.1} of {:.1} MB", all as f64 / 1e6),
            None => write!(text, ", {read:.1} MB"),
        };
        text
    }

    /// Says something without tearing the bar.
    pub fn suspend<T>(&self, say: impl FnOnce() -> T) -> T {
        self.bar.suspend(say)
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_that_of_this_run_and_the_most_important_comes_first() {
        let mut progress = Progress::new(Some(1000), Some(2_000_000), Position::default(), 100);
        let depth = Depth {
            ready: 7,
            consumers: 0,
        };
        progress.show(100, depth, false);
        progress.show(101, depth, false);
        tokio::time::advance(Duration::from_secs(10)).await;
        let now = Instant::now();
        assert_eq!(
            progress.text(200, depth, false, now),
            "200 of 1000 rows, 10/s, 1m 20s left, 7 queued, 0.0 of 2.0 MB"
        );
        let waits = progress.text(200, depth, true, now);
        let begins = "200 of 1000 rows, waits for the queue (--max-queued), which no worker consumes, 10/s";
        assert!(waits.starts_with(begins), "{waits}");
    }
}
