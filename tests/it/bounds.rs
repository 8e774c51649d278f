//! Every number and duration of the configuration has bounds: the schema says them, and they are kept when it is
//! loaded. Whatever is within them, a worker can be made of.

mod made_of;

use std::collections::BTreeMap;
use std::time::Duration;

use jsonschema::Validator;
use serde_json::{Value, json};
use usher::config;

/// What bounds a key, and how its values are written.
#[derive(Debug, Clone)]
enum Bounds {
    Whole(i128, i128),
    Number(f64, f64),
    Span(Duration, Duration),
    Age(Duration, Duration),
}

#[derive(Debug, Clone)]
struct Key {
    name: String,
    bounds: Bounds,
}

/// What else is set beside a key, so that only its own bounds count.
const BESIDE: [(&str, &[(&str, &str)]); 11] = [
    (
        "retry.delay_min",
        &[("RETRY__DELAY_MAX", "24h"), ("RETRY__PROBE_GAP_MAX", "24h")],
    ),
    ("retry.delay_max", &[("RETRY__DELAY_MIN", "1ms")]),
    ("retry.probe_gap_max", &[("RETRY__DELAY_MIN", "1ms")]),
    (
        "broker.reconnect_delay_min",
        &[("BROKER__RECONNECT_DELAY_MAX", "10m")],
    ),
    (
        "broker.reconnect_delay_max",
        &[("BROKER__RECONNECT_DELAY_MIN", "10ms")],
    ),
    ("broker.heartbeat", &[("BROKER__CONSUMER_TIMEOUT", "720h")]),
    ("broker.consumer_timeout", &[("BROKER__HEARTBEAT", "1s")]),
    ("broker.ledger_window", &[("BROKER__OUTCOME_LOG_MAX_AGE", "10Y")]),
    ("broker.outcome_log_max_age", &[("BROKER__LEDGER_WINDOW", "0s")]),
    ("worker.suspect_after", &[("WORKER__POISON_AFTER", "1000")]),
    ("worker.poison_after", &[("WORKER__SUSPECT_AFTER", "1")]),
];

/// What breaks readers of numbers and durations, and arithmetic with them.
const WILD: [&str; 41] = [
    "0",
    "1",
    "-1",
    "-0.0",
    "5.0",
    "1.5",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "340282366920938463463374607431768211456",
    "99999999999999999999999999999999999999999999",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e400",
    "4.9e-324",
    "0s",
    "1ns",
    "-1s",
    "10",
    "18446744073709551615s",
    "18446744073709551616s",
    "99999999999999999999s",
    "213503982334601d",
    "1y",
    "P1Y",
    "PT10S",
    "10s 10s",
    "",
    " ",
    "1Y",
    "0D",
    "999999999Y",
    "9999999999Y",
    "1000h",
    "true",
    "[]",
    "{}",
    "Y",
    "é",
];

fn duration(text: &str) -> Option<Duration> {
    text.parse::<jiff::SignedDuration>().ok()?.try_into().ok()
}

fn age(text: &str) -> Option<Duration> {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let whole = !number.starts_with('0') && (1..=9).contains(&number.len());
    let number: u32 = whole.then(|| number.parse().ok())??;
    let unit = match unit {
        "Y" => days(365),
        "M" => days(30),
        "D" => days(1),
        "h" => Duration::from_secs(3600),
        "m" => Duration::from_secs(60),
        "s" => Duration::from_secs(1),
        _ => return None,
    };
    Some(unit * number)
}

/// Every number and duration in the published schema.
fn keys() -> Vec<Key> {
    fn look(root: &Value, at: &Value, name: &str, found: &mut BTreeMap<String, Bounds>) {
        let reference = at.get("$ref").and_then(Value::as_str);
        let of = reference.map_or(at, |reference| root.pointer(&reference[1..]).unwrap());
        for branch in ["oneOf", "anyOf"]
            .iter()
            .filter_map(|word| of[*word].as_array())
            .flatten()
        {
            look(root, branch, name, found);
        }
        for (member, at) in of["properties"].as_object().into_iter().flatten() {
            let name = if name.is_empty() {
                member.clone()
            } else {
                format!("{name}.{member}")
            };
            look(root, at, &name, found);
        }
        let said = |word: &str| at.get(word).or_else(|| of.get(word));
        let bound = |word| said(word).unwrap_or_else(|| panic!("{name} has no {word}"));
        let bounds = match of["type"].as_str() {
            Some("integer") => {
                let [min, max] =
                    ["minimum", "maximum"].map(|word| bound(word).as_number().unwrap().as_i128().unwrap());
                Bounds::Whole(min, max)
            }
            Some("number") => {
                let [min, max] = ["minimum", "maximum"].map(|word| bound(word).as_f64().unwrap());
                Bounds::Number(min, max)
            }
            Some("string") if said("x-duration").is_some() => {
                let [min, max] = ["minimum", "maximum"]
                    .map(|word| duration(bound("x-duration")[word].as_str().unwrap()).unwrap());
                Bounds::Span(min, max)
            }
            Some("string") if said("x-age").is_some() => {
                let [min, max] =
                    ["minimum", "maximum"].map(|word| age(bound("x-age")[word].as_str().unwrap()).unwrap());
                Bounds::Age(min, max)
            }
            _ => {
                let default = said("default").and_then(Value::as_str);
                assert!(
                    default.and_then(duration).is_none(),
                    "{name} is a duration without bounds"
                );
                return;
            }
        };
        found.insert(name.to_owned(), bounds);
    }
    let schema = config::schema().to_value();
    let mut found = BTreeMap::new();
    look(&schema, &schema, "", &mut found);
    found
        .into_iter()
        .map(|(name, bounds)| Key { name, bounds })
        .collect()
}

impl Key {
    fn variable(&self) -> String {
        format!("USHER_{}", self.name.replace('.', "__").to_uppercase())
    }

    fn holds(&self, text: &str) -> bool {
        match self.bounds {
            Bounds::Whole(min, max) => {
                // As JSON Schema has it, 5.0 is a whole number.
                let whole = text.parse::<f64>().ok().filter(|number| number.fract() == 0.0);
                let number = text.parse().ok().or(whole.map(|number| number as i128));
                number.is_some_and(|number: i128| (min..=max).contains(&number))
            }
            Bounds::Number(min, max) => text
                .parse()
                .is_ok_and(|number: f64| (min..=max).contains(&number)),
            Bounds::Span(min, max) => duration(text).is_some_and(|span| (min..=max).contains(&span)),
            Bounds::Age(min, max) => age(text).is_some_and(|span| (min..=max).contains(&span)),
        }
    }

    /// Values around its bounds, and those that break arithmetic.
    fn edges(&self) -> Vec<String> {
        let near: Vec<String> = match self.bounds {
            Bounds::Whole(min, max) => [min - 1, min, min + 1, max - 1, max, max + 1]
                .map(|number| number.to_string())
                .to_vec(),
            Bounds::Number(min, max) => [
                min.next_down(),
                min,
                min.next_up(),
                max.next_down(),
                max,
                max.next_up(),
            ]
            .map(|number| number.to_string())
            .to_vec(),
            Bounds::Span(min, max) => {
                let nano = Duration::from_nanos(1);
                [
                    min.checked_sub(nano),
                    Some(min),
                    Some(min + nano),
                    Some(max - nano),
                    Some(max),
                    Some(max + nano),
                ]
                .into_iter()
                .flatten()
                .map(|span| format!("{}s {}ns", span.as_secs(), span.subsec_nanos()))
                .collect()
            }
            Bounds::Age(min, max) => [min.as_secs() - 1, min.as_secs(), max.as_secs(), max.as_secs() + 1]
                .map(|seconds| format!("{seconds}s"))
                .to_vec(),
        };
        near.into_iter().chain(WILD.map(String::from)).collect()
    }
}

/// A configuration that is complete, in the environment.
fn complete() -> Vec<(String, String)> {
    [
        ("PROVIDER__NAME", "karmo"),
        ("PROVIDER__KIND", "karmo"),
        ("PROVIDER__BASE_URL", "http://127.0.0.1:9"),
        ("PROVIDER__AUTH__TOKEN", "t"),
    ]
    .map(|(name, value)| (format!("USHER_{name}"), value.to_owned()))
    .to_vec()
}

fn validator() -> Validator {
    jsonschema::validator_for(&config::schema().to_value()).unwrap()
}

/// By the schema alone, with what a configuration must have beside it.
fn is_valid(schema: &Validator, key: &str, value: Value) -> bool {
    let mut whole = json!({ "provider": {
        "name": "karmo", "kind": "karmo", "base_url": "http://127.0.0.1:9", "auth": { "token": "t" },
    } });
    if key == "provider.rate.burst" {
        whole["provider"]["rate"]["per_second"] = 1.into();
    }
    let mut at = &mut whole;
    for name in key.split('.') {
        at = &mut at[name];
    }
    *at = value;
    schema.is_valid(&whole)
}

fn beside(key: &Key) -> Vec<(String, String)> {
    let mut variables = complete();
    let others = BESIDE.iter().filter(|(of, _)| *of == key.name);
    variables.extend(
        others
            .flat_map(|(_, beside)| *beside)
            .map(|(name, value)| (format!("USHER_{name}"), (*value).to_owned())),
    );
    if key.name == "provider.rate.burst" {
        variables.push(("USHER_PROVIDER__RATE__PER_SECOND".to_owned(), "1".to_owned()));
    }
    variables
}

#[test]
fn each_number_and_duration_is_taken_within_its_bounds_alone() {
    let (keys, schema) = (keys(), validator());
    assert!(keys.len() >= 30, "only {} keys: {keys:?}", keys.len());
    for key in &keys {
        for text in key.edges() {
            let (name, variable) = (&key.name, key.variable());
            let mut variables = beside(key);
            variables.push((variable.clone(), text.clone()));
            let loaded = config::load(None, variables);
            assert_eq!(loaded.is_ok(), key.holds(&text), "{name} = {text:?}: {loaded:?}");
            if let Err(error) = loaded {
                assert!(
                    error.to_string().contains(&variable),
                    "{name} = {text:?}: {error}"
                );
                assert_eq!(error.problems.len(), 1, "{name} = {text:?}: {error}");
            }
            let number = serde_json::from_str(&text).ok().filter(Value::is_number);
            if let (Bounds::Whole(..) | Bounds::Number(..), Some(number)) = (&key.bounds, number) {
                assert_eq!(
                    is_valid(&schema, name, number),
                    key.holds(&text),
                    "{name} = {text}: the schema"
                );
            }
        }
    }
}

#[test]
fn a_file_has_bare_numbers_and_quoted_durations() {
    let path = std::env::temp_dir().join(format!("usher-bounds-{}.toml", uuid::Uuid::new_v4()));
    for key in keys() {
        let (table, name) = key.name.rsplit_once('.').unwrap();
        let quoted = matches!(key.bounds, Bounds::Span(..) | Bounds::Age(..));
        for text in key.edges() {
            for (literal, holds) in [
                (format!("\"{text}\""), quoted && key.holds(&text)),
                (text.clone(), !quoted && key.holds(&text)),
            ] {
                std::fs::write(&path, format!("[{table}]\n{name} = {literal}\n")).unwrap();
                let loaded = config::load(Some(&path), beside(&key));
                match loaded {
                    Ok(_) => assert!(holds, "{} = {literal}", key.name),
                    Err(error) if error.to_string().contains("is not TOML") => {}
                    Err(error) => {
                        assert!(!holds, "{} = {literal}: {error}", key.name);
                        let expected = format!(":2: {}: ", key.name);
                        assert!(
                            error.to_string().contains(&expected),
                            "{} = {literal}: {error}",
                            key.name
                        );
                    }
                }
            }
        }
    }
    std::fs::remove_file(&path).unwrap();
}
