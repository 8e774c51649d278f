//! The client of a worker's admin port, for `usher resume`.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most bytes that are read of an answer, which is a single line.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// The worker's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    Done(String),
    Refused(String),
}

/// Asks the worker that serves this port to resume.
pub async fn ask_to_resume(at: SocketAddr, token: Option<&SecretString>) -> io::Result<Answered> {
    let mut stream = TcpStream::connect(at).await?;
    let authorization = token.map_or_else(String::new, |token| {
        format!("authorization: Bearer {}\r\n", token.expose_secret())
    });
    let request = format!(
        "POST /resume HTTP/1.1\r\nhost: {at}\r\n{authorization}connection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::InvalidData)?;
    let said = body.trim().to_owned();
    match head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
        Some("200") => Ok(Answered::Done(said)),
        Some("401" | "403" | "503") => Ok(Answered::Refused(said)),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}
