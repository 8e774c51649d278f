//! Shared parts of the adapters' tests: commands, scratch files, and a server with canned answers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::http::{Http, Settings};
use super::token::Source;
use super::{Kind, ProviderError};
use crate::contract::{UpdateUser, UserId, decode};
use crate::simulator::{self, Simulated};

/// Long enough for a loaded machine. No test waits until it has passed.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn http(base_url: &str, timeout: Duration) -> Http {
    http_with_token(base_url, timeout, "t0ken")
}

pub(super) fn http_with_token(base_url: &str, timeout: Duration, token: &str) -> Http {
    Http::new(Settings {
        base_url: base_url.into(),
        timeout,
        token: Source::Value(SecretString::from(token)),
        concurrency: 4,
        answers: Vec::new(),
    })
    .unwrap()
}

pub(super) fn user_id(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// A command for this user, with these members in addition to the required ones.
pub(super) fn command_with(user: &str, update: &Value, more: &Value) -> UpdateUser {
    let mut command = json!({
        "id": "018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e", "provider": "p", "userId": user, "update": update,
    });
    command
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    decode(command.to_string().as_bytes()).unwrap()
}

pub(super) fn command(user: &str, update: &Value) -> UpdateUser {
    command_with(user, update, &json!({}))
}

/// A command with this text as its update and as further members: a parsed value would round its numbers.
pub(super) fn command_as_written(update: &str, more: &str) -> UpdateUser {
    let command = format!(
        r#"{{"id":"018f6f1e-3b1c-7c5e-9d1a-0f3a2b4c5d6e","provider":"p","userId":"u","update":{update}{more}}}"#
    );
    decode(command.as_bytes()).unwrap()
}

pub(crate) async fn simulated(kind: Kind) -> Simulated {
    simulated_with(simulator::Settings::new(kind)).await
}

pub(crate) async fn simulated_with(settings: simulator::Settings) -> Simulated {
    simulator::start(settings, ([127, 0, 0, 1], 0).into())
        .await
        .unwrap()
}

/// The error of a call, after a check that it contains no value of the command and no token.
#[track_caller]
pub(super) fn error<T>(result: Result<T, ProviderError>) -> ProviderError {
    let error = result.map(drop).unwrap_err();
    let shown = format!("{error} {error:?}");
    for private in ["t0ken", "alex", "Alex", "+61412345678", "hunter2"] {
        assert!(!shown.contains(private), "{shown}");
    }
    error
}

/// A file that is deleted when the test ends.
pub(super) struct ScratchFile(PathBuf);

pub(super) fn scratch_file(content: &str) -> ScratchFile {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "usher-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let file = ScratchFile(std::env::temp_dir().join(name));
    file.write(content);
    file
}

impl ScratchFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, content: &str) {
        std::fs::write(&self.0, content).unwrap();
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A server that gives each request the same bytes, then closes the connection.
pub(super) struct Canned {
    pub(super) base_url: String,
    requests: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Canned {
    /// Changes the answer to later requests.
    pub(super) fn answer_with(&self, status: &str, body: &str) {
        *self.answer.lock().unwrap() = answer(status, "", body).into_bytes();
    }

    /// The requests so far, head and body as received.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// `status` with its phrase, header lines with their line breaks, and a body.
pub(super) async fn canned(status: &str, headers: &str, body: &str) -> Canned {
    canned_bytes(answer(status, headers, body)).await
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

pub(super) async fn canned_bytes(answer: String) -> Canned {
    canned_raw(answer.into_bytes()).await
}

pub(super) async fn canned_raw(answer: Vec<u8>) -> Canned {
    serving(answer, None).await
}

/// Gives each request the answer that the function returns for it.
pub(super) async fn canned_by(answer: impl Fn(&str) -> String + Send + 'static) -> Canned {
    serving(Vec::new(), Some(Box::new(answer))).await
}

type Answering = Box<dyn Fn(&str) -> String + Send>;

async fn serving(answer: Vec<u8>, by: Option<Answering>) -> Canned {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let canned = Canned {
        base_url: format!("http://{}", listener.local_addr().unwrap()),
        requests: Arc::default(),
        answer: Arc::new(Mutex::new(answer)),
    };
    let (requests, answer) = (Arc::clone(&canned.requests), Arc::clone(&canned.answer));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = request(&mut stream).await;
            let bytes = match &by {
                Some(by) => by(&request).into_bytes(),
                None => answer.lock().unwrap().clone(),
            };
            requests.lock().unwrap().push(request);
            let _ = stream.write_all(&bytes).await;
        }
    });
    canned
}

async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return text.into_owned();
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return text.into_owned(),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}
