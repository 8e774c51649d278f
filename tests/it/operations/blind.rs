//! A broker that counts a queue's messages as none, and is slow to deliver them: nothing is deleted unseen.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use usher::broker::memory::MemoryBroker;
use usher::broker::topology::DEAD_LETTERS;
use usher::broker::{Delivery, Depth, Holder, Inbox, InspectError, Inspector, StreamReader};
use usher::contract::lifecycle::{OperationEnd, OperationKind};
use usher::operations::dead_letters::Filter;
use usher::operations::operation::{self, Access};
use usher::worker::Shutdown;

use super::cut::{COUNT, broker, ids};
use super::{planned, quick, silent};

struct Blind {
    inner: Arc<dyn Inspector>,
    rng: Mutex<fastrand::Rng>,
}

#[async_trait]
impl Inspector for Blind {
    async fn depth(&self, queue: &str) -> Result<Option<Depth>, InspectError> {
        let depth = self.inner.depth(queue).await?;
        Ok(depth.map(|_| Depth {
            ready: 0,
            consumers: 0,
        }))
    }

    async fn read(
        &self,
        stream: &str,
        since: Option<Timestamp>,
    ) -> Result<Box<dyn StreamReader>, InspectError> {
        self.inner.read(stream, since).await
    }

    async fn hold(&self, queue: &str) -> Result<Box<dyn Holder>, InspectError> {
        let blind = queue != DEAD_LETTERS && self.rng.lock().unwrap().bool();
        match blind {
            true => Ok(Box::new(Nothing)),
            false => self.inner.hold(queue).await,
        }
    }

    async fn declare_queue(&self, queue: &str) -> Result<(), InspectError> {
        self.inner.declare_queue(queue).await
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), InspectError> {
        self.inner.delete_queue(queue).await
    }

    async fn inbox(&self, exchange: Option<&str>) -> Result<Box<dyn Inbox>, InspectError> {
        self.inner.inbox(exchange).await
    }

    async fn close(&self) {}
}

struct Nothing;

#[async_trait]
impl Holder for Nothing {
    async fn next(&mut self) -> Result<Option<Delivery>, InspectError> {
        Ok(None)
    }

    async fn release(self: Box<Self>) {}
}

/// Everything that was a dead letter lies somewhere.
fn all_there(broker: &MemoryBroker, id: uuid::Uuid) -> bool {
    let queue = usher::broker::topology::operation_queue(&id);
    let mut all = ids(broker, DEAD_LETTERS);
    all.extend(ids(broker, "user.update.bulk.sivo.0"));
    all.extend(ids(broker, &queue));
    (0..COUNT).all(|n| all.contains_key(&super::letters::id(n)))
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_the_broker_counts_as_empty_is_not_deleted_with_what_it_holds() {
    let mut done = 0;
    for seed in 0..30 {
        let (broker, access) = broker();
        let blind = Access {
            inspector: Arc::new(Blind {
                inner: access.inspector.clone(),
                rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            }),
            ..access.clone()
        };
        let ready = planned(&blind, OperationKind::Redrive, &Filter::default(), &quick(0)).await;
        let id = ready.id();
        let ran = ready.run(&Shutdown::new(), &silent).await;
        assert!(all_there(&broker, id), "{seed}: {ran:?}");
        if ran.is_err() {
            let ready = operation::resume(&access, id).await.unwrap();
            let report = ready.run(&Shutdown::new(), &silent).await.unwrap();
            assert_eq!(report.end, Some(OperationEnd::Done), "{seed}");
        } else {
            done += 1;
        }
        assert_eq!(ids(&broker, "user.update.bulk.sivo.0").len(), COUNT, "{seed}");
        assert_eq!(broker.depth(DEAD_LETTERS), 0, "{seed}");
    }
    assert!(done > 0, "none got through");
}
