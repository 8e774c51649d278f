//! A provider of each kind over real HTTP on loopback, with a rate limit and faults: for trials, tests and
//! benchmarks.
//!
//! Every user exists once it is touched, but for ids that begin with one of these words:
//!
//! | id begins with | what it gets |
//! | --- | --- |
//! | `missing` | 404 |
//! | `forbidden` | 403 |
//! | `locked` | its state forbids each write |
//! | `broken` | 500 |
//! | `vanishing` | each write is applied, and the connection is cut without an answer |
//!
//! A user name or an e-mail address that begins with `taken` belongs to somebody else; the given name `rejected`
//! is refused. Tokens are fetched under `/oauth/v2/token`, `/oauth/token` or `/auth/token`. What became of it all is
//! read under `/__users`, `/__calls` and `/__summary`; `/__faults` and `/__token` change the conditions while it
//! runs.

mod calls;
mod control;
mod headers;
mod issuer;
mod listener;
pub mod quota;
mod server;
#[cfg(test)]
mod tests;
mod world;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::quota::QuotaKind;
use self::world::World;
use crate::provider::Kind;

pub use self::calls::{Call, CallEnd, Summary, Trouble};
pub use self::headers::{QuotaHeaders, RetryAfterStyle};
pub use crate::provider::scim::ScimDialect;
pub use crate::provider::shape::{Op, STARTING_CODE, STARTING_PASSWORD, STARTING_VERSION};

#[derive(Debug, Clone)]
pub struct Settings {
    pub kind: Kind,
    /// For SCIM alone.
    pub scim_dialect: ScimDialect,
    /// For reads, writes and requests for tokens together. None: as fast as it can.
    pub quota: Option<QuotaKind>,
    pub retry_after: RetryAfterStyle,
    pub quota_headers: QuotaHeaders,
    /// How long each call takes before it is applied.
    pub latency: Duration,
    /// The bearer token that is accepted. None: any, but there must be one.
    pub token: Option<String>,
    /// Who may fetch tokens; with it, no other token is accepted but `token`. None: anybody.
    pub client: Option<Client>,
    /// How long a token serves that was fetched, in whole seconds.
    pub token_lifetime: Duration,
    /// The same seed and the same order of calls give the same faults.
    pub seed: u64,
    pub faults: Faults,
    /// Calls that are kept for `/__calls`; the oldest go first.
    pub calls_max: usize,
}

impl Settings {
    /// No quota, no faults, no latency.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            scim_dialect: ScimDialect::default(),
            quota: None,
            retry_after: RetryAfterStyle::Seconds,
            quota_headers: QuotaHeaders::None,
            latency: Duration::ZERO,
            token: None,
            client: None,
            token_lifetime: Duration::from_secs(12 * 60 * 60),
            seed: 0,
            faults: Faults::default(),
            calls_max: 1_000_000,
        }
    }
}

/// Who asks for a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    pub id: String,
    pub secret: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Which share of the calls goes wrong, from 0 to 1, and how. A call has one fault at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// 500, not applied.
    pub broken: f64,
    /// Not applied, and the connection is cut.
    pub drop_before: f64,
    /// Applied, and the connection is cut without an answer.
    pub drop_after: f64,
    /// Applied, and the answer comes `slow_ms` later.
    pub slow: f64,
    pub slow_ms: u64,
    /// Applied, and 200 with a body that is not the JSON it should be.
    pub garbage: f64,
    /// Applied, and answered with 429.
    pub throttle_after: f64,
    /// Applied, and answered with 503.
    pub broken_after: f64,
}

/// A running simulation. It ends when this is dropped.
pub struct Simulated {
    addr: SocketAddr,
    world: Arc<World>,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

/// Starts a simulation; port 0 takes any that is free.
pub async fn start(settings: Settings, addr: SocketAddr) -> io::Result<Simulated> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let stopping = CancellationToken::new();
    let world = Arc::new(World::new(settings, stopping.clone()));
    let serving = tokio::spawn(server::serve(listener, Arc::clone(&world), stopping.clone()));
    Ok(Simulated {
        addr,
        world,
        stopping,
        serving,
    })
}

impl Simulated {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// A user that was touched: its fields and what happened to it.
    pub fn user(&self, id: &str) -> Option<Value> {
        self.world.user(id)
    }

    /// From now on there is no such user.
    pub fn remove_user(&self, id: &str) {
        self.world.remove_user(id);
    }

    /// The calls in the order of their start.
    pub fn calls(&self) -> Vec<Call> {
        self.world.calls()
    }

    pub fn summary(&self) -> Summary {
        self.world.summary()
    }

    pub fn set_faults(&self, faults: Faults) {
        self.world.set_faults(faults);
    }

    /// None: no quota. The quota's kind stays, and the length of its window.
    pub fn set_rate(&self, per_second: Option<u32>, burst: u32) {
        self.world.set_rate(per_second, burst);
    }

    /// None: any token is accepted.
    pub fn set_token(&self, token: Option<String>) {
        self.world.set_token(token);
    }

    /// Refuses each token that was fetched so far.
    pub fn revoke_tokens(&self) {
        self.world.revoke_tokens();
    }

    /// Takes no more connections, cuts the calls that still wait, and gives the port back.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}
