//! `/livez`, `/readyz`, `/metrics` and `/resume`. Ready means that commands make progress, not that a socket is open.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, interval};

use crate::broker::Link;
use crate::metrics;
use crate::worker::gate::{Gate, Pause};
use crate::worker::{Progress, Shutdown};

/// With commands in hand and nobody paused, something settles within this time, or the worker hangs.
const STALLED_AFTER: Duration = Duration::from_secs(120);

const STANDS_BY: &str = "other workers hold every lease; this one takes over when one of them goes";

/// Metrics' histograms grow until somebody looks; this looks.
const UPKEEP: Duration = Duration::from_secs(5);

/// What a worker answers is a line.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What the admin port shows of a worker, once there is one.
pub struct Worker {
    pub progress: watch::Receiver<Progress>,
    pub gate: Arc<Gate>,
    pub consuming: watch::Receiver<Link>,
    pub publishing: watch::Receiver<Link>,
    pub shutdown: Shutdown,
}

#[derive(Clone)]
pub struct Admin {
    worker: Arc<OnceLock<Worker>>,
    metrics: PrometheusHandle,
}

/// What `/readyz` says.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Readiness {
    ready: bool,
    /// `starting`, `standby`, `idle`, `working`, `throttled`, `outage`, `credentials`, `dead_letters`, `broker`, `stalled` or
    /// `draining`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_for_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_call_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<Leases>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commands: Option<Commands>,
}

/// The partitions that this worker consumes.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Leases {
    held: usize,
    partitions: usize,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Commands {
    running: usize,
    parked: usize,
    succeeded: u64,
    dead_lettered: u64,
    repeated: u64,
}

impl Admin {
    pub fn new(metrics: PrometheusHandle) -> Self {
        Self {
            worker: Arc::default(),
            metrics,
        }
    }

    /// The worker has started.
    pub fn show(&self, worker: Worker) {
        // There is one worker to a process.
        let _shown_before = self.worker.set(worker);
    }

    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let upkeep = self.metrics.clone();
        tokio::spawn(async move {
            let mut tick = interval(UPKEEP);
            loop {
                tick.tick().await;
                upkeep.run_upkeep();
            }
        });
        let router = Router::new()
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(scrape))
            .route("/resume", post(resume))
            .with_state(self);
        axum::serve(listener, router).await
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let readiness = admin
        .worker
        .get()
        .map_or_else(Readiness::starting, Worker::readiness);
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(readiness)).into_response()
}

/// What `usher resume` asks for.
async fn resume(State(admin): State<Admin>) -> (StatusCode, String) {
    let Some(worker) = admin.worker.get() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the worker has not started yet\n".into(),
        );
    };
    let was = worker.gate.pause().map(|pause| pause.cause);
    worker.gate.resume();
    let said = match was {
        Some(cause) => format!("the worker was paused ({cause}) and tries again now\n"),
        None => "the worker was not paused\n".to_owned(),
    };
    (StatusCode::OK, said)
}

/// Asks the worker that serves this port to resume, and hears what it paused for.
pub async fn ask_to_resume(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let request =
        format!("POST /resume HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.trim().to_owned()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

async fn scrape(State(admin): State<Admin>) -> String {
    if let Some(worker) = admin.worker.get() {
        let (running, parked) = {
            let progress = worker.progress.borrow();
            (progress.running, progress.parked)
        };
        metrics::commands_in_hand(running, parked);
        metrics::pace(worker.gate.pace_per_second());
    }
    admin.metrics.render()
}

impl Worker {
    fn readiness(&self) -> Readiness {
        let progress = self.progress.borrow().clone();
        let down = down(&self.consuming.borrow(), &self.publishing.borrow());
        Readiness::of(
            &progress,
            self.gate.pause(),
            down,
            self.shutdown.is_draining(),
            Instant::now(),
        )
    }
}

fn down(consuming: &Link, publishing: &Link) -> Option<String> {
    [("consuming", consuming), ("publishing", publishing)]
        .into_iter()
        .find_map(|(what, link)| match link {
            Link::Up => None,
            Link::Down { reason } => Some(format!("{what}: not connected: {reason}")),
            Link::Blocked { reason } => Some(format!("{what}: the broker takes no messages: {reason}")),
        })
}

impl Readiness {
    fn starting() -> Self {
        Self {
            ready: false,
            state: "starting",
            detail: Some("the broker has not been reached yet".into()),
            paused_for_ms: None,
            next_call_in_ms: None,
            leases: None,
            commands: None,
        }
    }

    fn of(
        progress: &Progress,
        pause: Option<Pause>,
        down: Option<String>,
        draining: bool,
        now: Instant,
    ) -> Self {
        let in_hand = progress.running + progress.parked;
        let still = now.saturating_duration_since(progress.moved_at);
        let (ready, state) = match (&pause, &down) {
            _ if draining => (false, "draining"),
            (_, Some(_)) => (false, "broker"),
            // Throttling is how a quota is used to the full.
            (Some(pause), None) => (pause.cause == "throttled", pause.cause),
            (None, None) if in_hand == 0 && progress.leases == 0 => (true, "standby"),
            (None, None) if in_hand == 0 => (true, "idle"),
            (None, None) if still > STALLED_AFTER => (false, "stalled"),
            (None, None) => (true, "working"),
        };
        let next_call = pause.as_ref().and_then(|pause| pause.until);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            ready,
            state,
            paused_for_ms: pause
                .as_ref()
                .map(|pause| millis(now.duration_since(pause.since))),
            next_call_in_ms: next_call.map(|at| millis(at.saturating_duration_since(now))),
            detail: down
                .or_else(|| pause?.why.map(Cow::into_owned))
                .or_else(|| (state == "standby").then(|| STANDS_BY.to_owned())),
            leases: Some(Leases {
                held: progress.leases,
                partitions: progress.partitions,
            }),
            commands: Some(Commands {
                running: progress.running,
                parked: progress.parked,
                succeeded: progress.successes(),
                dead_lettered: progress.failures(),
                repeated: progress.repeated,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness(
        change: impl FnOnce(&mut Progress),
        cause: Option<&'static str>,
        down: Option<&str>,
    ) -> (bool, &'static str) {
        let now = Instant::now();
        let mut progress = Progress::new(1);
        progress.leases = 1;
        change(&mut progress);
        let pause = cause.map(|cause| Pause {
            cause,
            since: now,
            until: Some(now),
            why: None,
        });
        let after = now + STALLED_AFTER * 2;
        let readiness = Readiness::of(&progress, pause, down.map(Into::into), false, after);
        (readiness.ready, readiness.state)
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_is_about_progress() {
        assert_eq!(readiness(|_| (), None, None), (true, "idle"));
        assert_eq!(
            readiness(|progress| progress.leases = 0, None, None),
            (true, "standby")
        );
        assert_eq!(
            readiness(|progress| progress.running = 1, None, None),
            (false, "stalled")
        );
        assert_eq!(
            readiness(|progress| progress.running = 1, Some("throttled"), None),
            (true, "throttled")
        );
        assert_eq!(readiness(|_| (), Some("outage"), None), (false, "outage"));
        assert_eq!(
            readiness(|_| (), Some("credentials"), None),
            (false, "credentials")
        );
        assert_eq!(readiness(|_| (), None, Some("gone")), (false, "broker"));
    }
}
