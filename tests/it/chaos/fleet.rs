//! The workers: processes in places. When one is gone, another takes its place under a number of its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex as Lock, PoisonError};

use tokio::sync::{Mutex, MutexGuard};

use crate::process::{Process, Settings};

pub struct Fleet {
    settings: Settings,
    places: Vec<Mutex<Option<Worker>>>,
    ended: Lock<Vec<Ended>>,
    started: AtomicU32,
}

pub struct Worker {
    pub number: u32,
    process: Process,
}

/// How a worker ended, and what it said.
pub struct Ended {
    pub number: u32,
    /// None where a signal ended it.
    pub code: Option<i32>,
    pub asked: Asked,
    pub said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    ToDrain,
    /// It can't refuse.
    Killed,
}

/// What a worker's calls carry, which identifies them.
pub fn token(number: u32) -> String {
    format!("worker-{number}")
}

impl Fleet {
    pub fn new(settings: Settings, workers: usize) -> Self {
        let fleet = Self {
            settings,
            places: (0..workers).map(|_| Mutex::default()).collect(),
            ended: Lock::default(),
            started: AtomicU32::new(0),
        };
        fleet.start_all();
        fleet
    }

    pub fn start(&self) -> Worker {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let settings = self
            .settings
            .clone()
            .with("PROVIDER__AUTH__TOKEN", &token(number));
        Worker {
            number,
            process: settings.start(&["run"]),
        }
    }

    /// A worker that nobody else breaks now. It is taken out of its place, or left in it.
    pub fn any(&self, dice: u64) -> Option<MutexGuard<'_, Option<Worker>>> {
        let count = self.places.len();
        let first = usize::try_from(dice % count as u64).unwrap();
        (0..count).find_map(|step| self.places[(first + step) % count].try_lock().ok())
    }

    /// After all breaks: where there is none, one is started.
    pub fn start_all(&self) {
        for place in &self.places {
            place.try_lock().unwrap().get_or_insert_with(|| self.start());
        }
    }

    pub async fn drain_all(&self) {
        for place in &self.places {
            let worker = place.lock().await.take();
            if let Some(worker) = worker {
                self.drain(worker).await;
            }
        }
    }

    pub async fn drain(&self, worker: Worker) {
        worker.process.signal("TERM").await;
        self.end(worker, Asked::ToDrain).await;
    }

    pub async fn kill(&self, worker: Worker) {
        worker.process.signal("KILL").await;
        self.end(worker, Asked::Killed).await;
    }

    async fn end(&self, worker: Worker, asked: Asked) {
        let Worker { number, process } = worker;
        let (status, said) = process.ended().await;
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Ended {
                number,
                code: status.code(),
                asked,
                said,
            });
    }

    /// Of all that are gone by now.
    pub fn ended(&self) -> Vec<Ended> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Worker {
    pub async fn freeze(&self) {
        self.process.signal("STOP").await;
    }

    pub async fn thaw(&self) {
        self.process.signal("CONT").await;
    }
}
