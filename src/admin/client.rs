//! Asks a worker's admin port for its `/readyz`, for `usher check`.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

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
    let at = reachable(listen);
    match timeout(ANSWERS_WITHIN, ask(at)).await {
        Ok(Ok(reported)) => Ok(Some(reported)),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ErrorKind::TimedOut.into()),
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

async fn ask(at: SocketAddr) -> io::Result<Reported> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    body.and_then(|body| serde_json::from_str(body).ok())
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "the answer is not a worker's"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn asked(answer: &'static str) -> io::Result<Option<Reported>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        // As a worker that listens on all addresses.
        readiness(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
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
        }
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        assert_eq!(readiness(closed).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_accepts_and_says_nothing_is_given_up_after_two_seconds() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = readiness(silent.local_addr().unwrap()).await;
        assert_eq!(asked.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
