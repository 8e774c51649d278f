//! Colours on a terminal: whether they are wanted, and the marks that have them. A mark is a word without them, too.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;

use clap::builder::styling::{AnsiColor, Style};
use clap::{ColorChoice, ValueEnum as _};
use usher::telemetry;

static CHOICE: OnceLock<ColorChoice> = OnceLock::new();

/// Called once, by the program, before anything is printed.
pub fn set(choice: ColorChoice) {
    let _set_before = CHOICE.set(choice);
}

/// What `--color` asks for, found before the arguments are parsed: errors of parsing have colours, too. A wrong value is
/// refused later.
pub fn asked(arguments: impl IntoIterator<Item = OsString>) -> ColorChoice {
    let mut arguments = arguments.into_iter().take_while(|argument| argument != "--");
    let mut choice = ColorChoice::Auto;
    while let Some(argument) = arguments.next() {
        let value = match argument.to_str() {
            Some("--color") => arguments.next().and_then(|value| value.into_string().ok()),
            Some(text) => text.strip_prefix("--color=").map(str::to_owned),
            None => None,
        };
        let value = value.and_then(|value| ColorChoice::from_str(&value, false).ok());
        choice = value.unwrap_or(choice);
    }
    choice
}

fn wanted(choice: ColorChoice, takes_colour: impl FnOnce() -> bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => takes_colour(),
    }
}

fn choice() -> ColorChoice {
    // Without the program, in a test of a module, there are none.
    CHOICE.get().copied().unwrap_or(ColorChoice::Never)
}

fn on_stdout() -> bool {
    wanted(choice(), || {
        io::stdout().is_terminal() && telemetry::takes_colours()
    })
}

pub fn on_stderr() -> bool {
    wanted(choice(), || {
        io::stderr().is_terminal() && telemetry::takes_colours()
    })
}

fn painted(text: &str, style: Style, with_colours: bool) -> String {
    match with_colours {
        true => format!("{style}{text}{style:#}"),
        false => text.to_owned(),
    }
}

/// For stdout, as all of these.
pub fn good(text: &str) -> String {
    painted(text, AnsiColor::Green.on_default(), on_stdout())
}

pub fn doubtful(text: &str) -> String {
    painted(text, AnsiColor::Yellow.on_default(), on_stdout())
}

pub fn bad(text: &str) -> String {
    painted(text, AnsiColor::Red.on_default().bold(), on_stdout())
}

pub fn heading(text: &str) -> String {
    painted(text, Style::new().bold(), on_stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_color_before_two_dashes_counts_and_a_wrong_one_does_not() {
        for (arguments, expected) in [
            ("usher check", ColorChoice::Auto),
            ("usher check --color never", ColorChoice::Never),
            ("usher --color=always check", ColorChoice::Always),
            ("usher --color=always check --color never", ColorChoice::Never),
            ("usher --color green check", ColorChoice::Auto),
            ("usher explain -- --color always", ColorChoice::Auto),
            ("usher --color", ColorChoice::Auto),
        ] {
            let found = asked(arguments.split(' ').map(OsString::from));
            assert_eq!(found, expected, "{arguments}");
        }
    }

    #[test]
    fn a_terminal_is_asked_about_colours_only_where_nobody_chose() {
        for takes in [true, false] {
            assert!(wanted(ColorChoice::Always, || takes));
            assert!(!wanted(ColorChoice::Never, || takes));
            assert_eq!(wanted(ColorChoice::Auto, || takes), takes);
        }
    }

    #[test]
    fn a_mark_is_the_same_word_with_and_without_its_colour() {
        let red = AnsiColor::Red.on_default();
        assert_eq!(painted("WRONG", red, false), "WRONG");
        assert_eq!(painted("WRONG", red, true), "\u{1b}[31mWRONG\u{1b}[0m");
    }
}
