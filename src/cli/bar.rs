//! The progress bars: whether there is one, and that each of its lines fits the terminal.

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use usher::telemetry;

use super::say;

/// A narrower terminal has the percentage alone.
const COLUMNS_FOR_BAR: usize = 60;

/// Hidden without a terminal, on one without escapes, with `--quiet`, and with `--verbose`, whose lines would tear it.
fn target() -> ProgressDrawTarget {
    match telemetry::is_dumb_terminal() || say::is_quiet() || say::is_verbose() {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    }
}

fn columns() -> usize {
    Term::stderr().size().1.into()
}

/// A bar that has not started. Without a total it is one line of text.
pub fn bar(total: Option<u64>) -> ProgressBar {
    bar_on(target(), total, columns())
}

fn bar_on(target: ProgressDrawTarget, total: Option<u64>, columns: usize) -> ProgressBar {
    let template = match total {
        Some(_) if columns >= COLUMNS_FOR_BAR => "{bar:30} {percent:>3} %  {wide_msg}",
        Some(_) => "{percent:>3} %  {wide_msg}",
        None => "{spinner} {wide_msg}",
    };
    with_template(target, total, template)
}

/// Text that is drawn again in place.
pub fn block() -> ProgressBar {
    with_template(target(), None, "{msg}")
}

fn with_template(target: ProgressDrawTarget, total: Option<u64>, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// The text with its lines cut off where the terminal ends: a line that wraps could not be drawn again in place.
pub fn fitted(text: &str) -> String {
    fitted_to(text, columns())
}

fn fitted_to(text: &str, columns: usize) -> String {
    let line = |line: &str| match line.chars().count() > columns {
        true => line
            .chars()
            .take(columns.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// Keeps what is written, and is so wide.
    #[derive(Debug, Clone)]
    struct Paper {
        columns: u16,
        written: Arc<Mutex<Vec<String>>>,
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            self.columns
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.written.lock().unwrap().push(text.to_owned());
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    const WIDTHS: [u16; 5] = [1, 20, 40, 60, 80];

    /// What is drawn at 50 % on a terminal of this width, without the blanks at the end.
    fn drawn(columns: u16, total: Option<u64>) -> Vec<String> {
        let paper = Paper {
            columns,
            written: Arc::default(),
        };
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let bar = bar_on(target, total, columns.into());
        bar.set_message(
            "200 of 1000 rows, waits for the queue (--max-queued), which no worker consumes, 10/s",
        );
        bar.set_position(50);
        bar.tick();
        let written = paper.written.lock().unwrap();
        let lines = written.iter().map(|line| line.trim_end().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn a_bar_fits_a_terminal_of_any_width() {
        for columns in WIDTHS.into_iter().filter(|columns| *columns >= 20) {
            for total in [Some(100), None] {
                let lines = drawn(columns, total);
                assert!(!lines.is_empty(), "{columns}");
                let wide = lines.iter().find(|line| line.chars().count() > columns.into());
                assert_eq!(wide, None, "{columns} columns, total {total:?}");
            }
            let last = drawn(columns, Some(100)).pop().unwrap();
            assert!(
                last.contains("50 %") && last.contains("200 of"),
                "{columns}: {last}"
            );
            assert_eq!(last.contains("==="), columns >= 60, "{columns}: {last}");
        }
    }

    #[test]
    fn each_line_of_a_block_is_cut_off_where_the_terminal_ends() {
        let text = format!("b1 of sivo\n  {}\n  ende, größer\n", "9".repeat(100));
        for columns in WIDTHS {
            let fitted = fitted_to(&text, columns.into());
            assert_eq!(fitted.lines().count(), 3);
            let wide = fitted.lines().find(|line| line.chars().count() > columns.into());
            assert_eq!(wide, None, "{columns} columns");
        }
        assert_eq!(fitted_to(&text, 200), text.trim_end());
        assert!(fitted_to(&text, 20).contains("99…"));
    }
}
