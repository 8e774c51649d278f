//! Whether a provider shows what was asked, in its own form of it.
//!
//! A provider may store a value in another form than it was sent in: that value was applied. What counts as the same
//! follows from what the value is:
//!
//! | value | the same are |
//! | --- | --- |
//! | any | composed and decomposed Unicode (NFC), with or without space at either end |
//! | e-mail address | also its domain in any case; all of it, where the kind of provider folds |
//! | user name | also any case, where the kind of provider folds |
//! | phone number | also with `tel:`, spaces, hyphens, dots and parentheses (RFC 3966) |
//! | language tag | also any case (RFC 5646), and with `_` for `-` |

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::contract::Field;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Email,
    Username,
    Phone,
    Language,
}

impl Form {
    pub(super) fn of(field: Field) -> Self {
        match field {
            Field::Username => Self::Username,
            Field::Email => Self::Email,
            Field::Phone => Self::Phone,
            Field::Locale => Self::Language,
            Field::GivenName | Field::FamilyName | Field::DisplayName | Field::Nickname => Self::Text,
        }
    }
}

/// Whether a kind of provider takes addresses and user names for the same in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Exact,
    Folded,
}

/// Whether `shown` is `asked`, as far as a provider may write it in another form.
pub(super) fn same(form: Form, case: Case, asked: &str, shown: &str) -> bool {
    if asked == shown {
        return true;
    }
    let (asked, shown) = (composed(asked), composed(shown));
    let folded = |text: &str| text.to_lowercase();
    match (form, case) {
        (Form::Text, _) | (Form::Username, Case::Exact) => asked == shown,
        (Form::Username | Form::Email, Case::Folded) => folded(&asked) == folded(&shown),
        (Form::Email, Case::Exact) => match (asked.rsplit_once('@'), shown.rsplit_once('@')) {
            (Some((local, domain)), Some((shown_local, shown_domain))) => {
                local == shown_local && folded(domain) == folded(shown_domain)
            }
            _ => asked == shown,
        },
        (Form::Phone, _) => digits(&asked) == digits(&shown),
        (Form::Language, _) => tag(&asked) == tag(&shown),
    }
}

fn composed(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text.trim())
}

fn digits(number: &str) -> String {
    let number = number.strip_prefix("tel:").unwrap_or(number);
    number
        .chars()
        .filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' '))
        .collect()
}

fn tag(language: &str) -> String {
    language.replace('_', "-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_another_form_is_the_same() {
        use Case::{Exact, Folded};
        for (form, asked, shown, exact, folded) in [
            (Form::Text, "Zoë", "Zoe\u{308}", true, true),
            (Form::Text, " Alex ", "Alex", true, true),
            (Form::Text, "Alex", "alex", false, false),
            (Form::Text, "Alex", "Alexa", false, false),
            (Form::Username, "Alex.Taylor", "alex.taylor", false, true),
            (Form::Email, "Alex@Example.COM", "Alex@example.com", true, true),
            (Form::Email, "Alex@Example.com", "alex@example.com", false, true),
            (Form::Email, "alex@example.com", "alex@example.org", false, false),
            (Form::Email, "alex", "Alex", false, true),
            (Form::Phone, "+61412345678", "tel:+61-412-345678", true, true),
            (Form::Phone, "+61412345678", "+61 (412) 345.678", true, true),
            (Form::Phone, "+61412345678", "0412345678", false, false),
            (Form::Language, "en-au", "en-AU", true, true),
            (Form::Language, "en-AU", "en_au", true, true),
            (Form::Language, "en", "en-AU", false, false),
        ] {
            assert_eq!(same(form, Exact, asked, shown), exact, "{form:?} {asked} {shown}");
            assert_eq!(
                same(form, Folded, asked, shown),
                folded,
                "{form:?} {asked} {shown}"
            );
        }
    }
}
