//! What vendors have put beside a context, as the header `tracestate` of the W3C carries it.

use std::sync::Arc;

/// What the W3C asks everybody to hand on. A longer text is dropped.
const BYTES_MAX: usize = 512;

const ENTRIES_MAX: usize = 32;

/// For a key, and for a value.
const PART_BYTES_MAX: usize = 256;

/// Vendors' entries, handed on as they came: usher adds none and reads none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State(Arc<str>);

impl State {
    /// `None` for a text that breaks the form: a part of it would say something else than the whole.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(BLANKS);
        if text.len() > BYTES_MAX {
            return None;
        }
        let mut keys = Vec::new();
        for entry in text.split(',').map(|entry| entry.trim_matches(BLANKS)) {
            if entry.is_empty() {
                continue;
            }
            let (key, value) = entry.split_once('=')?;
            if !is_key(key) || !is_value(value) || keys.contains(&key) {
                return None;
            }
            keys.push(key);
        }
        (1..=ENTRIES_MAX).contains(&keys.len()).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

fn is_key(text: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let goes_on = |byte: u8| begins(byte) || b"_-*/@".contains(&byte);
    text.len() <= PART_BYTES_MAX && text.bytes().next().is_some_and(begins) && text.bytes().all(goes_on)
}

fn is_value(text: &str) -> bool {
    let is_of_values = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'=';
    (1..=PART_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_of_values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_w3c_s_form_are_handed_on_as_they_came() {
        for text in [
            "vendor=opaque-1",
            "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE",
            "tenant@system=1,,\t0a_-*/=x y",
        ] {
            assert_eq!(State::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(State::parse(" a=1 ").unwrap().as_str(), "a=1");
        let full = format!("a={},b={}", "x".repeat(256), "y".repeat(251));
        assert_eq!((full.len(), State::parse(&full).is_some()), (512, true));
    }

    #[test]
    fn a_text_of_another_form_is_dropped_as_a_whole() {
        let long = format!("a={},b={}", "x".repeat(256), "y".repeat(252));
        let many: Vec<_> = (0..33).map(|n| format!("k{n}=v")).collect();
        for broken in [
            "",
            " , ",
            "vendor",
            "a=1,vendor",
            "=1",
            "a=",
            "a=1,a=2",
            "A=1",
            "-a=1",
            "a b=1",
            "a=1=2",
            "a=\u{e9}",
            "a=1\r\nx: y",
            &format!("a={}", "x".repeat(257)),
            &long,
            &many.join(","),
        ] {
            assert_eq!(State::parse(broken), None, "{broken}");
        }
    }
}
