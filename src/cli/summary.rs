//! The display of `usher apply`: its progress while it runs, and a summary whose numbers add up.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;
use usher::worker::Progress;
use usher::worker::gate::Pause;

use super::feeder::Fed;
use super::say::Stderr;

/// How often a line is printed if there is no terminal for a bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A progress bar on a terminal, periodic lines elsewhere.
pub struct Display {
    bar: ProgressBar,
    next_line: Instant,
    started: Instant,
    total: Option<u64>,
    before: u64,
}

/// Writes log lines to stderr without tearing the bar.
pub struct BesideBar(pub ProgressBar);

impl io::Write for BesideBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| Stderr.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Display {
    /// `before` commands were settled by earlier runs.
    pub fn new(bar: ProgressBar, before: u64) -> Self {
        Self {
            total: bar.length(),
            bar,
            next_line: Instant::now() + LINE_EVERY,
            started: Instant::now(),
            before,
        }
    }

    pub fn show(&mut self, progress: &Progress, pause: Option<Pause>) {
        let text = self.text(progress, pause);
        if self.bar.is_hidden() {
            if Instant::now() >= self.next_line {
                super::note(&format!("usher: {text}"));
                self.next_line = Instant::now() + LINE_EVERY;
            }
            return;
        }
        self.bar.set_position(self.before + progress.settled());
        self.bar.set_message(text);
    }

    fn text(&self, progress: &Progress, pause: Option<Pause>) -> String {
        let settled = progress.settled();
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let pace = settled as f64 / seconds;
        let done = self.before + settled;
        let mut text = format!("{done} done ({} of them failed)", progress.failures());
        if let Some(total) = self.total {
            let waiting = total.saturating_sub(done);
            let _infallible = write!(text, ", {waiting} waiting");
            if pace > 0.0 {
                let remaining = Duration::from_secs_f64((waiting as f64 / pace).ceil());
                let _infallible = write!(text, ", {pace:.0}/s, {} left", span(remaining));
            }
        }
        if let Some(pause) = pause {
            let _infallible = write!(text, "; paused ({})", pause.cause);
            if let Some(until) = pause.until {
                let wait = until.saturating_duration_since(Instant::now());
                let _infallible = write!(text, ", next call in {}", span(wait));
            }
        }
        text
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds and larger, rounded up: `1h 2m 3s`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds}s"),
        _ => format!("{hours}h {minutes}m {seconds}s"),
    }
}

/// The account of a run.
pub struct Summary<'a> {
    pub progress: &'a Progress,
    pub fed: Fed,
    pub elapsed: Duration,
    pub interrupted: bool,
}

impl Summary<'_> {
    fn unfinished(&self) -> u64 {
        self.fed
            .read
            .saturating_sub(self.fed.earlier + self.progress.settled())
    }

    /// The commands read by this run, and those settled by earlier ones.
    pub fn failures(&self) -> u64 {
        self.progress.failures() + self.fed.earlier_failed
    }

    pub fn text(&self) -> String {
        let progress = self.progress;
        let seconds = self.elapsed.as_secs_f64();
        let pace = progress.settled() as f64 / seconds.max(0.001);
        let mut text = format!(
            "usher: {} commands in {seconds:.1} s ({pace:.0}/s)\n",
            self.fed.read
        );
        let mut row = |count: u64, what: &str| {
            let _infallible = writeln!(text, "{count:>10}  {what}");
        };
        row(
            progress.successes(),
            &format!(
                "succeeded ({} changed, {} were as asked)",
                progress.changed, progress.unchanged
            ),
        );
        let reasons: Vec<_> = progress
            .failed
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let reasons = if reasons.is_empty() {
            String::new()
        } else {
            format!(" ({})", reasons.join(", "))
        };
        row(progress.failures(), &format!("dead letters{reasons}"));
        if progress.repeated > 0 {
            row(
                progress.repeated,
                "have an id that was in the file before, and were not applied again",
            );
        }
        if self.fed.earlier > 0 {
            let failed = match self.fed.earlier_failed {
                0 => String::new(),
                failed => format!(" ({failed} of them dead letters)"),
            };
            row(self.fed.earlier, &format!("were settled by earlier runs{failed}"));
        }
        if self.unfinished() > 0 {
            row(
                self.unfinished(),
                "not finished: run it again with the same files to continue",
            );
        }
        if self.interrupted {
            text.push_str("usher: interrupted before the end of the input\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use usher::contract::Reason;

    #[tokio::test(start_paused = true)]
    async fn the_summary_adds_up() {
        let mut progress = Progress::new(1, 512);
        progress.changed = 5;
        progress.unchanged = 1;
        progress.repeated = 2;
        progress.failed.insert(Reason::Conflict, 3);
        let summary = Summary {
            progress: &progress,
            fed: Fed {
                read: 20,
                earlier: 4,
                earlier_failed: 1,
            },
            elapsed: Duration::from_secs(2),
            interrupted: true,
        };
        assert_eq!(summary.unfinished(), 5);
        let counts = summary
            .text()
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .sum::<u64>();
        assert_eq!(counts, 20);
    }

    #[test]
    fn spans_are_short() {
        let spans = [0, 59, 61, 3723].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0s", "59s", "1m 1s", "1h 2m 3s"]);
    }
}
