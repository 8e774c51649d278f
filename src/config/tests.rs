//! What a person reads when the configuration is wrong.

use super::*;
use crate::provider::token::oauth2::{Body, ClientIn};

const MINIMAL: &str = r#"
    [provider]
    name = "zitadel-eu"
    kind = "zitadel"
    base_url = "https://acme.zitadel.cloud"
    [provider.auth]
    token_file = "/run/secrets/zitadel"
"#;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let unique = uuid::Uuid::new_v4();
    let path = std::env::temp_dir().join(format!("usher-config-{unique}.toml"));
    std::fs::write(&path, text).unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let config = load(Some(&path), variables);
    std::fs::remove_file(&path).unwrap();
    config.map_err(|error| {
        error
            .to_string()
            .replace(&path.display().to_string(), "usher.toml")
    })
}

fn rate(written: &serde_json::Value) -> crate::policy::pace::Rates {
    serde_json::from_value(written.clone()).unwrap()
}

#[test]
fn several_quotas_are_a_list() {
    let config = read(
        &MINIMAL.replace(
            "base_url",
            "rate = [{ per_second = 50 }, { per_minute = 2000, burst = 5 }]\nbase_url",
        ),
        &[],
    );
    let written = serde_json::json!([{"per_second": 50}, {"per_minute": 2000, "burst": 5}]);
    assert_eq!(config.unwrap().provider.rate, rate(&written));
}

#[test]
fn the_broker_has_one_address_or_several() {
    let list = "[broker]\nurl = [\"amqp://a\", \"amqps://b/v\"]\n";
    let config = read(&format!("{list}{MINIMAL}"), &[]).unwrap();
    assert_eq!(
        config.broker.url.to_string(),
        "amqp://guest@a:5672/%2f, amqps://guest@b:5671/v"
    );
    let variables = [("USHER_BROKER__URL", "amqp://c, amqp://d")];
    let config = read(&format!("{list}{MINIMAL}"), &variables).unwrap();
    assert_eq!(config.broker.url.count(), 2);
    let told = "usher.toml: broker.url: not what belongs here; send amqp://";
    assert_refused(&[
        (
            "[broker]\nurl = [\"amqp://a\", \"amq://usher:s3cret@b\"]",
            &[],
            told,
        ),
        (
            "[broker]\nurl = []",
            &[],
            "usher.toml: broker.url: not what belongs here; send at least one.",
        ),
        (
            "[broker]\nurl = 7",
            &[],
            "usher.toml: broker.url: not what belongs here",
        ),
    ]);
}

#[test]
fn the_contracts_example_is_read() {
    let example = r#"
        [broker]
        url = "amqp://guest:guest@127.0.0.1:5672/%2f"
        partitions = 1
        prefetch = 256
        [provider]
        name = "zitadel-eu"
        kind = "zitadel"
        base_url = "https://acme.zitadel.cloud"
        rate = { per_second = 50, burst = 10 }
        concurrency = 64
        timeout = "10s"
        [provider.auth]
        token_file = "/run/secrets/zitadel"
        [retry]
        attempts = 5
        delay_min = "200ms"
        delay_max = "30s"
        budget = 0.2
        [worker]
        grace_period = "25s"
        bulk_share_min = 0.05
        [admin]
        listen = "127.0.0.1:9464"
    "#;
    let config = read(example, &[]).unwrap();
    assert_eq!(
        config.provider.rate,
        rate(&serde_json::json!({"per_second": 50, "burst": 10}))
    );
    assert_eq!(config.retry, crate::policy::retry::Config::default());
    assert_eq!(config.worker, crate::worker::Config::default());
}

#[test]
fn the_environment_stands_above_the_file() {
    let variables = [
        ("USHER_PROVIDER__NAME", "karmo-au"),
        ("USHER_PROVIDER__RATE__PER_SECOND", "7"),
        ("USHER_WORKER__GRACE_PERIOD", "3s"),
        ("USHER_TEST_SEEDS", "9"),
        ("PATH", "/bin"),
    ];
    let config = read(MINIMAL, &variables).unwrap();
    assert_eq!(config.provider.name.as_str(), "karmo-au");
    assert_eq!(config.provider.rate, rate(&serde_json::json!({"per_second": 7})));
    assert_eq!(config.worker.grace_period.as_secs(), 3);
}

/// With a token that is fetched, and this beside what must be there.
fn fetched(more: &str) -> String {
    let oauth2 =
        format!("oauth2 = {{ token_url = \"https://a.example/token\", client_id = \"usher\"{more} }}");
    MINIMAL.replace("token_file = \"/run/secrets/zitadel\"", &oauth2)
}

#[test]
fn a_token_can_be_fetched_with_a_secret_of_the_environment() {
    let variables = [("USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET", "s3cret")];
    let config = read(&fetched(""), &variables).unwrap();
    let oauth2 = config.provider.auth.oauth2.unwrap();
    assert_eq!((oauth2.body, oauth2.client), (Body::Form, ClientIn::Basic));
    assert!(!format!("{oauth2:?}").contains("s3cret"));
    let mattr =
        r#", client_secret_file = "/s", audience = "https://a.example", body = "json", client = "body""#;
    let oauth2 = read(&fetched(mattr), &[]).unwrap().provider.auth.oauth2.unwrap();
    assert_eq!((oauth2.body, oauth2.client), (Body::Json, ClientIn::Body));
}

/// A file, variables, and how the refusal begins.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[track_caller]
fn assert_refused(cases: &[Case]) {
    for (text, variables, expected) in cases {
        let error = read(text, variables).unwrap_err();
        assert!(error.starts_with(expected), "{error}\n  instead of {expected}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn refusals_name_the_origin_the_key_and_the_mend_and_no_value() {
    let cases: [Case; 7] = [
        (
            "[provider]\nnmae = 1",
            &[],
            "usher.toml: provider.nmae: no such member is known here; remove it, or use one of `name`",
        ),
        ("", &[], "usher.toml: provider: is required; add it."),
        (
            "[provider]\nname = \"s3cret!\"",
            &[],
            "usher.toml: provider.name: not what belongs here; send 1 to 40",
        ),
        ("[provider", &[], "usher.toml: is not TOML"),
        (
            MINIMAL,
            &[("USHER_PROVIDER__KIND", "s3cret")],
            "environment variable USHER_PROVIDER__KIND: not what belongs here. Write one of karmo, zitadel, sivo, mattr, scim.",
        ),
        (
            MINIMAL,
            &[("USHER_PROVIDER__TIMEOUT", "s3cret")],
            "environment variable USHER_PROVIDER__TIMEOUT: not what belongs here. How long one call may take.",
        ),
        (
            MINIMAL,
            &[("USHER_BROKER__URL", "amqp//:s3cret")],
            "environment variable USHER_BROKER__URL: not what belongs here; send amqp://",
        ),
    ];
    assert_refused(&cases);
}

#[test]
fn secrets_in_the_wrong_place_and_too_many_or_too_few_are_refused() {
    let cases: [Case; 7] = [
        (
            MINIMAL,
            &[("USHER_PROVIDER__AUTH__TOKEN", "s3cret")],
            "environment variable USHER_PROVIDER__AUTH__TOKEN: stands beside",
        ),
        (
            "[provider.auth]\ntoken = \"s3cret\"",
            &[],
            "usher.toml: provider.auth.token: a token does not belong in a file",
        ),
        (
            "[provider.auth.oauth2]\nclient_secret = \"s3cret\"",
            &[],
            "usher.toml: provider.auth.oauth2.client_secret: a secret does not belong in a file",
        ),
        (
            MINIMAL,
            &[
                (
                    "USHER_PROVIDER__AUTH__OAUTH2__TOKEN_URL",
                    "https://a.example/token",
                ),
                ("USHER_PROVIDER__AUTH__OAUTH2__CLIENT_ID", "usher"),
            ],
            "usher.toml: provider.auth.oauth2: stands beside token_file: give one of the two",
        ),
        (
            &fetched(""),
            &[],
            "usher.toml: provider.auth.oauth2: says no secret of the client: name a file",
        ),
        (
            &fetched(", client_secret_file = \"/run/secrets/client\""),
            &[("USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET", "s3cret")],
            "environment variable USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET: stands beside",
        ),
        (
            &fetched(", body = \"s3cret\""),
            &[],
            "usher.toml: provider.auth.oauth2.body: not what belongs here. Write one of form, json.",
        ),
    ];
    assert_refused(&cases);
}

#[test]
fn an_endless_heartbeat_is_refused_and_no_panic() {
    let endless = format!("{}s", u64::MAX);
    let error = read(MINIMAL, &[("USHER_BROKER__HEARTBEAT", &endless)]).unwrap_err();
    assert!(error.contains("four times broker.heartbeat"), "{error}");
}

#[test]
fn numbers_out_of_their_bounds_are_refused() {
    for (variable, value, expected) in [
        ("PROVIDER__CONCURRENCY", "0", ""),
        ("PROVIDER__RATE__PER_SECOND", "0", ""),
        ("PROVIDER__SHARE", "0", "must be a share"),
        ("BROKER__HOLD_MAX", "0s", "must be longer than nothing"),
        ("BROKER__CONSUMER_TIMEOUT", "39s", "must be at least four times"),
        ("RETRY__BUDGET", "7", "must be a share"),
        ("RETRY__ATTEMPTS", "0", "must be at least 1"),
        ("RETRY__PROBE_GAP_MAX", "1ms", "must not be below retry.delay_min"),
        ("WORKER__DEAD_LETTER_SHARE_MAX", "1.5", "must be a share"),
    ] {
        let variable = format!("USHER_{variable}");
        let error = read(MINIMAL, &[(&variable, value)]).unwrap_err();
        let expected = format!("environment variable {variable}: {expected}");
        assert!(error.starts_with(&expected), "{error}\n  instead of {expected}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Some(Path::new("/nowhere/usher.toml")), []).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/usher.toml: can't be read: "),
        "{error}"
    );
}
