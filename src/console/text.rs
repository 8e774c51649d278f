//! A text that others wrote, in a page: it is text, and it can't turn around what stands beside it.

use std::fmt;

use askama::filters::{Escaper, Html};

/// What stands for a character that no page shows, or that changes the order of others.
const MARK: char = '\u{fffd}';

/// How texts come into the pages. `askama.toml` names it.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsText;

impl Escaper for AsText {
    fn write_escaped_str<W: fmt::Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        for part in text.split_inclusive(is_marked) {
            let shown = part.trim_end_matches(is_marked);
            Html.write_escaped_str(&mut dest, shown)?;
            if shown.len() < part.len() {
                dest.write_char(MARK)?;
            }
        }
        Ok(())
    }
}

/// Control characters, and those that embed, override or isolate a direction.
fn is_marked(c: char) -> bool {
    let is_line = matches!(c, '\n' | '\r' | '\t');
    (c.is_control() && !is_line) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_or_turns_others_around_is_a_mark() {
        for (text, expected) in [
            ("a\u{202e}gpj.exe\u{2066}", "a\u{fffd}gpj.exe\u{fffd}"),
            ("nul\0\u{7}\u{1b}[31m", "nul\u{fffd}\u{fffd}\u{fffd}[31m"),
            ("two\nlines\tשלום", "two\nlines\tשלום"),
            ("<b>\u{85}&", "&#60;b&#62;\u{fffd}&#38;"),
            ("", ""),
        ] {
            let mut shown = String::new();
            AsText.write_escaped_str(&mut shown, text).unwrap();
            assert_eq!(shown, expected);
        }
    }
}
