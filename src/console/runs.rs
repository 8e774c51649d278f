//! The operations that run in this process, each with what it last told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::link::Ports;
use crate::clock::Clock;
use crate::operations::operation::{Access, OperationError, Ready, Report};
use crate::worker::Shutdown;

/// The most operations that run here at a time.
pub const RUNS_MAX: usize = 8;

/// The latest that have ended are remembered with what they told.
const ENDED_MAX: usize = 50;

/// How long operations may take to stop in order.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

struct Run {
    id: Uuid,
    shutdown: Shutdown,
    told: String,
    ended: bool,
}

#[derive(Clone, Default)]
pub struct Runs(Arc<Mutex<VecDeque<Run>>>);

impl Runs {
    fn with<T>(&self, change: impl FnOnce(&mut VecDeque<Run>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn running(&self) -> usize {
        self.with(|runs| runs.iter().filter(|run| !run.ended).count())
    }

    /// What the operation last told, if it runs or ran here.
    pub fn told(&self, id: Uuid) -> Option<String> {
        self.with(|runs| {
            runs.iter()
                .rev()
                .find(|run| run.id == id)
                .map(|run| run.told.clone())
        })
    }

    /// Runs it in the background, on a connection of its own.
    pub fn begin(&self, ready: Ready, ports: Ports) {
        let (id, shutdown) = (ready.id(), Shutdown::new());
        let (runs, stopping) = (self.clone(), shutdown.clone());
        self.with(|runs| {
            while runs.len() >= ENDED_MAX + RUNS_MAX {
                let Some(oldest) = runs.iter().position(|run| run.ended) else {
                    break;
                };
                runs.remove(oldest);
            }
            runs.push_back(Run {
                id,
                shutdown,
                told: "It begins.".to_owned(),
                ended: false,
            });
        });
        // On a thread of its own: an operation's future stays where it began.
        let runtime = Handle::current();
        spawn_blocking(move || {
            let tell = |line: &str| runs.tell(id, line, false);
            let ran = runtime.block_on(ready.run(&stopping, &tell));
            runtime.block_on(ports.close());
            runs.tell(id, &ended(ran), true);
        });
    }

    fn tell(&self, id: Uuid, line: &str, ended: bool) {
        self.with(|runs| {
            if let Some(run) = runs.iter_mut().rev().find(|run| run.id == id) {
                line.clone_into(&mut run.told);
                run.ended |= ended;
            }
        });
    }

    /// Asks it to stop. Returns whether it runs here.
    pub fn stop_one(&self, id: Uuid) -> bool {
        self.with(|runs| {
            let running = runs.iter().find(|run| run.id == id && !run.ended);
            running.map(|run| run.shutdown.drain()).is_some()
        })
    }

    /// Asks all to stop, and waits for them a while.
    pub async fn stop(&self) {
        self.with(|runs| runs.iter().for_each(|run| run.shutdown.drain()));
        let all_ended = async {
            while self.running() > 0 {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let _all_ended = timeout(STOPS_WITHIN, all_ended).await;
    }
}

fn ended(ran: Result<Report, OperationError>) -> String {
    match ran {
        Err(error) => format!("It was interrupted, and can be resumed: {error}"),
        Ok(report) => match (report.end, report.why) {
            (None, _) => "It was interrupted, and can be resumed.".to_owned(),
            (Some(end), Some(why)) => format!("It has ended ({}): {why}.", end.as_str()),
            (Some(end), None) => format!("It has ended ({}).", end.as_str()),
        },
    }
}

/// The same connection, as operations take it.
pub fn access(ports: &Ports, clock: Clock) -> Access {
    Access {
        inspector: ports.inspector.clone(),
        publisher: ports.publisher.clone(),
        clock,
    }
}
