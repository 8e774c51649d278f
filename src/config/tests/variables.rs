//! Which variables are keys, which are a platform's, and which are refused.

use super::{MINIMAL, read};

#[test]
fn what_a_platform_sets_for_a_service_named_usher_is_ignored() {
    let links = [
        ("USHER_SERVICE_HOST", "10.0.0.7"),
        ("USHER_SERVICE_PORT", "5672"),
        ("USHER_SERVICE_PORT_AMQP", "5672"),
        ("USHER_SERVICE_PORT_METRICS_V2", "9464"),
        ("USHER_PORT", "tcp://10.0.0.7:5672"),
        ("USHER_PORT_5672_TCP", "tcp://10.0.0.7:5672"),
        ("USHER_PORT_5672_TCP_PROTO", "tcp"),
        ("USHER_PORT_5672_TCP_PORT", "5672"),
        ("USHER_PORT_5672_TCP_ADDR", "10.0.0.7"),
        ("USHER_PORT_53_UDP", "udp://10.0.0.7:53"),
        // A service named usher-metrics.
        ("USHER_METRICS_SERVICE_HOST", "10.0.0.8"),
        ("USHER_METRICS_PORT", "tcp://10.0.0.8:9464"),
        ("USHER_METRICS_PORT_9464_TCP_ADDR", "10.0.0.8"),
        ("USHER_TEST_SEEDS", "9"),
    ];
    read(MINIMAL, &links).unwrap();
}

#[test]
fn a_variable_that_is_no_key_is_refused_and_the_near_one_named() {
    for (name, meant) in [
        (
            "USHER_PROVIDER_BASE_URL",
            "did you mean USHER_PROVIDER__BASE_URL?",
        ),
        (
            "USHER_PROVIDR__BASE_URL",
            "did you mean USHER_PROVIDER__BASE_URL?",
        ),
        (
            "USHER_PROVIDER__BASE__URL",
            "did you mean USHER_PROVIDER__BASE_URL?",
        ),
        ("USHER_BASE_URL", "did you mean USHER_PROVIDER__BASE_URL?"),
        (
            "USHER_provider__base_url",
            "did you mean USHER_PROVIDER__BASE_URL?",
        ),
        (
            "USHER_PROVIDER__AUTH_TOKEN",
            "did you mean USHER_PROVIDER__AUTH__TOKEN?",
        ),
        ("USHER_WORKERS", "did you mean USHER_WORKER?"),
        ("USHER_PORT", "remove it"),
        ("USHER_PORT_5672_HTTP", "remove it"),
        ("USHER_PORT__TCP", "remove it"),
        ("USHER_SERVICE__HOST", "remove it"),
        ("USHER_X__Y", "remove it"),
        ("USHER_X", "remove it"),
    ] {
        let error = read(MINIMAL, &[(name, "s3cret")]).unwrap_err();
        let expected = format!("environment variable {name}: unknown variable; {meant}");
        assert!(error.contains(&expected), "{error}\n  instead of {expected}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
