//! `usher simulate`: a simulated provider on this machine, for trials, tests and benchmarks.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use usher::provider::Kind;
use usher::simulator::quota::QuotaKind;
use usher::simulator::{self, Client, Faults, QuotaHeaders, RetryAfterStyle, ScimDialect, Settings};
use usher::worker::Shutdown;

use super::exit::{self, Exit};
use super::{assemble, print, signals};

#[derive(clap::Args)]
pub struct Args {
    #[arg(help = Kind::ALL.map(Kind::as_str).join(", "))]
    kind: Kind,
    /// The dialect of a simulated scim: lenient, strict, entra, put-only or no-value-paths
    #[arg(long, value_name = "DIALECT", default_value_t)]
    dialect: ScimDialect,
    /// The address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The quota: calls per second for a bucket, calls per window for the other kinds; without it,
    /// unlimited
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// How the quota counts: bucket (filled over time), fixed (one window after the other) or sliding (in
    /// any window)
    #[arg(long, value_name = "KIND", default_value = "bucket", value_parser = ["bucket", "fixed", "sliding"])]
    quota: String,
    /// The window of a fixed or sliding quota
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = window)]
    window: Duration,
    /// Calls that a bucket accepts at once after an idle time. Default: a twentieth of the rate, at least 1
    #[arg(long, value_name = "N")]
    burst: Option<NonZeroU32>,
    /// The form of a 429's Retry-After: seconds, date, ms (in `retry-after-ms`) or none
    #[arg(long, value_name = "FORM", default_value = "seconds", value_parser = retry_after)]
    retry_after: RetryAfterStyle,
    /// The rate-limit headers of each answer: none, ratelimit (the IETF draft), x-ratelimit (reset in seconds),
    /// x-ratelimit-epoch, x-ratelimit-ms (reset as a time) or x-ratelimit-wrong (nonsense)
    #[arg(long, value_name = "FORM", default_value = "none", value_parser = quota_headers)]
    quota_headers: QuotaHeaders,
    /// How long a call takes
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = assemble::duration)]
    latency: Duration,
    /// The bearer token that is accepted; without it, any
    #[arg(long)]
    token: Option<String>,
    /// The client that may fetch tokens, at /oauth/v2/token, /oauth/token or /auth/token; without it, any client.
    /// With it, only those tokens and --token are accepted
    #[arg(long, value_name = "ID", requires = "client_secret")]
    client_id: Option<String>,
    /// That client's secret
    #[arg(long, value_name = "SECRET", requires = "client_id")]
    client_secret: Option<String>,
    /// The lifetime of a fetched token, in whole seconds
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = token_lifetime)]
    token_lifetime: Duration,
    /// The seed of the faults: the same seed and order of calls give the same faults
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Share of calls (0 to 1) that is answered 500
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    broken: f64,
    /// Share of calls that is cut off before it is applied
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    drop_before: f64,
    /// Share of calls that is applied and then cut off
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    drop_after: f64,
    /// Share of calls that is applied and answered late
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    slow: f64,
    /// How late that is
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = assemble::duration)]
    slow_for: Duration,
    /// Share of calls that is applied and answered with garbage
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    garbage: f64,
    /// Share of calls that is applied and answered 429
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    throttle_after: f64,
    /// Share of calls that is applied and answered 503
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    broken_after: f64,
}

fn window(text: &str) -> Result<Duration, String> {
    let window = assemble::duration(text)?;
    let message = "write a window longer than 0, such as 1s";
    (!window.is_zero())
        .then_some(window)
        .ok_or_else(|| message.to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share from 0 to 1, such as 0.02".to_owned())
}

fn token_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = assemble::duration(text)?;
    match lifetime.subsec_nanos() == 0 && !lifetime.is_zero() {
        true => Ok(lifetime),
        false => Err("write whole seconds, such as 30s or 12h".to_owned()),
    }
}

fn retry_after(text: &str) -> Result<RetryAfterStyle, String> {
    match text {
        "seconds" => Ok(RetryAfterStyle::Seconds),
        "date" => Ok(RetryAfterStyle::Date),
        "ms" => Ok(RetryAfterStyle::Ms),
        "none" => Ok(RetryAfterStyle::None),
        _ => Err("write seconds, date, ms or none".to_owned()),
    }
}

fn quota_headers(text: &str) -> Result<QuotaHeaders, String> {
    match text {
        "none" => Ok(QuotaHeaders::None),
        "ratelimit" => Ok(QuotaHeaders::RateLimit),
        "x-ratelimit" => Ok(QuotaHeaders::XRateLimit),
        "x-ratelimit-epoch" => Ok(QuotaHeaders::XRateLimitEpoch),
        "x-ratelimit-ms" => Ok(QuotaHeaders::XRateLimitMs),
        "x-ratelimit-wrong" => Ok(QuotaHeaders::Wrong),
        _ => Err(
            "write none, ratelimit, x-ratelimit, x-ratelimit-epoch, x-ratelimit-ms or x-ratelimit-wrong"
                .to_owned(),
        ),
    }
}

impl Args {
    fn quota_kind(&self) -> QuotaKind {
        let (calls, window) = (self.rate.map_or(1, NonZeroU32::get), self.window);
        match self.quota.as_str() {
            "fixed" => QuotaKind::Fixed { calls, window },
            "sliding" => QuotaKind::Sliding { calls, window },
            _ => QuotaKind::Bucket {
                per_second: calls,
                burst: self.burst.map_or((calls / 20).max(1), NonZeroU32::get),
            },
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            scim_dialect: self.dialect,
            quota: Some(self.quota_kind()),
            retry_after: self.retry_after,
            quota_headers: self.quota_headers,
            latency: self.latency,
            token: self.token.clone(),
            client: self
                .client_id
                .clone()
                .zip(self.client_secret.clone())
                .map(|(id, secret)| Client { id, secret }),
            token_lifetime: self.token_lifetime,
            seed: self.seed,
            faults: Faults {
                broken: self.broken,
                drop_before: self.drop_before,
                drop_after: self.drop_after,
                slow: self.slow,
                slow_ms: u64::try_from(self.slow_for.as_millis()).unwrap_or(u64::MAX),
                garbage: self.garbage,
                throttle_after: self.throttle_after,
                broken_after: self.broken_after,
            },
            ..Settings::new(self.kind)
        }
    }
}

pub async fn simulate(args: &Args) -> anyhow::Result<Exit> {
    if args.dialect != ScimDialect::default() && args.kind != Kind::Scim {
        return Err(exit::usage("--dialect is only for scim; leave it out"));
    }
    let shutdown = Shutdown::new();
    signals::stop_on_signals(shutdown.clone())?;
    let simulated = simulator::start(args.settings(), args.listen)
        .await
        .map_err(|error| {
            exit::usage(format_args!(
                "--listen {}: {error}; choose another address",
                args.listen
            ))
        })?;
    if args.rate.is_none() {
        // The quota's kind also applies to a rate that is set at `/__faults`.
        simulated.set_rate(None, 1);
    }
    print(&format!("{}\n", simulated.base_url()))?;
    super::note(&format!(
        "usher: a simulated {} listens; look at /__users, /__calls and /__summary; end it with Ctrl-C",
        args.kind
    ));
    shutdown.draining().await;
    let summary = simulated.summary();
    simulated.stop().await;
    super::note(&format!(
        "usher: {} calls ({} of them throttled, {} for tokens), {} writes applied, {} users",
        summary.calls, summary.throttled, summary.token_requests, summary.applied, summary.users
    ));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn quota(line: &str) -> Result<Option<QuotaKind>, String> {
        let words = ["simulate", "zitadel"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(line.args.settings().quota)
    }

    #[test]
    fn the_rate_is_per_second_for_a_bucket_and_per_window_for_the_others() {
        let window = Duration::from_secs(60);
        assert_eq!(
            quota("--rate 50 --burst 5"),
            Ok(Some(QuotaKind::Bucket {
                per_second: 50,
                burst: 5
            }))
        );
        assert_eq!(
            quota("--rate 50 --quota fixed --window 60s"),
            Ok(Some(QuotaKind::Fixed { calls: 50, window }))
        );
        assert_eq!(
            quota("--rate 50 --quota sliding --window 1m"),
            Ok(Some(QuotaKind::Sliding { calls: 50, window }))
        );
    }

    #[test]
    fn an_impossible_quota_is_refused_with_the_remedy() {
        for (line, remedy) in [
            ("--quota leaky", "sliding"),
            ("--window 0s", "longer than 0"),
            ("--window soon", "write a duration"),
            ("--retry-after never", "write seconds, date, ms or none"),
            ("--quota-headers all", "write none, ratelimit"),
            ("--broken-after 2", "write a share"),
            ("--dialect klingon", "write one of lenient, strict"),
        ] {
            let refused = quota(line).unwrap_err();
            assert!(refused.contains(remedy), "{refused}");
        }
    }
}
