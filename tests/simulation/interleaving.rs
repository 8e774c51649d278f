//! What many tasks share, under a scheduler that takes them in turns as a seed says and drops some half-way: nobody waits
//! for ever, and what is counted adds up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{sleep, timeout};
use usher::clock::Clock;
use usher::contract::{Fault, TrafficClass, UserId};
use usher::policy::health::{Call, Trouble};
use usher::provider::ProviderError;
use usher::worker::gate::Gate;

use crate::pace::gate_for;
use crate::world::per_second;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Of one task: whether it was woken, and whom that wakes.
#[derive(Default)]
struct Woken {
    is: AtomicBool,
    scheduler: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is.store(true, Ordering::Release);
        self.scheduler.wake();
    }
}

/// Polls those that were woken in an order of its own, and one that was not at times, as runtimes may.
struct Scheduler {
    tasks: Vec<(Option<Task>, Arc<Woken>)>,
    rng: fastrand::Rng,
    /// One poll in so many drops the task instead: whoever waited for it has left. None: never.
    drops: Option<usize>,
}

impl Scheduler {
    fn new(tasks: Vec<Task>, drops: Option<usize>, rng: fastrand::Rng) -> Self {
        let woken = |task| {
            let woken = Woken {
                is: AtomicBool::new(true),
                scheduler: AtomicWaker::new(),
            };
            (Some(task), Arc::new(woken))
        };
        Self {
            tasks: tasks.into_iter().map(woken).collect(),
            rng,
            drops,
        }
    }
}

impl Future for Scheduler {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        for (_, woken) in &this.tasks {
            woken.scheduler.register(context.waker());
        }
        loop {
            let mut ready: Vec<usize> = (0..this.tasks.len())
                .filter(|n| this.tasks[*n].0.is_some() && this.tasks[*n].1.is.load(Ordering::Acquire))
                .collect();
            if ready.is_empty() {
                return match this.tasks.iter().all(|(task, _)| task.is_none()) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                };
            }
            this.rng.shuffle(&mut ready);
            let (task, woken) = &mut this.tasks[ready[0]];
            woken.is.store(false, Ordering::Release);
            let dropped = this.drops.is_some_and(|one_in| this.rng.usize(..one_in) == 0);
            let waker = Waker::from(woken.clone());
            let polled = task
                .as_mut()
                .map(|task| task.as_mut().poll(&mut Context::from_waker(&waker)));
            if dropped || polled.is_some_and(|polled| polled.is_ready()) {
                *task = None;
            }
        }
    }
}

/// Calls that are out, and the most that were.
#[derive(Default)]
struct Out {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct IsOut(Arc<Out>);

impl IsOut {
    fn new(out: &Arc<Out>) -> Self {
        let now = out.now.fetch_add(1, Ordering::AcqRel) + 1;
        out.most.fetch_max(now, Ordering::AcqRel);
        Self(out.clone())
    }
}

impl Drop for IsOut {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::AcqRel);
    }
}

const CONCURRENCY: usize = 3;

/// A command of this user: some calls, which fail in every way; or it forgets to say how one went.
fn caller(gate: Arc<Gate>, n: usize, out: Arc<Out>, mut rng: fastrand::Rng) -> Task {
    Box::pin(async move {
        let user = UserId::parse(&format!("u{n}")).unwrap();
        let class = match rng.bool() {
            true => TrafficClass::Interactive,
            false => TrafficClass::Bulk,
        };
        let mut trouble = Trouble::default();
        for _ in 0..rng.usize(1..6) {
            let permit = gate.permit(class, 0, &user).await;
            let is_out = IsOut::new(&out);
            if rng.bool() {
                tokio::task::yield_now().await;
            } else {
                sleep(Duration::from_millis(rng.u64(..50))).await;
            }
            drop(is_out);
            let failure = |fault| ProviderError::new(fault, "scripted");
            let answer = match rng.usize(..8) {
                0 => Err(failure(Fault::Throttled {
                    retry_after: Some(Duration::from_millis(rng.u64(..500))),
                })),
                1 => Err(failure(Fault::Broken)),
                2 => Err(failure(Fault::Unreachable)),
                3 => continue,
                _ => Ok(()),
            };
            permit.report(&user, Call::Write, answer.as_ref().copied(), &mut trouble);
        }
    })
}

/// What others do with it meanwhile.
fn meddler(gate: Arc<Gate>, mut rng: fastrand::Rng) -> Task {
    Box::pin(async move {
        for _ in 0..20 {
            match rng.usize(..5) {
                0 => gate.resume(),
                1 => gate.set_quota_share(&[0], 1),
                2 => drop(gate.announcement()),
                3 => drop(gate.pause()),
                _ => gate.retry_allowed().await,
            }
            sleep(Duration::from_millis(rng.u64(..100))).await;
        }
    })
}

async fn interleaved(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let rate = [5, 100, 10_000][rng.usize(..3)];
    let gate = gate_for(per_second(rate), CONCURRENCY, Clock::System, seed);
    let open = tokio::spawn(gate.clone().keep_open());
    let out = Arc::new(Out::default());
    let mut tasks: Vec<Task> = (0..12)
        .map(|n| caller(gate.clone(), n, out.clone(), rng.fork()))
        .collect();
    tasks.push(meddler(gate.clone(), rng.fork()));
    let drops = [None, Some(20), Some(5)][rng.usize(..3)];
    let all = Scheduler::new(tasks, drops, rng.fork());
    let ended = timeout(Duration::from_secs(3600), all).await;
    assert!(
        ended.is_ok(),
        "seed {seed}: somebody waits for ever: {:?}",
        gate.pause()
    );
    let most = out.most.load(Ordering::Acquire);
    assert!(most <= CONCURRENCY, "seed {seed}: {most} calls at a time");
    // Nothing is left behind: as many as may call at a time can.
    let user = UserId::parse("last").unwrap();
    let mut permits = Vec::new();
    for _ in 0..CONCURRENCY {
        let permit = timeout(
            Duration::from_secs(3600),
            gate.permit(TrafficClass::Interactive, 0, &user),
        );
        let permit = permit.await;
        let Ok(permit) = permit else {
            panic!("seed {seed}: a place is not free again: {:?}", gate.pause());
        };
        // Of an outage one probe goes out at a time.
        match gate.pause() {
            Some(_) => drop(permit),
            None => permits.push(permit),
        }
    }
    open.abort();
}

#[tokio::test(start_paused = true)]
async fn every_waiter_at_the_gate_gets_its_permit_in_any_order_of_events() {
    for seed in 0..500 {
        interleaved(seed).await;
    }
}
