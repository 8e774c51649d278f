//! What a person reads when the configuration is wrong.

mod every_key;
mod variables;

use std::path::Path;

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
    let expected = "usher.toml:2: broker.url: is not valid; write amqp://";
    assert_refused(&[
        (
            &format!("[broker]\nurl = [\"amqp://a\", \"amq://usher:s3cret@b\"]{MINIMAL}"),
            &[],
            expected,
        ),
        (
            &format!("[broker]\nurl = []{MINIMAL}"),
            &[],
            "usher.toml:2: broker.url: is empty; write a string, in quotes, such as \"amqp://guest:guest@127.0.0.1:5672/%2f\", or a list of them",
        ),
        (
            &format!("[broker]\nurl = 7{MINIMAL}"),
            &[],
            "usher.toml:2: broker.url: is a number; write a string, in quotes, such as \"amqp://",
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
fn the_environment_overrides_the_file() {
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
fn refusals_name_the_origin_the_key_and_the_remedy_and_no_value() {
    let cases: [Case; 10] = [
        (
            &MINIMAL.replace("name =", "nmae ="),
            &[],
            "usher.toml:3: provider.nmae: unknown key; did you mean name?",
        ),
        (
            "",
            &[],
            "usher.toml: provider: is required; add it. It needs name, kind, base_url, auth",
        ),
        (
            &MINIMAL.replace("zitadel-eu", "s3cret!"),
            &[],
            "usher.toml:3: provider.name: is not valid; write 1 to 40",
        ),
        ("\n[provider", &[], "usher.toml:2: is not TOML: "),
        (
            MINIMAL,
            &[("USHER_PROVIDER__KIND", "s3cret")],
            "environment variable USHER_PROVIDER__KIND: is not one of the known words; write one of karmo, zitadel, sivo",
        ),
        (
            MINIMAL,
            &[("USHER_PROVIDER__TIMEOUT", "s3cret")],
            "environment variable USHER_PROVIDER__TIMEOUT: is not valid; write a duration such as 10s, from 10ms to 10m",
        ),
        (
            MINIMAL,
            &[("USHER_BROKER__URL", "amqp//:s3cret")],
            "environment variable USHER_BROKER__URL: is not valid; write amqp://",
        ),
        (
            &MINIMAL.replace("base_url", "timeout = 10\nbase_url"),
            &[],
            "usher.toml:5: provider.timeout: is a number; write a duration such as \"10s\", from 10ms to 10m",
        ),
        (
            MINIMAL,
            &[(
                "USHER_PROVIDER__RATE",
                r#"[{"per_second": 5}, {"per_secnd": "s3cret"}]"#,
            )],
            "environment variable USHER_PROVIDER__RATE: provider.rate[1].per_secnd: unknown key; did you mean per_second?",
        ),
        (
            MINIMAL,
            &[("USHER_PROVIDER__RATE", r#"{"per_second": s3cret}"#)],
            "environment variable USHER_PROVIDER__RATE: is not JSON: the error is at line 1, column 16; write JSON such as {\"per_second\":50}, or a list of them, or a variable for each member",
        ),
    ];
    assert_refused(&cases[..8]);
    for (text, variables, expected) in &cases[8..] {
        let error = read(text, variables).unwrap_err();
        assert!(error.contains(expected), "{error}\n  instead of {expected}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = r#"
        [providr]
        nmae = "zitadel-eu"
        kind = "s3cret"
        timeout = 10
        concurrency = 0
        [providr.auth]
        token_fiel = "/run/secrets/zitadel"
        [worker]
        poison_after = 0
        attempts = 4
        [retry]
        delay_min = "1m"
        delay_max = "s3cret"
        budget = nan
        probe_gap_max = "1s"
    "#;
    let variables = [
        ("USHER_PROVIDER_BASE_URL", "https://s3cret.example"),
        ("USHER_ADMIN__LISTEN", "s3cret"),
        ("USHER_LOG__FORMAT", "s3cret"),
        ("USHER_X", "s3cret"),
    ];
    let error = read(text, &variables).unwrap_err();
    assert!(!error.contains("s3cret"), "{error}");
    let lines: Vec<_> = error.lines().map(str::trim).collect();
    let kinds = Kind::ALL.map(|kind| format!("\"{kind}\"")).join(", ");
    let kind = format!("usher.toml:4: provider.kind: is not one of the known words; write one of {kinds}");
    let expected = [
        "15 problems in the configuration:",
        "usher.toml:2: providr: unknown key; did you mean provider?",
        "usher.toml:3: provider.nmae: unknown key; did you mean name?",
        &kind,
        "usher.toml:5: provider.timeout: is a number; write a duration such as \"10s\", from 10ms to 10m",
        "usher.toml:6: provider.concurrency: is out of bounds; write a whole number from 1 to 10000, such as 64",
        "usher.toml:8: provider.auth.token_fiel: unknown key; did you mean token_file?",
        "usher.toml:10: worker.poison_after: is out of bounds; write a whole number from 1 to 1000, such as 6",
        "usher.toml:11: worker.attempts: unknown key here; did you mean retry.attempts?",
        "usher.toml:13: retry.delay_min: must not be above retry.probe_gap_max: gaps between probes grow from the one to the other",
        "usher.toml:14: retry.delay_max: is not valid; write a duration such as \"30s\", from 1ms to 24h",
        "usher.toml:15: retry.budget: is out of bounds; write a number from 0 to 1, such as 0.2",
        "environment variable USHER_ADMIN__LISTEN: is not valid; write an IP address and a port, such as 127.0.0.1:9464",
        "environment variable USHER_LOG__FORMAT: is not one of the known words; write one of pretty, json, auto",
        "environment variable USHER_PROVIDER_BASE_URL: unknown variable; did you mean USHER_PROVIDER__BASE_URL?",
        "environment variable USHER_X: unknown variable; remove it, or name a key as in USHER_PROVIDER__BASE_URL (`usher schema config` describes every key)",
    ];
    assert_eq!(lines, expected, "{error}");
}

#[test]
fn a_table_that_is_none_is_shown_as_one() {
    let error = read(MINIMAL, &[("USHER_LOG", "debug")]).unwrap_err();
    let expected = "environment variable USHER_LOG: is not valid; write JSON such as {\"format\":\"auto\"}, or a variable \
                for each member";
    assert_eq!(error, expected);
    let error = read("provider = 7", &[]).unwrap_err();
    let expected = "usher.toml:1: provider: is a number; write a table such as { auth = { token_file = \
                \"/run/secrets/zitadel\" }, base_url = \"https://acme.zitadel.cloud\", kind = \"karmo\", name = \
                \"zitadel-eu\" }";
    assert_eq!(error, expected);
}

#[test]
fn members_of_any_name_are_checked_against_their_schema() {
    let text = "[provider]\nname = \"p\"\nkind = \"rest\"\nbase_url = \"https://a.example\"\nauth.token_file = \"/t\"\n\
                [provider.rest]\nheaders = { x-a = 5, x-b = \"s3cret\" }\n\
                constants = { a = 1, \"b.c\" = true, d = \"s3cret\", e.f = 2 }\n";
    let error = read(text, &[]).unwrap_err();
    let lines: Vec<_> = error.lines().map(str::trim).collect();
    let expected = [
        "2 problems in the configuration:",
        "usher.toml:7: provider.rest.headers.x-a: is a number; write a string, in quotes",
        "usher.toml:8: provider.rest.constants.e: is a table; write a text, a number, true or false",
    ];
    assert_eq!(lines, expected, "{error}");
}

#[test]
fn each_toml_syntax_error_names_its_line() {
    let error = read("[provider]\nname = \"s3cret\nkind = s3cret\nrate = \n", &[]).unwrap_err();
    for line in [2, 3, 4] {
        let expected = format!("usher.toml:{line}: is not TOML: ");
        assert!(error.contains(&expected), "{error}");
    }
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn the_admin_token_is_taken_from_the_environment_or_its_own_file_alone() {
    let cases: [Case; 2] = [
        (
            &format!("{MINIMAL}\n[admin]\ntoken = \"s3cret\""),
            &[],
            "usher.toml:10: admin.token: a token does not belong in a file",
        ),
        (
            MINIMAL,
            &[
                ("USHER_ADMIN__TOKEN", "s3cret"),
                ("USHER_ADMIN__TOKEN_FILE", "/run/secrets/admin"),
            ],
            "environment variable USHER_ADMIN__TOKEN: is set together with admin.token_file",
        ),
    ];
    assert_refused(&cases);
}

#[test]
fn secrets_in_the_wrong_place_and_too_many_or_too_few_are_refused() {
    let cases: [Case; 9] = [
        (
            MINIMAL,
            &[("USHER_PROVIDER__AUTH__TOKEN", "s3cret")],
            "environment variable USHER_PROVIDER__AUTH__TOKEN: is set together with token_file; set only one of the two",
        ),
        (
            &MINIMAL.replace("token_file = \"/run/secrets/zitadel\"", "token = \"s3cret\""),
            &[],
            "usher.toml:7: provider.auth.token: a token does not belong in a file",
        ),
        (
            &fetched(", client_secret = \"s3cret\""),
            &[],
            "usher.toml:7: provider.auth.oauth2.client_secret: a secret does not belong in a file",
        ),
        (
            MINIMAL,
            &[
                (
                    "USHER_PROVIDER__AUTH__OAUTH2__TOKEN_URL",
                    "https://a.example/token",
                ),
                ("USHER_PROVIDER__AUTH__OAUTH2__CLIENT_ID", "usher"),
                ("USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET_FILE", "/s"),
            ],
            "usher.toml: provider.auth.oauth2: is set together with token_file; set only one of the two",
        ),
        (
            &fetched(""),
            &[],
            "usher.toml:7: provider.auth.oauth2: needs one of them: client_secret_file, the variable USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET",
        ),
        (
            &fetched(", client_secret_file = \"/run/secrets/client\""),
            &[("USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET", "s3cret")],
            "environment variable USHER_PROVIDER__AUTH__OAUTH2__CLIENT_SECRET: is set together with client_secret_file; set only one of the two",
        ),
        (
            &fetched(", client_secret_file = \"/s\", body = \"s3cret\""),
            &[],
            "usher.toml:7: provider.auth.oauth2.body: is not one of the known words; write one of \"form\", \"json\"",
        ),
        (
            &MINIMAL.replace("token_file = \"/run/secrets/zitadel\"", ""),
            &[],
            "usher.toml:6: provider.auth: needs one of them: token_file, the variable USHER_PROVIDER__AUTH__TOKEN, oauth2",
        ),
        (
            &MINIMAL.replace(
                "base_url",
                "rate = [{ per_second = 5 }, { per_day = 9, per_hour = 1 }]\nbase_url",
            ),
            &[],
            "usher.toml:5: provider.rate[1].per_day: is set together with per_hour; set only one of the two",
        ),
    ];
    assert_refused(&cases);
}

#[test]
fn rules_between_keys_are_reported_at_the_key_that_is_set() {
    for (variable, value, expected) in [
        (
            "BROKER__CONSUMER_TIMEOUT",
            "39s",
            "must not be below 4 times broker.heartbeat (default: 10s): the broker has to detect a frozen worker",
        ),
        (
            "RETRY__PROBE_GAP_MAX",
            "1ms",
            "must not be below retry.delay_min (default: 200ms)",
        ),
        (
            "RETRY__DELAY_MIN",
            "31s",
            "must not be above retry.delay_max (default: 30s)",
        ),
        (
            "BROKER__RECONNECT_DELAY_MAX",
            "100ms",
            "must not be below broker.reconnect_delay_min (default: 200ms)",
        ),
        ("BROKER__LEDGER_WINDOW", "168h 1s", "is out of bounds"),
        (
            "BROKER__OUTCOME_LOG_MAX_AGE",
            "14m",
            "must not be below broker.ledger_window (default: 15m)",
        ),
        (
            "WORKER__POISON_AFTER",
            "2",
            "must not be below worker.suspect_after (default: 3)",
        ),
        (
            "WORKER__SUSPECT_AFTER",
            "7",
            "must not be above worker.poison_after (default: 6)",
        ),
    ] {
        let variable = format!("USHER_{variable}");
        let error = read(MINIMAL, &[(&variable, value)]).unwrap_err();
        let expected = format!("environment variable {variable}: {expected}");
        assert!(error.starts_with(&expected), "{error}\n  instead of {expected}");
    }
    let both = [
        ("USHER_BROKER__HEARTBEAT", "20s"),
        ("USHER_BROKER__CONSUMER_TIMEOUT", "79s"),
    ];
    let error = read(MINIMAL, &both).unwrap_err();
    let expected = "environment variable USHER_BROKER__HEARTBEAT: 4 times this must not be above broker.consumer_timeout: ";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn publishing_looks_at_the_broker_table_alone() {
    let variables = |variables: &[(&str, &str)]| -> Vec<_> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        variables.iter().map(owned).collect()
    };
    let others = [
        ("USHER_PROVIDER__CONCURRENCY", "0"),
        ("USHER_BROKER__PREFETCH", "7"),
    ];
    let broker = load_broker(None, variables(&others)).unwrap();
    assert_eq!(broker.prefetch(), 7);
    for refused in [("USHER_BROKER__PREFETCH", "0"), ("USHER_BROKR__PREFETCH", "7")] {
        load_broker(None, variables(&[refused])).unwrap_err();
    }
}

#[test]
fn a_missing_and_an_endless_file_are_named() {
    let error = load(Some(Path::new("/nowhere/usher.toml")), []).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("/nowhere/usher.toml: can't be read: "), "{text}");
    let text = read(&"# a comment\n".repeat(100_000), &[]).unwrap_err();
    assert!(text.contains("is larger than 1048576 bytes"), "{text}");
}
