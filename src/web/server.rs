//! A port's connections: few and short, so that they can't starve the rest of the process.
//!
//! Any client that reaches the port can open connections and send nothing. So their number and duration are bounded,
//! and a new one replaces the oldest: a client that sends its request at once gets an answer whatever other clients
//! do, and the file descriptors that calls and the broker need are never used up here.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// The most connections at a time.
pub const CONNECTIONS_MAX: usize = 64;

/// The time limit for the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A longer head is refused.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The delay after a failed accept, for example when no file descriptor is free.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves until it is dropped. A connection serves one request, so none is idle; it ends after `longest`, to the last byte of
/// the answer.
pub async fn serve(listener: TcpListener, router: Router, longest: Duration) {
    let mut open: VecDeque<AbortOnDropHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "port: no connection can be accepted now");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
            // Its file descriptor is free once the task has ended.
            let _ = oldest.await;
        }
        let connection = tokio::spawn(attend(stream, router.clone(), longest));
        open.push_back(AbortOnDropHandle::new(connection));
    }
}

async fn attend(stream: TcpStream, router: Router, longest: Duration) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(longest, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "port: a connection ended early"),
        Err(_) => tracing::debug!("port: a connection took too long"),
    }
}
