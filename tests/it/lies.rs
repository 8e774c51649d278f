//! A slow provider, and a proxy before it that loses, cuts short and lies, by a seed: whatever it does, each outcome agrees
//! with what the provider itself did.
//!
//! `USHER_TEST_SEEDS`: how many seeds; one where it is not set.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use usher::provider::Kind;
use usher::simulator::{self, Faults, STARTING_VERSION};

use crate::apply::lines;
use crate::process::{Folder, Settings};
use crate::support::http_request;

const USERS: u64 = 40;
const COMMANDS: u64 = 200;

/// What the proxy does with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    /// The connection ends before the provider hears of it, or after.
    LostBefore,
    LostAfter,
    CutShort,
    WithMark,
    BareSuccess,
    /// These the provider never hears of.
    Page(u16),
    Empty(u16),
    /// The provider did it, and this is said.
    DoneAnd(u16),
}

const LIES: [Lie; 13] = [
    Lie::LostBefore,
    Lie::LostAfter,
    Lie::CutShort,
    Lie::WithMark,
    Lie::BareSuccess,
    Lie::Page(200),
    Lie::Page(400),
    Lie::Page(403),
    Lie::Empty(404),
    Lie::Empty(408),
    Lie::Empty(500),
    Lie::DoneAnd(502),
    Lie::DoneAnd(503),
];

/// The numbers of the commands that the provider applied.
type Applied = Arc<Mutex<BTreeSet<u64>>>;

struct Request {
    is_read: bool,
    /// The end of its path.
    user: String,
    bytes: Vec<u8>,
    body: String,
}

async fn request(client: &mut TcpStream) -> Option<Request> {
    let (head, body) = http_request(client).await?;
    Some(Request {
        is_read: head.starts_with("GET "),
        user: head.split(' ').nth(1)?.rsplit('/').next()?.to_owned(),
        // So that the answer ends where the connection does.
        bytes: format!("{head}\r\nconnection: close\r\n\r\n{body}").into_bytes(),
        body,
    })
}

/// The number in the given name that a command sets.
fn number(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("\"N-")?;
    rest.split_once('"')?.0.parse().ok()
}

/// The provider's own answer. A write that it took is noted.
async fn forwarded(request: &Request, to: &str, applied: &Applied) -> Vec<u8> {
    let mut server = TcpStream::connect(to).await.unwrap();
    server.write_all(&request.bytes).await.unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.unwrap();
    if !request.is_read && answer.starts_with(b"HTTP/1.1 2") {
        applied.lock().unwrap().extend(number(&request.body));
    }
    answer
}

fn page(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
        .into_bytes()
}

const HTML: &str = "content-type: text/html\r\n";

/// The answer with a byte order mark before its body.
fn marked(answer: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    if body.is_empty() {
        return answer.to_vec();
    }
    let length = |line: &str| line.to_ascii_lowercase().starts_with("content-length");
    let mut lines: Vec<_> = head
        .lines()
        .filter(|line| !length(line))
        .map(str::to_owned)
        .collect();
    lines.push(format!("content-length: {}", body.len() + 3));
    format!("{}\r\n\r\n\u{feff}{body}", lines.join("\r\n")).into_bytes()
}

async fn answer(lie: Lie, request: &Request, to: &str, applied: &Applied) -> Option<Vec<u8>> {
    let done = async || forwarded(request, to, applied).await;
    Some(match lie {
        Lie::None => done().await,
        Lie::LostBefore => return None,
        Lie::LostAfter => {
            done().await;
            return None;
        }
        Lie::CutShort => {
            let mut whole = done().await;
            whole.truncate(whole.len().saturating_sub(5));
            whole
        }
        Lie::WithMark => marked(&done().await),
        Lie::BareSuccess if !request.is_read => {
            let whole = done().await;
            match whole.starts_with(b"HTTP/1.1 2") {
                true => page(200, "", ""),
                false => whole,
            }
        }
        Lie::BareSuccess => done().await,
        Lie::Page(status) => page(status, HTML, "<html>"),
        Lie::Empty(status) => page(status, "", ""),
        Lie::DoneAnd(status) => {
            done().await;
            page(status, HTML, "<html>")
        }
    })
}

/// A user is lied to no more often in a row: after the last attempt five reads are made, and who is lied to in all of them
/// can't know what the provider did.
const IN_A_ROW_MAX: u8 = 4;

/// Two requests in three are treated well.
async fn proxy(to: String, seed: u64, applied: Applied) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut rng = fastrand::Rng::with_seed(seed);
        let in_a_row: Arc<Mutex<BTreeMap<String, u8>>> = Arc::default();
        while let Ok((mut client, _)) = listener.accept().await {
            let lie = match rng.u8(..3) {
                0 => *rng.choice(&LIES).unwrap(),
                _ => Lie::None,
            };
            let (to, applied, in_a_row) = (to.clone(), applied.clone(), in_a_row.clone());
            tokio::spawn(async move {
                let Some(request) = request(&mut client).await else {
                    return;
                };
                let lie = {
                    let mut in_a_row = in_a_row.lock().unwrap();
                    let lies = in_a_row.entry(request.user.clone()).or_default();
                    let lie = if *lies < IN_A_ROW_MAX { lie } else { Lie::None };
                    *lies = if lie == Lie::None { 0 } else { *lies + 1 };
                    lie
                };
                if let Some(answer) = answer(lie, &request, &to, &applied).await {
                    let _ = client.write_all(&answer).await;
                    let _ = client.shutdown().await;
                }
            });
        }
    });
    url
}

fn commands(kind: Kind) -> String {
    // Each command of Sivo's names a version, which the first of a user's alone can know.
    let count = if kind == Kind::Sivo { USERS } else { COMMANDS };
    let line = |n: u64| {
        let mut command = json!({
            "id": uuid::Uuid::from_u128(u128::from(n) + 1), "provider": "p", "userId": format!("u{}", n % USERS),
            "update": {"givenName": format!("N-{n}")},
        });
        if kind == Kind::Sivo {
            command["expectedVersion"] = STARTING_VERSION.into();
        }
        format!("{command}\n")
    };
    (0..count).map(line).collect()
}

async fn outcomes_agree_with_what_the_provider_did(kind: Kind, seed: u64) {
    let provider = simulator::start(simulator::Settings::new(kind), (Ipv4Addr::LOCALHOST, 0).into())
        .await
        .unwrap();
    // Some answers come after the time-out.
    provider.set_faults(Faults {
        slow: 0.03,
        slow_ms: 700,
        ..Faults::default()
    });
    let applied = Applied::default();
    let url = proxy(provider.addr().to_string(), seed, applied.clone()).await;
    let mut settings = Settings::default()
        .with("PROVIDER__NAME", &"p")
        .with("PROVIDER__KIND", &kind)
        .with("PROVIDER__BASE_URL", &url)
        .with("PROVIDER__AUTH__TOKEN", &"any")
        .with("PROVIDER__TIMEOUT", &"500ms")
        .with("PROVIDER__SETTLING_TIME", &"2s")
        .with("PROVIDER__READ_LAG", &"10ms")
        .with("RETRY__DELAY_MIN", &"10ms")
        .with("RETRY__PROBE_GAP_MAX", &"200ms")
        .with("WORKER__DEAD_LETTER_SHARE_MAX", &"1");
    if kind == Kind::Karmo {
        settings = settings.with("PROVIDER__KARMO__READ_PATH", &"/users/{userId}");
    }
    let folder = Folder::new();
    let file = folder.write("commands.jsonl", &commands(kind));
    let (outcomes, dead) = (folder.path("outcomes.jsonl"), folder.path("dead.jsonl"));
    let arguments = ["apply", &file, "--outcomes", &outcomes, "--dead-letters", &dead];
    let output = settings.run(&arguments, b"").await;
    let applied = applied.lock().unwrap().clone();
    let mut last = BTreeMap::new();
    let mut ended = 0;
    for event in lines(&std::fs::read_to_string(&outcomes).unwrap()) {
        let id: uuid::Uuid = event["data"]["commandId"].as_str().unwrap().parse().unwrap();
        let n = id.as_u128() as u64 - 1;
        let what = format!("{kind}, seed {seed}, command {n}: {event}\n{output:?}");
        match event["type"].as_str().unwrap() {
            "USER_UPDATE_START" => continue,
            "USER_UPDATE_SUCCESS" => {
                assert!(applied.contains(&n), "a false success: {what}");
                last.insert(n % USERS, n);
            }
            _ if event["data"]["error"]["reason"] == "outcome_unknown" => {}
            _ => assert!(!applied.contains(&n), "a false failure: {what}"),
        }
        ended += 1;
    }
    assert_eq!(
        ended,
        commands(kind).lines().count(),
        "{kind}, seed {seed}: {output:?}"
    );
    for (user, n) in last {
        let user: Value = provider.user(&format!("u{user}")).unwrap();
        assert_eq!(number(&user.to_string()), Some(n), "{kind}, seed {seed}: {user}");
    }
}

async fn under_all_seeds(kind: Kind) {
    let seeds = std::env::var("USHER_TEST_SEEDS").map_or(1, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        outcomes_agree_with_what_the_provider_did(kind, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_karmo_agree_with_what_it_did() {
    under_all_seeds(Kind::Karmo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_zitadel_agree_with_what_it_did() {
    under_all_seeds(Kind::Zitadel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_sivo_agree_with_what_it_did() {
    under_all_seeds(Kind::Sivo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_mattr_agree_with_what_it_did() {
    under_all_seeds(Kind::Mattr).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_scim_agree_with_what_it_did() {
    under_all_seeds(Kind::Scim).await;
}
