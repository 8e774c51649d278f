//! A provider that repeats what it was sent wherever an answer has room for a word, and a token endpoint that does so.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::http_request;

/// Statuses that a user's first write gets, whereafter it gets 400.
const ONCE: [u16; 7] = [302, 401, 403, 429, 500, 503, 504];

pub struct Echo {
    pub address: SocketAddr,
}

struct World {
    words: Vec<String>,
    token: String,
    /// What the token endpoint answers next: a refusal with this word, or the token, as ever after.
    refusals: Mutex<VecDeque<Option<String>>>,
    seen: Mutex<BTreeSet<String>>,
}

impl Echo {
    /// `words` are repeated to those who ask for a user, `refusals` to those who ask for a token.
    pub async fn start(words: Vec<String>, token: &str, refusals: Vec<Option<String>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(World {
            words,
            token: token.to_owned(),
            refusals: Mutex::new(refusals.into()),
            seen: Mutex::default(),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let world = Arc::clone(&world);
                tokio::spawn(async move { world.serve(stream).await });
            }
        });
        Self { address }
    }
}

/// What the user's id asks for: `400.3`, the status and which of the words. `r400.3` refuses reads too.
fn asked_for(user: &str) -> (bool, u16, usize) {
    let (status, word) = user.split_once('.').unwrap_or(("404", "0"));
    let digits = status.trim_start_matches('r');
    (
        digits.len() < status.len(),
        digits.parse().unwrap(),
        word.parse().unwrap(),
    )
}

impl World {
    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let (method, path) = request(&mut stream).await?;
        let user = path.rsplit('/').next().unwrap_or_default();
        let (status, word, body) = match method.as_str() {
            _ if path == "/token" => self.token_answer(),
            "GET" => {
                let (refused, _, word) = asked_for(user);
                let word = &self.words[word];
                let (status, body) = match refused {
                    true => (400, refusal(word)),
                    false => (200, user_as_read(word)),
                };
                (status, word.to_owned(), body)
            }
            _ => {
                let (_, status, word) = asked_for(user);
                let word = &self.words[word];
                let first = self.seen.lock().unwrap().insert(user.to_owned());
                let status = if ONCE.contains(&status) && !first {
                    400
                } else {
                    status
                };
                let body = if status == 200 { json!({}) } else { refusal(word) };
                (status, word.to_owned(), body)
            }
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} {word}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{}\r\n",
            body.len(),
            headers(&word)
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.ok()
    }

    fn token_answer(&self) -> (u16, String, Value) {
        let next = self.refusals.lock().unwrap().pop_front().flatten();
        let Some(word) = next else {
            let granted = json!({"access_token": self.token, "token_type": "Bearer", "expires_in": 3600});
            return (200, "OK".into(), granted);
        };
        let body = json!({"error": word, "error_description": word, "error_uri": word});
        (400, word, body)
    }
}

/// The word in every header that is read, and in some that are not.
fn headers(word: &str) -> String {
    let lines = [
        format!("retry-after: {word}"),
        format!("retry-after-ms: {word}"),
        format!("ratelimit: \"{word}\";r={word};t={word}"),
        format!("ratelimit-policy: \"{word}\";q={word};w={word}"),
        format!("x-ratelimit-limit: {word}"),
        format!("x-ratelimit-remaining: {word}"),
        format!("x-ratelimit-reset: {word}"),
        format!("date: {word}"),
        format!("etag: \"{word}\""),
        format!("www-authenticate: Bearer realm=\"{word}\", error=\"{word}\""),
        format!("location: http://127.0.0.1:1/{word}"),
        format!("server: {word}"),
        "connection: close".into(),
    ];
    lines.map(|line| format!("{line}\r\n")).concat()
}

/// The word in every member in which some kind has something to say.
fn refusal(word: &str) -> Value {
    let details = json!([{"@type": word, "id": word, "message": word, "value": word, "msg": word, "param": word,
        "location": word, "pointer": format!("/{word}")}]);
    json!({"code": word, "errorCode": word, "error": {"code": word, "message": word}, "message": word,
        "details": details, "errors": details, "metadata": {word: word}, "schemas": [word], "status": word,
        "scimType": word, "detail": word})
}

fn user_as_read(word: &str) -> Value {
    json!({"id": word, "user": {"userId": word, "human": {"profile": {"givenName": word}}, "username": word},
        "claims": {"given_name": word, "other": word}, "givenName": word, "name": {"givenName": word},
        "details": {"sequence": word}, "meta": {"version": word}, "updated_at": word})
}

/// Method and path of one request.
async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let (head, _) = http_request(stream).await?;
    let mut words = head.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}
