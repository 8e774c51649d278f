//! `/livez`, `/readyz`, `/metrics`, `/resume` and `/reload`. Ready means that commands make progress, not that a socket is open.

mod access;
mod client;
mod readiness;
mod scrape;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, interval};

use self::access::Refused;
use self::readiness::{Others, Readiness, Seen, down, is_down};
use crate::broker::{Link, Publisher};
use crate::clock::Clock;
use crate::web::server;
use crate::worker::fleet::Fleet;
use crate::worker::gate::Gate;
use crate::worker::in_hand::InHand;
use crate::worker::waits::Waits;
use crate::worker::watchdog::Stall;
use crate::worker::{self, Progress, Shutdown};

pub use access::Access;
pub use client::{Reported, liveness as liveness_of, readiness as readiness_of};

/// How often histograms are drained: without a scrape they would grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// The time limit of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);

/// What the admin port shows of a worker, once there is one.
pub struct Worker {
    progress: watch::Receiver<Progress>,
    gate: Arc<Gate>,
    fleet: Option<Arc<Fleet>>,
    consuming: watch::Receiver<Link>,
    publishing: watch::Receiver<Link>,
    still: watch::Receiver<Option<Stall>>,
    waits: Arc<Waits>,
    in_hand: Arc<InHand>,
    publisher: Arc<dyn Publisher>,
    started_at: Instant,
    shutdown: Shutdown,
}

type Reload = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What `/livez` says.
const ALIVE: &str = "alive\n";

const NOT_STARTED: &str = "the worker has not started yet\n";

#[derive(Clone)]
pub struct Admin {
    worker: Arc<OnceLock<Worker>>,
    access: Arc<Access>,
    reload: Arc<OnceLock<Reload>>,
    metrics: PrometheusHandle,
}

impl Admin {
    pub fn new(metrics: PrometheusHandle, access: Access) -> Self {
        Self {
            worker: Arc::default(),
            access: Arc::new(access),
            reload: Arc::default(),
            metrics,
        }
    }

    /// Reads the configuration again, and says what has changed, or what is wrong.
    pub fn on_reload(&self, reload: impl Fn() -> Result<String, String> + Send + Sync + 'static) {
        // There is one worker per process, so it is set once.
        let _set_before = self.reload.set(Box::new(reload));
    }

    /// The worker has started.
    pub fn show(&self, worker: Worker) {
        // There is one worker per process, so it is set once.
        let _shown_before = self.worker.set(worker);
    }

    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let upkeep = self.metrics.clone();
        let upkeep = async move {
            let mut tick = interval(UPKEEP);
            loop {
                tick.tick().await;
                upkeep.run_upkeep();
            }
        };
        tokio::join!(upkeep, server::serve(listener, self.router(), CONNECTION_TIMEOUT));
    }

    /// Every route that changes something is an action, and guarded as one.
    fn router(self) -> Router {
        let actions = Router::new()
            .route("/resume", post(resume))
            .route("/reload", post(reload))
            .route_layer(middleware::from_fn_with_state(self.clone(), guard));
        Router::new()
            .route("/livez", get(|| async { ALIVE }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(scrape))
            .merge(actions)
            .with_state(self)
    }
}

async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    match admin.access.may_act(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(Refused(status, why)) => {
            let mut response = (status, format!("{why}\n")).into_response();
            if status == StatusCode::UNAUTHORIZED {
                let bearer = axum::http::HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
            }
            response
        }
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let readiness = admin
        .worker
        .get()
        .map_or_else(Readiness::starting, |worker| Readiness::of(worker.seen()));
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(readiness)).into_response()
}

/// Handles `usher resume`.
async fn resume(State(admin): State<Admin>) -> (StatusCode, String) {
    let Some(worker) = admin.worker.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, NOT_STARTED.into());
    };
    let was = worker.gate.pause().map(|pause| pause.cause);
    worker.gate.resume();
    let said = match was {
        Some(cause) => format!("the worker was paused ({cause}) and tries again now\n"),
        None => "the worker was not paused\n".to_owned(),
    };
    (StatusCode::OK, said)
}

async fn reload(State(admin): State<Admin>) -> (StatusCode, String) {
    let Some(reload) = admin.reload.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, NOT_STARTED.into());
    };
    match reload() {
        Ok(said) => (StatusCode::OK, format!("{said}\n")),
        Err(wrong) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{wrong}\n")),
    }
}

async fn scrape(State(admin): State<Admin>) -> String {
    if let Some(worker) = admin.worker.get() {
        scrape::look(worker);
    }
    admin.metrics.render()
}

impl Worker {
    /// `consuming` and `publishing`: the worker's links to the broker.
    pub fn new(
        worker: &worker::Worker,
        (consuming, publishing): (watch::Receiver<Link>, watch::Receiver<Link>),
        shutdown: Shutdown,
    ) -> Self {
        Self {
            progress: worker.progress(),
            gate: worker.gate(),
            fleet: worker.fleet(),
            consuming,
            publishing,
            still: worker.still(),
            waits: worker.waits(),
            in_hand: worker.in_hand(),
            publisher: worker.publisher(),
            started_at: Instant::now(),
            shutdown,
        }
    }

    /// Copies watched values first: a second borrow at the same time could deadlock with a pending change.
    fn seen(&self) -> Seen {
        let progress = self.progress.borrow().clone();
        let still = self.still.borrow().clone();
        let (consuming, publishing) = (self.consuming.borrow().clone(), self.publishing.borrow().clone());
        let (fleet, pause) = (self.fleet.as_ref(), self.gate.pause());
        Seen {
            down: down(&consuming, &publishing),
            draining: self.shutdown.is_draining(),
            holder_unknown: fleet.map_or_else(Vec::new, |fleet| fleet.holder_unknown()),
            others: fleet.map(|fleet| Others {
                unheard: is_down("listening", &fleet.link()),
                log_trouble: fleet.log_trouble(),
                has_caught_up: fleet.has_caught_up(),
                holders_are_known: fleet.holders_are_known(),
            }),
            still,
            orders: fleet.map(|fleet| fleet.orders()),
            waiting: self.waits.counts(progress.queued, pause.is_some()),
            progress,
            pause,
            up_for: self.started_at.elapsed(),
            now: Instant::now(),
            wall: Clock::System.now(),
        }
    }
}
