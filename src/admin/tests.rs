//! The port as raw bytes see it: clients that send nothing, and requests that somebody else's page made.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics_exporter_prometheus::PrometheusBuilder;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::broker::memory::MemoryBroker;
use crate::broker::{self, Topology};
use crate::config;
use crate::policy::{guard, pace, retry};
use crate::worker::gate;

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// No worker has started: an action that is let through is answered with this.
const LET_THROUGH: u16 = 503;

fn settings(token: Option<&str>) -> config::Admin {
    config::Admin {
        token: token.map(SecretString::from),
        ..config::Admin::default()
    }
}

/// Where a port with these settings listens in truth.
async fn port(settings: &config::Admin) -> SocketAddr {
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(Admin::new(metrics, Access::new(settings)).serve(listener));
    at
}

async fn half_sent(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    // The port may have ended it already, in favour of the next.
    let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: ").await;
    stream
}

/// Status, head and body of the answer to these bytes.
async fn ask(at: SocketAddr, request: &str) -> (u16, String, String) {
    let answered = async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(PATIENCE, answered).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

async fn resume(at: SocketAddr, headers: &[&str]) -> u16 {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    ask(at, &format!("POST /resume HTTP/1.1\r\n{headers}\r\n"))
        .await
        .0
}

/// None of them has to end for it: the newest of those that send nothing are still open then.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_half_sent_requests_keep_nobody_from_an_answer() {
    let at = port(&settings(None)).await;
    let mut half_sent_ones = Vec::new();
    for _ in 0..200 {
        half_sent_ones.push(half_sent(at).await);
    }
    for _ in 0..10 {
        let (status, head, body) = ask(at, "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(status, 503, "{body}");
        assert!(head.contains("connection: close"), "{head}");
        assert!(body.contains("starting"), "{body}");
    }
    // Beyond the bound the port has ended them, the oldest first.
    for stream in &mut half_sent_ones[..200 - server::CONNECTIONS_MAX] {
        let ended = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("an end");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_sent_request_ends_by_itself_and_an_endless_head_is_refused() {
    let at = port(&settings(None)).await;
    let mut stream = half_sent(at).await;
    let mut answer = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the head's time-out ends it");

    let mut stream = TcpStream::connect(at).await.unwrap();
    let written = timeout(PATIENCE, async {
        stream.write_all(b"GET /readyz HTTP/1.1\r\n").await?;
        loop {
            stream.write_all(b"x-filler: 0123456789abcdef\r\n").await?;
        }
    });
    let refused: std::io::Result<()> = written.await.expect("an end");
    assert!(refused.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_and_another_host_name_may_not_act() {
    let at = port(&settings(None)).await;
    let host = format!("host: {at}");
    let own = format!("origin: http://{at}");
    for headers in [
        &[&*host][..],
        &["host: localhost"],
        &["Host: LOCALHOST:9464"],
        &["host: [::1]:9464"],
        &["host: 10.0.0.7"],
        &[&host, &own],
        &[&host, &own, "sec-fetch-site: same-origin"],
        &[&host, "sec-fetch-site: none"],
    ] {
        assert_eq!(resume(at, headers).await, LET_THROUGH, "{headers:?}");
    }
    for headers in [
        &["host: usher.example"][..],
        &["host: 127.0.0.1.rebound.example:9464"],
        &["host: localhost.example"],
        &["host: "],
        &[&host, "origin: https://evil.example"],
        &[&host, "origin: null"],
        &[&host, "origin: http://127.0.0.1"],
        &[&host, &own, "origin: https://evil.example"],
        &[&host, "sec-fetch-site: cross-site"],
        &[&host, "sec-fetch-site: same-site"],
        &[&host, &own, "sec-fetch-site: cross-site"],
    ] {
        assert_eq!(resume(at, headers).await, 403, "{headers:?}");
    }
    let (status, ..) = ask(at, "GET /resume HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status, 405, "an action is no read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_wanted_where_one_is_set_and_where_others_reach_the_port() {
    let host = "host: localhost";
    let right = "authorization: Bearer s3cret-t0ken";
    let wrong = [
        "x-nothing: 1",
        "authorization: Bearer s3cret-t0ke",
        "authorization: Bearer s3cret-t0ken2",
        "authorization: Bearer ",
        "authorization: Basic s3cret-t0ken",
        "authorization: s3cret-t0ken",
    ];
    let everywhere = (std::net::Ipv4Addr::UNSPECIFIED, 9464).into();

    let guarded = port(&settings(Some("s3cret-t0ken"))).await;
    assert_eq!(resume(guarded, &[host, right]).await, LET_THROUGH);
    assert_eq!(
        resume(guarded, &[host, "Authorization: bearer s3cret-t0ken"]).await,
        LET_THROUGH
    );
    for header in wrong {
        assert_eq!(resume(guarded, &[host, header]).await, 401, "{header}");
    }
    assert_eq!(resume(guarded, &[host, right, right]).await, 401, "two of them");
    assert_eq!(resume(guarded, &["host: evil.example", right]).await, 403);

    let mut open = settings(None);
    open.listen = everywhere;
    let open = port(&open).await;
    assert_eq!(resume(open, &[host]).await, 403);
    assert_eq!(resume(open, &[host, right]).await, 403);
    let (status, _, said) = ask(open, "POST /resume HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    assert!(status == 403 && said.contains("admin.token_file"), "{said}");
    let (status, ..) = ask(open, "GET /livez HTTP/1.1\r\nhost: usher.example\r\n\r\n").await;
    assert_eq!(status, 200, "any client that reaches the port may read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_counts_as_it_is_at_that_moment() {
    let path = std::env::temp_dir().join(format!("usher-admin-{}", uuid::Uuid::new_v4()));
    std::fs::write(&path, "first\n").unwrap();
    let settings = config::Admin {
        token_file: Some(path.clone()),
        ..config::Admin::default()
    };
    let at = port(&settings).await;
    let bearer = |token: &str| format!("authorization: Bearer {token}");
    let resume_with = async |token: &str| resume(at, &["host: localhost", &bearer(token)]).await;
    assert_eq!(
        (resume_with("first").await, resume_with("second").await),
        (LET_THROUGH, 401)
    );
    std::fs::write(&path, "second").unwrap();
    assert_eq!(
        (resume_with("first").await, resume_with("second").await),
        (401, LET_THROUGH)
    );
    let request = format!(
        "POST /resume HTTP/1.1\r\nhost: {at}\r\n{}\r\nconnection: close\r\n\r\n",
        bearer("second")
    );
    let (status, _, said) = ask(at, &request).await;
    assert_eq!((status, said.as_str()), (LET_THROUGH, NOT_STARTED));
    for broken in ["", "two words"] {
        std::fs::write(&path, broken).unwrap();
        let request = "POST /resume HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer \r\n\r\n";
        let (status, _, said) = ask(at, request).await;
        assert!(status == 503 && said.contains("admin.token_file"), "{said}");
    }
    std::fs::remove_file(&path).unwrap();
}

fn gate() -> Arc<Gate> {
    Gate::new(gate::Settings {
        pace: pace::Settings {
            rates: pace::Rates::default(),
            share: 1.0,
            gap_max: PATIENCE,
            clock: Clock::System,
        },
        concurrency: 1,
        retry: retry::Config::default(),
        bulk_share_min: 0.0,
        guard: guard::Settings {
            share_max: 1.0,
            window: 1,
            doubts_configuration: false,
        },
        can_read: false,
        seed: 1,
    })
}

/// Reading a watched value twice at a time deadlocks if a writer waits in between.
#[test]
fn readiness_and_progress_do_not_block_each_other() {
    let progress = watch::Sender::new(Progress::new(1, 512));
    let broker = MemoryBroker::new(&Topology::new("sivo", &broker::Config::default()));
    let (_links, link) = watch::channel(Link::Up);
    let worker = Worker {
        progress: progress.subscribe(),
        gate: gate(),
        fleet: None,
        consuming: link.clone(),
        publishing: link,
        still: watch::channel(None).1,
        waits: Arc::default(),
        in_hand: Arc::default(),
        publisher: broker.publisher(),
        started_at: Instant::now(),
        shutdown: Shutdown::new(),
    };
    let done = Arc::new(AtomicBool::new(false));
    let is_done = done.clone();
    std::thread::spawn(move || {
        while !is_done.load(Ordering::Relaxed) {
            progress.send_modify(|progress| progress.running += 1);
        }
    });
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..10_000 {
            worker.seen();
        }
        sender.send(()).unwrap();
    });
    let ended = receiver.recv_timeout(PATIENCE);
    done.store(true, Ordering::Relaxed);
    assert!(ended.is_ok(), "they wait for each other");
}
