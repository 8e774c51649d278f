//! One run from its start to the moment when all has come to rest.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use usher::broker::topology::UNROUTABLE;
use usher::simulator::quota::QuotaKind;
use usher::simulator::{self, Simulated};

use super::board::Board;
use super::breaking::Breaker;
use super::brokers::Brokers;
use super::command::{number_in, user_id};
use super::evidence::{Evidence, Stall};
use super::fleet::Fleet;
use super::link::connect;
use super::moods::{Moods, bears};
use super::options::Options;
use super::outcomes::{self, account, dead_letters};
use super::plan::{self, HEARTBEAT, Planned};
use super::publishing::Publisher;
use super::report::Tally;
use crate::process::Settings;
use crate::support::moment;

const PROVIDER: &str = "chaos";
const PUBLISHERS: u32 = 4;
/// A fleet that settles nothing for so long has come to rest, or never will.
const REST: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(50);

/// What is noted beside the run.
#[derive(Default)]
struct Notes {
    stalls: Mutex<Vec<Stall>>,
    busy_ms: AtomicU64,
}

/// What a run leaves behind, and how many breaks were planned.
pub async fn run(options: &Options) -> (Evidence, Tally, usize) {
    let brokers = Brokers::ready(options).await;
    let urls: Arc<[String]> = brokers.vhost().await.into();
    let began = Instant::now();
    let provider = provider(options).await;
    let settings = settings(options, &provider);
    declare(&settings, &urls[0]).await;
    brokers.write_down_where_streams_are().await;
    let plan = plan(options, &brokers);

    let board = Arc::new(Board::new());
    let notes = Arc::new(Notes::default());
    let beside = [
        tokio::spawn(outcomes::follow(urls.clone(), board.clone())),
        tokio::spawn(look_on(notes.clone(), board.clone(), began)),
    ];
    let fleet = Fleet::new(settings.with("BROKER__URL", &urls.join(",")), options.workers);
    let (end, ended) = watch::channel(false);
    let publishing = publish(options, &urls, &board, &ended);
    // The plan's clock begins when the fleet does.
    let start = began.elapsed();
    let breaker = Breaker {
        brokers: &brokers,
        fleet: &fleet,
        provider: &provider,
        moods: Moods::new(options.rate),
        began,
        record: Mutex::default(),
    };
    breaker.carry_out(&plan, start).await;
    moment(began + start + Duration::from_secs(options.seconds)).await;
    end.send_replace(true);
    for publisher in publishing {
        publisher.await.unwrap();
    }
    let left = rest(options, &urls, &board, &fleet).await;
    let took = began.elapsed().saturating_sub(start);
    for beside in beside {
        assert!(!beside.is_finished(), "it has ended: {:?}", beside.await);
        beside.abort();
    }

    let mut evidence = gather(options, &urls, &provider, &board).await;
    evidence.broken = breaker
        .record
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    evidence.stalls = std::mem::take(&mut *notes.stalls.lock().unwrap());
    evidence.ended = fleet.ended();
    evidence.left = left;
    let summary = provider.summary();
    let tally = Tally {
        repeats: board.repeats(),
        busy: Duration::from_millis(notes.busy_ms.load(Ordering::Relaxed)),
        accepted: summary.accepted,
        throttled: summary.throttled,
        took,
    };
    (evidence, tally, plan.len())
}

fn plan(options: &Options, brokers: &Brokers) -> Vec<Planned> {
    let asked = |what| options.breaks.as_ref().is_none_or(|only| only.contains(&what));
    let may = |what| asked(what) && brokers.may(what);
    plan::plan(options.seed, options.seconds, options.gap, may)
}

async fn gather(options: &Options, urls: &Arc<[String]>, provider: &Simulated, board: &Board) -> Evidence {
    let published = board.published();
    let mut evidence = Evidence {
        quota: options.rate,
        consumer_timeout: options.consumer_timeout.is_some(),
        account: account(urls, published.len()).await,
        dead_letters: dead_letters(urls).await,
        last: last_values(options, provider),
        published,
        ..Evidence::default()
    };
    evidence.take_calls(&provider.calls());
    evidence
}

/// Its log of calls has room for all of them.
async fn provider(options: &Options) -> Simulated {
    let settings = simulator::Settings {
        quota: Some(QuotaKind::Sliding {
            calls: bears(options.rate),
            window: Duration::from_secs(1),
        }),
        latency: Duration::from_millis(15),
        seed: options.seed,
        calls_max: usize::try_from(u64::from(options.rate) * (options.seconds + 600) * 2).unwrap(),
        ..simulator::Settings::new(options.kind)
    };
    simulator::start(settings, (Ipv4Addr::LOCALHOST, 0).into())
        .await
        .unwrap()
}

/// Short times, so that all comes to rest soon.
fn settings(options: &Options, provider: &Simulated) -> Settings {
    let settings = Settings::default()
        .with("BROKER__PARTITIONS", &options.partitions)
        .with("BROKER__PREFETCH", &options.prefetch)
        .with("BROKER__HEARTBEAT", &format!("{}s", HEARTBEAT.as_secs()))
        .with("BROKER__RECONNECT_DELAY_MAX", &"1s")
        .with("BROKER__CONFIRM_TIMEOUT", &"5s")
        .with("PROVIDER__NAME", &PROVIDER)
        .with("PROVIDER__KIND", &options.kind)
        .with("PROVIDER__BASE_URL", &provider.base_url())
        .with("PROVIDER__AUTH__TOKEN", &"of the test")
        .with("PROVIDER__RATE__PER_SECOND", &options.rate)
        .with("PROVIDER__TIMEOUT", &"2s")
        .with("PROVIDER__SETTLING_TIME", &"300ms")
        .with("RETRY__ATTEMPTS", &10)
        .with("RETRY__ELAPSED_MAX", &"10m")
        .with("RETRY__DELAY_MAX", &"2s")
        .with("RETRY__PROBE_GAP_MAX", &"2s")
        .with("WORKER__GRACE_PERIOD", &"10s")
        .with("WORKER__DEAD_LETTER_SHARE_MAX", &1)
        .with("ADMIN__LISTEN", &"127.0.0.1:0");
    match options.consumer_timeout {
        Some(timeout) => settings
            .with("BROKER__CONSUMER_TIMEOUT", &format!("{}s", timeout.as_secs()))
            .with("BROKER__HOLD_MAX", &format!("{}s", timeout.as_secs() / 2)),
        None => settings,
    }
}

async fn declare(settings: &Settings, url: &str) {
    let settings = settings.clone().with("BROKER__URL", &url);
    let declared = settings.run(&["topology", "declare"], b"").await;
    assert!(declared.status.success(), "{declared:?}");
}

fn publish(
    options: &Options,
    urls: &Arc<[String]>,
    board: &Arc<Board>,
    ended: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let mut rng = Rng::with_seed(options.seed);
    let publisher = |index: u32| Publisher {
        urls: urls.clone(),
        provider: PROVIDER.to_owned(),
        board: board.clone(),
        users: (0..options.users)
            .filter(|user| user % PUBLISHERS == index)
            .collect(),
        twice: options.twice,
        rng: rng.fork(),
    };
    let publishers: Vec<_> = (0..PUBLISHERS).map(publisher).collect();
    let run = |publisher: Publisher| tokio::spawn(publisher.run(ended.clone()));
    publishers.into_iter().map(run).collect()
}

/// Notes when this process stood still, and for how long there was something to do.
async fn look_on(notes: Arc<Notes>, board: Arc<Board>, began: Instant) {
    let step = Duration::from_millis(5);
    loop {
        let due = Instant::now() + step;
        moment(due).await;
        let now = Instant::now();
        let lag = now - due;
        if lag > step {
            let at = now - began;
            notes.stalls.lock().unwrap().push(Stall { at, lag });
        }
        if board.open() > 0 {
            let passed = u64::try_from((lag + step).as_millis()).unwrap();
            notes.busy_ms.fetch_add(passed, Ordering::Relaxed);
        }
    }
}

/// Waits until everything is settled and nothing is left in the queues, or nothing moves any more. Answers what is left.
async fn rest(options: &Options, urls: &[String], board: &Board, fleet: &Fleet) -> Vec<(String, u32)> {
    let mut left = Vec::new();
    // What is in a worker's hands is in no count: it shows when the workers have gone.
    for _ in 0..5 {
        // A queue is empty, too, while all of it is in hand: what counts is what is told.
        let mut moves = board.moves();
        while board.open() > 0 && timeout(REST, moves.changed()).await.is_ok() {}
        let deadline = Instant::now() + REST / 2;
        while Instant::now() < deadline && depths(options, urls).await.iter().any(|(_, count)| *count > 0) {
            moment(Instant::now() + LOOK).await;
        }
        fleet.drain_all().await;
        left = depths(options, urls).await;
        if left.iter().all(|(_, count)| *count == 0) {
            break;
        }
        fleet.start_all();
    }
    fleet.drain_all().await;
    left
}

async fn depths(options: &Options, urls: &[String]) -> Vec<(String, u32)> {
    let link = connect(urls).await;
    let partitions = (0..options.partitions).flat_map(|partition| {
        ["user.update", "user.update.bulk"].map(|class| format!("{class}.{PROVIDER}.{partition}"))
    });
    let queues: Vec<_> = partitions.chain([UNROUTABLE.to_owned()]).collect();
    let depths = join_all(queues.iter().map(|queue| outcomes::depth(&link, queue))).await;
    queues
        .into_iter()
        .zip(depths)
        .map(|(queue, depth)| (queue, depth.unwrap()))
        .collect()
}

fn last_values(options: &Options, provider: &Simulated) -> std::collections::HashMap<u32, Option<u32>> {
    let last = |user: u32| number_in(&provider.user(&user_id(user))?.to_string());
    (0..options.users).map(|user| (user, last(user))).collect()
}
