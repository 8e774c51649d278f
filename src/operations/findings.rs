//! What `usher check` can find: a closed list. Each finding has a number that is never given to another one, and says
//! what it means, how it is found, and how to fix it. `usher explain U014` and `docs/findings.md` come from it.

mod list;

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

pub use list::Number;

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something to know. Nothing is wrong.
    Advice,
    /// It works now, but may not always.
    Warning,
    /// The configuration, or what it names, has to be corrected first.
    Wrong,
    /// The broker or the provider is out of reach.
    OutOfReach,
}

impl Severity {
    /// The level of the finding in the output.
    pub const fn level(self) -> &'static str {
        match self {
            Self::Advice => "advice",
            Self::Warning => "warning",
            Self::Wrong | Self::OutOfReach => "wrong",
        }
    }

    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Advice | Self::Warning => 0,
            Self::Wrong => 2,
            Self::OutOfReach => 4,
        }
    }
}

/// What is known of all findings with one number.
#[derive(Debug, Clone, Copy)]
pub struct About {
    pub title: &'static str,
    pub severity: Severity,
    pub meaning: &'static str,
    /// How it is found.
    pub found: &'static str,
    pub fix: &'static str,
}

impl Number {
    pub const FIRST: Self = Self::ALL[0];
    pub const LAST: Self = Self::ALL[Self::ALL.len() - 1];
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "U{:03}", *self as u16)
    }
}

/// Such as `U014`, in any case.
impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_meant = |number: &Self| number.to_string().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(is_meant).ok_or_else(|| {
            format!(
                "no finding has this number: they are {} to {}",
                Self::FIRST,
                Self::LAST
            )
        })
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The sections of `docs/findings.md`.
pub fn sections() -> String {
    let section = |number: Number| {
        let about = number.about();
        format!(
            "## {number}: {}\n\nLevel {}, exit code {}. {}\n\nHow it is found: {}\n\nFix: {}\n\n",
            about.title,
            about.severity.level(),
            about.severity.exit_code(),
            about.meaning,
            about.found,
            about.fix
        )
    };
    Number::ALL.into_iter().map(section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_gap_and_are_read_in_any_case() {
        for (index, number) in Number::ALL.into_iter().enumerate() {
            assert_eq!(number as usize, index + 1, "{number}: never reuse or skip one");
            assert_eq!(number.to_string().to_lowercase().parse(), Ok(number));
        }
        for unknown in ["U000", "U999", "14", "U14", "", "answer"] {
            let refused = unknown.parse::<Number>().unwrap_err();
            assert!(
                refused.ends_with(&format!("U001 to {}", Number::LAST)),
                "{refused}"
            );
        }
    }

    #[test]
    fn each_says_what_it_means_how_it_is_found_and_the_fix() {
        for number in Number::ALL {
            let about = number.about();
            assert!(!about.title.ends_with('.'), "{number}");
            for sentence in [about.meaning, about.found, about.fix] {
                assert!(
                    sentence.len() > 20 && sentence.ends_with('.'),
                    "{number}: {sentence}"
                );
            }
        }
    }
}
