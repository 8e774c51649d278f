//! Every key can be set in the file and in the environment, and what is loaded is what was set.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::load::Sources;
use super::super::shape::Shape;
use super::super::variables::name_of;
use super::*;

/// What `rest` is with the value at a dotted key.
fn with(rest: &Value, key: &str, value: &Value) -> Value {
    let mut whole = rest.clone();
    let mut at = &mut whole;
    for name in key.split('.') {
        at = &mut at[name];
    }
    *at = value.clone();
    whole
}

/// A value in a file.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{name} = {}", toml(value));
            format!(
                "{{ {} }}",
                members.iter().map(member).collect::<Vec<_>>().join(", ")
            )
        }
        scalar => scalar.to_string(),
    }
}

/// A value in a variable.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A configuration that is complete whatever key is set beside it.
fn rest(key: &str) -> Value {
    let auth = match key {
        _ if key.starts_with("provider.auth.oauth2") => json!({ "oauth2": {
            "token_url": "https://a.example/token", "client_id": "usher", "client_secret_file": "/s",
        } }),
        "provider.auth.token" => json!({}),
        "provider.auth.token_command" => json!({ "token_command": ["/bin/other"] }),
        _ => json!({ "token_file": "/run/secrets/zitadel" }),
    };
    let mut rest = json!({ "provider": {
        "name": "zitadel-eu", "kind": "zitadel", "base_url": "https://a.example", "auth": auth,
    } });
    if key == "provider.auth.oauth2.client_secret" {
        let oauth2 = rest["provider"]["auth"]["oauth2"].as_object_mut().unwrap();
        oauth2.remove("client_secret_file");
    }
    rest
}

/// Keys of a quota that can't be set without one of its windows.
const BESIDE_A_WINDOW: [&str; 3] = [
    "provider.rate.burst",
    "provider.rate.between",
    "provider.rate.time_zone",
];

/// Values of keys whose type does not tell them.
fn known(key: &str) -> Vec<Value> {
    match key {
        "provider.name" => vec![json!("karmo-au")],
        "broker.url" => vec![json!("amqp://a:b@h/v"), json!(["amqp://a:b@h/v", "amqps://i"])],
        "broker.outcome_log_max_age" => vec![json!("3D")],
        "admin.listen" | "console.listen" => vec![json!("127.0.0.1:7")],
        "provider.rate" => vec![
            json!({ "per_minute": 7, "burst": 2 }),
            json!([{ "per_second": 5 }, { "per_day": 1000 }]),
            json!([{ "per_second": 5, "between": "22:00-06:00", "time_zone": "Europe/Berlin" }]),
        ],
        "provider.answers" => vec![
            json!([{ "status": 404, "class": "outage" }]),
            json!([{ "status": ["4xx", "500-504"], "header": "x-busy: 1", "class": "throttled", "retry_after": "9s" },
                   { "pointer": "/code", "equals": 7, "class": "conflict" }]),
        ],
        "provider.auth" => vec![json!({ "token_file": "/other" })],
        "provider.auth.oauth2" => vec![json!({
            "token_url": "https://b.example/token", "client_id": "other", "client_secret_file": "/s",
        })],
        "provider.auth.token_command" => vec![json!(["/bin/token"]), json!(["mint", "--for", "a, b"])],
        "provider" => vec![with(&rest(key)["provider"], "name", &json!("karmo-au"))],
        // A quota is one of the four.
        key if BESIDE_A_WINDOW.contains(&key) => vec![],
        // Beside their opposites' defaults.
        "broker.consumer_timeout" => vec![json!("14h")],
        "worker.suspect_after" => vec![json!(2)],
        "worker.poison_after" => vec![json!(9)],
        _ => vec![],
    }
}

/// Values other than the default, of every type that the key takes.
fn values(key: &str, shape: Shape) -> Vec<Value> {
    let known = known(key);
    if !known.is_empty() || BESIDE_A_WINDOW.contains(&key) {
        return known;
    }
    let other = |value: &Value| shape.default() != Some(value);
    let words = shape.words();
    let mut found = Vec::new();
    if !words.is_empty() {
        found.extend(words.into_iter().map(Value::from).filter(other));
    } else if shape.span().is_some() {
        found.push(json!("14s"));
    } else if shape.typed("integer").is_some() {
        let (min, _) = shape.numbers();
        found.push(json!(min.and_then(Value::as_u64).unwrap_or(0) + 2));
    } else if shape.typed("number").is_some() {
        found.push(json!(0.25));
    } else if shape.typed("boolean").is_some() {
        found.extend([json!(true), json!(false)].into_iter().filter(other));
    } else if let Some(item) = shape.items() {
        let mut words = item.words();
        if words.is_empty() && item.typed("string").is_some() {
            words = vec!["any", "word"];
        }
        assert!(words.len() > 1, "{key}: a list of what?");
        found.extend([json!([]), json!([words[0]]), json!([words[1], words[0]])]);
    } else if shape.typed("string").is_some() {
        found.push(json!("/x y,[z"));
    } else if let Some(member) = shape.any_member() {
        let members = values(&format!("{key}.any"), member).into_iter();
        found.extend(members.map(|value| json!({ "any": value })));
    } else {
        // A table: one of its members.
        let (name, member) = shape
            .properties()
            .next()
            .unwrap_or_else(|| panic!("{key} is nothing"));
        let member_key = format!("{key}.{name}");
        let mut member = values(&member_key, member);
        // The default of most lists.
        member.retain(|value| *value != json!([]));
        found.extend(member.into_iter().map(|value| json!({ name: value })));
    }
    found
}

/// What becomes of a file and variables: all that was written, as it is deserialized, and the configuration.
fn loaded(written: &Value, variables: &[(String, String)]) -> Result<(Value, Config), String> {
    let tables = written.as_object().unwrap().iter();
    let file: String = tables
        .map(|(name, table)| format!("{name} = {}\n", toml(table)))
        .collect();
    let path = std::env::temp_dir().join(format!("usher-key-{}.toml", uuid::Uuid::new_v4()));
    std::fs::write(&path, &file).unwrap();
    let sources = Sources { file: Some(&path) };
    let read = sources.read(&[], variables.to_vec());
    let config = load(Some(&path), variables.to_vec());
    std::fs::remove_file(&path).unwrap();
    let text = |error: ConfigError| format!("{error}\n{file}\n{variables:?}");
    Ok((read.map_err(text)?, config.map_err(text)?))
}

#[test]
fn each_key_can_be_set_in_the_file_and_in_the_environment() {
    let schema = schema().to_value();
    let shape = Shape::of(&schema);
    let mut set = BTreeSet::new();
    for (key, shape) in shape.keys() {
        let rest = rest(&key);
        let rest = match key.starts_with("provider.rate.") {
            true => with(&rest, "provider.rate", &json!({})),
            false => rest,
        };
        for value in values(&key, shape) {
            let expected = with(&rest, &key, &value);
            let variable = (name_of(&key), text(&value));
            let pointer = format!("/{}", key.replace('.', "/"));
            let (read, by_variable) = loaded(&rest, &[variable]).unwrap();
            assert_eq!(read.pointer(&pointer), Some(&value), "{key}");
            assert_eq!(read, expected, "{key}");
            set.insert(key.clone());
            if shape.is_secret() && key != "broker.url" {
                // Only from the environment.
                assert!(loaded(&expected, &[]).is_err(), "{key}");
                continue;
            }
            let (read, by_file) = loaded(&expected, &[]).unwrap();
            assert_eq!(read, expected, "{key}");
            let (by_file, by_variable) = (format!("{by_file:?}"), format!("{by_variable:?}"));
            assert_eq!(by_file, by_variable, "{key}");
            // An empty list is the default in part, and an address prints without its password.
            if expected != rest && value != json!([]) && !key.starts_with("provider.rate.") {
                let (_, without) = loaded(&rest, &[]).unwrap();
                assert_ne!(by_file, format!("{without:?}"), "{key} makes no difference");
            }
        }
    }
    assert!(set.len() > 60, "only {} keys: {set:?}", set.len());
    for key in [
        "provider.rate",
        "provider.karmo.clearable",
        "provider.sivo.fields.givenName",
        "provider.rest.headers",
        "provider.rest.constants",
        "broker.url",
    ] {
        assert!(set.contains(key), "{key}");
    }
}

#[test]
fn a_list_of_words_may_have_commas_between() {
    let variables = |name: &str, text: &str| vec![(name.to_owned(), text.to_owned())];
    for (text, expected) in [
        ("phone, email", json!(["phone", "email"])),
        (r#" ["phone", "email"]"#, json!(["phone", "email"])),
        ("phone", json!(["phone"])),
        ("", json!([])),
    ] {
        let (read, _) = loaded(&rest(""), &variables("USHER_PROVIDER__KARMO__CLEARABLE", text)).unwrap();
        assert_eq!(read["provider"]["karmo"]["clearable"], expected, "{text}");
    }
    let refused = loaded(
        &rest(""),
        &variables("USHER_PROVIDER__KARMO__CLEARABLE", "phone,s3cret"),
    )
    .unwrap_err();
    let expected =
        "USHER_PROVIDER__KARMO__CLEARABLE: provider.karmo.clearable[1]: is not one of the known words";
    assert!(refused.contains(expected), "{refused}");
}

#[test]
fn the_secrets_of_the_environment_arrive() {
    use secrecy::ExposeSecret;
    let variables = [("USHER_PROVIDER__AUTH__TOKEN".to_owned(), " t,[{".to_owned())];
    let (_, config) = loaded(&rest("provider.auth.token"), &variables).unwrap();
    assert_eq!(config.provider.auth.token.unwrap().expose_secret(), " t,[{");
    let key = "provider.auth.oauth2.client_secret";
    let (_, config) = loaded(&rest(key), &[(name_of(key), "{s3cret".to_owned())]).unwrap();
    let secret = config.provider.auth.oauth2.unwrap().client_secret.unwrap();
    assert_eq!(secret.expose_secret(), "{s3cret");
}
