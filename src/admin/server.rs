//! The admin port's connections: few, short, and none of them at the worker's cost.
//!
//! Whoever reaches the port can open connections and send nothing. So there are few of them, each ends soon, and
//! a new one takes the place of the oldest: a client that sends its request at once is answered whatever the
//! others do, and the descriptors that calls and the broker need are never used up here.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Connections at a time.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// From the connection to the end of the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// From the connection to the last byte of the answer. There is one request to a connection, so none is idle.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);

/// A longer head is refused. Bodies are not read: no request needs one.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Where none can be accepted (no descriptor is free), the next try comes after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut open: VecDeque<AbortOnDropHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "admin: no connection can be accepted now");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
            // Its descriptor is free when it has ended.
            let _ = oldest.await;
        }
        let connection = tokio::spawn(attend(stream, router.clone()));
        open.push_back(AbortOnDropHandle::new(connection));
    }
}

async fn attend(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin: a connection ended early"),
        Err(_) => tracing::debug!("admin: a connection took too long"),
    }
}
