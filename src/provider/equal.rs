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
use std::collections::HashMap;

use icu_normalizer::ComposingNormalizerBorrowed;
use serde_json::value::RawValue;

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

/// Whether two JSON values as they were written are the same: members in any order, numbers in any form.
pub(super) fn same_json(asked: &RawValue, shown: &RawValue) -> bool {
    fn members(text: &str) -> Option<HashMap<String, &RawValue>> {
        serde_json::from_str(text).ok()
    }
    let (asked, shown) = (asked.get(), shown.get());
    let first = |text: &str| text.as_bytes().first().copied();
    match (first(asked), first(shown)) {
        _ if asked == shown => true,
        (Some(b'{'), Some(b'{')) => match (members(asked), members(shown)) {
            (Some(asked), Some(shown)) => {
                let same = |(name, asked): (&String, &&RawValue)| {
                    shown.get(name).is_some_and(|shown| same_json(asked, shown))
                };
                asked.len() == shown.len() && asked.iter().all(same)
            }
            _ => false,
        },
        (Some(b'['), Some(b'[')) => {
            let items = |text| serde_json::from_str::<Vec<&RawValue>>(text).ok();
            match (items(asked), items(shown)) {
                (Some(asked), Some(shown)) => {
                    let mut pairs = asked.iter().zip(&shown);
                    asked.len() == shown.len() && pairs.all(|(asked, shown)| same_json(asked, shown))
                }
                _ => false,
            }
        }
        (Some(b'"'), Some(b'"')) => {
            let text = |text| serde_json::from_str::<Cow<'_, str>>(text).ok();
            text(asked).is_some_and(|asked| text(shown) == Some(asked))
        }
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => same_number(asked, shown),
        _ => false,
    }
}

/// Whole numbers are the same to the last digit: they are ids, mostly. Of others many providers keep a float.
fn same_number(asked: &str, shown: &str) -> bool {
    let is_whole = |number: &str| !number.contains(['.', 'e', 'E']);
    if let (Some(asked), Some(shown)) = (Decimal::of(asked), Decimal::of(shown))
        && asked == shown
    {
        return true;
    }
    let float = |number: &str| number.parse::<f64>().ok().filter(|float| float.is_finite());
    !is_whole(asked) && !is_whole(shown) && float(asked).is_some() && float(asked) == float(shown)
}

/// A number's digits, without zeros at either end, and the power of ten that they are multiplied by.
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
    fn json_is_the_same_in_any_order_and_form_and_to_the_last_digit_of_a_whole_number() {
        for (asked, shown, expected) in [
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
            assert_eq!(same_json(&raw(asked), &raw(shown)), expected, "{asked} {shown}");
        }
    }

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
