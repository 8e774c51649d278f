//! The routes, and the steps of one call: quota, faults, the change, the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::calls::Trouble;
use super::control;
use super::headers::Header;
use super::listener::{Cut, CuttableListener};
use super::world::{RunningCall, World};
use crate::provider::shape::{Op, Refusal, Reply, Target};

/// A larger body is refused.
const BODY_BYTES_MAX: usize = 1024 * 1024;

pub(super) async fn serve(listener: TcpListener, world: Arc<World>, stopping: CancellationToken) {
    let router = Router::new()
        .route("/__users", get(control::users))
        .route("/__users/{id}", get(control::user))
        .route("/__calls", get(control::calls).delete(control::forget_calls))
        .route("/__summary", get(control::summary))
        .route("/__faults", post(control::set_faults))
        .route(
            "/__token",
            post(control::set_token).delete(control::revoke_tokens),
        )
        .fallback(call)
        .with_state(world);
    let service = router.into_make_service_with_connect_info::<Cut>();
    let served = axum::serve(CuttableListener(listener), service)
        .with_graceful_shutdown(stopping.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the simulation ended");
    }
}

async fn call(
    State(world): State<Arc<World>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        let too_long = Refusal::invalid("", "", "the body is too long");
        return response(world.refuse(&too_long), []);
    };
    if let Some(document) = world.document(&parts.method, parts.uri.path()) {
        return response(document, []);
    }
    let search = world.search(&parts, &body);
    let target = match &search {
        Some(_) => Some(Target {
            op: Op::Search,
            user_id: "".into(),
        }),
        None => world.target(&parts.method, parts.uri.path()),
    };
    let Some(target) = target else {
        return response(world.refuse(&Refusal::NoRoute), []);
    };
    let (mut running, trouble) = RunningCall::begin(&world, &target, &parts, &body);
    let mut headers = running.take_headers();
    let refused = match trouble {
        Some(Trouble::Throttled(wait)) => Some((Refusal::Throttled, Some(wait))),
        Some(Trouble::Broken) => Some((Refusal::Broken, None)),
        Some(Trouble::DropBefore) => return cut_off(&cut),
        _ => None,
    };
    if let Some((refusal, wait)) = refused {
        let reply = world.refuse(&refusal);
        running.answered(reply.status);
        headers.extend(wait.and_then(|wait| world.retry_after.header(wait)));
        return response(reply, headers);
    }
    if !world.wait(world.latency()).await {
        return cut_off(&cut);
    }
    let (reply, applied) = match &search {
        Some(search) => (world.perform_search(search, &parts.headers), false),
        None => world.perform(&target, &parts.method, &parts.headers, &body),
    };
    running.applied = applied;
    let vanishes = applied && target.op == Op::Write && target.user_id.starts_with("vanishing");
    let late = match trouble {
        Some(Trouble::Slow(late)) => late,
        _ => Duration::ZERO,
    };
    if vanishes || trouble == Some(Trouble::DropAfter) || !world.wait(late).await {
        return cut_off(&cut);
    }
    let reply = match trouble {
        // A refused write keeps its refusal: a 2xx for it would be a lie about the user, not a broken answer.
        Some(Trouble::Garbage) if reply.status < 300 => garbage(&body),
        Some(Trouble::ThrottleAfter) => world.refuse(&Refusal::Throttled),
        Some(Trouble::BrokenAfter) => world.refuse(&Refusal::Unavailable),
        _ => reply,
    };
    running.answered(reply.status);
    response(reply, headers)
}

/// Cuts the connection before a byte of the answer leaves.
fn cut_off(cut: &Cut) -> Response {
    cut.cut();
    Response::new(Body::empty())
}

/// HTML of an intermediary, or truncated JSON.
fn garbage(body: &[u8]) -> Reply {
    let (content_type, body) = if body.len().is_multiple_of(2) {
        ("text/html", "<html><body>Please sign in</body></html>")
    } else {
        ("application/json", r#"{"details":{"sequ"#)
    };
    Reply {
        status: 200,
        content_type,
        etag: None,
        body: body.into(),
    }
}

fn response(reply: Reply, headers: impl IntoIterator<Item = Header>) -> Response {
    let mut builder = Response::builder()
        .status(reply.status)
        .header(CONTENT_TYPE, reply.content_type);
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    if let Some(etag) = reply.etag {
        builder = builder.header(ETAG, etag);
    }
    builder
        .body(Body::from(reply.body))
        .unwrap_or_else(|_| Response::new(Body::empty()))
}
