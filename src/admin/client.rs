//! Asks a worker's admin port for its `/readyz` and `/livez`, for `usher check` and `usher health`.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ALIVE;

/// The most bytes that are read of an answer, which may hold the orders for a thousand batches.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// From connecting to the last byte.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Reported {
    pub ready: bool,
    /// As in the tables of `docs/operating.md`.
    pub state: String,
    #[serde(default)]
    pub detail: Option<String>,
}

/// What the worker with this `admin.listen` says. `None`: none runs there.
pub async fn readiness(listen: SocketAddr) -> io::Result<Option<Reported>> {
    let Some(answer) = ask(listen, "/readyz").await? else {
        return Ok(None);
    };
    let reported = body(&answer).and_then(|body| serde_json::from_str(body).ok());
    reported.map(Some).ok_or_else(not_a_workers)
}

/// Whether a worker with this `admin.listen` lives: its process answers. An answer of another program is an error.
pub async fn liveness(listen: SocketAddr) -> io::Result<bool> {
    match ask(listen, "/livez").await? {
        None => Ok(false),
        Some(answer) if body(&answer) == Some(ALIVE) => Ok(true),
        Some(_) => Err(not_a_workers()),
    }
}

/// A worker that listens on all addresses is asked on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The whole answer, within its time. `None`: nobody listens there.
async fn ask(listen: SocketAddr, path: &str) -> io::Result<Option<String>> {
    match timeout(ANSWERS_WITHIN, answer(reachable(listen), path)).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

async fn answer(at: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

fn body(answer: &str) -> Option<&str> {
    answer.split_once("\r\n\r\n").map(|(_, body)| body)
}

fn not_a_workers() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer is not a worker's")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// The address of a program that answers this. As a worker that listens on all addresses.
    async fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
    }

    async fn asked(answer: &'static str) -> io::Result<Option<Reported>> {
        readiness(answering(answer).await).await
    }

    #[tokio::test]
    async fn a_worker_is_told_from_nobody_and_from_another_program() {
        let said = asked("HTTP/1.1 503 x\r\n\r\n{\"ready\":false,\"state\":\"stalled\",\"later\":1}").await;
        let said = said.unwrap().unwrap();
        assert_eq!(
            (said.ready, said.state.as_str(), said.detail),
            (false, "stalled", None)
        );
        for other in ["HTTP/1.1 200 OK\r\n\r\nhello", "SSH-2.0\r\n", ""] {
            assert_eq!(
                asked(other).await.unwrap_err().kind(),
                ErrorKind::InvalidData,
                "{other}"
            );
            let live = liveness(answering(other).await).await;
            assert_eq!(live.unwrap_err().kind(), ErrorKind::InvalidData, "{other}");
        }
        let alive = answering("HTTP/1.1 200 OK\r\n\r\nalive\n").await;
        assert!(liveness(alive).await.unwrap());
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        assert_eq!(readiness(closed).await.unwrap(), None);
        assert!(!liveness(closed).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn who_accepts_and_says_nothing_is_given_up_after_two_seconds() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = readiness(silent.local_addr().unwrap()).await;
        assert_eq!(asked.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
