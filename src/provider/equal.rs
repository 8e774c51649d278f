//! Whether a provider shows the value that was sent, possibly in its own form.
//!
//! A provider may store a value in another form than it was sent in: that value was applied. What counts as equal
//! depends on the kind of value:
//!
//! | value | equal are |
//! | --- | --- |
//! | any | composed and decomposed Unicode (NFC), with or without space at either end |
//! | e-mail address | also its domain in any case; all of it, if the kind of provider folds case |
//! | user name | also any case, if the kind of provider folds case |
//! | phone number | also with `tel:`, spaces, hyphens, dots and parentheses (RFC 3966) |
//! | language tag | also any case (RFC 5646), and with `_` for `-` |

use std::borrow::Cow;
use std::collections::HashMap;

use icu_normalizer::ComposingNormalizerBorrowed;
use serde_json::value::RawValue;

use crate::contract::Field;

/// The kind of a value.
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

/// Whether a kind of provider treats addresses and user names as equal in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Exact,
    Folded,
}

/// Whether `shown` equals `sent`, allowing for the forms in which a provider may write it.
pub(super) fn same(form: Form, case: Case, sent: &str, shown: &str) -> bool {
    if sent == shown {
        return true;
    }
    let (sent, shown) = (composed(sent), composed(shown));
    let folded = |text: &str| text.to_lowercase();
    match (form, case) {
        (Form::Text, _) | (Form::Username, Case::Exact) => sent == shown,
        (Form::Username | Form::Email, Case::Folded) => folded(&sent) == folded(&shown),
        (Form::Email, Case::Exact) => match (sent.rsplit_once('@'), shown.rsplit_once('@')) {
            (Some((local, domain)), Some((shown_local, shown_domain))) => {
                local == shown_local && folded(domain) == folded(shown_domain)
            }
            _ => sent == shown,
        },
        (Form::Phone, _) => digits(&sent) == digits(&shown),
        (Form::Language, _) => tag(&sent) == tag(&shown),
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

/// Whether two JSON texts have equal values: members in any order, numbers in any form.
pub(super) fn same_json(sent: &RawValue, shown: &RawValue) -> bool {
    fn members(text: &str) -> Option<HashMap<String, &RawValue>> {
        serde_json::from_str(text).ok()
    }
    let (sent, shown) = (sent.get(), shown.get());
    let first = |text: &str| text.as_bytes().first().copied();
    match (first(sent), first(shown)) {
        _ if sent == shown => true,
        (Some(b'{'), Some(b'{')) => match (members(sent), members(shown)) {
            (Some(sent), Some(shown)) => {
                let same = |(name, sent): (&String, &&RawValue)| {
                    shown.get(name).is_some_and(|shown| same_json(sent, shown))
                };
                sent.len() == shown.len() && sent.iter().all(same)
            }
            _ => false,
        },
        (Some(b'['), Some(b'[')) => {
            let items = |text| serde_json::from_str::<Vec<&RawValue>>(text).ok();
            match (items(sent), items(shown)) {
                (Some(sent), Some(shown)) => {
                    let mut pairs = sent.iter().zip(&shown);
                    sent.len() == shown.len() && pairs.all(|(sent, shown)| same_json(sent, shown))
                }
                _ => false,
            }
        }
        (Some(b'"'), Some(b'"')) => {
            let text = |text| serde_json::from_str::<Cow<'_, str>>(text).ok();
            text(sent).is_some_and(|sent| text(shown) == Some(sent))
        }
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => same_number(sent, shown),
        _ => false,
    }
}

/// Integers are compared to the last digit, because most of them are ids. Other numbers are compared as floats, because
/// many providers store them as such.
fn same_number(sent: &str, shown: &str) -> bool {
    let is_whole = |number: &str| !number.contains(['.', 'e', 'E']);
    if let (Some(sent), Some(shown)) = (Decimal::of(sent), Decimal::of(shown))
        && sent == shown
    {
        return true;
    }
    let float = |number: &str| number.parse::<f64>().ok().filter(|float| float.is_finite());
    !is_whole(sent) && !is_whole(shown) && float(sent).is_some() && float(sent) == float(shown)
}

/// A number's digits, without leading and trailing zeros, and the power of ten that they are multiplied by.
#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(number: &str) -> Option<Self> {
        let (negative, number) = match number.strip_prefix('-') {
            Some(number) => (true, number),
            None => (false, number),
        };
        let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let more = i64::try_from(all.len() - digits.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        let digits = digits.trim_start_matches('0').to_owned();
        Some(match digits.is_empty() {
            true => Self {
                negative: false,
                digits,
                exponent: 0,
            },
            false => Self {
                negative,
                digits,
                exponent: exponent.parse::<i64>().ok()?.checked_add(more)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_equal_in_any_order_and_form_and_integers_to_the_last_digit() {
        for (sent, shown, expected) in [
            (
                r#"{"a":1,"b":[true,null,"x"]}"#,
                r#"{ "b" : [true,null,"\u0078"],"a":1.0}"#,
                true,
            ),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, false),
            ("[1,2]", "[2,1]", false),
            ("[1,2]", "[1,2,3]", false),
            ("1.10", "1.1", true),
            ("100", "1e2", true),
            ("-0", "0.0", true),
            ("-1", "1", false),
            ("12345678901234567890123", "12345678901234567890124", false),
            ("12345678901234567890", "1.2345678901234567e19", false),
            ("0.1234567890123456789", "0.12345678901234568", true),
            ("1e400", "1e401", false),
            ("1e400", "10e399", true),
            ("1e99999999999999999999", "1", false),
            ("true", "false", false),
            ("null", "0", false),
            ("\"1\"", "1", false),
        ] {
            let raw = |text: &str| serde_json::from_str::<Box<RawValue>>(text).unwrap();
            assert_eq!(same_json(&raw(sent), &raw(shown)), expected, "{sent} {shown}");
        }
    }

    #[test]
    fn values_in_another_form_are_equal() {
        use Case::{Exact, Folded};
        for (form, sent, shown, exact, folded) in [
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
            assert_eq!(same(form, Exact, sent, shown), exact, "{form:?} {sent} {shown}");
            assert_eq!(same(form, Folded, sent, shown), folded, "{form:?} {sent} {shown}");
        }
    }
}
