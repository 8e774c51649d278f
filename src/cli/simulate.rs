//! `usher simulate`: a provider of a kind on this machine, for trials, tests and benchmarks.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use usher::provider::Kind;
use usher::provider::simulated::{self, Faults, RetryAfterStyle, Settings};
use usher::worker::Shutdown;

use super::exit::{self, Exit};
use super::{assemble, print, signals};

#[derive(clap::Args)]
pub struct Args {
    /// karmo, zitadel, sivo or mattr
    kind: Kind,
    /// Where it listens; port 0 takes one that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Calls per second; without it, as many as come
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Calls that may come at once after a quiet time
    #[arg(long, value_name = "N", default_value = "1")]
    burst: NonZeroU32,
    /// What a 429 says of the wait: seconds, date or none
    #[arg(long, value_name = "FORM", default_value = "seconds", value_parser = retry_after)]
    retry_after: RetryAfterStyle,
    /// How long a call takes
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = assemble::duration)]
    latency: Duration,
    /// The bearer token that is accepted; without it, any
    #[arg(long)]
    token: Option<String>,
    /// The same seed and the same order of calls give the same faults
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
    /// Share of calls that is applied and answered with rubbish
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    garbage: f64,
    /// Share of calls that is applied and answered 429
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    throttle_after: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "write a share from 0 to 1, such as 0.02".to_owned())
}

fn retry_after(text: &str) -> Result<RetryAfterStyle, String> {
    match text {
        "seconds" => Ok(RetryAfterStyle::Seconds),
        "date" => Ok(RetryAfterStyle::Date),
        "none" => Ok(RetryAfterStyle::None),
        _ => Err("write seconds, date or none".to_owned()),
    }
}

impl Args {
    fn settings(&self) -> Settings {
        Settings {
            rate_per_second: self.rate.map(NonZeroU32::get),
            burst: self.burst.get(),
            retry_after: self.retry_after,
            latency: self.latency,
            token: self.token.clone(),
            seed: self.seed,
            faults: Faults {
                broken: self.broken,
                drop_before: self.drop_before,
                drop_after: self.drop_after,
                slow: self.slow,
                slow_ms: u64::try_from(self.slow_for.as_millis()).unwrap_or(u64::MAX),
                garbage: self.garbage,
                throttle_after: self.throttle_after,
            },
            ..Settings::new(self.kind)
        }
    }
}

pub async fn simulate(args: &Args) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    signals::stop_on_signals(shutdown.clone())?;
    let simulated = simulated::start(args.settings(), args.listen)
        .await
        .map_err(|error| {
            exit::usage(format_args!(
                "--listen {}: {error}; choose another address",
                args.listen
            ))
        })?;
    print(&format!("{}\n", simulated.base_url()))?;
    super::say(&format!(
        "usher: a simulated {} listens; look at /__users, /__calls and /__summary; end it with Ctrl-C",
        args.kind
    ));
    shutdown.draining().await;
    let summary = simulated.summary();
    simulated.stop().await;
    super::say(&format!(
        "usher: {} calls, {} writes applied, {} users",
        summary.calls, summary.applied, summary.users
    ));
    Ok(Exit::Done)
}
